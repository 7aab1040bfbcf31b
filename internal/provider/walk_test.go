package provider

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	ctyjson "github.com/zclconf/go-cty/cty/json"
	"pgregory.net/rapid"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// walker is a random walk: configurations are applied one after the other while
// operators change things, and after each the server has to be what was declared.
type walker struct {
	t      *rapid.T
	d      driver
	people *client.Client // with the scope admin; each operator's holds are told apart by holder
	prefix string         // of all keys of this walk
	owned  bool           // the provider has a workspace

	settled walkConfig // the last one that the server agreed with
	kept    map[flag.Key]bool
	// held are the holds of operators that stand.
	held map[flag.Ref]bool
	// touched are the keys that operators have changed since the last refresh.
	touched map[flag.Key]bool
	// drifted are those that they had changed since the state before that was
	// written, when the present plan was made, and drifting those since then.
	drifted, drifting map[flag.Key]bool
	orphansFirst      bool // see core
	// rewritten is what operators wrote since the plan.
	rewritten map[flag.Ref]bool
	// Of the present run, as it was planned: what the server had, what the state
	// had, and what was declared.
	truth    *flag.Snapshot
	had      []stateObject
	declared []walkBlock
	// refusedPlan tells that it was refused while planning, so that the state is
	// what it was.
	refusedPlan bool
	// disturbed tells that operators may act while it is planned and applied.
	disturbed bool
	// first tells that a block was create_before_destroy, which lives on in the state.
	first bool
	// pending are the flags that the present plan makes, changes or takes away.
	pending map[flag.Key]bool
	// meanwhile, when set, applies while operators do the deeds: each before the
	// first write at its flag. Without it core asks before each write (core.before).
	meanwhile func([]deed) outcome
}

const walkRounds = 10 // after which a configuration must have been settled

// steps walks.
func (w *walker) steps(most int) {
	var config walkConfig
	for step := range 1 + evenly(most).Draw(w.t, "steps") {
		config.change(w.t)
		w.t.Logf("step %d", step)
		w.operate("before the plan", 2)
		w.settle(config, true)
		w.settled = config
		w.agree()
	}
}

// settle applies the configuration until a plan is empty. What is refused must be
// a refusal that is meant, and is then given in to, as people would.
func (w *walker) settle(config walkConfig, disturbed bool) {
	for i := range walkRounds {
		refusals, changed := w.round(config, disturbed)
		if !changed && len(refusals) == 0 {
			return
		}
		disturbed = false
		open := w.settled.released(w.t)
		for _, r := range refusals {
			byConfig := i == 0 && w.refusedPlan && w.settled != open && rapid.Bool().Draw(w.t, "by configuration")
			switch r.give {
			case giveNothing: // a new plan sees what there is now
			case giveImport:
				w.takeIn(r.address)
			case giveOrder:
				switch ordered := config == config.inOrder(); { // what is to be destroyed still asks for it
				case ordered && r.address == "":
					w.letGo()
				case ordered:
					w.yield(r.address)
				}
				config = config.inOrder()
			case giveReference:
				config = config.byReference()
			case giveTurn:
				if i > 1 {
					w.yield(r.address)
				}
			case giveWay:
				w.yield(r.address)
			case giveForget:
				w.forget(r)
			case giveProtection, giveHolds:
				switch {
				case byConfig:
					w.t.Logf("giving in to %q by configuration", r.summary)
					w.settled = open
					w.settle(open, false)
				case r.give == giveProtection:
					w.forget(r)
				default:
					w.free(r.ref.Key)
					config = config.byReference() // or the hold is placed again first
				}
			}
			if byConfig {
				break // and see what is left of the others
			}
		}
	}
	w.t.Fatalf("after %d rounds the plan is not empty", walkRounds)
}

// round plans and applies once, and reports whether the plan had anything to do.
func (w *walker) round(config walkConfig, disturbed bool) (refusals []refusal, changed bool) {
	w.disturbed = disturbed
	_, inProcess := w.d.(*coreDriver)
	w.declared = config.blocks(w.prefix, disturbed && inProcess)
	w.truth, w.touched = w.look(), map[flag.Key]bool{}
	w.had = slices.DeleteFunc(w.d.objects(), w.gone)
	for _, b := range w.declared {
		w.t.Logf("  %s: %s; later %s; first %t", b.address, attrsText(b.attrs), attrsText(b.later), b.createFirst)
	}
	o := w.d.planConfig(coreBlocks(w.declared))
	w.t.Logf("plan: %v", o.actions)
	w.first = w.first || config != config.inOrder()
	if w.refusedPlan = o.code != 0; w.refusedPlan {
		return w.explain(o, true), true
	}
	w.drifted, w.drifting, w.rewritten = w.drifting, map[flag.Key]bool{}, map[flag.Ref]bool{}
	w.pending = w.pends(o.actions)
	var during []deed
	if len(o.actions) > 0 && disturbed {
		w.operate("before the apply", 2)
		if w.meanwhile != nil {
			during = w.deeds("during the apply", 2)
		}
	}
	before, was := w.look(), w.d.objects()
	unseen := w.rewritten
	w.rewritten = map[flag.Ref]bool{}
	if len(o.actions) > 0 || disturbed || len(w.drifted) > 0 {
		apply := w.d.applyPlan
		if len(during) > 0 {
			apply = func() outcome { return w.meanwhile(during) }
		}
		if applied := apply(); applied.code != 0 {
			refusals = w.explain(applied, false)
		}
	}
	w.untouched(before, was, o.actions)
	w.unlost(before, unseen)
	w.unreleased(before, was, o.actions)
	return refusals, len(o.actions) > 0
}

