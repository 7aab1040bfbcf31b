package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
	"unicode"

	"connectrpc.com/connect"

	buntingv1 "github.com/bunting-flags/terraform-provider-bunting/gen/bunting/v1"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/wire"
)

// errSilence is why an attempt ends that got no answer in time.
var errSilence = errors.New("no answer within the request timeout")

// caller is a unary call as the generated clients have it.
type caller[Q, A any] func(context.Context, *connect.Request[Q]) (*connect.Response[A], error)

// manner says what may become of a call that fails or is given up.
type manner int

const (
	// again: it only reads, or can be told from its repetition (request_id).
	again manner = iota
	// throughout is again, but an attempt that has begun is brought to its end
	// within the request timeout, so that a write's outcome is known.
	throughout
	// onceOnly: to repeat it would do it twice.
	onceOnly
)

// call makes a unary call, as often as its manner and the policy allow.
func call[Q, A any](ctx context.Context, c *Client, op string, how manner, road caller[Q, A], question *Q) (answer *A, err error) {
	err = c.repeat(ctx, op, how != onceOnly, func() (err error) {
		within := ctx
		if how == throughout {
			within = context.WithoutCancel(ctx)
		}
		answer, err = once(within, c, op, road, question)
		return err
	})
	return answer, err
}

// once makes one attempt at a unary call: within the request timeout, and with
// whatever goes wrong put into words.
func once[Q, A any](ctx context.Context, c *Client, op string, road caller[Q, A], question *Q) (*A, error) {
	attempt, done := context.WithTimeoutCause(ctx, c.timeout, errSilence)
	defer done()
	answer, err := road(attempt, connect.NewRequest(question))
	if err != nil {
		return nil, c.translate(ctx, attempt, op, err)
	}
	return answer.Msg, nil
}

// translate puts into words what went wrong: the caller's own end first, then
// ours, then what was found on the way, then what the server said.
func (c *Client) translate(ctx, attempt context.Context, op string, err error) error {
	e := &Error{Op: op, Endpoint: c.endpoint, Err: err}
	var f *fault
	hasFault := errors.As(err, &f)
	if hasFault {
		e.StatusCode, e.RetryAfter = f.status, f.retryAfter
	}
	var told *connect.Error
	answered := hasFault && f.kind != 0 || errors.As(err, &told) && connect.IsWireError(told)
	switch {
	case answered && hasFault && f.kind != 0:
		e.Kind, e.Message = f.kind, c.endpoint+" "+f.found
	case answered:
		if p := c.told(e, told); p != nil {
			return p
		}
	case ctx.Err() != nil:
		return c.ended(op, ctx.Err())
	case attempt.Err() != nil:
		e.Kind, e.Message, e.Err = Timeout, fmt.Sprintf("%s did not answer within %s (the request timeout). Is it overloaded, or is a firewall dropping packets on the way?", c.endpoint, c.timeout), context.DeadlineExceeded
	case hasFault:
		e.Kind, e.Message = unreachable(c.endpoint, f.err)
	case told != nil && told.Code() == connect.CodeResourceExhausted:
		e.Kind, e.Message = Broken, fmt.Sprintf("%s sent an answer of more than %d MB, the most that is read. Ask for fewer flags at once.", c.endpoint, maxAnswerBytes>>20)
	default:
		e.again = true
		e.Kind, e.Message = Broken, c.endpoint+" sent an answer that is cut off or cannot be read. Nothing can be told from it. Try again; if it stays, look for a proxy that alters answers, and compare the versions of both sides."
	}
	e.Message = c.redact(e.Message)
	e.again = e.again || mayPass(ctx, e, err)
	return e
}

// mayPass reports whether what went wrong may be over in a moment. What is wrong
// with settings, tokens, certificates or the request stays so.
func mayPass(ctx context.Context, e *Error, err error) bool {
	var dns *net.DNSError
	switch e.Kind {
	case Unavailable:
		return !errors.As(err, &dns) || !dns.IsNotFound
	case Timeout:
		return ctx.Err() == nil
	case RateLimited, RevisionNotReached, ServerFault:
		return true
	case Broken:
		return errors.Is(err, errClosed) // cut off on the way
	default:
		return false
	}
}

