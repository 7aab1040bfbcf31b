package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1/buntingv1connect"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

const (
	maxVerdicts     = 10_000           // tokens, and as many refused ones, that a proxy remembers
	verdictTimeout  = 2 * time.Second  // how long the upstream may take to judge a token
	verdictRenewal  = 5 * time.Minute  // a verdict that is older is asked for again, beside its use
	verdictPatience = 10 * time.Second // how long a refusal is remembered, and how often a verdict is asked for again in vain
	verdictContact  = 2 * time.Second  // an upstream that was silent for longer is not waited for where a verdict is known
	maxQuestions    = 32               // under way at once
)

// verdicts are what the upstream of a proxy said of the tokens that came here
// (DESIGN §8). In an outage one that is remembered is honoured, until the token
// expires.
type verdicts struct {
	*credentials

	upstream *client.Client
	id       string        // of this server
	slots    chan struct{} // one for each question that may be under way

	mu      sync.Mutex
	refused map[string]refusedToken // by hash
}

// refusedToken is what the upstream said of a token that it does not take.
type refusedToken struct {
	err   error
	until time.Time // when it is asked again
}

func newVerdicts(upstream *client.Client, id string, following *evaluator.Evaluator) *verdicts {
	return &verdicts{
		credentials: newCredentials(following, maxVerdicts), upstream: upstream, id: id,
		slots: make(chan struct{}, maxQuestions), refused: map[string]refusedToken{},
	}
}

// verify gives the token of the secret. The upstream is waited for where the token
// is not known, or may have been revoked without a word coming here.
func (v *verdicts) verify(ctx context.Context, secret, hash string, now time.Time) (token.Token, error) {
	if err := v.refusal(hash); err != nil {
		return token.Token{}, err
	}
	known, doubtful := v.look(hash, now)
	switch {
	case known == nil:
		if err := v.judge(ctx, secret, hash).wait(ctx); err != nil {
			return token.Token{}, err
		}
	case !known.LivesAt(now) || !doubtful && time.Since(known.asked) < verdictRenewal:
		return living(known.Token, now)
	case !doubtful || !v.evaluator.HeardWithin(verdictContact):
		if tried := known.tried.Load(); now.Unix()-tried >= int64(verdictPatience/time.Second) && known.tried.CompareAndSwap(tried, now.Unix()) {
			v.judge(ctx, secret, hash)
		}
		return living(known.Token, now)
	default:
		// Where nothing is said it is honoured.
		if err := v.judge(ctx, secret, hash).wait(ctx); connect.CodeOf(err) == connect.CodeUnauthenticated {
			return token.Token{}, err
		}
	}
	if after, _ := v.look(hash, now); after != nil {
		known = after
	}
	if known == nil {
		return token.Token{}, unjudged("too many tokens are in use at once")
	}
	return living(known.Token, now)
}

// judge asks the upstream about a token.
func (v *verdicts) judge(ctx context.Context, secret, hash string) *question {
	from := client.Sender{Token: secret, RequestID: recordOf(ctx).id, Via: append(slices.Clip(recordOf(ctx).via), v.id)}
	return v.ask(hash, func(ctx context.Context) (answer, error) {
		t, at, err := v.question(ctx, from)
		t.Hash = hash
		v.remember(hash, err)
		return answer{tokens: []token.Token{t}, at: at}, err
	})
}

// question asks the upstream what a token may do: its handshake says so, and which
// revision it knows.
func (v *verdicts) question(ctx context.Context, from client.Sender) (t token.Token, at flag.Revision, err error) {
	ctx, done := context.WithTimeout(ctx, verdictTimeout)
	defer done()
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return t, at, unjudged("too many tokens are asked about at once")
	}
	m, err := client.PassOn(ctx, v.upstream, from, buntingv1connect.FlagAdminServiceClient.GetServer, &buntingv1.GetServerRequest{})
	if told, is := errors.AsType[*client.ToldError](err); is && told.Said.Code() == connect.CodeUnauthenticated {
		return t, at, told.Said
	} else if err != nil {
		return t, at, unjudged(err.Error())
	}
	if view := v.evaluator.View(); view.Known() && m.GetEnvironment() != view.Environment {
		return t, at, unjudged(fmt.Sprintf("the upstream is now of the environment %q, not of %q", m.GetEnvironment(), view.Environment))
	}
	t = token.Token{ID: m.GetTokenId(), Name: m.GetActor(), Prefix: flag.Key(m.GetPrefix())}
	for _, scope := range m.GetScopes() {
		t.Scopes = append(t.Scopes, token.Scope(scope))
	}
	if t.ExpiresAt, err = wire.ToTime(m.GetTokenExpiresAt()); err != nil || t.ID == "" {
		return t, at, unjudged("the upstream does not say which token it is or when it ends. Upgrade it")
	}
	return t, wire.ToRevision(m.GetRevision()), nil
}

// unjudged is the answer to a caller whose token may be good, for all that is known.
func unjudged(why string) *connect.Error {
	return refusal(connect.CodeUnavailable, reasonUpstream, "this proxy has not seen the token before, and its upstream could not be asked about it: "+why, "")
}

// refusal gives why the upstream refused the token a moment ago; nil: it did not.
func (v *verdicts) refusal(hash string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.refused[hash]
	if ok && time.Now().After(r.until) {
		delete(v.refused, hash)
		return nil
	}
	return r.err
}

// remember notes how a question ended. A token that was refused is no longer known.
func (v *verdicts) remember(hash string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if connect.CodeOf(err) != connect.CodeUnauthenticated {
		return
	}
	v.forget(hash)
	if len(v.refused) >= maxVerdicts {
		for other := range v.refused {
			delete(v.refused, other)
			break
		}
	}
	v.refused[hash] = refusedToken{err: err, until: time.Now().Add(verdictPatience)}
}
