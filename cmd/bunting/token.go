package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

func newTokenCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke tokens (needs the scope admin)",
	}
	c.AddCommand(newTokenCreateCommand(a), newTokenListCommand(a), newTokenRevokeCommand(a))
	return c
}

func newTokenCreateCommand(a *app) *cobra.Command {
	var scopes []string
	var prefix, expiresIn, expiresAt, out string
	c := &cobra.Command{
		Use:   "create NAME --scope SCOPE",
		Short: "Make a token; its secret is shown this once",
		Long: `Make a token. Its secret alone goes to stdout, or with --out to a file that only
you can read, and is shown this once. NAME is what the audit log calls whoever
uses it.

Scopes: evaluate (ask for values), read (and see definitions), write (and change
flags and overrides), kill (and read; place and release holds), admin (all).`,
		Example: `  bunting token create ci --scope write --out ci.token
  bunting token create ops-anna --scope kill --expires-in 90d`,
		Args: one("NAME"),
	}
	r := addRemote(c)
	c.Flags().StringSliceVar(&scopes, "scope", nil, "evaluate, read, write, kill or admin; may be repeated (required)")
	c.Flags().StringVar(&prefix, "prefix", "", "only for flags under this prefix")
	c.Flags().StringVar(&expiresIn, "expires-in", "", "let the token end by itself after this time, like 90d")
	c.Flags().StringVar(&expiresAt, "expires-at", "", "let the token end by itself at this time, like 2026-03-01T06:00:00Z")
	c.Flags().StringVar(&out, "out", "", "write the secret to this new file (mode 0600) instead of stdout")
	c.RunE = func(c *cobra.Command, args []string) error {
		t := token.Token{Name: args[0]}
		for _, name := range scopes {
			scope, err := token.ParseScope(strings.TrimSpace(name))
			if err != nil {
				return &exit{exitUsage, fmt.Errorf("--%w", err)}
			}
			t.Scopes = append(t.Scopes, scope)
		}
		var err error
		if t.ExpiresAt, err = expiry(expiresIn, expiresAt); err != nil {
			return err
		}
		if prefix != "" {
			if t.Prefix, err = prefixArgument(prefix); err != nil {
				return err
			}
		}
		if p, ok := errors.AsType[*flag.Problem](t.Validate(time.Now())); ok {
			return usagef("%s", named(p))
		}
		return r.ask(a, func(server *client.Client) error { return createToken(c, a, r, server, t, out) })
	}
	return c
}

// named says a problem of a new token in the words of the command line.
func named(p *flag.Problem) string {
	if p.Field == "name" {
		return "NAME " + p.Message
	}
	return "--" + p.Field + " " + p.Message
}

func createToken(c *cobra.Command, a *app, r *remote, server *client.Client, t token.Token, out string) error {
	// The file comes first: a secret that cannot be kept is lost.
	var file *os.File
	if out != "" {
		var err error
		file, err = os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the file that the operator names
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cannot write the secret to %s: there is such a file. Name a new one, or remove it first", out)
		} else if err != nil {
			return fmt.Errorf("cannot write the secret: %w", err)
		}
		defer func() { _ = file.Close() }() // closed before, where it was written
	}
	made, secret, err := server.CreateToken(c.Context(), t)
	if err != nil {
		if file != nil {
			_ = os.Remove(out) // made a moment ago, by us, empty
		}
		if _, refused := errors.AsType[*flag.Problem](err); refused {
			return fmt.Errorf("cannot make the token %q: %w", t.Name, err)
		}
		return err
	}
	if file != nil {
		if _, err := file.WriteString(secret + "\n"); err != nil {
			return fmt.Errorf("the token %q was made, but its secret could not be written (%w) and is lost. Revoke it: bunting token revoke %s", made.Name, err, made.Name)
		}
		if err := file.Close(); err != nil {
			return fmt.Errorf("the token %q was made, but its secret may not have been written to %s (%w). If it is not there, revoke the token: bunting token revoke %s", made.Name, out, err, made.Name)
		}
	}
	switch {
	case r.json && file != nil:
		return printJSON(a.stdout, made)
	case r.json:
		return printJSON(a.stdout, secretJSON{Token: made, Secret: secret})
	case file != nil:
		fmt.Fprintf(a.stdout, "Made the token %s (%s). Its secret is in %s.\n", made.Name, scopeNames(made), out)
	default:
		fmt.Fprintf(a.stderr, "Made the token %s (%s). Its secret is shown this once:\n", made.Name, scopeNames(made))
		fmt.Fprintln(a.stdout, secret)
	}
	return nil
}

// secretJSON is a new token for programs.
type secretJSON struct {
	token.Token

	Secret string `json:"secret"`
}

func scopeNames(t token.Token) string {
	names := make([]string, len(t.Scopes))
	for i, s := range t.Scopes {
		names[i] = s.String()
	}
	return strings.Join(names, ", ")
}

func newTokenListCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the tokens, the ended ones too; never their secrets",
		Args:  cobra.NoArgs,
	}
	r := addRemote(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return r.ask(a, func(server *client.Client) error {
			tokens, err := server.Tokens(c.Context())
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(a.stdout, tokens)
			}
			t := newTable("NAME", "SCOPES", "PREFIX", "CREATED", "CREATED BY", "STATE")
			for _, k := range tokens {
				t.add(k.Name, scopeNames(k), string(k.Prefix), moment(k.CreatedAt), k.CreatedBy, tokenState(k, time.Now()))
			}
			return t.print(a.stdout)
		})
	}
	return c
}

func tokenState(t token.Token, now time.Time) string {
	switch {
	case !t.RevokedAt.IsZero():
		return "revoked " + moment(t.RevokedAt)
	case !t.LivesAt(now):
		return "expired " + moment(t.ExpiresAt)
	case !t.ExpiresAt.IsZero():
		return "expires " + moment(t.ExpiresAt)
	}
	return "valid"
}

func newTokenRevokeCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke NAME",
		Short: "End a token at once",
		Args:  one("NAME"),
	}
	r := addRemote(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return r.ask(a, func(server *client.Client) error {
			revoked, err := server.RevokeToken(c.Context(), args[0])
			if _, refused := errors.AsType[*flag.Problem](err); refused {
				return fmt.Errorf("cannot revoke the token %q: %w", args[0], err)
			} else if err != nil {
				return err
			}
			if r.json {
				return printJSON(a.stdout, revoked)
			}
			fmt.Fprintf(a.stdout, "Revoked the token %s: it works no more.\n", cell(revoked.Name))
			return nil
		})
	}
	return c
}
