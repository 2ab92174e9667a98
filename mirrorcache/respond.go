package mirrorcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/diskcache"
	"github.com/unifiedmirrors/mirror/format"
	"github.com/unifiedmirrors/mirror/origin"
)

// Cache-Control by class of response.
const (
	ccImmutable = "public, max-age=31536000, immutable"
	ccVolatile  = "public, max-age=0, must-revalidate"
	ccNegative  = "public, max-age=10"
	ccError     = "no-store"
)

// fields are the header fields of an object that depend on nothing but itself.
// They are empty where it has none.
type fields struct {
	contentType   string
	contentLength string
	etag          string
	lastModified  string
}

// fieldsOf makes the fields of the object that is served under name.
func fieldsOf(meta *diskcache.Meta, name string) *fields {
	f := &fields{contentType: contentType(name), etag: meta.Header["Etag"]}
	if meta.Size >= 0 {
		f.contentLength = strconv.FormatInt(meta.Size, 10)
	}
	if !useless(meta.ModTime) {
		f.lastModified = meta.ModTime.UTC().Format(http.TimeFormat)
	}
	return f
}

// header sets fields whose values lie side by side: one allocation for all of
// them. They are of this response alone, for header directives change values
// in place.
type header struct {
	http.Header
	values []string
}

func newHeader(h http.Header) header { return header{h, make([]string, 0, 8)} }

// set is Set for a canonical name; nothing is set to nothing.
func (h *header) set(name, value string) {
	if value == "" {
		return
	}
	h.values = append(h.values, value)
	n := len(h.values)
	h.Header[name] = h.values[n-1 : n : n]
}

// contentType goes by the name alone: bytes are not looked at.
func contentType(name string) string {
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// respond answers with an object, in full or as the request's conditions and
// ranges have it, and closes it. name is what it is served as; encoding is of
// its bytes, if they are not as name says.
//
// Its error is one that no byte was sent before.
func (m *Mount) respond(w http.ResponseWriter, r *http.Request, o *object, name, encoding string) error {
	defer o.close()
	meta := o.meta()
	if err := o.await(r); err != nil {
		if old, ok := m.instead(r.Context(), o); ok {
			return m.respond(w, r, &old, name, encoding)
		}
		return m.fail(w, r, object{status: statusFailed(err)}, err)
	}
	m.count(r, o.result)
	switch {
	case o.entry != nil:
		o.entry.Hit()
	case o.body.fill != nil:
		o.body.fill.Miss()
	}
	m.setFields(w.Header(), o, meta, name, encoding)
	if meta.Size > caddyhttp.DefaultMaxWriteChunk {
		widen(r)
	}

	switch {
	case meta.Size >= 0 && conditional(r.Header):
		m.respondTo(w, r, o, meta)
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusOK)
	case o.entry != nil && o.entry.Bytes() != nil:
		n, _ := w.Write(o.entry.Bytes())
		m.metrics.fromMemory.Add(float64(n))
	default:
		b := o.reader(m)
		n, err := b.copyTo(r.Context(), w)
		m.metrics.bytes(b).Add(float64(n))
		m.finish(r.Context(), name, err)
	}
	return nil
}

// await waits for the first byte of what the cache has not got: while none has
// come, there is still time for another answer. An old entry is not kept waiting
// for long.
func (o *object) await(r *http.Request) error {
	if o.body == nil || r.Method != http.MethodGet {
		return nil
	}
	ctx := r.Context()
	var err error
	if o.old == nil {
		err = o.body.peek(ctx, 0)
	} else {
		err = o.awaitUntil(ctx, 0)
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
	b := o.body
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- b.peek(ctx, off)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	o.body = nil
	go func() {
		<-done
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

// writeChunk is how much is given to the connection in one call. At 64 KiB,
// Caddy's default, a large response costs about twice the time; at this size a
// client must take 4 KiB/s for Caddy's write timeout, a minute, to be content.
const writeChunk = 256 << 10

// widen lets writes be larger, unless the server is configured otherwise.
func widen(r *http.Request) {
	if _, w := caddyhttp.IdleTimeoutsFromContext(r.Context()); w != nil && w.MaxChunk == caddyhttp.DefaultMaxWriteChunk {
		w.MaxChunk = writeChunk
	}
}

func (o *object) meta() *diskcache.Meta {
	if o.entry != nil {
		return o.entry.Meta()
	}
	return &o.body.meta
}

// reader reads the object's bytes, whatever holds them.
func (o *object) reader(m *Mount) *body {
	if o.body == nil {
		o.body = &body{m: m, name: o.entry.Key().Name, meta: *o.entry.Meta(), entry: o.entry}
	}
	return o.body
}

// setFields sets the response's fields. What the object itself says is kept
// with its entry: the next hit only assigns it.
func (m *Mount) setFields(to http.Header, o *object, meta *diskcache.Meta, name, encoding string) {
	var f *fields
	plain := encoding == "" && o.entry != nil
	if plain {
		f, _ = o.entry.Memo().(*fields)
	}
	if f == nil {
		f = fieldsOf(meta, name)
		if plain {
			o.entry.SetMemo(f)
		}
	}
	h := newHeader(to)
	h.set("Content-Type", f.contentType)
	h.set("Content-Length", f.contentLength)
	h.set("Etag", f.etag)
	h.set("Last-Modified", f.lastModified)
	h.set("Accept-Ranges", "bytes")
	h.set("Cache-Status", o.status)
	h.set("Age", ageValue(o.age))
	if m.format.Class(name) == format.Immutable {
		h.set("Cache-Control", ccImmutable)
	} else {
		h.set("Cache-Control", ccVolatile)
	}
	if encoding == "" {
		return
	}
	to.Set("Content-Encoding", encoding)
	if f.etag != "" {
		// Two representations never share a tag (RFC 9110 section 8.8.3.3). The
		// mark is not "-gzip", which the encode directive takes for its own.
		to.Set("Etag", strings.TrimSuffix(f.etag, `"`)+"."+encoding+`"`)
	}
}

// wholeOrNothing reports whether the answer is the whole or has no body.
func wholeOrNothing(h http.Header) bool {
	return len(h["Range"]) == 0 && len(h["If-Match"]) == 0 && len(h["If-Unmodified-Since"]) == 0
}

// conditional reports whether the request asks for less than the whole.
func conditional(h http.Header) bool {
	for _, field := range [...]string{"Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range"} {
		if len(h[field]) > 0 {
			return true
		}
	}
	return false
}

// respondTo answers a request with conditions or ranges.
func (m *Mount) respondTo(w http.ResponseWriter, r *http.Request, o *object, meta *diskcache.Meta) {
	if o.body != nil && o.body.fill == nil && meta.Validator == "" {
		// What is passed through cannot be opened twice with certainty: the
		// client gets all of it (RFC 9110 section 14.2).
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	// ServeContent sets the length of what it sends, but where that is encoded;
	// then it must be right in case all is sent.
	if w.Header().Get("Content-Encoding") == "" || !wholeOrNothing(r.Header) {
		w.Header().Del("Content-Length")
	}
	mod := meta.ModTime
	if useless(mod) {
		mod = time.Time{}
	}
	b := o.reader(m)
	s := &seeker{ctx: r.Context(), b: b}
	cw := &countingWriter{ResponseWriter: w}
	http.ServeContent(cw, r, "", mod, s)
	err := s.end()
	m.metrics.bytes(b).Add(float64(cw.n))
	m.finish(r.Context(), b.name, err)
}

// countingWriter counts the bytes of a body.
type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

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

func ageValue(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
