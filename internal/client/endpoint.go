package client

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// maxHostBytes is the longest a host name may be (RFC 1035 §2.3.4).
const maxHostBytes = 253

// ParseEndpoint reads a server's base URL: http or https (https where no scheme
// is written), a host, and, where a proxy wants them, a port and a path. It
// gives the URL with its scheme and without a trailing slash. The error is an
// *Error of the kind Config that says what to write; it shows neither a password
// nor a query.
func ParseEndpoint(text string) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		return "", configError("use the endpoint "+strconv.Quote(shownEndpoint(text)), fmt.Sprintf(format, args...))
	}
	const example = "Write a base URL like \"https://flags.example.com\" or \"http://127.0.0.1:8980\"."
	if text == "" {
		return "", configError("use the endpoint", "it is empty. "+example)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return refuse("it has a space, a line break or a control character in it. Remove it.")
	}
	full := text
	if scheme, rest, ok := mistypedScheme(text); ok {
		return refuse("it looks as if \"://\" were mistyped. Write %q.", scheme+"://"+shownEndpoint(rest))
	}
	if !strings.Contains(text, "://") {
		full = "https://" + text
	}
	u, err := url.Parse(full)
	switch {
	case strings.Contains(full, "@"):
		return refuse("it has a user name or password before \"@\". A flag server takes a token instead: leave them out, and set the token.")
	case strings.ContainsAny(full, "?#"):
		return refuse("it has a query (\"?\") or a fragment (\"#\"), but a base URL has neither. Leave it out.")
	case err != nil:
		return refuse("it is not a URL: %s. %s", reasonOf(err), example)
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("its scheme is %q, but a flag server is reached by http or https. %s", u.Scheme, example)
	case u.Hostname() == "":
		return refuse("it names no host. %s", example)
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }):
		return refuse("its host has letters outside ASCII. Write the name in its ASCII form, which begins with \"xn--\".")
	case len(u.Hostname()) > maxHostBytes:
		return refuse("it names a host of %d characters, more than the %d that a name may have. %s", len(u.Hostname()), maxHostBytes, example)
	case strings.HasSuffix(u.Host, ":"):
		return refuse("it has a colon but no port behind it. Write the port, like \":8980\", or leave the colon out.")
	case u.Opaque != "" || strings.Contains(u.Path, "//") || strings.Contains("/"+u.Path+"/", "/../"):
		return refuse("its path is not plain: it has \"//\" or \"..\" in it. %s", example)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return refuse("its port is %s, but a port is a number from 1 to 65535.", port)
		}
	}
	if !strings.Contains(u.Host, "%") { // the zone of an IPv6 address, where case matters
		u.Host = strings.ToLower(u.Host)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// mistypedScheme finds http or https with something else than "://" behind it:
// "http//x", "http:/x", "https:x", "http:///x". A host of that name with a port
// ("http:8980") is left to be what it says.
func mistypedScheme(text string) (scheme, rest string, ok bool) {
	for _, scheme := range []string{"https", "http"} {
		if len(text) <= len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
			continue
		}
		behind := text[len(scheme):]
		if after, right := strings.CutPrefix(behind, "://"); right && !strings.HasPrefix(after, "/") {
			return "", "", false
		}
		if behind[0] != ':' && behind[0] != '/' && behind[0] != ';' {
			return "", "", false
		}
		name := strings.TrimLeft(behind, ":;/")
		if _, err := strconv.ParseUint(strings.TrimSuffix(name, "/"), 10, 64); err == nil || name == "" {
			return "", "", false
		}
		return scheme, name, true
	}
	return "", "", false
}

// shownEndpoint is an endpoint as messages may show it: without what stands
// before "@" and from "?" or "#" on, where secrets are.
func shownEndpoint(text string) string {
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		text = text[:i]
	}
	if i := strings.LastIndex(text, "@"); i >= 0 {
		text = text[i+1:]
	}
	return plain(text, 200)
}

// reasonOf gives why a URL cannot be read without repeating the URL.
func reasonOf(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, "\": "); i >= 0 {
		text = text[i+3:]
	}
	return plain(text, 200)
}
