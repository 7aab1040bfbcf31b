package provider

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
)

// cacheModel is the setting cache.
type cacheModel struct {
	Redis     types.Object `tfsdk:"redis"`
	Directory types.String `tfsdk:"directory"`
	MaxAge    types.String `tfsdk:"max_age"`
}

// redisModel is the setting cache.redis.
type redisModel struct {
	URL      types.String `tfsdk:"url"`
	Password types.String `tfsdk:"password"`
	CA       types.String `tfsdk:"ca"`
	Prefix   types.String `tfsdk:"prefix"`
}

// The environment variables of the setting.
const (
	// cacheDirectoryVariable names the folder for what is kept from one run to the next.
	cacheDirectoryVariable = "BUNTING_CACHE_DIRECTORY"
	cacheMaxAgeVariable    = "BUNTING_CACHE_MAX_AGE"
	redisURLVariable       = "BUNTING_CACHE_REDIS_URL"
	redisPasswordVariable  = "BUNTING_CACHE_REDIS_PASSWORD" //nolint:gosec // The name of a variable.
	redisCAVariable        = "BUNTING_CACHE_REDIS_CA_FILE"
	redisPrefixVariable    = "BUNTING_CACHE_REDIS_PREFIX"
)

// redisTimeout is the deadline of a call to the Redis; 0: the client's own. Tests set
// it, where a busy machine must not have a plan do without.
var redisTimeout time.Duration

// cacheSchema declares the setting.
func cacheSchema() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		MarkdownDescription: "What is kept from one run to the next: the last known answers of evaluated data sources that set `allow_stale`, for when the server is down; and, where a `directory` or a `redis` is set, the definitions, shared by all runs with the same rights: " +
			"one of them fetches, the others take its copy. Resources have the server confirm it in each run, so a plan is the same with and without; what is wrong with the place is a line in the log, and everything is read from the server. " +
			"Whoever can write there decides what is read: give it to no one who may not change the flags.",
		Optional: true,
		Attributes: map[string]schema.Attribute{
			"directory": schema.StringAttribute{
				MarkdownDescription: "Folder for it, private to the user and on a disk of this machine. Without it definitions are not shared, and answers are kept in `bunting` in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache` on Linux). Also from `BUNTING_CACHE_DIRECTORY`.",
				Optional:            true,
			},
			"max_age": schema.StringAttribute{
				MarkdownDescription: "How long ago the server may have confirmed the shared definitions that evaluated data sources are answered from without asking it, like `30s`; a kill may take so long to be seen. `0s` by default: it is always asked. Also from `BUNTING_CACHE_MAX_AGE`.",
				Optional:            true,
			},
			"redis": schema.SingleNestedAttribute{
				MarkdownDescription: "A Redis, version 6 or newer, that keeps both for many machines, as the runners of a CI system. Not together with `directory`; where the environment sets both, the Redis is used.",
				Optional:            true,
				Attributes: map[string]schema.Attribute{
					"url": schema.StringAttribute{
						MarkdownDescription: "Where it is: `redis://`, `rediss://` (TLS) or `unix://`, with user and database, like `rediss://ci@redis.example.com:6379/0`. Also from `BUNTING_CACHE_REDIS_URL`.",
						Optional:            true,
						Sensitive:           true,
					},
					"password": schema.StringAttribute{
						MarkdownDescription: "The user's password, instead of one in `url`. Also from `BUNTING_CACHE_REDIS_PASSWORD`.",
						Optional:            true,
						Sensitive:           true,
					},
					"ca": schema.StringAttribute{
						MarkdownDescription: "Certificates in PEM form of the authorities that are trusted for `rediss://`, instead of the system's. Also from the file `BUNTING_CACHE_REDIS_CA_FILE`.",
						Optional:            true,
					},
					"prefix": schema.StringAttribute{
						MarkdownDescription: "What its keys begin with; `bunting` by default. Also from `BUNTING_CACHE_REDIS_PREFIX`.",
						Optional:            true,
					},
				},
			},
		},
	}
}

// cacheSettings are the setting cache, with the environment variables in the places
// that it leaves empty.
type cacheSettings struct {
	directory string             // for last known answers; "": none are kept
	shared    client.SharedPlace // the zero one: definitions are not shared
	maxAge    time.Duration
}

