package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

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
	maxQuestions    = 32               // at the upstream at once, about tokens that are known, and as many about others
	maxAsking       = 1000             // under way at once, those that wait among them, before one about an unknown token is refused
)

// verdicts are what the upstream of a proxy said of the tokens that came here
// (DESIGN §8). In an outage one that is remembered is honoured, until the token
// expires.
type verdicts struct {
	*credentials

	upstream *client.Client
	id       string        // of this server
	slots    chan struct{} // one for each question about an unknown token that may be at the upstream
	known    chan struct{} // the same for known ones, which those that anybody makes up must not keep back

	mu      sync.Mutex
	refused map[string]refusedToken // by hash
}

// refusedToken is one that is good for nothing here, for all that the upstream says.
type refusedToken struct {
	err    error
	until  time.Time   // when it is asked about again
	served string      // id of the store that was served then: once another one is, it is asked about at once
	claims token.Token // of a store that is not served; zero: the upstream does not take it
}

func newVerdicts(upstream *client.Client, id string, following *evaluator.Evaluator, log *slog.Logger) *verdicts {
	return &verdicts{
		credentials: newCredentials(following, maxVerdicts, log), upstream: upstream, id: id,
		slots: make(chan struct{}, maxQuestions), known: make(chan struct{}, maxQuestions), refused: map[string]refusedToken{},
	}
}

// verify gives the token of the secret. The upstream is waited for where the token
// is not known, or may have been revoked without a word coming here.
func (v *verdicts) verify(ctx context.Context, secret, hash string, now time.Time) (token.Token, error) {
	if err := v.refusal(hash); err != nil {
		return token.Token{}, v.unjudged(ctx, err)
	}
	known, doubtful := v.look(hash, now)
	switch {
	case known == nil:
		if err := v.judge(ctx, secret, hash, nil).wait(ctx); err != nil {
			return token.Token{}, v.unjudged(ctx, err)
		}
	case !known.LivesAt(now) || !doubtful && time.Since(known.asked) < verdictRenewal:
		return living(known.Token, now)
	case !doubtful || !v.evaluator.HeardWithin(verdictContact):
		if tried := known.tried.Load(); now.Unix()-tried >= int64(verdictPatience/time.Second) && known.tried.CompareAndSwap(tried, now.Unix()) {
			v.judge(ctx, secret, hash, known)
		}
		return living(known.Token, now)
	default:
		// Where nothing is said it is honoured.
		if err := v.judge(ctx, secret, hash, known).wait(ctx); connect.CodeOf(err) == connect.CodeUnauthenticated {
			return token.Token{}, err
		}
	}
	if after, _ := v.look(hash, now); after != nil {
		known = after
	}
	if known == nil {
		return token.Token{}, v.unjudged(ctx, errTooMany)
	}
	return living(known.Token, now)
}

// judge asks the upstream about a token, unless somebody else had an answer since
// the caller found what is known; nil where it is not.
func (v *verdicts) judge(ctx context.Context, secret, hash string, known *credential) *question {
	slots, most := v.slots, maxAsking
	if known != nil {
		slots, most = v.known, math.MaxInt
	}
	from := client.Sender{Token: secret, RequestID: recordOf(ctx).id, Via: append(slices.Clip(recordOf(ctx).via), v.id)}
	return v.ask(hash, most, known, func(ctx context.Context) (answer, error) {
		if err := v.refusal(hash); err != nil {
			return answer{}, err // somebody else's question brought it, since the caller looked
		}
		t, at, err := v.question(ctx, from, slots)
		t.Hash = hash
		return answer{tokens: []token.Token{t}, at: at}, v.heed(t, at, err)
	})
}

