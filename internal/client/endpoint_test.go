package client

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:8980":              "http://127.0.0.1:8980",
		"http://127.0.0.1:8980/":             "http://127.0.0.1:8980",
		"https://Flags.Example.com/Bunting/": "https://flags.example.com/Bunting",
		"HTTPS://flags.example.com":          "https://flags.example.com",
		"flags.example.com":                  "https://flags.example.com",
		"localhost:8980":                     "https://localhost:8980",
		"localhost:8980/flags":               "https://localhost:8980/flags",
		"http://[::1]:8980":                  "http://[::1]:8980",
		"httpbin.example.com":                "https://httpbin.example.com",
		"http:8980":                          "https://http:8980", // a host may have that name
		"http://[fe80::1%25Eth0]:1":          "http://[fe80::1%25Eth0]:1",
		"https://x/a%20b":                    "https://x/a%20b",
	} {
		if got, err := ParseEndpoint(text); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestParseEndpointRefuses(t *testing.T) {
	const example = ` Write a base URL like "https://flags.example.com" or "http://127.0.0.1:8980".`
	for text, want := range map[string]string{
		"":                                   `cannot use the endpoint: it is empty.` + example,
		"ftp://flags.example.com":            `cannot use the endpoint "ftp://flags.example.com": its scheme is "ftp", but a flag server is reached by http or https.` + example,
		"unix:///run/bunting.sock":           `cannot use the endpoint "unix:///run/bunting.sock": its scheme is "unix", but a flag server is reached by http or https.` + example,
		"http//flags.example.com":            `cannot use the endpoint "http//flags.example.com": it looks as if "://" were mistyped. Write "http://flags.example.com".`,
		"http:/flags.example.com":            `cannot use the endpoint "http:/flags.example.com": it looks as if "://" were mistyped. Write "http://flags.example.com".`,
		"https:flags.example.com":            `cannot use the endpoint "https:flags.example.com": it looks as if "://" were mistyped. Write "https://flags.example.com".`,
		"https:///flags.example.com":         `cannot use the endpoint "https:///flags.example.com": it looks as if "://" were mistyped. Write "https://flags.example.com".`,
		"https;//flags.example.com":          `cannot use the endpoint "https;//flags.example.com": it looks as if "://" were mistyped. Write "https://flags.example.com".`,
		"http:/me:pw@flags.example.com":      `cannot use the endpoint "flags.example.com": it looks as if "://" were mistyped. Write "http://flags.example.com".`,
		"http://":                            `cannot use the endpoint "http://": it names no host.` + example,
		"http://:8980":                       `cannot use the endpoint "http://:8980": it names no host.` + example,
		"://x":                               `cannot use the endpoint "://x": it is not a URL: missing protocol scheme.` + example,
		"//x":                                `cannot use the endpoint "//x": it names no host.` + example,
		"https://bücher.example":             `cannot use the endpoint "https://bücher.example": its host has letters outside ASCII. Write the name in its ASCII form, which begins with "xn--".`,
		"http://x:":                          `cannot use the endpoint "http://x:": it has a colon but no port behind it. Write the port, like ":8980", or leave the colon out.`,
		"http://x:0":                         `cannot use the endpoint "http://x:0": its port is 0, but a port is a number from 1 to 65535.`,
		"http://x:65536":                     `cannot use the endpoint "http://x:65536": its port is 65536, but a port is a number from 1 to 65535.`,
		"http://x:y":                         `cannot use the endpoint "http://x:y": it is not a URL: invalid port ":y" after host.` + example,
		"http://anna:hunter2@x":              `cannot use the endpoint "x": it has a user name or password before "@". A flag server takes a token instead: leave them out, and set the token.`,
		"anna:hunter2@x":                     `cannot use the endpoint "x": it has a user name or password before "@". A flag server takes a token instead: leave them out, and set the token.`,
		"http://x?token=hunter2":             `cannot use the endpoint "http://x": it has a query ("?") or a fragment ("#"), but a base URL has neither. Leave it out.`,
		"http://x#hunter2":                   `cannot use the endpoint "http://x": it has a query ("?") or a fragment ("#"), but a base URL has neither. Leave it out.`,
		"\thttp://x":                         `cannot use the endpoint "http://x": it has a space, a line break or a control character in it. Remove it.`,
		"http://x\n":                         `cannot use the endpoint "http://x": it has a space, a line break or a control character in it. Remove it.`,
		"http://x\x00":                       `cannot use the endpoint "http://x": it has a space, a line break or a control character in it. Remove it.`,
		"http://x/../y":                      `cannot use the endpoint "http://x/../y": its path is not plain: it has "//" or ".." in it.` + example,
		"http://x//y":                        `cannot use the endpoint "http://x//y": its path is not plain: it has "//" or ".." in it.` + example,
		"http://" + strings.Repeat("a", 300): `cannot use the endpoint "http://` + strings.Repeat("a", 193) + `…": it names a host of 300 characters, more than the 253 that a name may have.` + example,
	} {
		_, err := ParseEndpoint(text)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%q was taken", text)
			continue
		}
		if e.Kind != Config || e.Error() != want {
			t.Errorf("%q\n got: %s\nwant: %s", text, e, want)
		}
		if strings.Contains(e.Error(), "hunter2") || strings.Contains(e.Error(), "pw@") {
			t.Errorf("%q: the message shows a secret: %s", text, e)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, text := range []string{"", "http://x", "http//x", "localhost:8980", "http://a:b@c?d#e", "http://[::1]:1/p/", "https:///", "http:8980", "://", "http://x/%2e%2e"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		endpoint, err := ParseEndpoint(text)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Config || strings.ContainsAny(e.Error(), "\n\r\x1b\x00") {
				t.Fatalf("%q: %q", text, err)
			}
			return
		}
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(endpoint, "/") {
			t.Fatalf("%q became %q (%v)", text, endpoint, err)
		}
		if again, err := ParseEndpoint(endpoint); err != nil || again != endpoint {
			t.Fatalf("%q became %q, then %q, %v", text, endpoint, again, err)
		}
		if _, err := New(Options{Endpoint: text}); err != nil {
			t.Fatalf("%q is parsed, but not taken: %v", text, err)
		}
	})
}
