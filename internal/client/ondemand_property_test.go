package client

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// lastTold is a model of what an OnDemand may know: what a service said last of
// everything, and nothing else.
type lastTold struct {
	service *plainService

	flags     map[flag.Key]toldFlag
	overrides map[string]toldOverrides // by entity
	answers   map[string]toldAnswer    // by key and entity, with a space between
	kills     toldKills
	pollFails bool      // the last poll did
	failed    time.Time // when anything last did, or when the service was last spared because of that
}

type when struct{ asked, came time.Time }

type toldFlag struct {
	when

	exists, killed bool
	flag           flag.Flag
}

type toldOverrides struct {
	when

	of map[flag.Key]flag.Override
}

type toldAnswer struct {
	when

	found     bool
	value     flag.Value
	source    flag.Source
	isDefault bool // the value is the default
}

type toldKills struct {
	when

	flags    map[flag.Key]bool
	entities map[flag.Ref]bool
}

func (k toldKills) has(key flag.Key, entity string) bool {
	return k.flags[key] || k.entities[flag.OverrideRef(key, entity)]
}

// hear learns how a question went. The service is locked.
func (m *lastTold) hear(procedure, about string, asked time.Time, failed bool) {
	now := when{asked: asked, came: time.Now()}
	if procedure == "GetKilledFlags" {
		m.pollFails = failed
	}
	if failed {
		m.failed = now.came
		return
	}
	s := m.service
	switch procedure {
	case "GetKilledFlags":
		m.kills = toldKills{when: now, flags: maps.Clone(s.killed), entities: maps.Clone(s.killedFor)}
	case "GetFlagState":
		if before := m.flags[flag.Key(about)]; before.asked.After(asked) {
			return
		}
		f, ok := s.flags[flag.Key(about)]
		m.flags[flag.Key(about)] = toldFlag{when: now, exists: ok, killed: ok && s.killed[flag.Key(about)], flag: f}
	case "GetOverrides":
		if before := m.overrides[about]; before.asked.After(asked) {
			return
		}
		told := toldOverrides{when: now, of: map[flag.Key]flag.Override{}}
		for ref, o := range s.overrides {
			if ref.ID == about {
				told.of[ref.Key] = o
			}
		}
		m.overrides[about] = told
	case "Evaluate":
		if before := m.answers[about]; before.asked.After(asked) {
			return
		}
		key, entity, _ := strings.Cut(about, " ")
		m.answers[about] = m.evaluated(now, flag.Key(key), entity)
	}
}

// evaluated gives what the service answers.
func (m *lastTold) evaluated(now when, key flag.Key, entity string) toldAnswer {
	f, ok := m.service.flags[key]
	if !ok {
		return toldAnswer{when: now}
	}
	told := toldFlag{exists: true, flag: f}
	own := map[flag.Key]flag.Override{}
	if o, ok := m.service.overrides[flag.OverrideRef(key, entity)]; ok {
		own[key] = o
	}
	killed := m.service.killed[key] || m.service.killedFor[flag.OverrideRef(key, entity)]
	value, source := rule(killed, told, own, key, entity)
	return toldAnswer{when: now, found: true, value: value, source: source, isDefault: source == flag.SourceKilled || source == flag.SourceDefault}
}

// rule is DESIGN §4, written down a second time.
func rule(killed bool, f toldFlag, own map[flag.Key]flag.Override, key flag.Key, entity string) (flag.Value, flag.Source) {
	if killed {
		return compiledIn, flag.SourceKilled
	}
	if o, ok := own[key]; ok && entity != "" {
		if o.State == flag.Default {
			return compiledIn, flag.SourceDefault
		}
		if o.Value.Type() == flag.Int {
			return o.Value, flag.SourceOverride
		}
	}
	if f.exists && !f.killed && f.flag.Value.Type() == flag.Int {
		if f.flag.ArchivedState == flag.Enabled {
			return f.flag.Value, flag.SourceArchived
		}
		if f.flag.ArchivedState == 0 && f.flag.State == flag.Enabled {
			return f.flag.Value, flag.SourceGlobal
		}
	}
	return compiledIn, flag.SourceDefault
}

// checkCompiled compares an answer about a compiled flag with the model.
func (m *lastTold) checkCompiled(t *rapid.T, a flag.Answer, key flag.Key, entity string) {
	f, knowsFlag := m.flags[key]
	o, knowsOwn := m.overrides[entity]
	lifted := m.kills.asked.After(f.came) && !m.kills.has(key, entity)
	killed := m.kills.has(key, entity) || f.killed && !lifted
	value, source := rule(killed, f, o.of, key, entity)
	want := flag.Answer{Key: key, Type: flag.Int, Value: value, Source: source, Stale: a.Stale}
	if a.Stale {
		want.FreshSource = source
		if source != flag.SourceKilled && (knowsFlag || knowsOwn) {
			want.Source = flag.SourceCached
		}
	}
	if a != want {
		t.Fatalf("%s for %q: got %s, want %s\nflag %+v\noverrides %+v\nkills %+v", key, entity, short(a), short(want), f, o, m.kills)
	}
	known := []when{f.when}
	if entity != "" {
		known = append(known, o.when)
	}
	if m.kills.has(key, entity) {
		known = nil
	}
	m.checkStale(t, a, known...)
	if !a.Stale && f.killed && lifted {
		t.Fatalf("%s: fresh, but all that is known is that it was killed", key)
	}
}

