package provider

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// providerModel is the provider's configuration.
type providerModel struct {
	Endpoint       types.String `tfsdk:"endpoint"`
	Token          types.String `tfsdk:"token"`
	Environment    types.String `tfsdk:"environment"`
	Workspace      types.String `tfsdk:"workspace"`
	ChangeNote     types.String `tfsdk:"change_note"`
	RequestTimeout types.String `tfsdk:"request_timeout"`
	Retry          types.Object `tfsdk:"retry"`
	TLS            types.Object `tfsdk:"tls"`
	Cache          types.Object `tfsdk:"cache"`
}

// retryModel is the setting retry.
type retryModel struct {
	Attempts          types.Int64   `tfsdk:"attempts"`
	RequestsPerSecond types.Float64 `tfsdk:"requests_per_second"`
}

// tlsModel is the setting tls.
type tlsModel struct {
	CA                types.String `tfsdk:"ca"`
	ClientCertificate types.String `tfsdk:"client_certificate"`
	ClientKey         types.String `tfsdk:"client_key"`
	ServerName        types.String `tfsdk:"server_name"`
}

// settings are the provider's configuration with the environment variables in
// the places that it leaves empty.
type settings struct {
	endpoint, token, environment, workspace, changeNote string
	requestTimeout                                      time.Duration // 0: the client's default
	policy                                              client.Policy
	tls                                                 *client.TLS // nil: none is set
	cache                                               cacheSettings
	// awaits names the setting that is not known yet and without which the
	// server cannot be asked; "" for none.
	awaits string
}

// tokenFileVariable names a file that holds the token.
const tokenFileVariable = "BUNTING_TOKEN_FILE"

// readSettings reads the configuration, and the environment by lookup.
func readSettings(ctx context.Context, m providerModel, lookup func(string) string, diags *diag.Diagnostics) settings {
	s := settings{
		endpoint:    setting(m.Endpoint, lookup("BUNTING_ENDPOINT")),
		token:       setting(m.Token, lookup("BUNTING_TOKEN")),
		environment: setting(m.Environment, lookup("BUNTING_ENVIRONMENT")),
		workspace:   setting(m.Workspace, lookup("BUNTING_WORKSPACE")),
		changeNote:  setting(m.ChangeNote, lookup("BUNTING_CHANGE_NOTE")),
	}
	switch {
	case m.Endpoint.IsUnknown():
		s.awaits = "endpoint"
	case m.Token.IsUnknown():
		s.awaits = "token"
	case m.Environment.IsUnknown():
		s.awaits = "environment" // a server of another name must not be read either
	case s.endpoint == "":
		diags.AddAttributeError(path.Root("endpoint"), "The endpoint is missing",
			"endpoint is not set, so there is no flag server to ask. Set endpoint, or the environment variable BUNTING_ENDPOINT, to a base URL like \"https://flags.example.com\".")
	}
	if file := lookup(tokenFileVariable); s.token == "" && !m.Token.IsUnknown() && file != "" {
		s.token = readTokenFile(file, diags)
	}
	s.token = strings.TrimSpace(s.token) // as file("bunting.token") reads it
	if s.workspace != "" {
		if err := flag.ValidateOwnerID(flag.WorkspaceOwner(s.workspace)); err != nil {
			invalid(diags, flag.In("workspace", err))
		}
	}
	s.requestTimeout = readTimeoutSetting(m.RequestTimeout, lookup("BUNTING_REQUEST_TIMEOUT"), diags)
	s.policy = readRetrySetting(ctx, m.Retry, lookup, diags)
	var unknown bool
	if s.tls, unknown = readTLSSetting(ctx, m.TLS, lookup, diags); unknown && s.awaits == "" {
		s.awaits = "tls"
	}
	s.cache = readCacheSetting(ctx, m.Cache, lookup, diags)
	return s
}

