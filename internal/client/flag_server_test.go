package client

import "testing"

// flagServer is a real flag server in process.
type flagServer struct {
	Running

	Endpoint, AdminToken string
}

// Running is what tests ask of a real flag server (buntingtest.Server).
type Running interface {
	Token(tb testing.TB, scopes ...string) string
	NamedToken(tb testing.TB, name, prefix string, scopes ...string) string
	Stop()
	Restart(tb testing.TB)
}

// StartFlagServer is set by the external tests of this package: the server itself
// imports the client, so these tests cannot import the server.
var StartFlagServer func(tb testing.TB) (server Running, endpoint, adminToken string)

// startServer starts a flag server of the environment "prod" and the version
// 1.2.3, which ends with the test.
func startServer(tb testing.TB) *flagServer {
	tb.Helper()
	running, endpoint, adminToken := StartFlagServer(tb)
	return &flagServer{Running: running, Endpoint: endpoint, AdminToken: adminToken}
}