// ended is the error of an operation whose context has ended.
func (c *Client) ended(op string, why error) *Error {
	if errors.Is(why, context.Canceled) {
		return &Error{Kind: Canceled, Op: op, Endpoint: c.endpoint, Err: context.Canceled, Message: "it was cancelled before " + c.endpoint + " had answered."}
	}
	return &Error{
		Kind: Timeout, Op: op, Endpoint: c.endpoint, Err: context.DeadlineExceeded,
		Message: "the time for the whole operation ended before " + c.endpoint + " had answered. Is the server overloaded, or is a firewall dropping packets on the way?",
	}
}

// retold gives the error of a call that several travelled in as that of one of
// them. A caller's own end is put into words here.
func (c *Client) retold(ctx context.Context, op string, err error) error {
	var e *Error
	var p *flag.Problem
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p):
		return err
	case errors.As(err, &e):
		own := *e
		own.Op = op
		return &own
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return c.ended(op, err)
	case errors.Is(err, context.DeadlineExceeded): // the call's, which ends a moment before its last caller's
		return c.ended(op, err)
	}
	return &Error{Kind: Broken, Op: op, Endpoint: c.endpoint, Err: err, Message: err.Error()}
}

// told puts into e what the server itself said. It gives a *flag.Problem
// instead where that is what was said.
func (c *Client) told(e *Error, told *connect.Error) error {
	said := sentence(plain(told.Message(), 2000))
	for _, d := range told.Details() {
		m, err := d.Value()
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case *buntingv1.ErrorDetail:
			e.Reason, e.Revision = plain(m.GetReason(), 100), wire.ToRevision(m.GetRevision())
		case *buntingv1.Problem:
			return c.problem(wire.ToProblem(m))
		}
	}
	if e.RetryAfter == 0 {
		e.RetryAfter = retryAfter(told.Meta().Get("Retry-After"), time.Now())
	}
	from := c.endpoint + " says: " + said
	if said == "" {
		from = c.endpoint + " gives no reason."
	}
	switch told.Code() {
	case connect.CodeUnauthenticated:
		e.Kind, e.Message = Unauthenticated, from
		switch {
		case c.token == "":
			e.Message = c.endpoint + " wants a token, and none is set. Set the secret of one that it knows; an admin makes one with \"bunting token create NAME --scope SCOPE\"."
		case e.Reason == "": // a Bunting server says by itself what is wrong with a token
			e.Message += " Check that the token is one of this server."
		}
	case connect.CodePermissionDenied:
		e.Kind, e.Message = Denied, from
	case connect.CodeNotFound:
		// Never taken for absence: a flag server says that an object does not
		// exist in its answer or in a Problem, so this is somebody else.
		e.Kind, e.Message = NotFlagServer, from+" That is not how a flag server answers. Check the endpoint, and what stands before the flag server."
	case connect.CodeResourceExhausted:
		// Connect has this one code for too many requests and for one that is too
		// large; the second is no better for being sent again.
		if e.StatusCode == http.StatusRequestEntityTooLarge {
			e.Kind, e.Message = Invalid, from+" The request is larger than the server, or a proxy before it, allows. Write less at once, or raise the limit."
			break
		}
		e.Kind, e.Message = RateLimited, from+" "+waitAdvice(e.RetryAfter)
	case connect.CodeUnavailable:
		e.Kind, e.Message = Unavailable, from+" "+waitAdvice(e.RetryAfter)
	case connect.CodeDeadlineExceeded, connect.CodeCanceled:
		e.Kind, e.Message = Timeout, from+" Is the server overloaded?"
	case connect.CodeUnimplemented:
		if e.Reason == "ADMIN_ELSEWHERE" || e.Reason == "ADMIN_OFF" {
			e.Kind, e.Message = Denied, from
			break
		}
		e.Kind, e.Message = Incompatible, c.endpoint+" does not know this call. It is an older flag server, or another program that speaks the same protocol. Check the endpoint, and the server's version."
	case connect.CodeInvalidArgument, connect.CodeOutOfRange, connect.CodeAlreadyExists:
		e.Kind, e.Message = Invalid, from
	case connect.CodeFailedPrecondition, connect.CodeAborted:
		switch e.Reason {
		case "STORE_CHANGED":
			e.Kind, e.Message = StoreChanged, from+" The server was restored or stands on another database: read everything again."
		case "REVISION_NOT_REACHED":
			e.Kind, e.Message = RevisionNotReached, from+" Try again in a moment."
		default:
			e.Kind, e.Message = Invalid, from
		}
	default:
		e.Kind, e.Message = ServerFault, from+" The server's log says more."
	}
	return nil
}

