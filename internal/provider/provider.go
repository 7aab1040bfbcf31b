// Package provider is what Terraform sees: one file for each resource and data
// source, and one for each concern that they share.
package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
)

var _ provider.Provider = &buntingProvider{}

// buntingProvider is one provider configuration: Terraform makes a process, and
// so one of these, for each alias and each walk.
type buntingProvider struct {
	version string
	session *session // of the present walk; nil before the first
}

// New gives the function that makes the provider. The version is that of the
// program; servers see it, and it is named when the two do not go together.
func New(version string) func() provider.Provider {
	return func() provider.Provider { return &buntingProvider{version: version} }
}

// Metadata names the provider.
func (p *buntingProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "bunting"
	resp.Version = p.version
}

// Schema declares the provider's settings.
func (p *buntingProvider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages feature flags, their overrides and kill switches on a Bunting flag server, and reads evaluated values back as data.",
		Attributes: map[string]schema.Attribute{
			"endpoint": schema.StringAttribute{
				MarkdownDescription: "Base URL of the flag server, like `https://flags.example.com`. Without a scheme it is `https`. Also from `BUNTING_ENDPOINT`.",
				Optional:            true,
			},
			"token": schema.StringAttribute{
				MarkdownDescription: "Token that the server knows the caller by; spaces and line ends around it are dropped, so `file(\"bunting.token\")` works. " +
					"Also from `BUNTING_TOKEN`, or from the file that `BUNTING_TOKEN_FILE` names. Terraform keeps variables in saved plans, so take it from the environment, a file, or an ephemeral variable.",
				Optional:  true,
				Sensitive: true,
			},
			"environment": schema.StringAttribute{
				MarkdownDescription: "Name of the environment that the server must have, like `production`. A server of another environment is refused before anything is read or written. Also from `BUNTING_ENVIRONMENT`.",
				Optional:            true,
			},
			"workspace": schema.StringAttribute{
				MarkdownDescription: "Name under which this configuration owns what it manages, like `payments-prod`. The server refuses to let another owner change it. " +
					"With it, an apply whose answer was lost converges when it is repeated. Without it, each object has a random owner of its own. Also from `BUNTING_WORKSPACE`.",
				Optional: true,
			},
			"change_note": schema.StringAttribute{
				MarkdownDescription: "Note that goes into the server's audit log with every write, like a link to the pull request. Also from `BUNTING_CHANGE_NOTE`.",
				Optional:            true,
			},
			"request_timeout": schema.StringAttribute{
				MarkdownDescription: "How long one attempt of a request may take, like `10s` (the default). How long an operation may take in all is set by its `timeouts`. Also from `BUNTING_REQUEST_TIMEOUT`.",
				Optional:            true,
			},
			"tls": schema.SingleNestedAttribute{
				MarkdownDescription: "Whom to trust, and who we are to a server that asks for a certificate. Texts in PEM form, as `file(\"ca.pem\")` reads them. Of the environment: names of such files.",
				Optional:            true,
				Attributes: map[string]schema.Attribute{
					"ca": schema.StringAttribute{
						MarkdownDescription: "Certificates of the authorities that are trusted, instead of the system's. Also from the file `BUNTING_TLS_CA_FILE`.",
						Optional:            true,
					},
					"client_certificate": schema.StringAttribute{
						MarkdownDescription: "The certificate to show, with its intermediates. Also from the file `BUNTING_TLS_CLIENT_CERTIFICATE_FILE`.",
						Optional:            true,
					},
					"client_key": schema.StringAttribute{
						MarkdownDescription: "The private key of `client_certificate`, without a password. Also from the file `BUNTING_TLS_CLIENT_KEY_FILE`.",
						Optional:            true,
						Sensitive:           true,
					},
					"server_name": schema.StringAttribute{
						MarkdownDescription: "The name that the server's certificate has to be for, where that is not the endpoint's host. Also from `BUNTING_TLS_SERVER_NAME`.",
						Optional:            true,
					},
				},
			},
			"retry": schema.SingleNestedAttribute{
				MarkdownDescription: "How requests are repeated that met a failure which may pass: no answer, a cut-off one, 429, or 5xx. A write carries an id by which the server knows its repetition. When the server asks for a pause, all requests keep it.",
				Optional:            true,
				Attributes: map[string]schema.Attribute{
					"attempts": schema.Int64Attribute{
						MarkdownDescription: "How often a request is made in all, from 1 (never repeated) to 10; 4 by default. Also from `BUNTING_RETRY_ATTEMPTS`.",
						Optional:            true,
					},
					"requests_per_second": schema.Float64Attribute{
						MarkdownDescription: "How many requests a second are sent at most. Without it there is no limit but the one that the server's 429 teaches. Also from `BUNTING_REQUESTS_PER_SECOND`.",
						Optional:            true,
					},
				},
			},
			"cache": cacheSchema(),
		},
	}
}

