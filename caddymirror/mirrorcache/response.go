package mirrorcache

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

// ok reports whether conditions and ranges are about the representation (RFC 9110 section
// 13.2.1).
func (f *fields) ok() bool { return !f.response || f.status == http.StatusOK }

// result is what a request with such an answer counts for.
func (f *fields) result(r result) result {
	if f.response && (f.status == http.StatusNotFound || f.status == http.StatusGone) {
		return resultNotFound
	}
	return r
}

// responseFields are those of a response of an upstream: its own, with the lifetime that
// the mount gives it.
func (m *Mount) responseFields(meta *diskcache.Meta, at time.Time, as representation) *fields {
	resp := stored(meta, at)
	f := &fields{mount: m.serial, response: true, status: resp.Status, life: m.life(as.name, resp), etag: meta.Get("Etag")}
	if resp.Header["Content-Type"] != nil {
		f.contentType = meta.Get("Content-Type")
	}
	f.contentEncoding = strings.Join(meta.Header["Content-Encoding"], ", ")
	if meta.Size >= 0 {
		f.contentLength = strconv.FormatInt(meta.Size, 10)
	}
	if as.decoded {
		f.contentEncoding, f.contentLength = "", ""
		f.etag = markTag(f.etag, "identity")
	}
	f.setModified(meta.ModTime)
	f.date = "" // that of the response is sent
	f.behind = resp.Header["Cache-Status"]
	if d := m.policy(as.name).Directives(resp.Header); m.lifetimes.mirror && !d.NoStore && !d.Private && meta.Get(noteUser) == "" {
		f.cacheControl = ccVolatile
		switch {
		case !f.ok():
			f.cacheControl = ccNegative
		case m.format.Class(as.name) == format.Immutable:
			f.cacheControl = ccImmutable
		}
	}
	for _, name := range sortedNames(resp.Header) {
		switch {
		case slices.Contains(ownFields, name), f.cacheControl != "" && slices.Contains(lifetimeFields, name):
			continue
		}
		f.more = append(f.more, field{name, resp.Header[name]})
	}
	if f.contentEncoding != "" || as.decoded {
		f.addVary("Accept-Encoding")
	}
	return f
}

// ownFields are set by fields themselves, lifetimeFields give way to what the mount says.
var (
	ownFields      = []string{"Content-Type", "Content-Encoding", "Content-Length", "Etag", "Last-Modified", "Accept-Ranges", "Age", "Cache-Status"}
	lifetimeFields = []string{"Cache-Control", "Expires", "Pragma", "Cdn-Cache-Control"}
)

func sortedNames(h http.Header) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (f *fields) addVary(name string) {
	for i := range f.more {
		if f.more[i].name != "Vary" {
			continue
		}
		if !strings.Contains(strings.ToLower(strings.Join(f.more[i].lines, ",")), strings.ToLower(name)) {
			f.more[i].lines = append(slices.Clone(f.more[i].lines), name)
		}
		return
	}
	f.more = append(f.more, field{"Vary", []string{name}})
}

// mustDecode reports whether a client does not take the encoding that a response is stored
// in.
func mustDecode(r *http.Request, f *fields) bool {
	if !f.response || f.contentEncoding == "" {
		return false
	}
	coding := strings.TrimPrefix(strings.ToLower(f.contentEncoding), "x-")
	return (coding == "gzip" || coding == "zstd") && !slices.Contains(encode.AcceptedEncodings(r, nil), coding)
}

// What an encoded body may become, in bytes: so much, or so many times what it is, and no
// more than maxDecoded.
const (
	minDecoded = 16 << 20
	maxRatio   = 200
	maxDecoded = 1 << 30
)

// sendDecoded sends a body without its encoding.
func (m *Mount) sendDecoded(w http.ResponseWriter, r *http.Request, o *object) {
	b := o.reader(m)
	pr, pw := io.Pipe()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		var err error
		defer func() { pw.CloseWithError(err) }()
		defer origin.Recover(m.log, "read", &err)
		_, err = b.copyRange(r.Context(), pw, 0, -1)
	}()
	sent, err := func() (int64, error) {
		defer func() { // after a panic, too
			pr.CloseWithError(io.ErrClosedPipe)
			<-copied
		}()
		return decode(&client{w: w, r: r}, pr, &b.meta)
	}()
	m.metrics.bytes(b).Add(float64(sent))
	if errors.Is(err, upstream.ErrLying) {
		m.discard(b)
	}
	m.finish(r.Context(), b.key, err)
}

// discard takes out of the cache what a body is read from: it is not what it says.
func (m *Mount) discard(b *body) {
	if b.fill != nil {
		b.fill.Discard()
	}
	m.remove(b.key)
}

// remove takes an entry out of the cache.
func (m *Mount) remove(key string) {
	c := m.cache.Open()
	if c == nil {
		return
	}
	if e, ok := c.Get(m.key(key)); ok {
		e.Remove()
		e.Close()
	}
}

func decode(w io.Writer, from io.Reader, meta *diskcache.Meta) (int64, error) {
	limit := int64(maxDecoded)
	if meta.Size >= 0 {
		limit = min(limit, minDecoded+maxRatio*meta.Size)
	}
	plain, err := upstream.Decode(from, strings.Join(meta.Header["Content-Encoding"], ", "), limit)
	if err != nil {
		return 0, err
	}
	defer plain.Close()
	return io.Copy(w, plain)
}
