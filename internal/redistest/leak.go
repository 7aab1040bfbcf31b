package redistest

import "go.uber.org/goleak"

// Redials has goleak pass over what go-redis leaves for up to a second after a client
// was closed whose server was away: it looks once a second whether the server is back,
// and whether its client was closed.
func Redials() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
}
