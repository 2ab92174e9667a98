package mirrorcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/httpcond"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// respond answers with an object, in full or as the request's conditions and
// ranges have it, and closes it.
//
// Its error is one that no byte was sent before.
func (m *Mount) respond(w http.ResponseWriter, r *http.Request, o *object, as representation) error {
	defer o.close()
	f := m.fields(o, as)
	if mustDecode(r, f) {
		as.decoded = true
		f = m.fields(o, as)
	}
	class := m.format.Class(as.name)
	status, ranges := http.StatusOK, []httpcond.Range(nil)
	if f.ok() && httpcond.Conditional(r.Header) {
		status, ranges = m.evaluate(r.Method, r.Header, o, f, class)
	}
	if err := o.await(r, status, ranges); err != nil {
		if old, ok := m.instead(r.Context(), o); ok {
			return m.respond(w, r, &old, as)
		}
		return m.fail(w, r, object{status: statusFailed(err)}, err)
	}
	m.count(r, f.result(o.result))
	switch {
	case o.entry != nil:
		o.entry.Hit()
	case o.body.fill != nil:
		o.body.fill.Miss()
	}
	m.setFields(w.Header(), o, f, class)
	if o.meta().Size > caddyhttp.DefaultMaxWriteChunk {
		widen(r)
	}
	switch {
	case status != http.StatusOK:
		m.respondPart(w, r, o, status, ranges)
	case !f.ok():
		m.respondOther(w, r, o, f, as)
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusOK)
	case as.decoded:
		m.sendDecoded(w, r, o)
	case o.inMemory():
		c := client{w: w, r: r}
		n, _ := c.Write(o.entry.Bytes())
		m.metrics.fromMemory.Add(float64(n))
	default:
		m.send(w, r, o, 0, -1)
	}
	return nil
}

// evaluate tells how the request's conditions and ranges have it answered.
func (m *Mount) evaluate(method string, h http.Header, o *object, f *fields, class format.Class) (status int, ranges []httpcond.Range) {
	meta := o.meta()
	// Of what never changes there is one version only.
	strong := (class == format.Immutable || !meta.DateWeak) && f.date == ""
	size := meta.Size
	if f.response && f.contentLength == "" || o.body != nil && o.body.fill == nil && meta.Validator == "" {
		// What is passed through cannot be opened twice with certainty: the
		// client gets all of it (RFC 9110 section 14.2).
		size = -1
	}
	status, ranges = httpcond.Evaluate(method, h, httpcond.Validators{
		ETag: f.etag, Modified: f.modified, DateStrong: strong, DateShared: m.precompressors != nil || f.mediaType != "",
	}, size)
	if o.body != nil {
		// One range is answered at once; several are parts of what will be wanted
		// as a whole, and follow the fill.
		o.body.hurry = len(ranges) == 1
	}
	return status, ranges
}

// await waits for the first byte of what the cache has not got: while none has
// come, there is still time for another answer. An old entry is not kept waiting
// for long.
func (o *object) await(r *http.Request, status int, ranges []httpcond.Range) error {
	if o.body == nil || r.Method != http.MethodGet {
		return nil
	}
	var off int64
	switch status {
	case http.StatusOK:
	case http.StatusPartialContent:
		off = ranges[0].Start
		if len(ranges) == 1 {
			o.body.end = off + ranges[0].Length
		}
	default:
		return nil
	}
	ctx := r.Context()
	var err error
	if o.old == nil {
		err = o.body.peek(ctx, off)
	} else {
		err = o.awaitUntil(ctx, off)
	}
	if err == io.EOF || ctx.Err() != nil && o.body != nil {
		return nil
	}
	return err
}

