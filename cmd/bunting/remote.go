package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
)

// Where a server stands and its admin token lies when nothing is said.
const (
	defaultListen    = configuration.DefaultListen
	defaultEndpoint  = "http://" + defaultListen
	defaultTokenFile = configuration.DefaultTokenFile
)

// maxTokenFileBytes bounds what is read as a token file: a token and a newline,
// with room to spare.
const maxTokenFileBytes = 4096

// remote is what every operator command is told of the server that it asks:
// the flags --endpoint, --token-file and --json.
type remote struct {
	endpoint  string
	tokenFile string
	json      bool // print JSON for programs, not tables for people
}

// addRemote gives a command the flags of remote.
func addRemote(c *cobra.Command) *remote {
	r := &remote{}
	c.Flags().StringVar(&r.endpoint, "endpoint", "", "base URL of the server (else BUNTING_ENDPOINT, else "+defaultEndpoint+")")
	c.Flags().StringVar(&r.tokenFile, "token-file", "", "file with the token (else the token in BUNTING_TOKEN, else, for a server on this machine, the file ./"+defaultTokenFile+")")
	c.Flags().BoolVar(&r.json, "json", false, "print JSON")
	return r
}

// resolve gives the server's base URL and the token: from the flags, else from
// BUNTING_ENDPOINT and BUNTING_TOKEN, else the defaults; "" for no token. Errors
// name the file, never its content.
func (r *remote) resolve(a *app) (endpoint, token string, err error) {
	endpoint = r.endpoint
	if endpoint == "" {
		endpoint = a.env("BUNTING_ENDPOINT")
	}
	if endpoint == "" {
		endpoint = defaultEndpoint
	}
	if r.tokenFile != "" {
		token, err = readToken(r.tokenFile)
		return endpoint, token, err
	}
	if token = strings.TrimSpace(a.env("BUNTING_TOKEN")); token != "" {
		return endpoint, token, nil
	}
	// The file is the local server's, so no other is shown it. Whether a token is
	// needed at all is for the server to say.
	if !isLocal(endpoint) {
		return endpoint, "", nil
	}
	token, err = readToken(defaultTokenFile)
	if errors.Is(err, fs.ErrNotExist) {
		return endpoint, "", nil
	}
	return endpoint, token, err
}

// readToken reads a token file: the token, and white space around it.
func readToken(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the file that the user names
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFileBytes+1))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxTokenFileBytes || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("the file %s holds no token: expected one line with a token", path)
	}
	return token, nil
}
