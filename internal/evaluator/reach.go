package evaluator

import (
	"context"
	"time"
)

// reachInterval is how often an upstream that has not answered yet is greeted: its
// first answer is to be noticed soon, and one question in so long is no burden.
const reachInterval = time.Second

// Reach greets the upstream until it answers or the context ends, beside Run. The
// error is what would have kept the server from starting, had the upstream answered
// then: the server is to end.
func (f *Follower) Reach(ctx context.Context) error {
	for sleep(ctx, reachInterval) {
		limited, done := context.WithTimeout(ctx, firstContact)
		err := f.greet(limited)
		done()
		switch {
		case err == nil:
			if f.shared != nil {
				f.shared.rouse() // it is known now whose definitions the shared ones are to be
			}
			return nil
		case ctx.Err() == nil && f.Refused() == nil && !passes(err):
			return err
		}
	}
	return nil
}
