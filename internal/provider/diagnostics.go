package provider

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// operation is what Terraform was doing when something went wrong. It is the one
// translator of errors into diagnostics: the summary says what could not be
// done, the detail what was expected, what was found and what to do next.
type operation struct {
	doing string // reads on from "Cannot": `create the flag "pay"`
	// What the import block needs that goes with a refused create.
	resourceType string
	importID     string
}

// failed adds the diagnostic of an error.
func (op operation) failed(diags *diag.Diagnostics, err error) {
	summary := "Cannot " + op.doing
	if e, ok := errors.AsType[*client.Error](err); ok {
		diags.AddError(summary, sentence(e.Message))
		return
	}
	p := asProblem(err)
	if p == nil {
		diags.AddError(summary, sentence(err.Error())+".")
		return
	}
	detail := problemText(p)
	if p.Kind == flag.ProblemAlreadyExists || p.Kind == flag.ProblemOwned {
		detail += op.importBlock()
	}
	add(p.Field, summary, detail, diags.AddAttributeError, diags.AddError)
}

// failed is operation.failed for what has no import block.
func failed(diags *diag.Diagnostics, doing string, err error) {
	operation{doing: doing}.failed(diags, err)
}

// importBlock gives the block to paste, for an object that is not in state yet.
func (op operation) importBlock() string {
	if op.importID == "" {
		return ""
	}
	return fmt.Sprintf("\n\n  import {\n    to = %s.NAME\n    id = %q\n  }", op.resourceType, op.importID)
}

// invalid adds the diagnostic of a broken rule, at the place that it names.
func invalid(diags *diag.Diagnostics, err error) {
	summary, p := "Invalid configuration", asProblem(err)
	if p == nil {
		diags.AddError(summary, sentence(err.Error()))
		return
	}
	if p.Field != "" {
		summary = "Invalid " + p.Field
	}
	add(p.Field, summary, problemText(p), diags.AddAttributeError, diags.AddError)
}

// doubtful is invalid as a warning, for a rule of an object that another change
// of the same plan may still keep.
func doubtful(diags *diag.Diagnostics, ref flag.Ref, err error, why string) {
	summary, p := title(ref)+" may be refused", asProblem(err)
	if p == nil {
		diags.AddWarning(summary, sentence(err.Error())+" "+why)
		return
	}
	add(p.Field, summary, problemText(p)+" "+why, diags.AddAttributeWarning, diags.AddWarning)
}

// add puts a diagnostic at the attribute where there is one.
func add(field, summary, detail string, at func(path.Path, string, string), anywhere func(string, string)) {
	if field == "" || field == "state" { // what an override serves is no attribute: it follows from value
		anywhere(summary, detail)
		return
	}
	at(path.Root(field), summary, detail)
}

// asProblem gives the problem that an error is; nil when it is none.
func asProblem(err error) *flag.Problem {
	if p, ok := errors.AsType[*flag.Problem](err); ok {
		return p
	}
	return nil
}

// problemText is the problem as a sentence. It begins with the attribute's name
// as it is written, where there is one.
func problemText(p *flag.Problem) string {
	if p.Field != "" {
		return p.Error()
	}
	return sentence(p.Message)
}

// sentence begins with a capital letter, unless it begins with a URL.
func sentence(text string) string {
	if strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
		return text
	}
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}
