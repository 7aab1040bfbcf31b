package provider

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// How long an operation may take in all where timeouts does not say.
const (
	readTimeout  = 25 * time.Second
	writeTimeout = 2 * time.Minute
)

// deadline limits an operation by its setting in timeouts.
func deadline(ctx context.Context, diags *diag.Diagnostics, setting func(context.Context, time.Duration) (time.Duration, diag.Diagnostics), otherwise time.Duration) (context.Context, context.CancelFunc) {
	limit, problems := setting(ctx, otherwise)
	diags.Append(problems...)
	return context.WithTimeout(ctx, limit)
}

// duration keeps what is set in timeouts to durations of more than 0.
type duration struct{}

// Description says what is expected.
func (duration) Description(context.Context) string { return "a duration of more than 0, like 30s" }

// MarkdownDescription says what is expected.
func (d duration) MarkdownDescription(ctx context.Context) string { return d.Description(ctx) }

// ValidateString tells of what is none.
func (duration) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if isNothing(req.ConfigValue) {
		return
	}
	if d, err := time.ParseDuration(req.ConfigValue.ValueString()); err != nil || d <= 0 {
		resp.Diagnostics.AddAttributeError(req.Path, fmt.Sprintf("Invalid %s", req.Path),
			fmt.Sprintf("%s is %q, not a duration of more than 0. Write one like \"30s\".", req.Path, req.ConfigValue.ValueString()))
	}
}

// setIdentity sets the resource identity; Terraform before 1.12 knows none.
func setIdentity(ctx context.Context, identity *tfsdk.ResourceIdentity, to any) diag.Diagnostics {
	if identity == nil {
		return nil
	}
	return identity.Set(ctx, to)
}

// refuseImport tells of an import id that cannot be one; form shows how it looks.
func refuseImport(diags *diag.Diagnostics, err error, form string) {
	text := err.Error()
	if p := asProblem(err); p != nil {
		text = problemText(p)
	}
	diags.AddError("Invalid import id", fmt.Sprintf("%s The import id is %s.", text, form))
}

// parseID reads the import id of what belongs to a flag: the key, a colon, and
// the rest. A key has no colon.
func parseID(id string) (flag.Key, string, error) {
	key, rest, ok := strings.Cut(id, ":")
	if !ok || rest == "" {
		return "", "", flag.Invalid("", fmt.Sprintf("%q does not have a key, a colon and something behind it.", id))
	}
	parsed, err := flag.ParseKey(key)
	return parsed, rest, err
}
