package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/server"
	"github.com/bunting-flags/terraform-provider-bunting/internal/telemetry"
)

// openProxy puts a proxy at the listeners: of a Bunting server a replica, of a
// service that has only FlagEvaluatorService what is asked on demand. Compiled are
// the flags of the descriptors; nil: there are none.
func (a *app) openProxy(ctx context.Context, settings *configuration.Settings, compiled evaluator.Compiled, tells *telemetry.Telemetry, at listeners, log *slog.Logger) (o opened, err error) {
	secret := strings.TrimSpace(a.env("BUNTING_TOKEN"))
	if settings.UpstreamTokenFile != "" {
		if secret, err = readToken(settings.UpstreamTokenFile); err != nil {
			return o, err
		}
	}
	upstream, err := client.New(client.Options{
		Endpoint: settings.Upstream, Token: secret, UserAgent: "bunting/" + version, RequestTimeout: client.UpstreamTimeout, Policy: &client.UpstreamPolicy, Around: tells.Transport,
	})
	if err != nil {
		return o, err
	}
	o.close = func() error { upstream.Close(); return o.data.close() }
	if o.data, err = openData(ctx, settings, log); err != nil {
		return o, errors.Join(err, o.close())
	}
	options := server.Options{
		Upstream: upstream, KnownTokens: o.data.tokens(), Version: version, Log: log, Telemetry: tells,
		Anonymous: settings.Anonymous, AdminListener: at.admin, AdminOff: !settings.Admin, LogRequests: settings.LogRequests, EnvironmentColor: settings.EnvironmentColor,
	}
	// Whether an upstream that does not answer may be done without is the follower's
	// question.
	greeted, err := upstream.Greet(ctx)
	var said *client.Server
	if err == nil {
		said = &greeted
	}
	begins := err != nil && (o.data.snapshot() == nil || settings.DefinitionCache.IsSet())
	if err == nil && greeted.EvaluatorOnly && settings.DefinitionCache.IsSet() {
		err = fmt.Errorf("the upstream %s has only FlagEvaluatorService, which has no definitions to share, but definition_cache is set. Remove its settings, or name a Bunting flag server as the upstream", upstream.Endpoint())
		return o, errors.Join(err, o.close())
	}
	if err == nil && greeted.EvaluatorOnly {
		o.environment = settings.Environment
		options.Compiled = compiled
		options.OnDemand, err = onDemand(upstream, settings.Cache, compiled)
		if err == nil {
			o.web, err = server.New(ctx, options)
		}
		if err != nil && options.OnDemand != nil {
			options.OnDemand.Close()
		}
		return o, errors.Join(err, o.closeUnless(err == nil))
	}
	sharing, err := shareDefinitions(settings, tells)
	if err != nil {
		return o, errors.Join(err, o.close())
	}
	options.Follower, err = evaluator.NewFollower(ctx, upstream, evaluator.FollowerOptions{
		Options: evaluator.Options{Log: log, StaleAfter: settings.StaleAfter, Environment: settings.Environment, Known: o.data.snapshot(), Compiled: compiled},
		ID:      rand.Text(),
		Poll:    settings.UpstreamPoll,
		Sharing: sharing,
		Greeted: said,
	})
	if err == nil {
		o.evaluator = options.Follower.Evaluator
		if begins {
			o.unreached = options.Follower
		}
		o.environment = o.evaluator.View().Environment
		o.web, err = server.New(ctx, options)
	}
	return o, errors.Join(err, o.closeUnless(err == nil))
}

// reach looks, until the upstream first answers or the context ends, what it is.
// One that would have kept the server from starting (it refuses the token, or has
// only FlagEvaluatorService, which cannot be followed) ends the server by stop. The
// function that it gives waits for the looking, once the context has ended, and says
// why it ended the server; nil: it did not.
func (o opened) reach(ctx context.Context, stop func()) (reached func() error) {
	if o.unreached == nil {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		err := o.unreached.Reach(ctx)
		if err != nil {
			err = fmt.Errorf("the upstream, which did not answer when this server was started, now does, and this server ends: %w", err)
			stop()
		}
		done <- err
	}()
	return func() error { return <-done }
}

// onDemand makes the cache before a service that has only FlagEvaluatorService.
func onDemand(upstream *client.Client, cache configuration.Cache, compiled evaluator.Compiled) (*client.OnDemand, error) {
	policy := client.DefaultOnDemandPolicy
	policy.KillTTL, policy.FlagTTL, policy.OverrideTTL = cache.KillTTL, cache.FlagTTL, cache.OverrideTTL
	policy.FlagEntries, policy.OverrideEntries = cache.FlagMaxEntries, cache.OverrideMaxEntries
	policy.JitterPercent, policy.FetchTimeout = cache.JitterPercent, cache.FetchTimeout
	var definition func(flag.Key) *flag.Flag
	if compiled != nil {
		definition = compiled.Flag
	}
	return client.NewOnDemand(upstream, policy, definition)
}
