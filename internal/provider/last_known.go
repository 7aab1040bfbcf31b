package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// lastKnown is what evaluated data sources with allow_stale fall back to while the
// server is down (DESIGN §6.7). Resources never do.
type lastKnown struct {
	file        *client.LastKnown
	setting     string             // that names its place
	shared      client.SharedPlace // of definitions, from which newer answers come; the zero one: none
	environment string             // that the server must have; "" for any
	read        func() (*client.Known, error)
	told        sync.Once // of what is wrong with the place
}

// newLastKnown gives the answers kept in the Redis, else in the directory; nil
// without either.
func newLastKnown(set settings, endpoint string) *lastKnown {
	l := &lastKnown{setting: "cache = { directory = … } or " + cacheDirectoryVariable, shared: set.cache.shared, environment: set.environment}
	switch inRedis, err := client.NewLastKnownIn(set.cache.shared, endpoint, set.token); {
	case set.cache.shared.RedisURL != "" && err == nil: // its settings were checked
		l.file, l.setting = inRedis, "cache = { redis = … } or "+redisURLVariable
	case set.cache.directory != "":
		l.file = client.NewLastKnown(set.cache.directory, endpoint, set.token)
	default:
		return nil
	}
	l.read = sync.OnceValues(func() (*client.Known, error) { return l.file.Read() })
	return l
}

// close gives back what reading and keeping has opened.
func (l *lastKnown) close() {
	if l != nil {
		l.file.Close()
	}
}

// known gives what was last known; nil where that is nothing, or cannot be used.
func (l *lastKnown) known() (*client.Known, error) {
	if l == nil {
		return nil, nil //nolint:nilnil // That there is none is an answer.
	}
	known, err := l.read()
	if err != nil || known == nil || l.environment != "" && known.Environment != l.environment {
		return nil, err
	}
	return known, nil
}

// choice says which flags an evaluated data source asks for.
type choice struct {
	client.Choice // of flags that are not asked for by key; without a name for keys

	keys       []flag.Key
	entity     string
	allowStale bool
}

// outage says why answers are what was last known, and since when.
type outage struct {
	err   error
	seen  time.Time // the oldest of them
	place string    // of shared definitions that they were evaluated from; "": the server gave them all
}

// evaluated asks, and where allow_stale is set keeps the answers, or gives those
// that were last known when the server does not answer, of which those of shared
// definitions that are newer: then the outage is not nil.
func (s *session) evaluated(ctx context.Context, diags *diag.Diagnostics, of choice, ask func() ([]client.Evaluation, error)) ([]client.Evaluation, *outage, error) {
	if of.allowStale && s != nil && s.walk != nil && s.down == nil && s.lastKnown != nil {
		s.walk.Share(ctx)
	}
	answers, err := ask()
	switch {
	case !of.allowStale:
		return answers, nil, err
	case err == nil:
		s.keep(ctx, diags, of, answers)
		return answers, nil, nil
	case s == nil || !serverDown(err):
		return nil, nil, err
	}
	known, damage := s.lastKnown.known()
	if damage != nil {
		s.lastKnown.tell(ctx, diags, damage)
	}
	if known != nil && (s.storeID == "" || known.StoreID == s.storeID) { // else the server, which was greeted in this walk, knows better
		if answers, from, ok := s.lastKnown.recall(s.walk.Recall(ctx, known), of); ok {
			from.err = err
			return answers, &from, nil
		}
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		told := *e
		told.Message += " allow_stale is true, but no answer to this was kept from before, or only one from before this run changed the flag"
		if s.lastKnown != nil && s.lastKnown.shared != (client.SharedPlace{}) {
			told.Message += ", and none is told by the shared definitions in " + s.lastKnown.shared.String()
		}
		told.Message += "."
		err = &told
	}
	return nil, nil, err
}

// serverDown reports whether the error is that nobody answers for the server, so
// that what was last known is the best there is. A server that refuses is not down.
func serverDown(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && (e.Kind == client.Unavailable || e.Kind == client.Timeout || e.Kind == client.ServerFault)
}

// recall finds the answers to a choice; false where one of them is not known.
func (l *lastKnown) recall(known *client.Known, of choice) (answers []client.Evaluation, from outage, ok bool) {
	keys, shared := of.keys, false
	from.seen = time.Now()
	if of.Name != "" {
		chosen, ok := known.Flags(of.Choice)
		if !ok {
			return nil, outage{}, false
		}
		keys, from.seen, shared = chosen.Keys, chosen.At, chosen.Shared
	}
	for _, key := range keys {
		answer, ok := known.Answer(key, of.entity)
		if !ok {
			return nil, outage{}, false
		}
		if answer.At.Before(from.seen) {
			from.seen = answer.At
		}
		shared = shared || answer.Shared
		answers = append(answers, answer.Evaluation)
	}
	if shared {
		from.place = l.shared.String()
	}
	if of.Name != "" { // what is gone is under no prefix and has no tags
		answers = slices.DeleteFunc(answers, func(e client.Evaluation) bool { return e.ErrorCode == flag.ErrorFlagNotFound })
	}
	return answers, from, true
}

// keep puts fresh answers into the place.
func (s *session) keep(ctx context.Context, diags *diag.Diagnostics, of choice, answers []client.Evaluation) {
	if s.lastKnown == nil {
		return
	}
	server, err := s.client.Server(ctx)
	if err == nil {
		err = s.lastKnown.file.Keep(ctx, server, of.Name, of.entity, answers)
	}
	if err != nil {
		s.lastKnown.tell(ctx, diags, err)
	}
}

// tell warns once of a place that cannot be used.
func (l *lastKnown) tell(ctx context.Context, diags *diag.Diagnostics, err error) {
	l.told.Do(func() {
		tflog.Warn(ctx, "the last known answers cannot be used", map[string]any{"error": err.Error()})
		diags.AddWarning("The last known answers cannot be used", fmt.Sprintf(
			"Where allow_stale is true, answers are kept for when the server is down, but %s. Nothing else depends on it. %s with %s.",
			err, l.file.Advice(), l.setting))
	})
}

// tellStale refuses stale answers, or tells of them where they are allowed. The
// outage is nil where the server itself said that they are stale.
func tellStale(diags *diag.Diagnostics, summary string, allowed bool, from *outage) {
	const found = "The server does not hear its source of truth and answered from what it knew last."
	switch {
	case from != nil:
		said := "this is what it said last,"
		if from.place != "" {
			said = "this is evaluated from the shared definitions in " + from.place + ", which it confirmed last"
		}
		diags.AddWarning(summary, fmt.Sprintf("The server does not answer, and %s %s ago (%s). It is taken, because allow_stale is true. What is wrong: %s",
			said, age(time.Since(from.seen)), from.seen.UTC().Format(time.RFC3339), reason(from.err)))
	case allowed:
		diags.AddWarning(summary, found+" It is taken, because allow_stale is true.")
	default:
		diags.AddAttributeError(path.Root("allow_stale"), summary, found+" Bring the server's database or upstream back, or set allow_stale = true to take such answers.")
	}
}

func reason(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return sentence(e.Message)
	}
	return sentence(err.Error())
}

// age says how long ago something was, in the two largest units.
func age(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
