package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
	"github.com/bunting-flags/terraform-provider-bunting/internal/descriptor"
	"github.com/bunting-flags/terraform-provider-bunting/internal/evaluator"
)

// compiledIn is the flags that programs have compiled in, as the file of the
// setting descriptors says. The zero value has none.
type compiledIn struct {
	watcher *descriptor.Watcher
}

// openDescriptors reads the file, if one is named. One that cannot be read, or
// breaks a rule, stops the start.
func openDescriptors(settings *configuration.Settings, log *slog.Logger) (c compiledIn, err error) {
	if settings.Descriptors == "" {
		return c, nil
	}
	c.watcher, err = descriptor.Watch(descriptor.WatchOptions{Path: settings.Descriptors, Poll: settings.DescriptorPoll, Log: log})
	if err == nil {
		log.Info("the descriptors are read", "file", settings.Descriptors, "flags", c.watcher.Present().Len())
	}
	return c, err
}

// flags gives the registry; nil: there is none.
func (c compiledIn) flags() evaluator.Compiled {
	if c.watcher == nil {
		return nil
	}
	return c.watcher
}

// follow follows the file until the function that it gives is called. SIGHUP asks
// for it to be read again; without a file it asks for nothing, and does not end the
// server.
func (c compiledIn) follow(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				if c.watcher != nil {
					c.watcher.Reload()
				}
			}
		}
	}()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if c.watcher != nil {
			c.watcher.Run(ctx)
		}
	}()
	return func() {
		signal.Stop(hangups)
		cancel()
		<-done
		<-watched
	}
}