// awaitUntil is peek, but not for longer than the old entry may be kept waiting.
// A read of the origin cannot be ended: the body is given up with it then.
func (o *object) awaitUntil(ctx context.Context, off int64) error {
	ctx, cancel := context.WithDeadline(ctx, o.until)
	defer cancel() // not once peek returns: the end of ctx would race with its result
	b := o.body
	done := make(chan error, 1)
	go func() { done <- b.peek(ctx, off) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	o.body = nil
	go func() {
		_ = <-done //nolint:staticcheck // errcheck wants it
		b.close()
	}()
	return fmt.Errorf("%w: no byte in time", origin.ErrAway)
}

// instead is the old entry of an object whose new version has given no byte.
func (m *Mount) instead(ctx context.Context, o *object) (object, bool) {
	if o.old == nil {
		return object{}, false
	}
	e := o.old
	o.old = nil
	return m.asItIs(ctx, e)
}

// respondOther answers with a response of another status than 200.
func (m *Mount) respondOther(w http.ResponseWriter, r *http.Request, o *object, f *fields, as representation) {
	switch f.status {
	case http.StatusNoContent:
		drop(w.Header(), "Content-Length", "Content-Type")
	case http.StatusResetContent: // without content, whatever the upstream has sent (RFC 9110 section 15.3.6)
		drop(w.Header(), "Content-Type")
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(f.status)
	switch {
	case r.Method == http.MethodHead, f.status == http.StatusNoContent, f.status == http.StatusResetContent:
	case as.decoded:
		m.sendDecoded(w, r, o)
	default:
		m.send(w, r, o, 0, -1)
	}
}

// respondPart answers with less than the whole: ranges, or nothing at all.
func (m *Mount) respondPart(w http.ResponseWriter, r *http.Request, o *object, status int, ranges []httpcond.Range) {
	h, size := w.Header(), o.meta().Size
	switch status {
	case http.StatusPartialContent:
		if len(ranges) > 1 {
			m.respondParts(w, r, o, ranges)
			return
		}
		h.Set("Content-Range", ranges[0].ContentRange(size))
		h.Set("Content-Length", strconv.FormatInt(ranges[0].Length, 10))
		w.WriteHeader(status)
		m.send(w, r, o, ranges[0].Start, ranges[0].Length)
		return
	case http.StatusNotModified:
		drop(h, "Content-Type", "Content-Encoding", "Content-Length", "Accept-Ranges")
		if h["Etag"] != nil {
			drop(h, "Last-Modified")
		}
	case http.StatusPreconditionFailed:
		drop(h, "Content-Type", "Content-Encoding", "Content-Length")
		h.Set("Cache-Control", ccError) // or a cache would go by that, and not by the status
	case http.StatusRequestedRangeNotSatisfiable:
		drop(h, "Content-Type", "Content-Encoding", "Content-Length", "Etag", "Last-Modified")
		h.Set("Cache-Control", ccError)
		h.Set("Content-Range", httpcond.Unsatisfied(size))
	}
	w.WriteHeader(status)
}

// respondParts answers with several ranges.
func (m *Mount) respondParts(w http.ResponseWriter, r *http.Request, o *object, ranges []httpcond.Range) {
	h := w.Header()
	parts := httpcond.NewMultipart(ranges, o.meta().Size, h.Get("Content-Type"))
	h.Set("Content-Type", parts.ContentType())
	h.Set("Content-Length", strconv.FormatInt(parts.Length(), 10))
	w.WriteHeader(http.StatusPartialContent)
	b := o.reader(m)
	var sent int64
	err := parts.Write(&client{w: w, r: r}, func(w io.Writer, part httpcond.Range) error {
		n, err := b.copyRange(r.Context(), w, part.Start, part.Length)
		sent += n
		return err
	})
	m.metrics.bytes(b).Add(float64(sent))
	m.finish(r.Context(), b.key, err)
}

// send sends n bytes of an object from off on, or all if n is negative.
func (m *Mount) send(w http.ResponseWriter, r *http.Request, o *object, off, n int64) {
	b := o.reader(m)
	sent, err := b.copyRange(r.Context(), &client{w: w, r: r}, off, n)
	m.metrics.bytes(b).Add(float64(sent))
	m.finish(r.Context(), b.key, err)
}

// client is a writer whose errors are the client's. Its first large write goes
// out together with the head.
type client struct {
	w      io.Writer
	r      *http.Request
	corked bool
}

func (c *client) Write(p []byte) (int, error) {
	if !c.corked && len(p) >= corkSize {
		c.corked = true
		defer cork(c.r)()
	}
	n, err := c.w.Write(p)
	if err != nil {
		err = errClient
	}
	return n, err
}

// How much is given to the connection in one call. At 64 KiB, Caddy's default, a
// large response costs about twice the time: each call wakes the receiver. Without
// TLS, which makes records of it, more is better still. However slow the call, a
// client must take 4 KiB/s: Caddy's write timeout is a minute.
const (
	writeChunk   = 256 << 10
	writeTimeout = time.Minute
	plainChunk   = 1 << 20
	plainTimeout = writeTimeout * plainChunk / writeChunk
)

// widen lets writes be larger, unless the server is configured otherwise.
func widen(r *http.Request) {
	_, w := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if w == nil || w.MaxChunk != caddyhttp.DefaultMaxWriteChunk {
		return
	}
	w.MaxChunk = writeChunk
	d := &w.Deadline
	if r.ProtoMajor == 1 && r.TLS == nil && d.Timeout == writeTimeout && d.MinRate == 0 {
		w.MaxChunk, d.Timeout = plainChunk, plainTimeout
	}
}

// inMemory reports whether the whole body is in memory.
func (o *object) inMemory() bool { return o.entry != nil && o.entry.Bytes() != nil }

func (o *object) meta() *diskcache.Meta {
	if o.entry != nil {
		return o.entry.Meta()
	}
	return &o.body.meta
}

// reader reads the object's bytes, whatever holds them.
func (o *object) reader(m *Mount) *body {
	if o.body == nil {
		o.body = &body{m: m, key: o.entry.Key().Name, meta: *o.entry.Meta(), entry: o.entry}
	}
	return o.body
}

// finish ends a response. One that could not be completed must not look as if
// it was: its connection is aborted.
func (m *Mount) finish(ctx context.Context, name string, err error) {
	if err == nil || errors.Is(err, errClient) || ctx.Err() != nil {
		return
	}
	m.metrics.requests[resultAborted].Inc()
	if c := m.log.Check(zap.WarnLevel, "aborting a response that cannot be completed"); c != nil {
		c.Write(zap.String("name", name), zap.Error(err))
	}
	panic(http.ErrAbortHandler)
}