// readCacheSetting reads what is kept from one run to the next, and where: the
// setting's place, else the environment's. What is not known yet is done without.
func readCacheSetting(ctx context.Context, configured types.Object, lookup func(string) string, diags *diag.Diagnostics) (s cacheSettings) {
	var m cacheModel
	if configured.IsUnknown() {
		return s
	}
	if !configured.IsNull() {
		diags.Append(configured.As(ctx, &m, basetypes.ObjectAsOptions{})...)
	}
	s.directory = setting(m.Directory, lookup(cacheDirectoryVariable))
	if !m.Redis.IsNull() && s.directory != "" && !m.Directory.IsNull() {
		diags.AddAttributeError(path.Root("cache"), "Both a Redis and a directory are set",
			"cache.redis and cache.directory are both set, but definitions are shared in one place. Remove one of them.")
		return s
	}
	unknown := m.Redis.IsUnknown() || m.Directory.IsUnknown()
	switch {
	case m.Redis.IsUnknown():
	case !m.Redis.IsNull(), m.Directory.IsNull() && lookup(redisURLVariable) != "":
		var later bool
		s.shared, later = readRedisSetting(ctx, m.Redis, lookup, diags)
		unknown = unknown || later
	case s.directory != "":
		s.shared.Directory = filepath.Join(s.directory, "definitions")
	}
	if s.directory == "" && !m.Directory.IsUnknown() {
		if own, err := os.UserCacheDir(); err == nil { // a user without a home keeps nothing
			s.directory = filepath.Join(own, "bunting")
		}
	}
	s.maxAge = readMaxAge(m.MaxAge, lookup(cacheMaxAgeVariable), s.shared == (client.SharedPlace{}) && !unknown, diags)
	return s
}

// readRedisSetting reads where the Redis is. It is unknown while any part of it is.
func readRedisSetting(ctx context.Context, configured types.Object, lookup func(string) string, diags *diag.Diagnostics) (set client.SharedPlace, unknown bool) {
	var m redisModel
	if !configured.IsNull() {
		diags.Append(configured.As(ctx, &m, basetypes.ObjectAsOptions{})...)
	}
	if m.URL.IsUnknown() || m.Password.IsUnknown() || m.CA.IsUnknown() || m.Prefix.IsUnknown() {
		return set, true
	}
	at := path.Root("cache").AtName("redis")
	set.RedisURL = setting(m.URL, lookup(redisURLVariable))
	if set.RedisURL == "" {
		diags.AddAttributeError(at.AtName("url"), "The URL of the Redis is missing",
			"cache.redis is set, but cache.redis.url is not, so it is not known where the Redis is. Set it, or the environment variable "+redisURLVariable+", to a URL like \"rediss://ci@redis.example.com:6379/0\".")
		return client.SharedPlace{}, false
	}
	set.RedisTimeout = redisTimeout
	set.RedisPassword = setting(m.Password, lookup(redisPasswordVariable))
	ca := m.CA.ValueString()
	if file := lookup(redisCAVariable); m.CA.IsNull() && file != "" {
		text, err := os.ReadFile(file) //nolint:gosec // The user names the file.
		if err != nil {
			diags.AddAttributeError(at.AtName("ca"), "A file of cache.redis cannot be read",
				fmt.Sprintf("%s names a file that cannot be read: %v. Name a file in PEM form, or set cache.redis.ca.", redisCAVariable, err))
			return client.SharedPlace{}, false
		}
		ca = string(text)
	}
	for _, part := range []struct {
		name, variable string
		configured     types.String
		add            func()
	}{
		{"url", redisURLVariable, m.URL, func() {}},
		{"ca", redisCAVariable, m.CA, func() { set.RedisCA = ca }},
		{"prefix", redisPrefixVariable, m.Prefix, func() { set.RedisPrefix = setting(m.Prefix, lookup(redisPrefixVariable)) }},
	} {
		part.add()
		if err := set.Validate(); err != nil {
			from := ""
			if part.configured.IsNull() {
				from = " (from the environment variable " + part.variable + ")"
			}
			diags.AddAttributeError(at.AtName(part.name), "Invalid cache.redis."+part.name, fmt.Sprintf("cache.redis.%s%s cannot be used. %s.", part.name, from, sentence(err.Error())))
			return client.SharedPlace{}, false
		}
	}
	return set, false
}

// readMaxAge reads how old an answer may be, which needs a place that keeps any.
func readMaxAge(configured types.String, environment string, nowhere bool, diags *diag.Diagnostics) time.Duration {
	text := setting(configured, environment)
	if text == "" {
		return 0
	}
	at := path.Root("cache").AtName("max_age")
	d, err := time.ParseDuration(text)
	switch {
	case err != nil || d < 0:
		diags.AddAttributeError(at, "Invalid cache.max_age",
			fmt.Sprintf("cache.max_age is %q, not a duration of 0 or more. Write one like \"30s\" (in the configuration, or in %s).", text, cacheMaxAgeVariable))
		return 0
	case d > 0 && nowhere:
		diags.AddAttributeError(at, "Invalid cache.max_age",
			fmt.Sprintf("cache.max_age is %q, but definitions are shared nowhere, so there are none of that age. Set cache.redis or cache.directory (or %s or %s), or leave max_age out.", text, redisURLVariable, cacheDirectoryVariable))
		return 0
	}
	return d
}

// secrets gives what of the settings no log may have.
func (s settings) secrets() (secrets []string) {
	given := []string{s.token, s.cache.shared.RedisPassword, s.cache.shared.RedisURL}
	if u, err := url.Parse(s.cache.shared.RedisURL); err == nil {
		password, _ := u.User.Password()
		given = append(given, password)
	}
	for _, secret := range given {
		if secret != "" {
			secrets = append(secrets, secret)
		}
	}
	return secrets
}
