package redis

import (
	_ "embed"

	goredis "github.com/redis/go-redis/v9"
)

// The scripts are the rules of the shared place, so that none of their steps is
// seen without the others. Time is Redis' own. Each has the keys of the lock, of the
// claim of who fetches for want of a copy, and of the copy, a hash:
//
//	fence  the revision's number, with 19 digits so that texts compare as
//	       numbers do (Lua's numbers are float64), a space, the store's id
//	at     when it was confirmed, in milliseconds
//	mark   the checksum of the bytes
//	value  the bytes, as definitioncache.Encode writes them
//
// A channel of the copy's name tells who published something changed.
var (
	//go:embed common.lua
	common string
	//go:embed turn.lua
	turn string
	//go:embed read.lua
	read string
	//go:embed receive.lua
	receive string
	//go:embed release.lua
	release string
	//go:embed value.lua
	value string

	turnScript    = goredis.NewScript(common + turn)
	readScript    = goredis.NewScript(common + read)
	receiveScript = goredis.NewScript(common + receive)
	releaseScript = goredis.NewScript(common + release)
	valueScript   = goredis.NewScript(value)
)
