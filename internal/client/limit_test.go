package client

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// A server that allows 20 requests a second and asks for a pause of one, and a
// thousand writes as Terraform hands them out.
func TestALimitOfRequests(t *testing.T) {
	for _, every := range []time.Duration{0, handOut} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(time.Millisecond, 0)
			var passed []time.Time
			refused := 0
			w.troubles = func(int) trouble {
				w.mu.Lock()
				defer w.mu.Unlock()
				now := time.Now()
				for len(passed) > 0 && now.Sub(passed[0]) >= time.Second {
					passed = passed[1:]
				}
				if len(passed) >= 20 {
					refused++
					return limited
				}
				passed = append(passed, now)
				return none
			}
			c := w.client(t)
			begin := time.Now()
			terraform(1000, every, func(i int) {
				if _, err := c.Write(t.Context(), flag.Put(newFlag(numbered(i)))); err != nil {
					t.Error(err)
				}
			})
			t.Logf("%v in %s, %d refused", w.counts, time.Since(begin), refused)
			if refused >= 5 {
				t.Errorf("%d requests were refused", refused)
			}
		})
	}
}
