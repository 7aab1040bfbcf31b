package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/token"
)

// moment is a request and when it left.
type moment struct {
	call string
	at   time.Time
	body []byte
}

// scripted is a host on the fake clock that answers as a test says.
type scripted struct {
	answer func(n int) (*http.Response, error) // to the n-th request, from 1

	mu   sync.Mutex
	seen []moment
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.seen = append(s.seen, moment{path.Base(r.URL.Path), time.Now(), body})
	n := len(s.seen)
	s.mu.Unlock()
	answer, err := s.answer(n)
	if errors.Is(err, errSilence) {
		<-r.Context().Done()
		err = r.Context().Err()
	}
	return answer, err
}

func (s *scripted) client(t *testing.T, policy Policy) *Client {
	t.Helper()
	c, err := New(Options{Endpoint: "http://flags.test", Token: secret, Transport: s, Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answers makes an answer with the headers given as name, value.
func answers(status int, kind, body string, headers ...string) (*http.Response, error) {
	h := http.Header{"Content-Type": {kind}}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func fine() (*http.Response, error) { return answers(http.StatusOK, typeUnary, "") }
func failing(status int, h ...string) (*http.Response, error) {
	return answers(status, "text/plain", "no", h...)
}
func asks(ctx context.Context, c *Client) error { _, err := c.KilledFlags(ctx); return err }
func (s *scripted) always(answer func() (*http.Response, error)) {
	s.answer = func(int) (*http.Response, error) { return answer() }
}

// What may pass is tried again, what stays as it is once, and what would be done
// twice never.
func TestRepeating(t *testing.T) {
	for name, row := range map[string]struct {
		answer   func() (*http.Response, error)
		attempts int
	}{
		"refused":              {func() (*http.Response, error) { return nil, syscall.ECONNREFUSED }, 4},
		"reset":                {func() (*http.Response, error) { return nil, syscall.ECONNRESET }, 4},
		"silent":               {func() (*http.Response, error) { return nil, errSilence }, 4},
		"429":                  {func() (*http.Response, error) { return failing(429) }, 4},
		"500":                  {func() (*http.Response, error) { return failing(500) }, 4},
		"502":                  {func() (*http.Response, error) { return failing(502) }, 4},
		"503":                  {func() (*http.Response, error) { return failing(503) }, 4},
		"unavailable, said so": {func() (*http.Response, error) { return answers(400, "application/json", `{"code":"unavailable"}`) }, 4},
		"unreadable":           {func() (*http.Response, error) { return answers(200, typeUnary, "\xff") }, 4},
		"unknown host":         {func() (*http.Response, error) { return nil, &net.DNSError{IsNotFound: true} }, 1},
		"name server away":     {func() (*http.Response, error) { return nil, &net.DNSError{IsTimeout: true} }, 4},
		"400":                  {func() (*http.Response, error) { return failing(400) }, 1},
		"401":                  {func() (*http.Response, error) { return failing(401) }, 1},
		"403":                  {func() (*http.Response, error) { return failing(403) }, 1},
		"404":                  {func() (*http.Response, error) { return failing(404) }, 1},
		"413":                  {func() (*http.Response, error) { return failing(413) }, 1},
		"a page":               {func() (*http.Response, error) { return answers(200, "text/html", "<html>") }, 1},
		"a redirect":           {func() (*http.Response, error) { return failing(302, "Location", "https://elsewhere.test") }, 1},
		"another protocol":     {func() (*http.Response, error) { return answers(501, "application/json", `{"code":"unimplemented"}`) }, 1},
		"a bad certificate":    {func() (*http.Response, error) { return nil, errors.New("remote error: tls: bad certificate") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{}
				s.always(row.answer)
				c := s.client(t, DefaultPolicy)
				err := asks(t.Context(), c)
				e, ok := errors.AsType[*Error](err)
				if !ok || len(s.seen) != row.attempts || strings.HasSuffix(e.Message, " Tried 4 times.") != (row.attempts == 4) {
					t.Errorf("%d requests, %v", len(s.seen), err)
				}
				for i, longest := range []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}[:row.attempts-1] {
					pause := s.seen[i+1].at.Sub(s.seen[i].at)
					if name == "silent" {
						pause -= c.timeout
					}
					if name != "429" && pause > longest {
						t.Errorf("%s before the repetition %d, at most %s is allowed", pause, i+1, longest)
					}
				}

				s.seen = nil
				if _, _, err := s.client(t, DefaultPolicy).CreateToken(t.Context(), token.Token{Name: "ci"}); err == nil || len(s.seen) != 1 {
					t.Errorf("to make a token it took %d requests, %v", len(s.seen), err)
				}
			})
		})
	}
}

// A write that is repeated is told from another by its request id, which stays.
func TestRepeatedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(n int) (*http.Response, error) {
			if n < 3 {
				return nil, syscall.ECONNRESET
			}
			return fine()
		}}
		if _, err := s.client(t, DefaultPolicy).Apply(t.Context(), Batch{}); err != nil || len(s.seen) != 3 {
			t.Fatalf("%d requests, %v", len(s.seen), err)
		}
		ids := map[string]bool{}
		for _, m := range s.seen {
			var asked buntingv1.ApplyRequest
			if err := proto.Unmarshal(m.body, &asked); err != nil {
				t.Fatal(err)
			}
			ids[asked.GetRequestId()] = true
		}
		if len(ids) != 1 || ids[""] {
			t.Errorf("request ids %v", ids)
		}
	})
}

