package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// AddToken keeps a new token: a revision of its own, without edits. The error is
// a *flag.Problem when the token is not valid, or a living one has the name.
func AddToken(ctx context.Context, tx Tx, t token.Token, actor string) error {
	t.CreatedAt = instant(t.CreatedAt)
	if err := t.Validate(t.CreatedAt); err != nil {
		return err
	}
	present, err := livingToken(ctx, tx, t.Name, t.CreatedAt)
	if err != nil {
		return err
	}
	if present != nil {
		return &flag.Problem{
			Kind: flag.ProblemAlreadyExists, Field: "name",
			Message: fmt.Sprintf("is %q, and a token of that name lives: it was made by %s at %s. Choose another name, or revoke that one first.",
				t.Name, present.CreatedBy, present.CreatedAt.Format(time.RFC3339)),
		}
	}
	return saveToken(ctx, tx, AuditEntry{Time: t.CreatedAt, Actor: actor, Action: actionCreateToken}, nil, &t)
}

// EndToken revokes the living token of the name: a revision of its own, without
// edits. The error is a *flag.Problem when there is none.
func EndToken(ctx context.Context, tx Tx, name, actor string, now time.Time) (token.Token, error) {
	now = instant(now)
	present, err := livingToken(ctx, tx, name, now)
	if err != nil {
		return token.Token{}, err
	}
	if present == nil {
		return token.Token{}, &flag.Problem{
			Kind: flag.ProblemNotFound, Field: "name",
			Message: fmt.Sprintf("is %q, and no living token has that name. See bunting token list.", name),
		}
	}
	revoked := *present
	revoked.RevokedAt = now
	err = saveToken(ctx, tx, AuditEntry{Time: now, Actor: actor, Action: actionRevokeToken}, present, &revoked)
	return revoked, err
}

func livingToken(ctx context.Context, tx Tx, name string, now time.Time) (*token.Token, error) {
	all, err := tx.Tokens(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.LivesAt(now) {
			return &t, nil
		}
	}
	return nil, nil
}

func saveToken(ctx context.Context, tx Tx, entry AuditEntry, before, after *token.Token) error {
	present, err := tx.Load(ctx, Wanted{})
	if err != nil {
		return err
	}
	next := present.Revision
	next.Number++
	entry.Revision, entry.Object = next.Number, after.Name
	if before != nil {
		if entry.Before, err = tokenDocument(before); err != nil {
			return err
		}
	}
	if entry.After, err = tokenDocument(after); err != nil {
		return err
	}
	told := *after
	told.Hash = ""
	return tx.Save(ctx, Record{Commit: &Commit{Revision: next, Tokens: []token.Token{told}}, Audit: []AuditEntry{entry}, Token: after})
}

// tokenDocument is a token without its hash, which nobody needs to see.
func tokenDocument(t *token.Token) (string, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("write the token %q as JSON: %w", t.Name, err)
	}
	return string(text), nil
}
