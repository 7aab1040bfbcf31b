package client

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Kind sorts what can go wrong between a caller and a server. Nothing of it ever
// means that an object does not exist. What the server refuses of a change is no
// Error but a *flag.Problem.
type Kind int

// The kinds.
const (
	Config             Kind = iota + 1 // the settings cannot work: endpoint, token, timeout
	Unauthenticated                    // the server wants a token, or does not know or no longer takes this one
	Denied                             // the token may not do this, or nobody may at this endpoint
	Unavailable                        // no answer: refused, reset, closed, unknown host, 502, 503, 504
	Timeout                            // no answer in time
	Canceled                           // the caller gave up
	NotFlagServer                      // something answered that is no flag server, or a redirect
	Untrusted                          // TLS: the certificate of one side is not trusted by the other
	RateLimited                        // 429; RetryAfter says for how long, where the server does
	Incompatible                       // server and client speak different versions
	StoreChanged                       // the revision asked for is of another store: read everything again
	RevisionNotReached                 // the server has not got the revision asked for yet
	Invalid                            // the server cannot accept the request as it stands
	Broken                             // an answer that is cut off, cannot be read, or is not about what was asked
	ServerFault                        // the server failed (500)
)

var kindNames = [...]string{
	"unknown", "config", "unauthenticated", "denied", "unavailable", "timeout", "canceled", "not_flag_server", "untrusted",
	"rate_limited", "incompatible", "store_changed", "revision_not_reached", "invalid", "broken", "server_fault",
}

// String gives the kind's name, for logs.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return kindNames[0]
	}
	return kindNames[k]
}

// Error is a call that did not get its answer.
type Error struct {
	Kind Kind
	// Op is what was being done, to read on from "cannot": `read the flag "pay"`.
	Op string
	// Endpoint is the server's base URL.
	Endpoint string
	// Message says with whole sentences what was expected, what was found and
	// what to do next. It names the endpoint where that matters, and never holds
	// a token or the body of a page.
	Message string
	// Reason is the server's word for programs (bunting.v1.ErrorDetail.reason),
	// like TOKEN_EXPIRED; "" where it gave none.
	Reason string
	// StatusCode is the HTTP status; 0 where there was none.
	StatusCode int
	// RetryAfter is how long the server asks to wait; 0 where it says nothing.
	RetryAfter time.Duration
	// Revision is the server's present revision where it matters and it told it.
	Revision flag.Revision
	// Err is the cause, for errors.Is; it may be nil. Its text is for nobody.
	Err error

	again bool // may be over when the call is repeated
}

// Error gives one line: what could not be done, and the message.
func (e *Error) Error() string { return "cannot " + e.Op + ": " + e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

func configError(op, message string) *Error {
	return &Error{Kind: Config, Op: op, Message: message}
}

// plain makes foreign text fit for a message: one line, no control characters,
// no invalid UTF-8, at most so many bytes.
func plain(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}

// sentence ends a text with a full stop.
func sentence(text string) string {
	if text == "" || strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, "?") || strings.HasSuffix(text, "…") {
		return text
	}
	return text + "."
}

func quoted[T ~string](name T) string { return fmt.Sprintf("%q", plain(string(name), 600)) }
