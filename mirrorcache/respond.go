package mirrorcache

import (
	"context"
	"errors"
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
)

// Cache-Control by class of response. Field values are whole slices, so that
// the hit path makes none; nobody changes a slice in a header in place.
var (
	ccImmutable = []string{"public, max-age=31536000, immutable"}
	ccVolatile  = []string{"public, max-age=0, must-revalidate"}
	ccNegative  = []string{"public, max-age=10"}
	ccError     = []string{"no-store"}
	acceptBytes = []string{"bytes"}
)

// fields are the header fields of an object that do not depend on the request.
type fields struct {
	contentType   []string
	contentLength []string // nil if the size is not known
	etag          []string
	lastModified  []string
	cacheControl  []string
}

// fieldsOf makes the fields of the object that is served under name.
func (m *Mount) fieldsOf(meta *diskcache.Meta, name string) *fields {
	f := &fields{contentType: []string{contentType(name)}, cacheControl: ccVolatile}
	if meta.Size >= 0 {
		f.contentLength = []string{strconv.FormatInt(meta.Size, 10)}
	}
	if etag := meta.Header["Etag"]; etag != "" {
		f.etag = []string{etag}
	}
	if !useless(meta.ModTime) {
		f.lastModified = []string{meta.ModTime.UTC().Format(http.TimeFormat)}
	}
	if m.format.Class(name) == format.Immutable {
		f.cacheControl = ccImmutable
	}
	return f
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
		return m.fail(w, r, object{status: statusFailed(err)}, err)
	}
	m.count(r, o.result)
	h := w.Header()
	m.setFields(h, o, meta, name, encoding)
	h["Cache-Status"] = o.status
	h["Age"] = ageValue(o.age)
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

// await waits for the first byte of a fill: while none has come, there is
// still time for another answer.
func (o *object) await(r *http.Request) error {
	if o.body == nil || o.body.fill == nil || r.Method != http.MethodGet || conditional(r.Header) {
		return nil
	}
	var p [1]byte
	_, err := o.body.readAt(r.Context(), p[:], 0)
	if err != io.EOF && r.Context().Err() == nil {
		return err
	}
	return nil
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

// setFields sets what the object and its name say. They are kept with an
// entry: the next hit only assigns them.
func (m *Mount) setFields(h http.Header, o *object, meta *diskcache.Meta, name, encoding string) {
	var f *fields
	plain := encoding == "" && o.entry != nil
	if plain {
		f, _ = o.entry.Memo().(*fields)
	}
	if f == nil {
		f = m.fieldsOf(meta, name)
		if plain {
			o.entry.SetMemo(f)
		}
	}
	h["Content-Type"] = f.contentType
	h["Accept-Ranges"] = acceptBytes
	h["Cache-Control"] = f.cacheControl
	if f.contentLength != nil {
		h["Content-Length"] = f.contentLength
	}
	if f.etag != nil {
		h["Etag"] = f.etag
	}
	if f.lastModified != nil {
		h["Last-Modified"] = f.lastModified
	}
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
		if f.etag != nil {
			// Two representations never share a tag (RFC 9110 section 8.8.3.3).
			h.Set("Etag", strings.TrimSuffix(f.etag[0], `"`)+"-"+encoding+`"`)
		}
	}
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
	// ServeContent knows the length of what it sends.
	w.Header().Del("Content-Length")
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

// ageValues are the values of Age that most hits have.
var ageValues = func() (v [600][]string) {
	for n := range v {
		v[n] = []string{strconv.Itoa(n)}
	}
	return v
}()

func ageValue(d time.Duration) []string {
	n := int(d / time.Second)
	if n < len(ageValues) {
		return ageValues[n]
	}
	return []string{strconv.Itoa(n)}
}
