package provider

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// record is what private state knows of an object: what people should not see
// change, and what a plan was made from.
type record struct {
	// OwnerID is the owner under which the object was written; "" before the
	// first write after an import.
	OwnerID string `json:"owner_id,omitempty"`
	// Revision is the one that was read or written last. It goes with the next
	// write, so that nothing is overwritten that no plan has shown. 0: none.
	Revision int64 `json:"revision,omitempty"`
	// Created is the revision that made the object (flag.Stamp). An object of the
	// same name with another one is not this object.
	Created int64 `json:"created,omitempty"`
	// StoreID is the store that Revision is of. Another store, like a backup that
	// was restored, has other revisions of the same numbers.
	StoreID string `json:"store_id,omitempty"`
	// TakeOver says that the object was imported and not written since.
	TakeOver bool `json:"take_over,omitempty"`
	// Type is the type of an override's value, which its flag decides.
	Type string `json:"type,omitempty"`
	// PassedOver says that an override's value is not of its flag's type now, so
	// that it has to be set anew whatever it says.
	PassedOver bool `json:"passed_over,omitempty"`
}

const recordKey = "object"

// keeper is private state as the framework hands it out.
type keeper interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// loadRecord reads the record; the zero record where there is none.
func loadRecord(ctx context.Context, from keeper, diags *diag.Diagnostics) record {
	var r record
	text, problems := from.GetKey(ctx, recordKey)
	diags.Append(problems...)
	if len(text) == 0 {
		return r
	}
	if err := json.Unmarshal(text, &r); err != nil {
		diags.AddError("The state cannot be used", fmt.Sprintf("Its private part is damaged: %v. "+
			"Remove the object from the state (terraform state rm) and import it again.", err))
	}
	return r
}

// save writes the record.
func (r record) save(ctx context.Context, to keeper, diags *diag.Diagnostics) {
	text, err := json.Marshal(r)
	if err != nil {
		diags.AddError("The state cannot be written", err.Error())
		return
	}
	diags.Append(to.SetKey(ctx, recordKey, text)...)
}

// knownType gives the recorded type; 0 for none.
func (r record) knownType() flag.Type {
	typ, err := flag.ParseType(r.Type)
	if err != nil {
		return 0
	}
	return typ
}

// replacedBy reports whether the object is not the one of the record, but one of
// the same name that its owner has written since: what takes its place when it is
// replaced.
func (r record) replacedBy(o flag.Object) bool {
	return r.leftOver(o.Manager(), o.Stamp())
}

// leftOver reports whether what the record knows has been replaced by its own
// owner: an object of that manager and stamp has taken its place.
func (r record) leftOver(manager string, by flag.Stamp) bool {
	return r.OwnerID != "" && manager == r.OwnerID && by.Created > r.Created
}

// expect lets the change be made only to the version that the record knows.
func (r record) expect(change flag.Change) flag.Change {
	if r.Revision != 0 {
		change.Expected, change.StoreID = &r.Revision, r.StoreID
	}
	return change
}

// written gives the record after a write by the owner.
func (r record) written(ownerID string, done client.Written) record {
	r.OwnerID, r.TakeOver = ownerID, false
	return r.at(done.Object, done.Revision.StoreID)
}

// at gives the record of what was read or written last.
func (r record) at(o flag.Object, storeID string) record {
	r.Revision, r.Created, r.StoreID = o.Stamp().Revision, o.Stamp().Created, storeID
	return r
}
