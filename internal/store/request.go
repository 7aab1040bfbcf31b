package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Request is a batch that was answered and may come again.
type Request struct {
	Actor   string
	ID      string
	Time    time.Time // of the answer; RequestLife counts from it
	Content string    // hash of what was asked
	Answer  string    // the Outcome as JSON
}

// content hashes what the batch asks for. Neither the time nor the caller's
// scopes are content: they differ when a request is repeated.
func (b Batch) content() string {
	hash := sha256.New()
	_, _ = fmt.Fprintf(hash, "%t %q\n", b.Atomic, b.Note) // a hash never fails
	for _, c := range b.Changes {
		text, err := json.Marshal(changeJSON{c.Op.String(), c.Ref.String(), c.Object, c.Expected, c.StoreID, c.OwnerID, c.TakeOver})
		if err != nil {
			// What JSON cannot hold will be refused; it must not fail the others here.
			text = fmt.Appendf(nil, "%d %q %v", c.Op, c.Ref, err)
		}
		_, _ = hash.Write(append(text, '\n'))
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// changeJSON is a change as it is hashed: names that stay when a newer program
// meets a request that an older one answered.
type changeJSON struct {
	Op       string      `json:"op"`
	Ref      string      `json:"ref"`
	Object   flag.Object `json:"object"`
	Expected *int64      `json:"expected"`
	StoreID  string      `json:"store_id,omitempty"`
	OwnerID  string      `json:"owner_id"`
	TakeOver bool        `json:"take_over"`
}

// answerJSON is an Outcome as it is kept: without the commit, which is not
// told twice.
type answerJSON struct {
	Revision flag.Revision `json:"revision"`
	Results  []resultJSON  `json:"results"`
}

type resultJSON struct {
	Status   flag.Status    `json:"status"`
	Flag     *flag.Flag     `json:"flag,omitempty"`
	Override *flag.Override `json:"override,omitempty"`
	Hold     *flag.Hold     `json:"hold,omitempty"`
	Problem  *flag.Problem  `json:"problem,omitempty"`
}

func (r *Request) keep(o Outcome) error {
	answer := answerJSON{Revision: o.Revision, Results: make([]resultJSON, len(o.Results))}
	for i, result := range o.Results {
		kept := resultJSON{Status: result.Status, Problem: result.Problem}
		switch object := result.Object.(type) {
		case *flag.Flag:
			kept.Flag = object
		case *flag.Override:
			kept.Override = object
		case *flag.Hold:
			kept.Hold = object
		}
		answer.Results[i] = kept
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("keep the answer to the request %q: %w", r.ID, err)
	}
	r.Answer = string(text)
	return nil
}

// outcome gives the first answer again.
func (r *Request) outcome() (Outcome, error) {
	var answer answerJSON
	if err := json.Unmarshal([]byte(r.Answer), &answer); err != nil {
		return Outcome{}, fmt.Errorf("read the kept answer to the request %q: %w", r.ID, err)
	}
	o := Outcome{Revision: answer.Revision, Results: make([]flag.Result, len(answer.Results)), Repeated: true}
	for i, kept := range answer.Results {
		result := flag.Result{Status: kept.Status, Problem: kept.Problem}
		// Assigned one by one: a nil *flag.Flag in an Object would not be nil.
		switch {
		case kept.Flag != nil:
			result.Object = kept.Flag
		case kept.Override != nil:
			result.Object = kept.Override
		case kept.Hold != nil:
			result.Object = kept.Hold
		}
		o.Results[i] = result
	}
	return o, nil
}
