package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
)

// listeners are where a server listens.
type listeners struct {
	requests net.Listener
	admin    net.Listener // of the admin side; nil: it has none of its own
}

// listen listens at all the addresses or at none.
func listen(ctx context.Context, settings *configuration.Settings) (l listeners, err error) {
	if l.requests, err = listenAt(ctx, settings.Listen, "listen"); err != nil {
		return listeners{}, err
	}
	if settings.AdminListen.IsSet() {
		if l.admin, err = listenAt(ctx, settings.AdminListen, "admin-listen"); err != nil {
			l.close()
			return listeners{}, err
		}
	}
	return l, nil
}

// listenAt listens at an address, which the flag of this name changes.
func listenAt(ctx context.Context, at configuration.Address, flag string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at.TCP.String())
	if err != nil {
		hint := "Choose another address with --" + flag
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "Another program, or another bunting, listens there. Stop it, or choose another address with --" + flag + " (port 0 takes a free one)"
		}
		return nil, fmt.Errorf("listen on %s: %w. %s", at, cause(err), hint)
	}
	return l, nil
}

// close is for the roads that do not come as far as serving.
func (l listeners) close() {
	_ = l.requests.Close()
	if l.admin != nil {
		_ = l.admin.Close()
	}
}

// adminEndpoint gives the base URL of the admin side's own listener, or "".
func (l listeners) adminEndpoint() string {
	if l.admin == nil {
		return ""
	}
	return endpointOf(l.admin.Addr())
}

// areLocal reports whether only this machine reaches them.
func (l listeners) areLocal() bool {
	return listensLocally(l.requests.Addr()) && (l.admin == nil || listensLocally(l.admin.Addr()))
}

func listensLocally(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// endpointOf gives the base URL by which this machine reaches the address.
func endpointOf(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return "http://" + address.String()
	}
	reachable := *tcp
	if reachable.IP.IsUnspecified() {
		reachable.IP = net.IPv4(127, 0, 0, 1)
	}
	return "http://" + reachable.String()
}

// cause leaves out what the net package says before the reason: the operation
// and the address, which our own words name.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	return err
}