// pends gives the flags at which a plan does something.
func (w *walker) pends(actions map[string]string) map[flag.Key]bool {
	all := map[flag.Key]bool{}
	add := func(address string, ref flag.Ref) {
		if actions[address] != "" && ref.Kind == flag.KindFlag {
			all[ref.Key] = true
		}
	}
	for _, b := range w.declared {
		add(b.address, b.ref())
	}
	for _, o := range w.had {
		add(o.Address, o.ref())
	}
	return all
}

// attrsText writes attributes for a log.
func attrsText(a coreAttrs) string {
	var all []string
	for name, v := range a {
		text, err := ctyjson.SimpleJSONValue{Value: v}.MarshalJSON()
		if err != nil {
			return err.Error()
		}
		all = append(all, name+"="+string(text))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func newWalker(t *rapid.T, d driver, people *client.Client, prefix string) *walker {
	return &walker{
		t: t, d: d, people: people, prefix: prefix,
		kept: map[flag.Key]bool{}, held: map[flag.Ref]bool{}, touched: map[flag.Key]bool{}, drifting: map[flag.Key]bool{}, rewritten: map[flag.Ref]bool{},
	}
}

// otherwise has the shards of one seed walk each its own way.
func otherwise(t *rapid.T, shard int) {
	for range shard {
		rapid.Bool().Draw(t, "shard")
	}
}

// Whatever is configured and whoever does what in between: applies converge to
// what is declared, and nothing is refused, lifted or lost that should not be.
// 1,000 walks take a minute of CPU, and four times that with the race detector: so
// they are walked in soak, drawn anew each time, and 100 of them always, which `make
// test` draws from one seed. A failure is kept by rapid in testdata/rapid; what the
// walks have found is in walk_found_test.go.
func TestRandomWalks(t *testing.T) {
	t.Parallel()
	shards := 1 // of rapid's 100 walks each
	if os.Getenv("BUNTING_SOAK") != "" {
		shards = 10
	}
	for shard := range shards {
		t.Run(strconv.Itoa(shard), func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			people := newClient(t, server, server.NamedToken(t, "people", "", "admin"))
			var walks atomic.Int64
			rapid.Check(t, func(rt *rapid.T) {
				otherwise(rt, shard)
				name := fmt.Sprintf("w%d", walks.Add(1))
				workspace := ""
				if rapid.Bool().Draw(rt, "workspace") {
					workspace = name
				}
				c := newCore(rt, server.Endpoint, server.AdminToken, workspace)
				w := newWalker(rt, &coreDriver{core: c}, people, name+"/")
				w.owned = workspace != ""
				c.orphansFirst = rapid.Bool().Draw(rt, "orphans first")
				w.orphansFirst = c.orphansFirst
				c.choose = func(n int) int { return evenly(n).Draw(rt, "next") }
				c.before = func(string, string) {
					if w.disturbed {
						w.operate("during the apply", 1)
					}
				}
				w.steps(4)
			})
		})
	}
}

// The same walks through Terraform itself, to see what core in miniature may have
// wrong: a few, and 40 in soak.
func TestRandomWalksOfTerraform(t *testing.T) {
	t.Parallel()
	shards, most := 3, int64(1)
	if os.Getenv("BUNTING_SOAK") != "" {
		shards, most = 4, 10
	}
	for shard := range shards {
		t.Run(strconv.Itoa(shard), func(t *testing.T) {
			t.Parallel()
			server := buntingtest.Start(t)
			people := newClient(t, server, server.NamedToken(t, "people", "", "admin"))
			between := newMiddleman(t, server)
			var walks atomic.Int64
			var failed atomic.Bool
			rapid.Check(t, func(rt *rapid.T) {
				n := walks.Add(1)
				if n > most && !failed.Load() {
					return // of rapid's 100; after a failure it makes the walk shorter
				}
				defer func() {
					if p := recover(); p != nil {
						failed.Store(true)
						panic(p)
					}
				}()
				otherwise(rt, shard)
				c := newCLI(t, between.URL, server.AdminToken)
				name := fmt.Sprintf("w%d", n)
				d := &cliDriver{cli: c}
				w := newWalker(rt, d, people, name+"/")
				w.meanwhile = func(deeds []deed) outcome { return w.stepsIn(between, deeds, d.applyPlan) }
				w.orphansFirst = true // it may
				if w.owned = rapid.Bool().Draw(rt, "workspace"); w.owned {
					c.env = append(c.env, "BUNTING_WORKSPACE="+name)
				}
				w.steps(3)
			})
		})
	}
}
