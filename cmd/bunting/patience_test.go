package main

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// road answers after some time with a status.
type road struct {
	takes  time.Duration
	status int
}

func (r road) RoundTrip(*http.Request) (*http.Response, error) {
	time.Sleep(r.takes)
	return &http.Response{StatusCode: r.status, Body: http.NoBody}, nil
}

func TestPatience(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		road
		times int // that it is asked
		told  int
	}{
		"quick answers":              {road{time.Second, http.StatusOK}, 10, 0},
		"a refusal is an answer":     {road{time.Second, http.StatusForbidden}, 10, 0},
		"a long wait, told once":     {road{8 * time.Second, http.StatusOK}, 2, 1},
		"quick answers of a trouble": {road{time.Second, http.StatusServiceUnavailable}, 10, 1},
		"given up before":            {road{time.Second, http.StatusServiceUnavailable}, 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				told := 0
				p := &patience{road: c.road, tell: func() { told++ }}
				for range c.times {
					request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://server", http.NoBody)
					if err != nil {
						t.Fatal(err)
					}
					answer, err := p.RoundTrip(request)
					if err != nil {
						t.Fatal(err)
					}
					_ = answer.Body.Close()
				}
				p.end()
				time.Sleep(time.Minute)
				if told != c.told {
					t.Errorf("told %d times, want %d", told, c.told)
				}
			})
		})
	}
}
