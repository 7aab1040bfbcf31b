package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Rules across objects, told while planning. The server decides at apply; here
// the same code warns as early as it can, from what this process has planned,
// else from what the server has. Nothing of this ever gets into a planned value.

// plan remembers a flag as this process has planned it.
func (s *session) plan(d declaration) {
	if s == nil || d.flag.Key == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.planned[d.flag.Key] = d
}

// claim remembers that a resource plans to have the object, and refuses a second
// one: two blocks would undo each other's work in every apply. Core plans a
// replacement twice, the second time as if there were nothing yet; but then the
// private state is still that of the object which is replaced.
func (s *session) claim(ctx context.Context, req resource.ModifyPlanRequest, diags *diag.Diagnostics, ref flag.Ref, field string) {
	if s == nil {
		return
	}
	again := req.State.Raw.IsNull() && loadRecord(ctx, req.Private, diags) != record{}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claimed[ref] && !again {
		diags.AddAttributeError(path.Root(field), title(ref)+" is declared twice", fmt.Sprintf(
			"Another block of this configuration declares it too, and each apply would undo the work of one of them. Remove one of the two blocks, or give this one another %s. To rename a block write a moved block.", field))
	}
	s.claimed[ref] = true
}

func (s *session) plannedFlag(key flag.Key) (declaration, bool) {
	if s == nil {
		return declaration{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.planned[key]
	return d, ok
}

// typeOfWritten gives the type of a flag that this process has written; 0 for
// any other.
func (s *session) typeOfWritten(key flag.Key) flag.Type {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.types[key]
}

// checkOverride tells of an override that its flag does not allow. A flag that
// is not there is fine: the same plan may create it. With ask, the server is
// asked about a flag that this process has not planned.
func (s *session) checkOverride(ctx context.Context, diags *diag.Diagnostics, o flag.Override, value writing, ask bool) {
	d, planned := s.plannedFlag(o.FlagKey)
	if planned {
		err := breaks(o, value, d)
		switch {
		case err == nil:
		case d.changing:
			doubtful(diags, o.Ref(), err, "The flag is changed by this same plan; if the server still refuses the override then, the apply stops here.")
		default:
			invalid(diags, err)
		}
		return
	}
	if !ask || s == nil || s.client == nil {
		return
	}
	f, _, err := s.flag(ctx, o.FlagKey)
	if err != nil || f == nil || f.Archived() {
		return // the apply asks again, and tells
	}
	err = breaks(o, value, declaration{flag: *f, layerKnown: true, allowedKnown: true})
	switch {
	case err == nil:
	case s.mayBeOurs(f.OwnerID):
		doubtful(diags, o.Ref(), err, "This configuration may manage the flag, and change it in this same plan. Write flag_key = bunting_flag.NAME.key, so that the two are told apart.")
	default:
		if p := asProblem(err); p != nil {
			p.Message += fmt.Sprintf(" The flag was last changed by %s. If this configuration declares the flag, write flag_key = bunting_flag.NAME.key, so that its block is planned first.", f.Changed.Author())
		}
		invalid(diags, err)
	}
}

// breaks says which rule of the flag the override breaks, as far as both are known.
func breaks(o flag.Override, value writing, d declaration) error {
	f := d.flag
	if !d.layerKnown {
		f.Layer = "unknown"
	}
	if !d.allowedKnown {
		f.AllowedValues = nil
	}
	if value.absent() || value.unknown || f.Type == 0 {
		o.State, o.Value = flag.Default, flag.Value{}
		return o.ValidateFor(&f)
	}
	var err error
	o.State = flag.Enabled
	if o.Value, err = flag.ParseValue(f.Type, value.text); err != nil {
		return flag.In("value", err)
	}
	return o.ValidateFor(&f)
}
