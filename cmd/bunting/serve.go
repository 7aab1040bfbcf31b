package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/server"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/telemetry"
)

func newServeCommand(a *app) *cobra.Command {
	var file configFlag
	var printConfig bool
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a flag server",
		Long: `Run a flag server. Without any flag it listens on ` + defaultListen + `, keeps its
database in bunting.db in this folder, and on its first start writes the token
of an admin to ` + defaultTokenFile + `.

Each setting below can also stand in a YAML file (--config, else the variable
BUNTING_SERVE_CONFIG) and in the environment: --cache-kill-ttl is kill_ttl below
cache in the file, and BUNTING_SERVE_CACHE_KILL_TTL. The command line goes over
the environment, and that over the file. An unknown name is an error everywhere.

It logs JSON lines on stderr. SIGTERM and SIGINT end it once the requests under
way are answered; a second signal ends it at once.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := a.settings(c, file.path)
			switch {
			case err != nil:
				return err
			case printConfig:
				return settings.Print(a.stdout)
			}
			return a.serve(c.Context(), settings)
		},
	}
	groups := addSettings(c)
	c.Flags().Var(&file, configuration.FileFlag, "YAML file with settings")
	c.Flags().BoolVar(&printConfig, "print-config", false, "print the settings in force and where each comes from, and end")
	c.SetFlagErrorFunc(suggestSetting)
	showGroups(c, groups)
	return c
}

// serve runs a server until the context ends and it has drained.
func (a *app) serve(ctx context.Context, settings *configuration.Settings) (err error) {
	log := slog.New(slog.NewJSONHandler(a.stderr, &slog.HandlerOptions{Level: settings.LogLevel}))
	tracing, err := telemetry.NewTracing(ctx, version, log, a.env)
	if err != nil {
		return &exit{exitUsage, err}
	}
	defer tracing.Close(ctx)
	tells := telemetry.New(telemetry.Options{Version: version, Tracing: tracing, ByFlag: settings.MetricsFlagLabels})

	// The ports come first: where one is taken, by this very server perhaps, no
	// file is made or touched.
	at, err := listen(ctx, settings)
	if err != nil {
		return err
	}
	defer at.close()
	if settings.ReadyFile != "" {
		if err := removeReady(settings.ReadyFile); err != nil {
			return err
		}
	}
	tending, endTending := context.WithCancel(ctx)
	tended := make(chan struct{})
	go func() { defer close(tended); tendHeap(tending, a.env) }()
	defer func() { endTending(); <-tended }()
	descriptors, err := openDescriptors(settings, log)
	if err != nil {
		return err
	}
	open := a.openRoot
	if settings.Mode() == configuration.Proxy {
		open = a.openProxy
	}
	stands, err := open(ctx, settings, descriptors.flags(), tells, at, log)
	if err != nil {
		return a.withoutToken(settings, err)
	}
	defer func() { err = errors.Join(err, stands.close()) }()

	is := ready{Endpoint: endpointOf(at.requests.Addr()), AdminEndpoint: at.adminEndpoint(), Environment: stands.environment, PID: os.Getpid(), Version: version}
	tellStart(ctx, settings, is, at, log)
	if stands.tell != nil {
		stands.tell(ctx, log)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	defer descriptors.follow(ctx)()
	kept := stands.keep(ctx, log)
	reached := stands.reach(ctx, stop)
	go func() {
		err := stands.web.Run(ctx, at.requests)
		kept() // once more: what was answered while draining
		stop()
		done <- errors.Join(err, reached())
	}()
	if settings.ReadyFile != "" {
		// The port has been open since it was listened on, so requests are answered.
		if err := writeReady(settings.ReadyFile, is); err != nil {
			stop()
			return errors.Join(fmt.Errorf("write the ready file: %w", err), <-done)
		}
		defer func() { _ = os.Remove(settings.ReadyFile) }() // it may have been taken away
	}
	if err := <-done; err != nil {
		return err
	}
	log.Info("bunting has stopped")
	return nil
}

// withoutToken puts why a proxy does not start into words where it has no token
// for its upstream, which takes it for anybody (anonymous: evaluate).
func (a *app) withoutToken(settings *configuration.Settings, err error) error {
	p, refused := errors.AsType[*flag.Problem](err)
	if settings.Mode() != configuration.Proxy || settings.UpstreamTokenFile != "" || strings.TrimSpace(a.env("BUNTING_TOKEN")) != "" || !refused || p.Kind != flag.ProblemDenied {
		return err
	}
	return fmt.Errorf("the upstream %s lets callers without a token evaluate only, a proxy needs a token of the scope read, and none is set. Name a file with one in upstream_token_file, or set BUNTING_TOKEN", settings.Upstream)
}

// opened is a server and what it stands on.
type opened struct {
	web         *server.Server
	environment string
	tell        func(context.Context, *slog.Logger) // of a token that was made; nil: none was
	data        dataFolder
	evaluator   *evaluator.Evaluator // what is kept in the folder; nil: nothing
	unreached   *evaluator.Follower  // of an upstream that has not answered yet; nil: it has
	close       func() error
}

// closeUnless closes what the server stands on, unless it is served.
func (o opened) closeUnless(served bool) error {
	if served {
		return nil
	}
	return o.close()
}

// openRoot puts a root of the database at the listeners.
func (a *app) openRoot(ctx context.Context, settings *configuration.Settings, compiled evaluator.Compiled, tells *telemetry.Telemetry, at listeners, log *slog.Logger) (o opened, err error) {
	begins, err := openSeeds(settings)
	if err != nil {
		return o, err
	}
	definitions, err := openDatabase(ctx, settings, log)
	if err != nil {
		return o, err
	}
	o.environment = settings.Environment
	o.close = func() error { return errors.Join(o.data.close(), definitions.Close()) }
	definitions = tells.Store(definitions)
	if o.data, err = openData(ctx, settings, log); err == nil {
		o, err = o.standOn(ctx, definitions, settings, begins, compiled, tells, at, log)
	}
	return o, errors.Join(err, o.closeUnless(err == nil))
}

// standOn puts a root of the store at the listeners, and makes its first token and
// the flags that it begins with.
func (o opened) standOn(ctx context.Context, definitions store.Store, settings *configuration.Settings, begins seeds, compiled evaluator.Compiled, tells *telemetry.Telemetry, at listeners, log *slog.Logger) (opened, error) {
	adminToken, err := bootstrap(ctx, definitions, settings.TokenFile, time.Now(), o.data.tokens())
	if err != nil {
		return o, err
	}
	o.tell = adminToken.tell
	root, err := evaluator.NewRoot(ctx, definitions, evaluator.Options{Log: log, StaleAfter: settings.StaleAfter, Environment: settings.Environment, Known: o.data.snapshot(), Compiled: compiled})
	if err != nil {
		return o, err
	}
	if err := begins.sow(ctx, root, log); err != nil {
		return o, err
	}
	o.evaluator = root.Evaluator
	o.web, err = server.New(ctx, server.Options{
		Store: definitions, Root: root, KnownTokens: o.data.tokens(), Version: version, Log: log, Telemetry: tells,
		Anonymous: settings.Anonymous, AdminListener: at.admin, AdminOff: !settings.Admin, LogRequests: settings.LogRequests, EnvironmentColor: settings.EnvironmentColor,
	})
	return o, err
}

// tellStart logs what this server is, and what of it is less closed than usual.
func tellStart(ctx context.Context, settings *configuration.Settings, is ready, at listeners, log *slog.Logger) {
	attributes := []slog.Attr{slog.String("endpoint", is.Endpoint)}
	if is.AdminEndpoint != "" {
		attributes = append(attributes, slog.String("admin_endpoint", is.AdminEndpoint))
	}
	attributes = append(attributes, slog.String("environment", is.Environment), slog.String("mode", string(settings.Mode())),
		source(settings))
	if shared := settings.DefinitionCache; shared.IsSet() {
		attributes = append(attributes, slog.String("definition_cache", cmp.Or(shared.Redis.String(), shared.Directory)))
	}
	attributes = append(attributes, slog.String("version", is.Version))
	log.LogAttrs(ctx, slog.LevelInfo, "bunting listens", attributes...)
	if !at.areLocal() {
		log.Warn("tokens and values cross the network in plain text: --allow-plaintext is set")
	}
	if settings.Anonymous {
		log.Warn("callers without a token may evaluate and use the state calls: anonymous is evaluate")
	}
}

// source tells what the definitions are read from.
func source(settings *configuration.Settings) slog.Attr {
	if settings.Mode() == configuration.Proxy {
		return slog.String("upstream", settings.Upstream)
	}
	return slog.String("database", settings.Database.String())
}
