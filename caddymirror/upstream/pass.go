package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// PassRequest is a request of a client that is passed on, with a method that may have an
// effect.
type PassRequest struct {
	// Method is any but GET and HEAD, which are for [Request], CONNECT, and TRACE, whose
	// answer shows credentials.
	Method string

	// Target is as in [Request].
	Target string

	// Header is that of the client's request. Of it Accept, Accept-Encoding,
	// Accept-Language, Content-Type, Content-Encoding, Content-Language, If-Match and
	// If-Unmodified-Since are sent, and nothing else.
	Header http.Header

	// Authorization and Via are as in [Request].
	Authorization string
	Via           []string

	// Body is sent as it is read, and not closed. Size is how many bytes it has, -1: that
	// is not known. It may be read for some time after Pass has returned.
	Body io.Reader
	Size int64

	// Limit bounds Body, in bytes. Default: 64 MiB.
	Limit int64
}

const (
	defaultPassLimit = 64 << 20
	maxPassLimit     = 1 << 62
)

// passed are the fields of a client's request that are sent, all of them end-to-end.
var passed = [...]string{
	"Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "Content-Encoding", "Content-Language",
	"If-Match", "If-Unmodified-Since",
}

// RequestBodyError says that the body of a request that was to be passed on could not be
// read in time, is shorter than its Size says, or is larger than it may be: then it wraps a
// [http.MaxBytesError]. It says nothing of the upstream.
type RequestBodyError struct{ Err error }

// Error implements error.
func (e *RequestBodyError) Error() string { return fmt.Sprintf("body of the request: %v", e.Err) }

// Unwrap returns Err.
func (e *RequestBodyError) Unwrap() error { return e.Err }

func (p *PassRequest) valid() bool {
	switch p.Method {
	case http.MethodGet, http.MethodHead, http.MethodConnect, http.MethodTrace:
		return false
	}
	fields := append([]string{p.Authorization}, p.Via...)
	for _, name := range passed {
		fields = append(fields, p.Header[name]...)
	}
	return httpguts.ValidHeaderFieldName(p.Method) && (p.Size == 0 || p.Body != nil) && p.Size >= -1 && p.Limit >= 0 &&
		!slices.ContainsFunc(fields, func(f string) bool { return !httpguts.ValidHeaderFieldValue(f) })
}

// Pass passes a request on, once: it is never sent again, and redirects are not followed.
// The deadlines are those of [Upstream.Fetch], but the header of the answer has its
// HeaderTimeout from when something of the body was last sent. If the body is to blame, the
// error is a [*RequestBodyError].
func (u *Upstream) Pass(ctx context.Context, p PassRequest) (*Response, error) {
	asker := u.hiding(p.Authorization)
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	a, err := asker.pass(ctx, life, p)
	if err != nil {
		end(nil)
		return nil, err
	}
	resp := a.response(Request{})
	resp.Upstream = u
	resp.Start, resp.End, resp.Size = a.start, a.end, a.size
	if a.resp.StatusCode == http.StatusNoContent {
		a.close()
		end(nil)
		return resp, nil
	}
	resp.Unframed = unframed(a.resp)
	body := newBody(asker, Request{}, a, life, end)
	body.resumable = false
	resp.Body = body
	return resp, nil
}