// checkPassedOn compares an answer about a flag that is not compiled in.
func (m *lastTold) checkPassedOn(t *rapid.T, a flag.Answer, err error, key flag.Key, entity string) {
	told, known := m.answers[fmt.Sprintf("%s %s", key, entity)]
	killed := m.kills.has(key, entity)
	lifted := m.kills.asked.After(told.came) && !killed
	nothing := !known || told.found && killed && !told.isDefault
	if nothing != (err != nil) {
		t.Fatalf("%s for %q: got %s, %v, told %+v", key, entity, short(a), err, told)
	}
	if err != nil {
		return
	}
	want := flag.Answer{Key: key, Source: flag.SourceDefault, ErrorCode: flag.ErrorFlagNotFound, Stale: a.Stale}
	if told.found {
		want = flag.Answer{Key: key, Type: told.value.Type(), Value: told.value, Source: told.source, Stale: a.Stale}
		switch {
		case killed:
			want.Source = flag.SourceKilled
		case told.source == flag.SourceKilled && lifted:
			want.Source = flag.SourceDefault
		}
		if a.Stale {
			want.FreshSource = want.Source
			if want.Source != flag.SourceKilled {
				want.Source = flag.SourceCached
			}
		}
	}
	if a != want {
		t.Fatalf("%s for %q: got %s, want %s\ntold %+v\nkills %+v", key, entity, short(a), short(want), told, m.kills)
	}
	m.checkStale(t, a, told.when)
	if !a.Stale && told.source == flag.SourceKilled && lifted {
		t.Fatalf("%s: fresh, but all that is known is that it was killed", key)
	}
}

// checkStale: fresh is what was told within its time; stale has a reason.
func (m *lastTold) checkStale(t *rapid.T, a flag.Answer, known ...when) {
	now := time.Now()
	if a.Stale {
		if since := now.Sub(m.failed); !m.pollFails && since > steady.FailureTTL+steady.FetchTimeout {
			t.Fatalf("%s is stale, but nothing has failed for %s", a.Key, since)
		}
		return
	}
	if m.pollFails || m.kills.came.IsZero() {
		t.Fatalf("%s is fresh, but the last poll of the kills failed", a.Key)
	}
	for _, w := range known {
		if age := now.Sub(w.came); w.came.IsZero() || age >= steady.FlagTTL {
			t.Fatalf("%s is fresh, but told %s ago", a.Key, age)
		}
	}
}

// modes are the ways in which a service may be.
var modes = map[string]func(ctx context.Context, procedure string) error{
	"up": nil, "refuses": nil, "hangs": hang,
	"fails":          func(context.Context, string) error { return away },
	"kills fail":     failsAt("GetKilledFlags"),
	"flags fail":     failsAt("GetFlagState"),
	"overrides fail": failsAt("GetOverrides"),
	"evaluation hangs": func(ctx context.Context, procedure string) error {
		if procedure == "Evaluate" {
			return hang(ctx, procedure)
		}
		return nil
	},
}

func failsAt(failing string) func(context.Context, string) error {
	return func(_ context.Context, procedure string) error {
		if procedure == failing {
			return away
		}
		return nil
	}
}

