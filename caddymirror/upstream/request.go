package upstream

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"
)

// Request is what is asked for.
type Request struct {
	// Target is path and query as they were received, below the upstream's own path: it
	// begins with a slash, and its percent-encoding is left as it is.
	Target string

	// Head asks for the header only.
	Head bool

	// Accept and AcceptEncoding are sent as they are. No AcceptEncoding is `identity`.
	Accept, AcceptEncoding string

	// Authorization is sent to the upstream itself, and not to other hosts that it redirects
	// to, instead of that of Config.Header. It is secret: it is in no error.
	Authorization string

	// Conditions are If-None-Match and If-Modified-Since, as freshness.Conditions makes
	// them: then the answer may have status 304. Other fields in it are not sent.
	Conditions http.Header

	// Offset is of the first byte that is wanted; less than 0: of so many last bytes. If
	// it is 0 and Length is, too, the whole is wanted.
	Offset int64

	// Length is how many bytes are wanted, 0: all up to the end.
	Length int64

	// Only is the strong validator ([Response.Validator]) of the version of which a part
	// is wanted. The whole of another one comes instead (If-Range).
	Only string

	// Refresh asks for a response that no cache in between had (Cache-Control: no-cache).
	Refresh bool

	// Skip is how many upstreams of a [Group] are passed over.
	Skip int

	// Via has the lines of that field of the request that made this one necessary: what
	// goes out has them, too, so that loops through other mirrors are found ([Looped]).
	Via []string
}

func (r Request) ranged() bool { return !r.Head && (r.Offset != 0 || r.Length != 0) }

func (r Request) rangeField() string {
	switch {
	case r.Offset < 0:
		return fmt.Sprintf("bytes=%d", r.Offset)
	case r.Length > 0:
		return fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1)
	}
	return fmt.Sprintf("bytes=%d-", r.Offset)
}

// valid reports whether the numbers make a range, and the fields can be sent. A weak
// validator cannot be that of a part.
func (r Request) valid() bool {
	fields := append([]string{r.Accept, r.AcceptEncoding, r.Authorization, r.Only}, r.Via...)
	fields = append(fields, r.Conditions["If-None-Match"]...)
	fields = append(fields, r.Conditions["If-Modified-Since"]...)
	return r.Length >= 0 && !strings.HasPrefix(r.Only, "W/") && (r.Offset >= 0 || r.Length == 0) && r.Offset+r.Length >= min(r.Offset, 0) &&
		!slices.ContainsFunc(fields, func(f string) bool { return !httpguts.ValidHeaderFieldValue(f) })
}

// request makes the request to one URL. It has nothing but what is said here.
func (u *Upstream) request(r Request, at *url.URL) *http.Request {
	req := &http.Request{
		Method: http.MethodGet, URL: at, Header: http.Header{},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if r.Head {
		req.Method = http.MethodHead
	}
	h := req.Header
	h.Set("User-Agent", u.agent)
	if sameOrigin(at, u.base) {
		req.Host = u.host
		for name, values := range u.header {
			h[name] = slices.Clone(values)
		}
		if r.Authorization != "" {
			h.Set("Authorization", r.Authorization)
		}
	}
	h.Set("Via", via(r.Via, u.pseudonym))
	h.Set("Accept-Encoding", cmp.Or(r.AcceptEncoding, "identity"))
	if r.Accept != "" {
		h.Set("Accept", r.Accept)
	}
	for _, name := range [...]string{"If-None-Match", "If-Modified-Since"} {
		if values := r.Conditions[name]; len(values) > 0 {
			h[name] = slices.Clone(values)
		}
	}
	if r.ranged() {
		h.Set("Range", r.rangeField())
		if r.Only != "" {
			h.Set("If-Range", r.Only)
		}
	}
	if r.Refresh {
		h.Set("Cache-Control", "no-cache")
		h.Set("Pragma", "no-cache")
	}
	return req
}

const (
	// maxHeader bounds the header of a response, in bytes.
	maxHeader = 256 << 10

	// max1xx bounds how many responses with status 1xx come in front.
	max1xx = 16
)

// protocolError says that a response breaks the rules.
type protocolError string

func (e protocolError) Error() string { return string(e) }

// step asks one URL, once more if a connection that was kept open turned out to be dead
// before any byte of the response came: the upstream closes what is idle when it wants.
// [http.Transport] does the same in most cases. Only GET and HEAD are ever sent, which have
// no effect. private tells where the connection leads.
func (u *Upstream) step(ctx context.Context, cancel context.CancelCauseFunc, r Request, at *url.URL, l leg) (resp *http.Response, private bool, err error) {
	resp, private, dead, err := u.once(ctx, cancel, u.request(r, at), l)
	if dead && ctx.Err() == nil {
		u.closeIdle() // the others are most likely as old
		resp, private, _, err = u.once(ctx, cancel, u.request(r, at), l)
	}
	return resp, private, err
}

// once sends one request. dead says that a pooled connection broke before a byte came, or
// had something left over.
func (u *Upstream) once(ctx context.Context, cancel context.CancelCauseFunc, req *http.Request, l leg) (resp *http.Response, private, dead bool, err error) {
	var reused, begun, early atomic.Bool
	var conn atomic.Pointer[orderedConn]
	var informational atomic.Int32
	var to remote
	to.private.Store(privateHost(req.URL)) // as long as no connection tells
	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			reused.Store(info.Reused)
			if c := ordered(info.Conn); c != nil {
				c.state.Store(idle)
				conn.Store(c)
			}
			if address, refuse := to.see(info.Conn.RemoteAddr()); refuse && l.publicOnly {
				cancel(&privateError{address})
			}
		},
		GotFirstResponseByte: func() {
			begun.Store(true)
			if c := conn.Load(); c != nil && c.state.Load() != answered {
				early.Store(true)
				c.Close() // the real answer must not be that of the next request
			}
		},
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			if informational.Add(1) > max1xx {
				return protocolError("too many responses with status 1xx")
			}
			return nil
		},
	}
	ctx = httptrace.WithClientTrace(context.WithValue(ctx, legKey{}, &l), trace)
	resp, err = u.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		dead = early.Load() || !begun.Load() && !timedOut(err) || isSurplus(err)
		return nil, false, reused.Load() && dead, err
	}
	switch {
	case early.Load():
		resp.Body.Close()
		return nil, false, reused.Load(), protocolError("the answer came before the request")
	case headerSize(resp.Header) > maxHeader:
		err = protocolError("the header is too large")
	case resp.Uncompressed:
		err = protocolError("the transport uncompressed the body")
	case context.Cause(ctx) != nil:
		err = context.Cause(ctx)
	}
	if err != nil {
		resp.Body.Close()
		return nil, false, false, err
	}
	if resp.Request == nil { // a RoundTripper of others
		resp.Request = &http.Request{Method: http.MethodGet}
	}
	return resp, to.private.Load(), false, nil
}

func headerSize(h http.Header) int {
	size := 0
	for name, values := range h {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	return size
}

// isSurplus reports whether what came begins with something else than a response: what the
// response before it had too much may have been under way when the request was written.
func isSurplus(err error) bool { return strings.Contains(err.Error(), "malformed HTTP") }

func timedOut(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout() || strings.Contains(err.Error(), "timeout")
}