// heed gives what is to be thought of an answer. Another store may stand where the
// right one stood (DESIGN §4). Nobody gets by a token of that one what is served
// here: it is claimed. And no token that is known ends because that one lacks it, so
// an upstream that is refused, or not heard, says nothing of those.
func (v *verdicts) heed(t token.Token, at flag.Revision, err error) error {
	known, _ := v.look(t.Hash, time.Now())
	view := v.evaluator.View()
	switch {
	case err == nil && view.Known() && at.StoreID != view.Revision.StoreID:
		err = errors.New("it stands on another store than that whose definitions are served here")
		if known == nil {
			v.refuse(t.Hash, refusedToken{err: err, served: view.Revision.StoreID, claims: t})
		}
	case connect.CodeOf(err) != connect.CodeUnauthenticated:
	case known != nil && (v.evaluator.Refused() != nil || !v.evaluator.HeardWithin(verdictContact)):
		err = errors.New("it does not take the token, but its definitions are not those that are served here")
	default:
		v.forget(t.Hash)
		v.refuse(t.Hash, refusedToken{err: err, served: view.Revision.StoreID})
	}
	return err
}

// claim gives the living token of a store that is not served. It counts for Resync
// alone, like one that a root's refused store knows (storedTokens.claim).
func (v *verdicts) claim(hash string, now time.Time) (token.Token, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.refused[hash].claims
	return t, t.ID != "" && t.LivesAt(now)
}

// question asks the upstream what a token may do: its handshake says so, and which
// revision it knows.
func (v *verdicts) question(ctx context.Context, from client.Sender, slots chan struct{}) (t token.Token, at flag.Revision, err error) {
	waiting, end := context.WithTimeout(ctx, verdictTimeout)
	defer end()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-waiting.Done():
		return t, at, errTooMany
	}
	ctx, done := context.WithTimeout(ctx, verdictTimeout) // of its own, or the wait would look like the upstream's silence
	defer done()
	m, err := v.upstream.WhoIs(ctx, from)
	if told, is := errors.AsType[*client.ToldError](err); is && told.Said.Code() == connect.CodeUnauthenticated {
		return t, at, told.Said
	} else if err != nil {
		return t, at, errors.New(err.Error()) // what else stands on the way may say 401, too
	}
	if view := v.evaluator.View(); view.Known() && m.GetEnvironment() != view.Environment {
		return t, at, fmt.Errorf("the upstream is now of the environment %q, not of %q", m.GetEnvironment(), view.Environment)
	}
	t = token.Token{ID: m.GetTokenId(), Name: m.GetActor(), Prefix: flag.Key(m.GetPrefix())}
	for _, scope := range m.GetScopes() {
		t.Scopes = append(t.Scopes, token.Scope(scope))
	}
	if t.ExpiresAt, err = wire.ToTime(m.GetTokenExpiresAt()); err != nil || t.ID == "" {
		return t, at, errors.New("the upstream does not say which token it is or when it ends. Upgrade it")
	}
	return t, wire.ToRevision(m.GetRevision()), nil
}

// unjudged is the answer to a caller whose token the upstream does not take, or could
// not be asked about: then it may be good, for all that is known.
func (v *verdicts) unjudged(ctx context.Context, err error) error {
	if connect.CodeOf(err) == connect.CodeUnauthenticated {
		return err
	}
	return untold(ctx, v.log, connect.CodeUnavailable, reasonUpstream, "this proxy has not seen the token before, and its upstream could not be asked about it. Try again later", err)
}

// refusal gives why the token was refused a moment ago; nil: it was not.
func (v *verdicts) refusal(hash string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.refused[hash]
	if ok && (time.Now().After(r.until) || r.served != v.evaluator.View().Revision.StoreID) {
		delete(v.refused, hash)
		return nil
	}
	return r.err
}

// refuse remembers for a while that a token is refused.
func (v *verdicts) refuse(hash string, r refusedToken) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.refused) >= maxVerdicts {
		for other := range v.refused {
			delete(v.refused, other)
			break
		}
	}
	r.until = time.Now().Add(verdictPatience)
	v.refused[hash] = r
}
