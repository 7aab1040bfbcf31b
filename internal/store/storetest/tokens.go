package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

func testTokens(t *testing.T, open Opener) {
	t.Helper()
	w := newWorld(t, open)
	made := map[string][]string{} // the ids by the name, in order
	create := func(name string, expires time.Time) (token.Token, error) {
		w.now = w.now.Add(time.Second)
		secret, id := token.NewSecret()
		t := token.Token{
			ID: id, Name: name, Scopes: []token.Scope{token.Write, token.Kill}, Prefix: "team", Hash: token.Hash(secret),
			CreatedAt: w.now, CreatedBy: "admin", ExpiresAt: expires,
		}
		err := w.s.CreateToken(w.t.Context(), t, "admin")
		if err == nil {
			made[name] = append(made[name], id)
		}
		return t, err
	}
	wantKind := func(err error, kind flag.ProblemKind, says string) {
		t.Helper()
		if p, ok := errors.AsType[*flag.Problem](err); !ok || p.Kind != kind || !strings.Contains(p.Error(), says) {
			t.Errorf("error %v, want a problem of kind %d that says %q", err, kind, says)
		}
	}
	before := w.snapshot()

	first, err := create("ci", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = create("ci", time.Time{})
	wantKind(err, flag.ProblemAlreadyExists, "of that name lives")
	_, err = create("terraform", time.Time{})
	wantKind(err, flag.ProblemInvalid, "name")
	if _, err := create("short", w.now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Hour)
	if _, err := create("short", time.Time{}); err != nil {
		t.Errorf("the name of an expired token cannot be used again: %v", err)
	}

	all, err := w.s.Tokens(t.Context())
	if err != nil || len(all) != 3 || all[0].Name != "ci" || all[1].Name != "short" || all[2].Name != "short" {
		t.Fatalf("tokens %+v, error %v; want ci and twice short", all, err)
	}
	wantSame(t, "the token kept", fmt.Sprintf("%+v", all[0]), fmt.Sprintf("%+v", first))

	w.now = w.now.Add(time.Second)
	revoked, err := w.s.RevokeToken(t.Context(), "ci", "anna", w.now)
	if err != nil || revoked.ID != first.ID || !revoked.RevokedAt.Equal(w.now) || revoked.Hash != first.Hash {
		t.Fatalf("revoked %+v, error %v", revoked, err)
	}
	_, err = w.s.RevokeToken(t.Context(), "ci", "anna", w.now)
	wantKind(err, flag.ProblemNotFound, "no living token")
	for _, name := range []string{"nobody", "", "a\x00b", "\xff"} { // not every database can be asked for every text
		_, err = w.s.RevokeToken(t.Context(), name, "anna", w.now)
		wantKind(err, flag.ProblemNotFound, "no living token")
	}
	if _, err := create("ci", time.Time{}); err != nil {
		t.Errorf("the name of a revoked token cannot be used again: %v", err)
	}

	// Audited, in revisions of their own, without edits and without the hash.
	var got strings.Builder
	for _, e := range auditLog(t.Context(), t, w.s, store.AuditFilter{}) {
		fmt.Fprintf(&got, "%d.%d %s %s by %s\n", e.Revision, e.Ordinal, e.Action, e.Object, e.Actor)
		for _, k := range all {
			if strings.Contains(e.Before+e.After, k.Hash) {
				t.Errorf("the audit log shows a hash: %+v", e)
			}
		}
	}
	wantSame(t, "the audit log", strings.TrimSpace(got.String()), strings.Join([]string{
		"1.0 create_token ci by admin", "2.0 create_token short by admin", "3.0 create_token short by admin",
		"4.0 revoke_token ci by anna", "5.0 create_token ci by admin",
	}, "\n"))
	commits, ok, err := w.s.Since(t.Context(), before.Revision.Number)
	if err != nil || !ok || len(commits) != 5 {
		t.Fatalf("since: %d commits, %t, %v; want 5", len(commits), ok, err)
	}
	// Other roots hear by Since which tokens were made and which ended.
	got.Reset()
	for _, c := range commits {
		if len(c.Edits) != 0 || len(c.Tokens) != 1 || c.Tokens[0].Hash != "" {
			t.Errorf("a token's commit has edits, or not one token without its hash: %+v", c)
			continue
		}
		fmt.Fprintf(&got, "%s %s %t\n", c.Tokens[0].ID, c.Tokens[0].Name, c.Tokens[0].RevokedAt.IsZero())
	}
	wantSame(t, "the tokens of the commits", strings.TrimSpace(got.String()), strings.Join([]string{
		made["ci"][0] + " ci true", made["short"][0] + " short true", made["short"][1] + " short true",
		made["ci"][0] + " ci false", made["ci"][1] + " ci true",
	}, "\n"))
	WantComplete(t.Context(), t, w.s)
}