// A pause that the server asks for is everybody's, is kept in full, and is not
// ended by all in the same moment.
func TestPause(t *testing.T) {
	for name, answer := range map[string]func() (*http.Response, error){
		"429 in seconds": func() (*http.Response, error) { return failing(429, "Retry-After", "7") },
		"503 in seconds": func() (*http.Response, error) { return failing(503, "Retry-After", "7") },
		"429 as a date": func() (*http.Response, error) {
			return failing(429, "Retry-After", time.Now().Add(7*time.Second).UTC().Format(http.TimeFormat))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{answer: func(n int) (*http.Response, error) {
					if n == 1 {
						return answer()
					}
					return fine()
				}}
				c := s.client(t, DefaultPolicy)
				begin := time.Now()
				var wait sync.WaitGroup
				wait.Go(func() {
					if err := asks(t.Context(), c); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
				for range 5 {
					wait.Go(func() {
						if err := asks(t.Context(), c); err != nil {
							t.Error(err)
						}
					})
				}
				wait.Wait()
				at := map[time.Time]bool{}
				for _, m := range s.seen[1:] {
					at[m.at] = true
					if m.at.Sub(begin) < 7*time.Second {
						t.Errorf("a request left after %s", m.at.Sub(begin))
					}
				}
				if len(s.seen) != 7 || len(at) != 6 {
					t.Errorf("%d requests in %d moments", len(s.seen), len(at))
				}
			})
		})
	}
}

// A pause that outlasts the operation is an error at once that says so.
func TestPauseTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{}
		s.always(func() (*http.Response, error) { return failing(429, "Retry-After", "60") })
		c := s.client(t, DefaultPolicy)
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		begin := time.Now()
		e := checkError(t, asks(ctx, c), "http://flags.test", "read the killed flags",
			"E asked not to be asked again for 1m0s, which is longer than this operation may take. Try again then, or allow it more time (timeouts).")
		if time.Since(begin) != 0 || len(s.seen) != 1 || e.Kind != RateLimited || e.RetryAfter != time.Minute {
			t.Errorf("%d requests in %s, kind %v", len(s.seen), time.Since(begin), e.Kind)
		}
	})
}

// A write whose time ends while it waits to be repeated tells what it met, not
// that it was cancelled.
func TestTheTimeOfAWriteEnds(t *testing.T) {
	for range 50 { // two clocks run out at the same moment
		synctest.Test(t, func(t *testing.T) {
			s := &scripted{}
			s.always(func() (*http.Response, error) { return nil, syscall.ECONNRESET })
			policy := DefaultPolicy
			policy.Backoff, policy.LongestBackoff = 1000*time.Hour, 1000*time.Hour
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			begin := time.Now()
			_, err := s.client(t, policy).Write(ctx, flag.Put(newFlag("pay")))
			e := checkError(t, err, "http://flags.test", `write the flag "pay"`, "E closed the connection without an answer. Is it restarting, or does it want TLS (https://)?")
			if e.Kind != Unavailable || time.Since(begin) != time.Second {
				t.Errorf("kind %v after %s", e.Kind, time.Since(begin))
			}
		})
	}
}

// Whoever gives up while he waits is told so at once.
func TestLeavingAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{}
		s.always(func() (*http.Response, error) { return failing(429, "Retry-After", "60") })
		c := s.client(t, DefaultPolicy)
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		time.AfterFunc(10*time.Second, cancel)
		e := checkError(t, asks(ctx, c), "http://flags.test", "read the killed flags", "it was cancelled before E had answered.")
		if e.Kind != Canceled || time.Since(begin) != 10*time.Second || len(s.seen) != 1 {
			t.Errorf("kind %v after %s and %d requests", e.Kind, time.Since(begin), len(s.seen))
		}
	})
}

