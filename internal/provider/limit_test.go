package provider

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/buntingtest"
)

// limiter answers 429 to what comes beyond so many requests in any second.
type limiter struct {
	perSecond int

	mu      sync.Mutex
	passed  []time.Time // within the last second
	refused int
}

func (l *limiter) passes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.passed) > 0 && now.Sub(l.passed[0]) >= time.Second {
		l.passed = l.passed[1:]
	}
	if len(l.passed) >= l.perSecond {
		l.refused++
		return false
	}
	l.passed = append(l.passed, now)
	return true
}

// refusals counts the requests that were refused.
func (l *limiter) refusals() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// A server that allows 20 requests a second and asks for a pause of one: 250 flags
// (1,000 with BUNTING_SOAK, which takes two minutes) are applied and refreshed without an error, and it has to say so
// a few times only.
func TestALimitOfRequests(t *testing.T) {
	t.Parallel()
	server := buntingtest.Start(t)
	proxy := newFaultyProxy(t, server)
	l := &limiter{perSecond: 20}
	proxy.fails("", func(w http.ResponseWriter, r *http.Request) {
		if !l.passes() {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "slowly", http.StatusTooManyRequests)
			return
		}
		proxy.road.ServeHTTP(w, r)
	})
	count := 250
	if os.Getenv("BUNTING_SOAK") != "" {
		count = 1000
	}
	c := newCLI(t, proxy.URL, server.AdminToken)
	var flags strings.Builder
	flags.WriteString(providerBlock)
	for i := range count {
		fmt.Fprintf(&flags, "resource \"bunting_flag\" \"f%[1]d\" {\n  key = \"f/%[1]d\"\n  default_value = %[1]d\n}\n", i)
	}
	c.config(flags.String())
	begin := time.Now()
	c.applies().must(t)
	t.Logf("applied in %s: %v, %d refused", time.Since(begin), proxy.asked(), l.refusals())
	c.unchanged()
	t.Logf("%v, %d refused", proxy.asked(), l.refusals())
	if n := l.refusals(); n >= 5 {
		t.Errorf("%d requests were refused", n)
	}
}
