package wire

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

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

// DecodeDefinitions reads what EncodeDefinitions wrote of an environment at a
// revision. The error says what is wrong with it.
func DecodeDefinitions(body []byte, environment string, at flag.Revision) (Definitions, error) {
	var m buntingv1.SharedDefinitions
	if err := proto.Unmarshal(body, &m); err != nil {
		return Definitions{}, fmt.Errorf("the definitions cannot be read: %w", err)
	}
	d := Definitions{TokensSince: m.GetTokensSince()}
	for _, t := range m.GetRevokedTokens() {
		d.Revoked = append(d.Revoked, RevokedToken{ID: t.GetId(), Revision: t.GetRevision()})
	}
	var texts flag.Texts
	edits := make([]flag.Edit, 0, len(m.GetObjects()))
	for _, object := range m.GetObjects() {
		edit, err := ToObject(object)
		if err == nil && edit.Object == nil {
			err = fmt.Errorf("they tell of the absence of %q", edit.Ref)
		}
		if err != nil {
			return Definitions{}, fmt.Errorf("the definitions cannot be read: %w", err)
		}
		texts.Share(edit.Object)
		edit.Ref = edit.Object.Ref() // of the shared texts too
		edits = append(edits, edit)
	}
	d.Snapshot = flag.NewSnapshot(environment, at).With(at, slices.Values(edits))
	d.Snapshot.Supersedes = m.GetSupersedes()
	return d, nil
}
