package client

import (
	"testing"
	"testing/synctest"
)

// TestOnDemandContact: whoever may ask how well the service is reached, and how often
// he likes, holds nobody up by it.
func TestOnDemandContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPlainService()
		d := s.onDemand(t, steady, pay)
		evaluate(t, d, "pay", "anna")
		d.flags.mu.Lock()
		d.answers.mu.Lock()
		defer d.flags.mu.Unlock()
		defer d.answers.mu.Unlock()
		if h := d.Contact(); h.Status != Serving || h.SecondsSinceContact != 0 || h.Failures != 0 {
			t.Errorf("got %+v", h)
		}
	})
}