// TestOnDemandModel: whatever happens, in whatever order, an answer is what the
// rule makes of what the service said last.
func TestOnDemandModel(t *testing.T) {
	text, _ := flag.StringValue("x")
	rapid.Check(t, func(r *rapid.T) {
		var found any
		synctest.Test(t, func(*testing.T) {
			defer func() { found = recover() }() // rapid ends a case by a panic, in its own goroutine
			t := r
			s := newPlainService()
			m := &lastTold{service: s, flags: map[flag.Key]toldFlag{}, overrides: map[string]toldOverrides{}, answers: map[string]toldAnswer{}}
			s.told = m.hear
			var calls int
			setMode := func(mode string) {
				s.set(func() {
					s.refuses = mode == "refuses"
					s.fails = func(ctx context.Context, procedure string) error {
						s.mu.Lock()
						calls++ // no two things happen at the same moment
						latency := time.Millisecond + time.Duration(7*calls)
						s.mu.Unlock()
						time.Sleep(latency)
						if fails := modes[mode]; fails != nil {
							return fails(ctx, procedure)
						}
						return nil
					}
				})
			}
			modeNames := []string{"up", "up", "up", "refuses", "hangs", "fails", "kills fail", "flags fail", "overrides fail", "evaluation hangs"}
			setMode(rapid.SampledFrom(modeNames).Draw(t, "mode"))
			policy := DefaultOnDemandPolicy
			other := pay
			other.Key = "other"
			c, err := New(Options{Endpoint: "http://plain.test", Transport: s, Policy: &onePolicy})
			if err != nil {
				t.Fatal(err)
			}
			compiled := map[flag.Key]*flag.Flag{"pay": &pay, "other": &other}
			d, err := NewOnDemand(c, policy, func(key flag.Key) *flag.Flag { return compiled[key] })
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()

			keys := rapid.SampledFrom([]flag.Key{"pay", "other", "plain"})
			entities := rapid.SampledFrom([]string{"", "anna", "bert"})
			states := rapid.SampledFrom([]flag.State{flag.Enabled, flag.Enabled, flag.Default})
			ask := func(ctx context.Context, key flag.Key, entity string) {
				d.fetcher.breaker.mu.Lock()
				spared := d.fetcher.breaker.rest > 0 // one call tries, whatever else is wanted is refused
				d.fetcher.breaker.mu.Unlock()
				if spared {
					s.set(func() { m.failed = time.Now() })
				}
				a, err := d.Evaluate(ctx, key, flag.Context{TargetingKey: entity})
				if ctx.Err() != nil && (isKind(err, Timeout) || isKind(err, Canceled)) {
					return
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				if compiled[key] == nil {
					m.checkPassedOn(t, a, err, key, entity)
					return
				}
				if err != nil {
					t.Fatalf("%s: %v", key, err)
				}
				m.checkCompiled(t, a, key, entity)
			}
			t.Repeat(map[string]func(*rapid.T){
				"put a flag": func(t *rapid.T) {
					f := as(pay, states.Draw(t, "state"), rapid.SampledFrom([]flag.Value{global, flag.IntValue(22), {}, text}).Draw(t, "value"))
					f.Key = keys.Draw(t, "key")
					if f.Key == "plain" && f.Value == text {
						f.Value = global // a server checks types; only a compiled one may differ
					}
					f.ArchivedState = rapid.SampledFrom([]flag.State{0, 0, 0, flag.Enabled, flag.Default}).Draw(t, "archived")
					s.set(func() { s.flags[f.Key] = f })
				},
				"delete a flag": func(t *rapid.T) { key := keys.Draw(t, "key"); s.set(func() { delete(s.flags, key) }) },
				"set an override": func(t *rapid.T) {
					o := override(keys.Draw(t, "key"), rapid.SampledFrom([]string{"anna", "bert"}).Draw(t, "entity"), rapid.SampledFrom([]flag.Value{overridden, flag.IntValue(33), {}}).Draw(t, "value"))
					s.set(func() { s.overrides[flag.OverrideRef(o.FlagKey, o.EntityID)] = o })
				},
				"remove an override": func(t *rapid.T) {
					ref := flag.OverrideRef(keys.Draw(t, "key"), entities.Draw(t, "entity"))
					s.set(func() { delete(s.overrides, ref) })
				},
				"kill":    func(t *rapid.T) { key := keys.Draw(t, "key"); s.set(func() { s.killed[key] = true }) },
				"release": func(t *rapid.T) { key := keys.Draw(t, "key"); s.set(func() { delete(s.killed, key) }) },
				"kill for one": func(t *rapid.T) {
					ref := flag.OverrideRef(keys.Draw(t, "key"), "anna")
					s.set(func() {
						if s.killedFor[ref] {
							delete(s.killedFor, ref)
						} else {
							s.killedFor[ref] = true
						}
					})
				},
				"mode": func(t *rapid.T) { setMode(rapid.SampledFrom(modeNames).Draw(t, "mode")) },
				"time": func(t *rapid.T) {
					time.Sleep(rapid.SampledFrom([]time.Duration{time.Millisecond, 600 * time.Millisecond, time.Second, 3 * time.Second, 31 * time.Second, 2 * time.Minute, 6 * time.Minute, time.Hour}).Draw(t, "time"))
				},
				"flush": func(*rapid.T) { d.FlushAll() },
				"ask":   func(t *rapid.T) { ask(context.Background(), keys.Draw(t, "key"), entities.Draw(t, "entity")) },
				"ask all": func(*rapid.T) {
					for _, key := range []flag.Key{"pay", "other", "plain"} {
						for _, entity := range []string{"", "anna", "bert"} {
							ask(context.Background(), key, entity)
						}
					}
				},
				"ask and give up": func(t *rapid.T) {
					ctx, done := context.WithTimeout(context.Background(), time.Duration(rapid.IntRange(1, 2000).Draw(t, "microseconds"))*time.Microsecond)
					defer done()
					ask(ctx, keys.Draw(t, "key"), entities.Draw(t, "entity"))
				},
			})
		})
		switch fmt.Sprintf("%T", found) { // rapid tells kinds of ends apart by their lines
		case "<nil>":
		case "rapid.invalidData":
			panic(found)
		default:
			panic(found)
		}
	})
}
