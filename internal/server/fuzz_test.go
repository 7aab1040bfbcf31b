package server

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	pbflagsv1 "github.com/bunting-flags/terraform-provider-bunting/gen/pbflags/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// Whatever comes, from a caller who may do everything: no panic, no server error,
// and the server knows afterwards what it knew before or more.
func FuzzRequests(f *testing.F) {
	paths := slices.Sorted(maps.Keys(procedures))
	kinds := []string{
		"application/json", "application/proto", "application/connect+json", "application/connect+proto", "application/grpc", "application/grpc+json",
		"application/grpc-web+proto", "application/x-www-form-urlencoded", "text/html", "",
	}
	for i := range paths {
		for kind := range kinds {
			f.Add(uint8(i), uint8(kind), "POST", []byte(`{}`))
		}
		f.Add(uint8(i), uint8(2), "POST", []byte("\x00\x00\x00\x00\x02{}"))
		f.Add(uint8(i), uint8(0), "GET", []byte(`?connect=v1&encoding=json&message={}`))
	}
	f.Add(uint8(0), uint8(0), "POST", []byte(`{"flagId":"a","context":{"a":{"b":[[[1]]]}},"minimumRevision":"-9223372036854775808"}`))
	for _, m := range []proto.Message{
		&buntingv1.ApplyRequest{Changes: []*buntingv1.Change{wire.FromChange(flag.Put(boolean("a"))), {}, {Change: &buntingv1.Change_SetOverride{}}}, DryRun: true},
		&buntingv1.GetRequest{Refs: []*buntingv1.Ref{{}, wire.FromRef(flag.HoldRef("a", ""))}, MinimumRevision: &buntingv1.Revision{StoreId: "x", Number: -1}},
		&buntingv1.GetSnapshotRequest{KnownRevision: &buntingv1.Revision{Number: 1 << 62}, Parts: []buntingv1.Part{-1}, Prefix: "a//"},
		&pbflagsv1.BulkEvaluateRequest{FlagIds: []string{"a", "\xff"}, EntityId: "u"},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			continue // an invalid text is not written, but may come
		}
		for i := range paths {
			f.Add(uint8(i), uint8(1), "POST", b)
		}
	}
	h := start(f)
	f.Fuzz(func(t *testing.T, path, kind uint8, method string, body []byte) {
		target := paths[int(path)%len(paths)]
		if strings.HasSuffix(target, "/WatchChanges") {
			return // a stream that ends only when its reader goes
		}
		if !slices.Contains([]string{"POST", "GET", "PUT", "OPTIONS"}, method) {
			method = http.MethodPost
		}
		request := httptest.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
		if method == http.MethodGet {
			request.URL.RawQuery = strings.TrimPrefix(string(body), "?")
		}
		request.Header.Set("Content-Type", kinds[int(kind)%len(kinds)])
		request.Header.Set("Authorization", "Bearer "+h.admin)
		answer := httptest.NewRecorder()
		h.log.reset()
		before := h.server.evaluator.View().Revision.Number
		h.server.ServeHTTP(answer, request)
		if answer.Code >= 500 && answer.Code != http.StatusNotImplemented {
			t.Errorf("%s %s (%s) %q: %d %s", method, target, request.Header.Get("Content-Type"), body, answer.Code, answer.Body)
		}
		if strings.Contains(h.log.String(), "a handler panicked") {
			t.Fatalf("panic: %s", h.log)
		}
		if after := h.server.evaluator.View().Revision.Number; after < before {
			t.Errorf("from revision %d to %d", before, after)
		}
	})
}