// Repetitions have a budget, so that a server in trouble is not asked four times
// as much; successes refill it.
func TestRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{}
		c := s.client(t, DefaultPolicy)
		asked := func(times int) int {
			before := len(s.seen)
			for range times {
				_ = asks(t.Context(), c) // fails or not: the requests are counted
			}
			return len(s.seen) - before
		}
		s.always(func() (*http.Response, error) { return failing(500) })
		if n := asked(50); n != 60 {
			t.Errorf("50 calls made %d requests, want 10 repetitions", n)
		}
		s.always(fine)
		if n := asked(30); n != 30 {
			t.Errorf("30 calls made %d requests", n)
		}
		s.always(func() (*http.Response, error) { return failing(500) })
		if n := asked(50); n != 53 && n != 52 {
			t.Errorf("50 calls made %d requests, want about 3 repetitions", n)
		}
	})
}

// A host that does not answer is not asked for a while, and everybody is told at
// once; then one call tries, and the first answer ends it.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := DefaultPolicy
		policy.Attempts = 1
		s := &scripted{}
		s.always(func() (*http.Response, error) { return nil, syscall.ECONNREFUSED })
		c := s.client(t, policy)
		for range 5 {
			_ = asks(t.Context(), c)
		}
		const refused = `E refused the connection. Is the flag server running there? Start it with "bunting serve", or correct the endpoint.`
		for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
			rest := time.Duration(seconds) * time.Second
			before, begin := len(s.seen), time.Now()
			for range 3 {
				if err := asks(t.Context(), c); err == nil || !strings.Contains(err.Error(), "It was not asked again, because it has failed") {
					t.Errorf("while open: %v", err)
				}
			}
			if len(s.seen) != before || time.Since(begin) != 0 {
				t.Errorf("%d requests and %s while open", len(s.seen)-before, time.Since(begin))
			}
			time.Sleep(rest - time.Millisecond)
			if err := asks(t.Context(), c); err == nil || len(s.seen) != before {
				t.Errorf("asked before %s had passed", rest)
			}
			time.Sleep(time.Millisecond)
			checkError(t, asks(t.Context(), c), "http://flags.test", "read the killed flags", refused)
			if len(s.seen) != before+1 {
				t.Errorf("%d probes after %s", len(s.seen)-before, rest)
			}
		}
		s.always(fine)
		time.Sleep(30 * time.Second)
		for range 3 {
			if err := asks(t.Context(), c); err != nil {
				t.Errorf("when it is back: %v", err)
			}
		}
	})
}

// A server that takes 20 requests a second, and says so, is asked a thousand
// times by ten callers at once: none fails, and it seldom has to say so.
func TestPacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var window []time.Time
		limited := 0
		s := &scripted{answer: func(int) (*http.Response, error) {
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			for len(window) > 0 && now.Sub(window[0]) >= time.Second {
				window = window[1:]
			}
			if len(window) >= 20 {
				limited++
				return failing(429, "Retry-After", "1")
			}
			window = append(window, now)
			return fine()
		}}
		c := s.client(t, DefaultPolicy)
		begin := time.Now()
		var wait sync.WaitGroup
		for range 10 {
			wait.Go(func() {
				for range 100 {
					if err := asks(t.Context(), c); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		t.Logf("%d answers of 429, %s for 1,000 requests", limited, time.Since(begin))
		// Ten are told in the first burst, before anybody can know.
		if took := time.Since(begin); limited > 10+5 || took > 90*time.Second {
			t.Errorf("it took %s, and %d answers of 429", took, limited)
		}
	})
}

// A limit of one's own is never passed.
func TestMostPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := DefaultPolicy
		policy.MostPerSecond = 10
		s := &scripted{}
		s.always(fine)
		c := s.client(t, policy)
		begin := time.Now()
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				if err := asks(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if took := time.Since(begin); took != 4900*time.Millisecond {
			t.Errorf("50 requests took %s", took)
		}
	})
}

// What has no time left is not sent any more, and a panic leaves the way free for
// the next call: also for the one call that tries a host which did not answer.
func TestNothingStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{}
		s.always(func() (*http.Response, error) { return nil, syscall.ECONNREFUSED })
		policy := DefaultPolicy
		policy.Attempts = 1
		c := s.client(t, policy)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := asks(over, c); !isKind(err, Canceled) || len(s.seen) != 0 {
			t.Errorf("got %v after %d requests", err, len(s.seen))
		}
		for range policy.BreakAfter {
			_ = asks(t.Context(), c)
		}
		time.Sleep(policy.Rest)
		func() {
			defer func() { _ = recover() }()
			_ = c.repeat(t.Context(), "try", true, func() error { panic("a defect") })
		}()
		before := len(s.seen)
		if err := asks(t.Context(), c); !isKind(err, Unavailable) || len(s.seen) != before+1 {
			t.Errorf("got %v after %d requests", err, len(s.seen)-before)
		}
	})
}
