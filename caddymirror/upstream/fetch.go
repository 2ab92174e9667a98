package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
)

// Response is an answer, with whatever status. It is to be closed by its Body, if there is
// one.
type Response struct {
	Status int

	// Header is as it came: what may be kept of it, package freshness knows. Trailers are
	// not part of it.
	Header http.Header

	// URL is where the answer came from in the end. It may be signed: not for logs.
	URL *url.URL

	// Redirect is where to, if the answer is a redirect that was not followed.
	Redirect *url.URL

	// Start and End are which bytes of the representation Body has, up to but not
	// including End, and Size is that of the whole. -1: not known. Start may be another
	// than the Offset that was asked for.
	Start, End, Size int64

	// Validator is strong, as If-Range has it, empty if the answer has none.
	Validator string

	// Changed says that this is another version than Request.Only.
	Changed bool

	// Unframed says that the body ends where the connection does: nobody can tell whether
	// it is whole.
	Unframed bool

	// NotBefore is until when the upstream that answered wants no requests; zero: it may
	// be asked.
	NotBefore time.Time

	// RequestTime and ResponseTime are those of RFC 9111 section 4.2.3.
	RequestTime, ResponseTime time.Time

	// Upstream is the one that answered.
	Upstream *Upstream

	// Body is nil if there can be none: of a HEAD, of 204 and 304. See [Body].
	Body io.ReadCloser
}

// Close closes Body, if there is one.
func (r *Response) Close() error {
	if r.Body == nil {
		return nil
	}
	return r.Body.Close()
}

// Fetch asks for a representation. It returns when the header of the answer is there, or
// the HeaderTimeout is over. ctx bounds Fetch, and not the reading of the body, which goes
// on until that is closed.
func (u *Upstream) Fetch(ctx context.Context, r Request) (*Response, error) {
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	asker := u.hiding(r.Authorization)
	a, err := asker.ask(ctx, life, r)
	if err != nil {
		end(nil)
		return nil, err
	}
	resp := a.response(r)
	resp.Upstream = u
	resp.Start, resp.End, resp.Size = a.start, a.end, a.size
	if a.resp.Request.Method == http.MethodHead || a.resp.StatusCode == http.StatusNoContent || a.resp.StatusCode == http.StatusNotModified {
		a.close()
		end(nil)
		return resp, nil
	}
	resp.Unframed = unframed(a.resp)
	body := newBody(asker, r, a, life, end)
	resp.Start = body.skipTo(r, resp)
	resp.Body = body
	return resp, nil
}

// unframed reports whether a body ends where its connection does.
func unframed(resp *http.Response) bool {
	return resp.ProtoMajor < 2 && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0
}

// pause keeps the pause that an answer asks for.
func (u *Upstream) pause(a *answer) {
	if pause := RetryAfter(a.resp.StatusCode, a.resp.Header, a.came); pause > 0 {
		a.notBefore = a.came.Add(pause)
		u.health.pauses.set(hostKey(a.url), a.notBefore, a.came)
	}
}

// An answer is the last response of a chain of redirects.
type answer struct {
	span

	resp       *http.Response
	url        *url.URL
	redirect   *url.URL
	notBefore  time.Time
	sent, came time.Time
	ctx        context.Context
	cancel     context.CancelCauseFunc
}

func (a *answer) close() {
	a.resp.Body.Close()
	a.cancel(nil)
}

func (a *answer) validator() string { return freshness.StrongValidator(a.resp.Header) }

func (a *answer) response(r Request) *Response {
	validator := a.validator()
	return &Response{
		Status:       a.resp.StatusCode,
		Header:       a.resp.Header,
		URL:          a.url,
		Redirect:     a.redirect,
		Validator:    validator,
		Changed:      a.resp.StatusCode == http.StatusOK && r.Only != "" && validator != r.Only,
		NotBefore:    a.notBefore,
		RequestTime:  a.sent,
		ResponseTime: a.came,
	}
}

// Why a request or a body was ended by this package.
var (
	errSlowHeader = errors.New("no answer in time")
	errStalled    = errors.New("nothing more of the body came in time")
	errTrickle    = errors.New("the body came too slowly")
	errShort      = errors.New("the body ended early")
)

// ask asks along redirects. ctx bounds it, and life what comes after: the body.
func (u *Upstream) ask(ctx, life context.Context, r Request) (*answer, error) {
	target, ok := resolve(u.base, r.Target)
	if !ok || !r.valid() {
		return nil, u.fail(ErrTarget, nil, "cannot be asked for %q", r.Target)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", u.base.Host, err)
	}
	chain, cancel := context.WithCancelCause(life)
	timer := time.AfterFunc(u.headerTimeout, func() { cancel(errSlowHeader) })
	unlink := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	a, err := u.chain(chain, cancel, r, target)
	inTime, wanted := timer.Stop(), unlink()
	if err == nil && (!inTime || !wanted) {
		a.resp.Body.Close()
		err = u.classify(chain, target, context.Cause(chain))
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	a.ctx, a.cancel = chain, cancel
	return a, nil
}

func (u *Upstream) chain(ctx context.Context, cancel context.CancelCauseFunc, r Request, at *url.URL) (*answer, error) {
	seen := map[string]bool{}
	var l leg
	for {
		if seen[at.String()] {
			return nil, u.fail(ErrLoop, at, "redirected in a circle")
		}
		if len(seen) > maxSteps {
			return nil, u.fail(ErrLoop, at, "redirected more than %d times", maxSteps)
		}
		seen[at.String()] = true

		sent := time.Now()
		if until := u.health.pauses.get(hostKey(at)); until.After(sent) {
			return nil, &BusyError{Host: at.Host, Until: until}
		}
		resp, private, err := u.step(ctx, cancel, r, at, l)
		if err != nil {
			return nil, u.classify(ctx, at, err)
		}
		a := &answer{resp: resp, url: at, sent: sent, came: time.Now()}
		u.pause(a)
		to := location(resp, at)
		if to == nil || !u.follows(to) {
			a.redirect = to
			if a.span, err = spanOf(r, resp); err != nil {
				resp.Body.Close()
				return nil, u.fail(ErrLying, at, "%v", err)
			}
			return a, nil
		}
		discard(resp)
		if at.Scheme == "https" && to.Scheme == "http" {
			return nil, u.fail(ErrRefused, at, "redirect from https to http, to %s", to.Host)
		}
		if len(seen) == 1 { // what the upstream itself is
			l.publicOnly = !private
		}
		if l.publicOnly && privateHost(to) {
			return nil, u.fail(ErrRefused, at, "%v", &privateError{to.Host})
		}
		at = to
	}
}

// maxDiscard is how much of a body that nobody wants is read, so that its connection can
// be used again, in bytes.
const maxDiscard = 16 << 10

func discard(resp *http.Response) {
	if resp.ContentLength <= maxDiscard {
		io.CopyN(io.Discard, resp.Body, max(resp.ContentLength, 0)+1) //nolint:errcheck // it only serves the connection
	}
	resp.Body.Close()
}