// readTLSSetting reads whom to trust and who we are; of the environment the names
// of files. It is unknown while any part of it is.
func readTLSSetting(ctx context.Context, configured types.Object, lookup func(string) string, diags *diag.Diagnostics) (set *client.TLS, unknown bool) {
	var m tlsModel
	if !isNothing(configured) {
		diags.Append(configured.As(ctx, &m, basetypes.ObjectAsOptions{})...)
	}
	unknown = configured.IsUnknown()
	read := func(name string, part types.String, variable string) string {
		unknown = unknown || part.IsUnknown()
		file := lookup(variable)
		if !part.IsNull() || file == "" {
			return part.ValueString()
		}
		text, err := os.ReadFile(file) //nolint:gosec // The user names the file.
		if err != nil {
			diags.AddAttributeError(path.Root("tls").AtName(name), "A file of tls cannot be read",
				fmt.Sprintf("%s names a file that cannot be read: %v. Name a file in PEM form, or set tls.%s.", variable, err, name))
		}
		return string(text)
	}
	t := client.TLS{
		CA:                read("ca", m.CA, "BUNTING_TLS_CA_FILE"),
		ClientCertificate: read("client_certificate", m.ClientCertificate, "BUNTING_TLS_CLIENT_CERTIFICATE_FILE"),
		ClientKey:         read("client_key", m.ClientKey, "BUNTING_TLS_CLIENT_KEY_FILE"),
		ServerName:        setting(m.ServerName, lookup("BUNTING_TLS_SERVER_NAME")),
	}
	if unknown = unknown || m.ServerName.IsUnknown(); unknown || t == (client.TLS{}) {
		return nil, unknown
	}
	return &t, false
}

// Bounds of the setting retry.
const (
	mostAttempts    = 10
	fewestPerSecond = 0.1
)

// readRetrySetting reads how calls are repeated, from the setting and for each of
// its parts else from the environment.
func readRetrySetting(ctx context.Context, configured types.Object, lookup func(string) string, diags *diag.Diagnostics) client.Policy {
	policy, m := client.DefaultPolicy, retryModel{}
	if !isNothing(configured) {
		diags.Append(configured.As(ctx, &m, basetypes.ObjectAsOptions{})...)
	}
	number := func(name, variable string, set bool, value float64, what, example string, allowed func(float64) bool) float64 {
		text := lookup(variable)
		if set {
			text = strconv.FormatFloat(value, 'g', -1, 64)
		}
		if text == "" {
			return 0
		}
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !allowed(n) {
			diags.AddAttributeError(path.Root("retry").AtName(name), "Invalid retry."+name, fmt.Sprintf(
				"retry.%s is %q, not %s. Write one like %s (in the configuration, or in %s).", name, text, what, example, variable))
			return 0
		}
		return n
	}
	attempts := number("attempts", "BUNTING_RETRY_ATTEMPTS", !isNothing(m.Attempts), float64(m.Attempts.ValueInt64()),
		fmt.Sprintf("a whole number from 1 to %d", mostAttempts), "4", func(n float64) bool { return n >= 1 && n <= mostAttempts && n == math.Trunc(n) })
	if attempts > 0 {
		policy.Attempts = int(attempts)
	}
	policy.MostPerSecond = number("requests_per_second", "BUNTING_REQUESTS_PER_SECOND", !isNothing(m.RequestsPerSecond), m.RequestsPerSecond.ValueFloat64(),
		fmt.Sprintf("a number of at least %g", fewestPerSecond), "20", func(n float64) bool { return n >= fewestPerSecond && !math.IsInf(n, 0) })
	return policy
}

// setting gives what is configured, else what the environment says. An unknown
// setting is not filled from the environment: it is going to be something else.
func setting(configured types.String, environment string) string {
	if configured.IsNull() {
		return environment
	}
	return configured.ValueString()
}

func readTokenFile(file string, diags *diag.Diagnostics) string {
	text, err := os.ReadFile(file) //nolint:gosec // The user names the file.
	if err != nil {
		diags.AddAttributeError(path.Root("token"), "The token cannot be read",
			fmt.Sprintf("%s names a file that cannot be read: %v. Name a file with a token in it, or set BUNTING_TOKEN.", tokenFileVariable, err))
	}
	return string(text)
}

func readTimeoutSetting(configured types.String, environment string, diags *diag.Diagnostics) time.Duration {
	text := environment
	if !isNothing(configured) {
		text = configured.ValueString()
	}
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		diags.AddAttributeError(path.Root("request_timeout"), "Invalid request_timeout",
			fmt.Sprintf("request_timeout is %q, not a duration of more than 0. Write one like \"10s\" (in the configuration, or in BUNTING_REQUEST_TIMEOUT).", text))
	}
	return d
}

func isNothing(v attr.Value) bool { return v.IsNull() || v.IsUnknown() }
