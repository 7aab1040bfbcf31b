package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// manyFlags is how many flags are planned and applied where time is measured.
const manyFlags = 1000

// aim is how much longer than nothing a command may take, with the server so far away.
type aim struct {
	delay time.Duration
	ratio float64
}

const far = 50 * time.Millisecond // from here on changes are to travel together

var (
	applyAims = []aim{{0, 1.10}, {far, 1.10}, {150 * time.Millisecond, 1.60}}
	planAims  = []aim{{0, 1.05}, {20 * time.Millisecond, 1.05}, {far, 1.05}, {150 * time.Millisecond, 1.05}}
)

// variant is what a command is run with.
type variant struct {
	provider string
	delay    time.Duration // of the road, which nothing has none of
}

// cost is what one command took.
type cost struct {
	traffic
	spent
}

// costs are those of the same command with each variant, one for each round.
type costs map[variant][]cost

// rounds runs a command in turn with each variant, every other time in reverse, so that what a busy machine does meets
// them all alike.
func rounds(what string, aims []aim, count int, once func(variant) (cost, error)) (costs, error) {
	variants := make([]variant, 0, 1+len(aims))
	variants = append(variants, variant{provider: nothing})
	for _, a := range aims {
		variants = append(variants, variant{ours, a.delay})
	}
	all := costs{}
	for i := range count {
		fmt.Fprintf(os.Stderr, "%s of %d flags, %d of %d\n", what, manyFlags, i+1, count)
		for _, v := range variants {
			c, err := once(v)
			if err != nil {
				return nil, err
			}
			all[v] = append(all[v], c)
		}
		slices.Reverse(variants)
	}
	return all, nil
}

// run runs one command over a road of its own to the present server.
func (b *bench) run(ctx context.Context, v variant, command string, args ...string) (c cost, err error) {
	w := b.workspaces[v.provider]
	if v.provider == nothing {
		c.spent, err = w.run(ctx, "", "", command, args...)
		return c, err
	}
	r, err := openRoad(ctx, b.server.endpoint, v.delay)
	if err != nil {
		return c, err
	}
	c.spent, err = w.run(ctx, r.endpoint, b.server.token, command, args...)
	var closing error
	c.traffic, closing = r.close(ctx)
	b.mostConnections = max(b.mostConnections, c.connections)
	return c, errors.Join(err, closing)
}

// mostRequests gives how many requests the run with most of them took.
func (all costs) mostRequests(of func(variant) bool) (most int) {
	for v, list := range all {
		for _, c := range list {
			if of(v) {
				most = max(most, c.requests())
			}
		}
	}
	return most
}

// times adds the ratio of each delay: how much longer than nothing it takes, the handshake aside, as the median of the
// rounds. The range and the processors' time tell how far to trust it.
func (all costs) times(t *table, what string, aims []aim) {
	base := all[variant{provider: nothing}]
	for _, a := range aims {
		list := all[variant{ours, a.delay}]
		var ratios, cpu []float64
		for i, c := range list {
			ratios = append(ratios, (c.wall-c.calls["GetServer"].spent).Seconds()/base[i].wall.Seconds())
			cpu = append(cpu, c.cpu.Seconds()/base[i].cpu.Seconds())
		}
		ratio := median(ratios)
		t.addf(fmt.Sprintf("%s of %d flags, %s away: time", what, manyFlags, a.delay), fmt.Sprintf("≤ %.2f", a.ratio), ratio <= a.ratio,
			"%.2f (%.2f to %.2f; %.1f s, nothing %.1f s; CPU %.2f)", ratio, slices.Min(ratios), slices.Max(ratios), median(walls(list)), median(walls(base)), median(cpu))
	}
}

// walls gives the seconds of the runs.
func walls(list []cost) (seconds []float64) {
	for _, c := range list {
		seconds = append(seconds, c.wall.Seconds())
	}
	return seconds
}

// median gives the middle one, or what is between the two in the middle.
func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}

// applies measures creating many flags. It leaves a server that has them, and workspaces whose state says so.
func (b *bench) applies(ctx context.Context, t *table, count int) error {
	const saved = "create.plan"
	if err := b.newServer(ctx); err != nil {
		return err
	}
	for provider, w := range b.workspaces {
		if err := w.declare(manyFlags); err != nil {
			return err
		}
		if _, err := b.run(ctx, variant{provider: provider}, "plan", "-out="+saved); err != nil {
			return err
		}
	}
	all, err := rounds("apply", applyAims, count, func(v variant) (cost, error) {
		if err := b.workspaces[v.provider].forget(); err != nil {
			return cost{}, err
		}
		if v.provider == ours {
			if err := b.newServer(ctx); err != nil {
				return cost{}, err
			}
		}
		return b.run(ctx, v, "apply", saved)
	})
	if err != nil {
		return err
	}
	most := all.mostRequests(func(v variant) bool { return v.provider == ours })
	t.addf(fmt.Sprintf("apply of %d flags: requests", manyFlags), "≤ 1005", most <= 1005, "%d", most)
	most = all.mostRequests(func(v variant) bool { return v == variant{ours, far} })
	t.addf(fmt.Sprintf("apply of %d flags, %s away: requests", manyFlags, far), "≤ 350", most <= 350, "%d", most)
	all.times(t, "apply", applyAims)
	return nil
}

// unchanged makes a plan fail that is not empty.
const unchanged = "-detailed-exitcode"

// plans measures planning what applies has left.
func (b *bench) plans(ctx context.Context, t *table, count int) error {
	all, err := rounds("plan", planAims, count, func(v variant) (cost, error) { return b.run(ctx, v, "plan", unchanged) })
	if err != nil {
		return err
	}
	most := all.mostRequests(func(v variant) bool { return v.provider == ours })
	t.addf(fmt.Sprintf("refresh of %d flags: requests", manyFlags), "≤ 3", most <= 3, "%d", most)
	all.times(t, "plan", planAims)
	return nil
}

// refreshes counts what refreshing takes with larger servers.
func (b *bench) refreshes(ctx context.Context, t *table) error {
	const near, away = time.Duration(0), 20 * time.Millisecond
	there := 0
	for _, row := range []struct {
		declared, there int
		delay           time.Duration
		requests        int
		bytes           int64 // 0: any
	}{
		{declared: 10_000, there: 10_000, delay: near, requests: 5},
		{declared: 1000, there: 100_000, delay: away, requests: 4},
		{declared: 10, there: 100_000, delay: away, requests: 4, bytes: 100_000},
		{declared: 10, there: 100_000, delay: near, requests: 11, bytes: 100_000},
	} {
		what := fmt.Sprintf("refresh of %d flags of %d, %s away", row.declared, row.there, row.delay)
		fmt.Fprintln(os.Stderr, what)
		if row.there != there {
			if err := b.newServer(ctx); err != nil {
				return err
			}
			if err := fill(ctx, b.server.endpoint, b.server.token, row.there, description); err != nil {
				return err
			}
			there = row.there
		}
		if err := b.workspaces[ours].resize(row.declared); err != nil {
			return err
		}
		c, err := b.run(ctx, variant{ours, row.delay}, "plan", unchanged)
		if err != nil {
			return err
		}
		t.addf(what+": requests", fmt.Sprintf("≤ %d", row.requests), c.requests() <= row.requests, "%d", c.requests())
		if row.bytes > 0 {
			t.addf(what+": kB", fmt.Sprintf("< %d", row.bytes/1000), c.bytes < row.bytes, "%d", c.bytes/1000)
		}
	}
	return nil
}