// problem makes a refusal fit for a terminal and for a log. It may have several
// lines: an import block to paste, for example.
func (c *Client) problem(p *flag.Problem) *flag.Problem {
	p.Field = plain(p.Field, 100)
	p.Message = c.redact(strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(p.Message, "�")))
	return p
}

// redact keeps the token out of a message, should anybody have repeated it.
func (c *Client) redact(message string) string {
	if c.token == "" {
		return message
	}
	return strings.ReplaceAll(message, c.token, "(token)")
}

// unreachable says why no answer came.
func unreachable(endpoint string, err error) (Kind, string) {
	const running = " Is the flag server running there? Start it with \"bunting serve\", or correct the endpoint."
	var (
		header    tls.RecordHeaderError
		dns       *net.DNSError
		op        *net.OpError
		alert     tls.AlertError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return Unavailable, endpoint + " is to be reached through the proxy that HTTPS_PROXY or HTTP_PROXY names, and that proxy cannot be reached. Correct the variable, or exempt the host with NO_PROXY."
	case errors.As(err, &header) && string(header.RecordHeader[:]) == "HTTP/":
		return NotFlagServer, endpoint + " speaks plain HTTP, but the endpoint says https (or has no scheme, which means https). Write http:// before the host if that is meant."
	case errors.As(err, &header):
		return NotFlagServer, endpoint + " does not speak TLS, but the endpoint says https. Check host and port."
	case errors.As(err, &authority):
		return Untrusted, endpoint + " shows a certificate of an authority that this machine does not trust. Add the authority's certificate to the system's, or name it in SSL_CERT_FILE, or in the provider's setting tls.ca."
	case errors.As(err, &host):
		return Untrusted, endpoint + " shows a certificate for another host. Check the host name in the endpoint."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Untrusted, endpoint + " shows a certificate that has expired or is not valid yet. Renew it, or set this machine's clock."
	case errors.As(err, &invalid), errors.As(err, &verify):
		return Untrusted, endpoint + " shows a certificate that cannot be trusted: " + sentence(plain(err.Error(), 300))
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls:"):
		return Untrusted, endpoint + " ended the TLS handshake: " + sentence(plain(err.Error(), 300)) + " It may want a client certificate (the provider's setting tls)."
	case errors.As(err, &dns) && dns.IsNotFound:
		return Unavailable, endpoint + " names a host that is not known. Check its spelling, and the network's name service."
	case errors.As(err, &dns):
		return Unavailable, endpoint + " names a host that cannot be looked up now. Check the network's name service."
	case errors.Is(err, syscall.ECONNREFUSED):
		return Unavailable, endpoint + " refused the connection." + running
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return Unavailable, endpoint + " cannot be reached from this network. Check the endpoint, the route and the firewall."
	case strings.Contains(err.Error(), "malformed HTTP"):
		return NotFlagServer, endpoint + " answered with something that is not HTTP. Check host and port; if it speaks TLS, write https:// before the host."
	case errors.Is(err, errClosed), isReset(err), strings.Contains(err.Error(), "server closed"):
		return Unavailable, endpoint + " closed the connection without an answer. Is it restarting, or does it want TLS (https://)?"
	}
	return Unavailable, endpoint + " cannot be reached: " + sentence(plain(err.Error(), 300)) + running
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

// broken makes the error of an answer that is none to what was asked.
func (c *Client) broken(op, format string, args ...any) error {
	return &Error{
		Kind: Broken, Op: op, Endpoint: c.endpoint,
		Message: c.endpoint + " " + c.redact(plain(fmt.Sprintf(format, args...), 600)) + ". Nothing can be told from such an answer. Compare the versions of both sides, and look for a proxy that alters answers.",
	}
}