// pass is [Upstream.ask] for a PassRequest.
func (u *Upstream) pass(ctx, life context.Context, p PassRequest) (*answer, error) {
	at, ok := resolve(u.base, p.Target)
	if !ok || !p.valid() {
		return nil, u.fail(ErrTarget, nil, "%s %q cannot be passed on", p.Method, p.Target)
	}
	limit := min(cmp.Or(p.Limit, defaultPassLimit), maxPassLimit)
	if p.Size > limit {
		return nil, &RequestBodyError{&http.MaxBytesError{Limit: limit}}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", u.base.Host, err)
	}
	sent := time.Now()
	if until := u.NotBefore(); until.After(sent) {
		return nil, &BusyError{Host: at.Host, Until: until}
	}
	one, cancel := context.WithCancelCause(life)
	body := &passedBody{size: p.Size, left: limit, limit: limit, patience: u.headerTimeout}
	body.timer = time.AfterFunc(u.headerTimeout, func() { cancel(body.late()) })
	unlink := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	req := u.request(Request{AcceptEncoding: "identity", Authorization: p.Authorization, Via: p.Via}, at)
	req.Method = p.Method
	for _, name := range passed {
		if values := p.Header[name]; len(values) > 0 {
			req.Header[name] = slices.Clone(values)
		}
	}
	if p.Size != 0 {
		body.r = pump(p.Body)
		req.Body, req.ContentLength = body, p.Size
		context.AfterFunc(one, func() { body.Close() })
	}
	resp, _, _, err := u.once(one, cancel, req, leg{})
	inTime, wanted := body.end(), unlink()
	if err == nil && (!inTime || !wanted) {
		resp.Body.Close()
		err = context.Cause(one)
	}
	if err != nil {
		if theirs := body.blame(); theirs != nil {
			err = theirs
		} else {
			err = u.classify(one, at, err)
		}
		cancel(nil)
		return nil, err
	}
	a := &answer{resp: resp, url: at, redirect: location(resp, at), sent: sent, came: time.Now(), ctx: one, cancel: cancel}
	u.pause(a)
	if a.span, err = spanOf(Request{}, resp); err != nil {
		a.close()
		return nil, u.fail(ErrLying, at, "%v", err)
	}
	return a, nil
}

var errSlowClient = errors.New("nothing more came in time")

// pump reads a client's body. A Read of that cannot be ended, and a transport waits for its
// own: this ends where the result is closed.
func pump(body io.Reader) *io.PipeReader {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, body)
		w.CloseWithError(err)
	}()
	return r
}

// passedBody is the body of a request, which tells on whom one has to wait: on the client
// that sends it, or on the upstream.
type passedBody struct {
	r        *io.PipeReader
	size     int64 // -1: not known
	left     int64 // of limit
	limit    int64
	patience time.Duration

	mu      sync.Mutex // guards the following
	timer   *time.Timer
	reading bool // one waits for the client
	ended   bool // nobody waits for the upstream any more
	slow    bool // the client was
	sent    int64
	err     error // of the client's
}

// Read implements [io.Reader].
func (b *passedBody) Read(p []byte) (int, error) {
	if b.blame() != nil || !b.turn(true) {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left+1)])
	b.turn(false)
	if err == io.ErrClosedPipe { // by Close
		return n, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent += int64(n)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		n, err = 0, &http.MaxBytesError{Limit: b.limit}
	case err == io.EOF && b.size >= 0 && b.sent < b.size:
		n, err = 0, io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// turn notes whether one waits for the client from now on. It returns false if it was too
// slow already.
func (b *passedBody) turn(reading bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = reading
	if !b.ended {
		b.timer.Reset(b.patience)
	}
	return !b.slow
}

// late is why the time is over.
func (b *passedBody) late() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if b.reading {
		b.slow = true
		return errSlowClient
	}
	return errSlowHeader
}

// end ends the time. It returns false if it was over.
func (b *passedBody) end() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	inTime := !b.ended
	b.ended = true
	b.timer.Stop()
	return inTime
}

// blame is the error if it is the client's.
func (b *passedBody) blame() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
		return &RequestBodyError{b.err}
	case b.slow:
		return &RequestBodyError{errSlowClient}
	}
	return nil
}

// Close implements [io.Closer]. It ends a Read, and leaves the client's body open.
func (b *passedBody) Close() error { return b.r.Close() }

// Pass is [Upstream.Pass] of the first upstream that may be asked. No other is tried
// afterwards.
func (g *Group) Pass(ctx context.Context, p PassRequest) (*Response, error) {
	var errs groupError
	for _, m := range g.members {
		if err := m.health.breaker.Check(); err != nil {
			errs = append(errs, err)
			continue
		}
		resp, err := m.Pass(ctx, p)
		if errors.Is(err, ErrBusy) { // it was not asked
			errs = append(errs, err)
			continue
		}
		if err == nil || known(err) && !errors.Is(err, ErrTarget) {
			m.health.breaker.Report(err)
		}
		return resp, err
	}
	if len(errs) == 0 {
		return nil, errors.New("no upstreams")
	}
	return nil, errs
}