// Configure reads the settings and greets the server. While the endpoint is not
// known, as in a plan that creates the server too, there is nobody to greet:
// creates are planned, and what must read says why it cannot.
func (p *buntingProvider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var config providerModel
	resp.Diagnostics.Append(get(ctx, req.Config, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	set := readSettings(ctx, config, os.Getenv, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	s := newSession()
	s.workspace, s.secrets, s.awaits = set.workspace, set.secrets(), set.awaits
	if s.awaits == "" {
		p.greet(ctx, s, set, &resp.Diagnostics)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	p.Close()
	p.session = s
	resp.ResourceData, resp.DataSourceData = s, s
}

// greet makes the client and asks the server who it is. A server that is down is
// no error yet where answers of it are kept that data sources may take: whoever
// else needs it reports it.
func (p *buntingProvider) greet(ctx context.Context, s *session, set settings, diags *diag.Diagnostics) {
	c, release, err := client.Share(client.Options{
		Endpoint: set.endpoint, Token: set.token, UserAgent: "terraform-provider-bunting/" + p.version,
		RequestTimeout: set.requestTimeout, ChangeNote: set.changeNote, Policy: &set.policy, TLS: set.tls, Report: reportTotals,
		Shared: set.cache.shared, MaxAge: set.cache.maxAge, Warn: func(ctx context.Context, text string) {
			tflog.Warn(tflog.MaskAllFieldValuesStrings(ctx, s.secrets...), "the definitions are read from the server", map[string]any{"error": text})
		},
	})
	if err != nil {
		refuseSettings(diags, set.token, "use the provider's settings", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	s.lastKnown = newLastKnown(set, c.Endpoint())
	leave := release
	release = func() { leave(); s.lastKnown.close() }
	server, err := c.Server(ctx)
	if err != nil && serverDown(err) {
		known, damage := s.lastKnown.known()
		if damage != nil {
			s.lastKnown.tell(ctx, diags, damage)
		}
		if known != nil {
			tflog.Warn(ctx, "the server is down; there are last known answers", map[string]any{"endpoint": c.Endpoint(), "place": s.lastKnown.file.Place()})
			s.down, err = err, nil
			server.Environment = known.Environment
		}
	}
	switch {
	case err != nil:
		refuseSettings(diags, set.token, "greet the flag server", err)
	case set.environment != "" && server.EvaluatorOnly:
		diags.AddAttributeError(path.Root("environment"), "The flag server does not tell its environment",
			fmt.Sprintf("environment is %q, but the server at %s has only the evaluator service, which does not tell what environment it is. Nothing was read. Leave environment out, or correct endpoint.", set.environment, c.Endpoint()))
	case set.environment != "" && server.Environment != set.environment:
		diags.AddAttributeError(path.Root("environment"), "The flag server is of another environment",
			fmt.Sprintf("environment is %q, but the server at %s is of the environment %q. Nothing was read or written. Correct endpoint or environment.", set.environment, c.Endpoint(), server.Environment))
	default:
		s.client, s.release, s.walk = c, release, c.NewWalk()
		s.storeID, s.evaluatorOnly = server.Revision.StoreID, server.EvaluatorOnly
		return
	}
	release()
}

// refuseSettings tells of settings that do not lead to a flag server.
func refuseSettings(diags *diag.Diagnostics, token, doing string, err error) {
	at, from := path.Root("endpoint"), ""
	if e, ok := errors.AsType[*client.Error](err); ok {
		if e.Kind == client.Config {
			doing = e.Op // names the setting and what it is, which may come from the environment
		}
		// A proxy that refuses by itself knows nothing of the token.
		ofToken := (e.Kind == client.Unauthenticated || e.Kind == client.Denied) && (e.Reason != "" || !strings.Contains(e.Message, "proxy"))
		switch {
		case ofToken && token == "":
			at, from = path.Root("token"), " Here that is the setting token, or BUNTING_TOKEN, or a file named by "+tokenFileVariable+"."
		case ofToken, e.Kind == client.Config && e.Op == "use the token":
			at = path.Root("token")
		case e.Kind == client.Config && strings.HasPrefix(e.Op, "use tls"):
			at = path.Root("tls")
			if _, part, found := strings.Cut(e.Op, "tls."); found {
				at = at.AtName(part)
			}
		}
	}
	var told diag.Diagnostics
	operation{doing: doing}.failed(&told, err)
	for _, d := range told {
		diags.AddAttributeError(at, d.Summary(), d.Detail()+from)
	}
}

// Close gives back the connections of the provider, for tests: Terraform ends
// the process.
func (p *buntingProvider) Close() {
	if p.session != nil && p.session.client != nil {
		p.session.release()
	}
}

// Resources lists the resources.
func (p *buntingProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{NewFlagResource, NewOverrideResource, NewKillSwitchResource}
}

// DataSources lists the data sources.
func (p *buntingProvider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{NewEvaluationDataSource, NewEvaluationsDataSource, NewFlagDataSource, NewFlagsDataSource, NewServerDataSource}
}
