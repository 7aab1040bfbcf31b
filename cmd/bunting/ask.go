package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// ask makes a client of the server that the command line names, hands it to the
// work of a command, and turns what goes wrong into an exit code and words that
// say where endpoint and token were looked for.
func (r *remote) ask(a *app, work func(c *client.Client) error) error {
	endpoint, token, err := r.resolve(a)
	if err != nil {
		return err
	}
	waits := &patience{}
	c, err := client.New(client.Options{
		Endpoint: endpoint, Token: token, UserAgent: "bunting/" + version,
		Around: func(road http.RoundTripper) http.RoundTripper { waits.road = road; return waits },
	})
	if err != nil {
		return &exit{exitUsage, err}
	}
	defer c.Close()
	waits.tell = func() {
		fmt.Fprintf(a.stderr, "bunting: %s has not answered for %s; still trying …\n", c.Endpoint(), patienceTime)
	}
	defer waits.end()
	return told(work(c), r.endpointPlace(a), token == "")
}

// told gives the error of a command its exit code, and the advice that only the
// command line can give.
func told(err error, endpointPlace string, noToken bool) error {
	if err == nil {
		return nil
	}
	if _, decided := errors.AsType[*exit](err); decided {
		return err
	}
	if p, ok := errors.AsType[*flag.Problem](err); ok {
		if p.Kind == flag.ProblemNotFound {
			return &exit{exitNotFound, err}
		}
		return &exit{exitRefused, err}
	}
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return err
	}
	switch e.Kind {
	case client.Unauthenticated:
		if noToken {
			err = fmt.Errorf("cannot %s: %s wants a token, and there is none: --token-file is not given, BUNTING_TOKEN is not set, and there is no file ./%s (which only a server on this machine is shown). Give one of them", e.Op, e.Endpoint, defaultTokenFile)
		}
		return &exit{exitRefused, err}
	case client.Denied:
		return &exit{exitRefused, err}
	case client.Config:
		return &exit{exitUsage, err}
	case client.Unavailable, client.Timeout, client.NotFlagServer, client.Untrusted:
		return fmt.Errorf("%w %s", err, endpointPlace)
	default:
		return err
	}
}

// endpointPlace says where the endpoint comes from.
func (r *remote) endpointPlace(a *app) string {
	switch {
	case r.endpoint != "":
		return "(The endpoint comes from --endpoint.)"
	case a.env("BUNTING_ENDPOINT") != "":
		return "(The endpoint comes from BUNTING_ENDPOINT.)"
	}
	return "(The endpoint is the default; name another with --endpoint or BUNTING_ENDPOINT.)"
}

// isLocal reports whether an endpoint is on this machine.
func isLocal(endpoint string) bool {
	parsed, err := client.ParseEndpoint(endpoint)
	if err != nil {
		return false
	}
	u, err := url.Parse(parsed)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// one makes the rule of a command that takes exactly one argument.
func one(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s takes one %s, but there are %d arguments", c.CommandPath(), name, len(args))
		}
		return nil
	}
}

// atMostOne makes the rule of a command that takes an argument or none.
func atMostOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef("%s takes one %s at most, but there are %d arguments", c.CommandPath(), name, len(args))
		}
		return nil
	}
}

// noFlag is the error of a flag that does not exist.
func noFlag(key flag.Key, c *client.Client) error {
	return &exit{exitNotFound, fmt.Errorf("there is no flag %q on %s. See the flags with: bunting flags", key, c.Endpoint())}
}

// notStored is the error of a flag that the server's store does not have. It may
// have an answer all the same: the one that programs have compiled in.
func notStored(ctx context.Context, key flag.Key, c *client.Client) error {
	if e, err := c.Evaluate(ctx, client.Question{Key: key}); err == nil && e.ErrorCode == "" {
		return &exit{exitNotFound, fmt.Errorf("the flag %q is only compiled in at %s: everybody gets its compiled default, and there is nothing yet that could be killed. Run \"bunting sync\" first, then kill it", key, c.Endpoint())}
	}
	return noFlag(key, c)
}

// keyArgument reads a flag's key from the command line.
func keyArgument(text string) (flag.Key, error) {
	key, err := flag.ParseKey(text)
	if err != nil {
		return "", &exit{exitUsage, err}
	}
	return key, nil
}

// prefixArgument reads a key prefix, with or without a slash behind it.
func prefixArgument(text string) (flag.Key, error) {
	if n := len(text); n > 1 && text[n-1] == '/' {
		text = text[:n-1]
	}
	prefix, err := flag.ParseKey(text)
	if err != nil {
		return "", &exit{exitUsage, flag.In("prefix", err)}
	}
	return prefix, nil
}

// Completion asks the server, so it must be quick, cheap and silent: it gives up
// after completionTime and offers nothing where there are more than
// completionFlags.
const (
	completionTime  = time.Second
	completionFlags = 5000
)

// completeKeys makes the completion of a command's first argument: a flag's key.
func completeKeys(a *app, r *remote, list func(context.Context, *client.Client) ([]flag.Key, error)) cobra.CompletionFunc {
	return func(command *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(command.Context(), completionTime)
		defer cancel()
		var keys []flag.Key
		// Whoever presses the tabulator key wants no error message.
		_ = r.ask(a, func(c *client.Client) (err error) {
			keys, err = list(ctx, c)
			return err
		})
		completions := make([]cobra.Completion, len(keys))
		for i, key := range keys {
			completions[i] = string(key)
		}
		return completions, cobra.ShellCompDirectiveNoFileComp
	}
}

// knownKeys lists all keys of a server that has not too many.
func knownKeys(ctx context.Context, c *client.Client) ([]flag.Key, error) {
	server, err := c.Server(ctx)
	if err != nil || server.Flags > completionFlags {
		return nil, err
	}
	answers, err := c.BulkEvaluate(ctx, nil, flag.Context{}, flag.Revision{})
	if err != nil {
		return nil, err
	}
	keys := make([]flag.Key, len(answers))
	for i, answer := range answers {
		keys[i] = answer.Key
	}
	return keys, nil
}

// killedKeys lists the killed ones.
func killedKeys(ctx context.Context, c *client.Client) ([]flag.Key, error) { return c.KilledFlags(ctx) }
