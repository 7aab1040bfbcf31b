//go:build unix

package client

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

// raw gives Redis itself, and the key of the one copy below the prefix.
func raw(t *testing.T, place SharedPlace) (client *goredis.Client, key string) {
	t.Helper()
	options, err := goredis.ParseURL(place.RedisURL)
	if err != nil {
		t.Fatal("the URL cannot be read")
	}
	client = goredis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	keys, err := client.Keys(t.Context(), place.RedisPrefix+"*copy").Result()
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	return client, keys[0]
}

// Whatever is under our keys, the server's definitions are what is read.
func TestWhateverIsFoundInRedisTheServersWordIsRead(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	for name, tc := range map[string]struct {
		spoil func(ctx context.Context, c *goredis.Client, key string) error
		says  string
	}{
		"foreign": {func(ctx context.Context, c *goredis.Client, key string) error {
			return errors.Join(c.Del(ctx, key).Err(), c.LPush(ctx, key, "x").Err())
		}, "cannot be used"},
		"cut": {func(ctx context.Context, c *goredis.Client, key string) error {
			value, err := c.HGet(ctx, key, "value").Result()
			return errors.Join(err, c.HSet(ctx, key, "value", value[:len(value)/2]).Err())
		}, "cannot be used"},
		"bit-flipped": {func(ctx context.Context, c *goredis.Client, key string) error {
			value, err := c.HGet(ctx, key, "value").Result()
			flipped := []byte(value)
			flipped[len(flipped)-20] ^= 1
			return errors.Join(err, c.HSet(ctx, key, "value", flipped).Err())
		}, "cannot be used"},
		"gone": {func(ctx context.Context, c *goredis.Client, key string) error { return c.Del(ctx, key).Err() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			place := SharedPlace{RedisURL: url, RedisPrefix: "bunting-test-" + rand.Text(), RedisTimeout: 10 * time.Second}
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			begins(t, server, server.AdminToken, place, 0, nil).reads(t, server, "GetSnapshot")
			c, key := raw(t, place)
			if err := tc.spoil(t.Context(), c, key); err != nil {
				t.Fatal(err)
			}
			o := begins(t, server, server.AdminToken, place, 0, nil)
			o.reads(t, server, "GetSnapshot")
			o.warned(t, tc.says)
		})
	}
}

// A Redis in trouble changes neither what is read nor what is asked, and costs about
// a second.
func TestARedisInTrouble(t *testing.T) {
	t.Parallel()
	const most = 10 * time.Second // a busy machine is slower than the second: it is not without end
	for name, tc := range map[string]struct {
		settings []string
		password string
		patience time.Duration             // 0: as it is by itself
		before   func(r *redistest.Server) // the operation
		between  func(r *redistest.Server) // when the definitions are asked for
		says     string
	}{
		"away at start":      {before: func(r *redistest.Server) { r.Kill() }, says: "Redis"},
		"killed in between":  {between: func(r *redistest.Server) { r.Kill() }, says: "Redis"},
		"frozen":             {before: func(r *redistest.Server) { r.Freeze() }, says: "Redis"},
		"frozen in between":  {between: func(r *redistest.Server) { r.Freeze() }, says: "Redis"},
		"behind a password":  {settings: []string{"--requirepass", "right"}, patience: most, says: "it asks for a password"},
		"the wrong password": {settings: []string{"--requirepass", "right"}, password: "wr0ng-secret", patience: most, says: "it refuses user or password"},
		"read-only":          {settings: []string{"--replicaof", "127.0.0.1 1"}, patience: most, says: "it takes no writes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t, tc.settings...)
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			if tc.before != nil {
				tc.before(redis)
			}
			once := sync.OnceFunc(func() {
				if tc.between != nil {
					tc.between(redis)
				}
			})
			o := begins(t, server, server.AdminToken, SharedPlace{RedisURL: redis.URL(), RedisPassword: tc.password, RedisTimeout: tc.patience}, 0, func(name string) {
				if name == "GetSnapshot" {
					once()
				}
			})
			began := time.Now()
			o.reads(t, server, "GetSnapshot")
			if took := time.Since(began); took > most {
				t.Errorf("it took %s", took)
			}
			o.warned(t, tc.says)
			if strings.Contains(strings.Join(o.warns, ""), "wr0ng-secret") || strings.Contains(strings.Join(o.warns, ""), o.token) {
				t.Error("a secret is in the warning")
			}
		})
	}
}

// A copy that no program of this version can read, of a revision ahead of the
// server's, is in the way of one operation only.
func TestACopyThatNobodyCanReadIsReplaced(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			operator, _ := gated(t, server, server.AdminToken)
			fill(t, operator, 20, 0)
			o := begins(t, server, server.AdminToken, place, 0, nil)
			ahead := must(o.Server(t.Context())).Revision
			ahead.Number += 1000
			o.publishes(t, ahead, []byte{0x0a, 0}) // an object that is none
			o.reads(t, server, "GetSnapshot")
			o.warned(t, "cannot be read")
			next := begins(t, server, server.AdminToken, place, 0, nil)
			next.reads(t, server)
			next.warned(t, "")
		})
	}
}

// A server that refuses, or does not answer, is asked once, and the error is that of
// an operation without a shared place.
func TestAServerInTroubleIsAskedOnce(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		for what, trouble := range map[string]func(t *testing.T, server *flagServer, operator *Client){
			"down": func(_ *testing.T, server *flagServer, _ *Client) { server.Stop() },
			"refuses": func(t *testing.T, _ *flagServer, operator *Client) {
				t.Helper()
				if _, err := operator.RevokeToken(t.Context(), "ci"); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				server := startServer(t)
				operator, _ := gated(t, server, server.AdminToken)
				ci := server.NamedToken(t, "ci", "", "read")
				o := begins(t, server, ci, place, 0, nil)
				plain, _ := gated(t, server, ci)
				if _, err := plain.Server(t.Context()); err != nil {
					t.Fatal(err)
				}
				trouble(t, server, operator)
				want, _ := errors.AsType[*Error](second(plain.NewWalk().Definitions(t.Context(), "")))
				got, ok := errors.AsType[*Error](second(o.walk.Definitions(t.Context(), "")))
				if !ok || got.Kind != want.Kind || got.Op != want.Op || what == "refuses" && got.Error() != want.Error() {
					t.Errorf("got %v, want %v", got, want)
				}
				if asked := o.gate.calls(); !slices.Equal(asked, []string{"GetServer", "GetSnapshot"}) {
					t.Errorf("requests %q", asked)
				}
				o.warned(t, "")
			})
		}
	}
}
