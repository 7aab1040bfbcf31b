package server

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"

	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store/postgres"
)

// says reports whether a line of the log has the request id and the text.
func (h *harness) says(tb testing.TB, id, text string) bool {
	tb.Helper()
	for line := range strings.Lines(h.log.String()) {
		var entry struct {
			RequestID string `json:"request_id"`
			Error     string `json:"error"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			tb.Fatal(err)
		}
		if entry.RequestID == id && strings.Contains(entry.Error, text) {
			return true
		}
	}
	return false
}

// Where the source of truth is, is told in the log, and not to anybody who comes.
func TestWhoShowsNoTokenIsNotToldWhereTheSourceIs(t *testing.T) {
	t.Parallel()
	database, err := postgres.Open(t.Context(), "postgres://dbuser:hunter2@127.0.0.1:1/flags", postgres.Options{Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { database.Close() })
	root := start(t)
	before := newGate(t, root.server)
	proxy := behind(t, before.URL, root.admin)
	before.set(down)
	plain := beforePlain(t, &plainService{}, nil, nil)
	plain.before.set(down)
	silent := memory(t)
	silent.set(func(string) error { return errors.Join(store.ErrUnreachable, errors.New("dial tcp 10.0.0.7:5432")) })
	for name, row := range map[string]struct {
		h            *harness
		secret       string
		where, wants string
	}{
		"a database":           {rootOf(t, database), "nobody", "127.0.0.1", reasonNotReady},
		"a database that ends": {rootOf(t, silent), "nobody", "10.0.0.7", reasonNotReady},
		"an upstream":          {proxy, "nobody", before.URL, reasonUpstream},
		"a plain service":      {plain.harness, "", plain.before.URL, reasonUpstream},
	} {
		request := connect.NewRequest(&pbflagsv1.EvaluateRequest{FlagId: "pay"})
		request.Header().Set(requestIDHeader, "find-me")
		_, err := row.h.as(t, row.secret).Evaluate(t.Context(), request)
		if code, reason := told(err); code != connect.CodeUnavailable || reason != row.wants {
			t.Errorf("%s: %v", name, err)
		} else if text := err.Error(); strings.Contains(text, "127.0.0.1") || strings.Contains(text, "10.0.0.7") || strings.Contains(text, "dbuser") || !strings.Contains(text, "find-me") {
			t.Errorf("%s: anybody is told: %v", name, err)
		}
		if !row.h.says(t, "find-me", row.where) {
			t.Errorf("%s: the log does not say where it is:\n%s", name, row.h.log)
		}
		if log := row.h.log.String(); strings.Contains(log, "hunter2") {
			t.Errorf("%s: the log has a password", name)
		}
	}
	// What the service says of itself is not for everybody either.
	for kind, want := range map[client.Kind]connect.Code{client.Invalid: connect.CodeInvalidArgument, client.Incompatible: connect.CodeUnimplemented, client.Broken: connect.CodeUnavailable} {
		err := enquiry{plain.server}.unanswered(t.Context(), &client.Error{Kind: kind, Message: plain.before.URL + " says: no."})
		if connect.CodeOf(err) != want || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
