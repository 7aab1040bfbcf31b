package wire

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// DefinitionsSchema is the version of what EncodeDefinitions writes: what is shared
// is told apart by it (definitioncache.Key.Schema).
const DefinitionsSchema = 1

// Definitions are a server's definitions as processes share them.
type Definitions struct {
	Snapshot *flag.Snapshot
	// Revoked are the tokens revoked after TokensSince: who knows an older revision
	// does not learn of all that were revoked.
	Revoked     []RevokedToken
	TokensSince int64 // the number of a revision
}

// RevokedToken is a token that ended before its time.
type RevokedToken struct {
	ID       string
	Revision int64 // that revoked it
}

// HeaderOf gives what is said beside a snapshot that a server has just told.
func HeaderOf(key definitioncache.Key, s *flag.Snapshot) definitioncache.Header {
	return definitioncache.Header{
		Key: key, Revision: definitioncache.Revision{Store: s.Revision.StoreID, Number: s.Revision.Number},
		Supersedes: s.SupersededStores(), FetchedAt: time.Now().UTC(),
	}
}

// EncodeDefinitions writes definitions but for what is said beside them: their
// environment and their revision.
func EncodeDefinitions(d Definitions) ([]byte, error) {
	m := &buntingv1.SharedDefinitions{Supersedes: d.Snapshot.Supersedes, TokensSince: d.TokensSince}
	for _, t := range d.Revoked {
		m.RevokedTokens = append(m.RevokedTokens, &buntingv1.RevokedToken{Id: t.ID, Revision: t.Revision})
	}
	for o := range d.Snapshot.Objects() {
		m.Objects = append(m.Objects, FromObject(o.Ref(), o))
	}
	return proto.Marshal(m)
}

// Bounds of what is read beside the objects: what is shared is small, and may come
// from anybody who can write to the shared place.
const (
	mostRevoked    = 1 << 14 // twice what a server's journal has commits
	mostSupersedes = 1 << 10
)

// The fields of SharedDefinitions.
const (
	fieldObjects protowire.Number = iota + 1
	fieldSupersedes
	fieldRevoked
	fieldTokensSince
)

// DecodeDefinitions reads a shared copy of what EncodeDefinitions wrote. It goes
// through the bytes one object after the other, and ends with the first that is
// wrong: hostile ones cost no more memory than as many good ones. The error says what
// is wrong, and wraps [definitioncache.ErrUnusable].
func DecodeDefinitions(found definitioncache.Copy) (Definitions, error) {
	at, body := flag.Revision{StoreID: found.Revision.Store, Number: found.Revision.Number}, found.Body
	var d Definitions
	var supersedes []string
	var edits []flag.Edit
	var texts flag.Texts
	for len(body) > 0 {
		number, kind, size := protowire.ConsumeTag(body)
		if size < 0 {
			return Definitions{}, unreadable(protowire.ParseError(size))
		}
		body = body[size:]
		if size = protowire.ConsumeFieldValue(number, kind, body); size < 0 {
			return Definitions{}, unreadable(protowire.ParseError(size))
		}
		value, content := body[:size], []byte(nil)
		body = body[size:]
		if kind == protowire.BytesType {
			content, _ = protowire.ConsumeBytes(value)
		}
		var err error
		switch number {
		case fieldObjects:
			edits, err = appendObject(edits, content, &texts)
		case fieldSupersedes:
			supersedes, err = appendSupersedes(supersedes, content)
		case fieldRevoked:
			d.Revoked, err = appendRevoked(d.Revoked, content)
		case fieldTokensSince:
			since, _ := protowire.ConsumeVarint(value)
			d.TokensSince = int64(since) //nolint:gosec // As protobuf has it.
		default: // of a newer program
		}
		if err != nil {
			return Definitions{}, unreadable(err)
		}
	}
	d.Snapshot = flag.NewSnapshot(found.Key.Environment, at).With(at, slices.Values(edits))
	d.Snapshot.Supersedes = supersedes
	return d, nil
}

func unreadable(err error) error {
	return fmt.Errorf("%w: the definitions cannot be read: %w", definitioncache.ErrUnusable, err)
}

// appendObject reads one object, which comes after those that are there.
func appendObject(edits []flag.Edit, content []byte, texts *flag.Texts) ([]flag.Edit, error) {
	var m buntingv1.Object
	if err := proto.Unmarshal(content, &m); err != nil {
		return nil, err
	}
	edit, err := ToObject(&m)
	if err == nil && edit.Object == nil {
		err = fmt.Errorf("they tell of the absence of %q", edit.Ref)
	}
	if err == nil && len(edits) > 0 && edits[len(edits)-1].Ref.Compare(edit.Ref) >= 0 {
		err = fmt.Errorf("the %s %q does not come in order, or comes twice", edit.Ref.Kind, edit.Ref)
	}
	if err != nil {
		return nil, err
	}
	texts.Share(edit.Object)
	edit.Ref = edit.Object.Ref() // of the shared texts too
	return append(edits, edit), nil
}

func appendSupersedes(all []string, content []byte) ([]string, error) {
	if len(all) == mostSupersedes || len(content) == 0 || !utf8.Valid(content) {
		return nil, errors.New("they name more stores that were superseded than there can be, or one without a name")
	}
	return append(all, string(content)), nil
}

func appendRevoked(all []RevokedToken, content []byte) ([]RevokedToken, error) {
	var m buntingv1.RevokedToken
	if err := proto.Unmarshal(content, &m); err != nil {
		return nil, err
	}
	if len(all) == mostRevoked || m.GetId() == "" {
		return nil, errors.New("they name more revoked tokens than there can be, or one without an id")
	}
	return append(all, RevokedToken{ID: m.GetId(), Revision: m.GetRevision()}), nil
}
