package token_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestScopes(t *testing.T) {
	t.Parallel()
	all := []token.Scope{token.Evaluate, token.Read, token.Write, token.Kill, token.Admin}
	for _, row := range []struct {
		given token.Scope
		has   []token.Scope
	}{
		{token.Evaluate, []token.Scope{token.Evaluate}},
		{token.Read, []token.Scope{token.Evaluate, token.Read}},
		{token.Write, []token.Scope{token.Evaluate, token.Read, token.Write}},
		{token.Kill, []token.Scope{token.Evaluate, token.Read, token.Kill}},
		{token.Admin, all},
		{0, nil},
		{99, nil},
	} {
		a := token.Actor{Name: "n", Scopes: []token.Scope{row.given}}
		for _, s := range all {
			if a.Has(s) != slices.Contains(row.has, s) {
				t.Errorf("a token with %s has %s: %v", row.given, s, a.Has(s))
			}
		}
	}
}

func TestMay(t *testing.T) {
	t.Parallel()
	put := flag.Change{Op: flag.PutFlag, Ref: flag.FlagRef("pay/a")}
	hold := flag.Change{Op: flag.PlaceHold, Ref: flag.HoldRef("pay/a", "ops")}
	for _, row := range []struct {
		actor  token.Actor
		change flag.Change
		wrong  string
	}{
		{token.Actor{Scopes: []token.Scope{token.Write}}, put, ""},
		{token.Actor{Scopes: []token.Scope{token.Kill}}, hold, ""},
		{token.Actor{Scopes: []token.Scope{token.Write, token.Kill}, Prefix: "pay"}, hold, ""},
		{token.Actor{Name: "ci", Scopes: []token.Scope{token.Write}}, hold, `the token "ci" has the scope write, but this needs kill.`},
		{token.Actor{Name: "ops", Scopes: []token.Scope{token.Kill}}, put, `the token "ops" has the scope kill, but this needs write.`},
		{token.Actor{Name: "ci", Scopes: []token.Scope{token.Write}, Prefix: "pa"}, put, `the token "ci" covers the keys under "pa" only, not "pay/a".`},
	} {
		err := row.actor.May(row.change)
		if row.wrong == "" && err != nil || row.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), row.wrong)) {
			t.Errorf("got %v, want %q", err, row.wrong)
		}
		if problem, ok := errors.AsType[*flag.Problem](err); row.wrong != "" && (!ok || problem.Kind != flag.ProblemDenied) {
			t.Errorf("%v is no denial", err)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	read := []token.Scope{token.Read}
	for _, row := range []struct {
		token token.Token
		wrong string
	}{
		{token.Token{Name: "ops-anna", Scopes: read, Prefix: "pay", ExpiresAt: now.Add(time.Hour)}, ""},
		{token.Token{Name: "", Scopes: read}, `name is ""`},
		{token.Token{Name: "terraform", Scopes: read}, `name is "terraform"`},
		{token.Token{Name: "terraform/x", Scopes: read}, `name is "terraform/x"`},
		{token.Token{Name: "a"}, `scope is missing.`},
		{token.Token{Name: "a", Scopes: []token.Scope{99}}, `scope is not one of`},
		{token.Token{Name: "a", Scopes: read, Prefix: "-"}, `prefix "-" has '-' at byte 1`},
		{token.Token{Name: "a", Scopes: []token.Scope{token.Admin}, Prefix: "pay"}, `prefix is given together with the scope admin`},
		{token.Token{Name: "a", Scopes: read, ExpiresAt: now}, `expires_at is 2026-01-02T03:04:05Z, which is in the past`},
	} {
		err := row.token.Validate(now)
		if row.wrong == "" && err != nil || row.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), row.wrong)) {
			t.Errorf("got %v, want %q", err, row.wrong)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	one, id := token.NewSecret()
	two, other := token.NewSecret()
	if one == two || id == other || token.Hash(one) == token.Hash(two) || strings.Contains(token.Hash(one), one) {
		t.Error("two tokens are alike, or a hash tells the secret")
	}
	if !strings.HasPrefix(one, "bunting_") || len(one) < 50 {
		t.Errorf("a secret of %d characters", len(one))
	}
}

func TestLivesAt(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		token token.Token
		want  bool
	}{
		{token.Token{}, true},
		{token.Token{ExpiresAt: now.Add(1)}, true},
		{token.Token{ExpiresAt: now}, false},
		{token.Token{RevokedAt: now.Add(-1)}, false},
	} {
		if row.token.LivesAt(now) != row.want {
			t.Errorf("%+v lives: %v", row.token, !row.want)
		}
	}
}
