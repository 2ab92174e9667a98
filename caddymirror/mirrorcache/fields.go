package mirrorcache

import (
	"cmp"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
)

// Cache-Control by class of response.
const (
	ccImmutable = "public, max-age=31536000, immutable"
	ccVolatile  = "public, max-age=0, must-revalidate"
	ccNegative  = "public, max-age=10"
	ccError     = "no-store"
)

// fields are the header fields of an object that depend on nothing but itself
// and its encoding. They are empty where it has none.
type fields struct {
	mediaType       string // of the representation
	contentType     string
	contentEncoding string
	contentLength   string
	etag            string
	lastModified    string
	date            string // only if it must be the same as lastModified
	modified        time.Time
	more            []field // read out of the object, or of a response

	// Of a response only.
	mount        uint64 // whose configuration they go by
	response     bool
	status       int
	cacheControl string   // empty: by class
	behind       []string // Cache-Status of the caches behind this one (RFC 9211 section 2)
	life         freshness.Freshness
}

type field struct {
	name  string
	lines []string
}

// representation is what an object is served as (RFC 9110 section 3.2).
type representation struct {
	name      string // of what was asked for
	encoding  string // of the bytes, if they are not as name says
	mediaType string // if it does not go by name
	decoded   bool   // without the Content-Encoding that it is stored in
}

// fieldsOf makes the fields of a representation of an object that was current at a moment.
func (m *Mount) fieldsOf(meta *diskcache.Meta, at time.Time, as representation) *fields {
	if meta.Get(noteWeb) != "" {
		return m.responseFields(meta, at, as)
	}
	f := &fields{
		mediaType: as.mediaType, contentType: cmp.Or(as.mediaType, contentType(as.name)),
		contentEncoding: as.encoding, etag: meta.Get("Etag"), more: readOut(meta),
	}
	if meta.Size >= 0 {
		f.contentLength = strconv.FormatInt(meta.Size, 10)
	}
	// Two representations never share a tag (RFC 9110 section 8.8.3.3). The mark of
	// an encoding is not "-gzip", which the encode directive takes for its own.
	f.etag = markTag(f.etag, as.encoding)
	mediaType, _, _ := strings.Cut(as.mediaType, ";")
	f.etag = markTag(f.etag, strings.TrimSpace(mediaType))
	f.setModified(meta.ModTime)
	return f
}

func (f *fields) setModified(t time.Time) {
	if useless(t) {
		return
	}
	f.modified = t
	now := time.Now()
	future := f.modified.After(now)
	if future {
		f.modified = now // RFC 9110 section 8.8.2.1
	}
	f.lastModified = f.modified.UTC().Format(http.TimeFormat)
	if future {
		f.date = f.lastModified
	}
}

// markTag adds a mark to an entity tag, if there are both.
func markTag(etag, mark string) string {
	if etag == "" || mark == "" {
		return etag
	}
	return strings.TrimSuffix(etag, `"`) + "." + mark + `"`
}

// fields are those of an object. They are kept with its entry: the next hit only
// assigns them.
func (m *Mount) fields(o *object, as representation) *fields {
	if o.entry != nil {
		return m.entryFields(o.entry, as)
	}
	return m.fieldsOf(o.meta(), time.Now(), as)
}

func (m *Mount) entryFields(e *diskcache.Entry, as representation) *fields {
	plain, now := as.encoding == "" && !as.decoded, e.Current()
	if plain {
		if f, ok := now.Memo().(*fields); ok && f.mediaType == as.mediaType && (!f.response || f.mount == m.serial) {
			return f
		}
	}
	f := m.fieldsOf(now.Meta, now.Fresh.At, as)
	if plain && f.date == "" {
		now.SetMemo(f)
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

func newHeader(h http.Header, fields int) header { return header{h, make([]string, 0, fields)} }

// set is Set for a canonical name; nothing is set to nothing.
func (h *header) set(name, value string) {
	if value != "" {
		h.setLines(name, value)
	}
}

// setLines is set for a field of several lines.
func (h *header) setLines(name string, lines ...string) {
	from := len(h.values)
	h.values = append(h.values, lines...)
	n := len(h.values)
	h.Header[name] = h.values[from:n:n]
}

// contentType goes by the name alone: bytes are not looked at.
func contentType(name string) string {
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// setFields sets the response's fields.
func (m *Mount) setFields(to http.Header, o *object, f *fields, class format.Class) {
	n := 8 + len(f.behind)
	for _, more := range f.more {
		n += len(more.lines)
	}
	h := newHeader(to, n)
	h.set("Content-Type", f.contentType)
	if f.contentType == "" {
		to["Content-Type"] = nil // or net/http would guess, by a part of it even
	}
	h.set("Content-Encoding", f.contentEncoding)
	h.set("Content-Length", f.contentLength)
	h.set("Etag", f.etag)
	h.set("Last-Modified", f.lastModified)
	h.set("Date", f.date)
	for _, more := range f.more {
		h.setLines(more.name, more.lines...)
	}
	if f.contentLength != "" && f.ok() {
		h.set("Accept-Ranges", "bytes")
	}
	if len(f.behind) == 0 {
		h.set("Cache-Status", o.status)
	} else {
		h.setLines("Cache-Status", append(slices.Clip(f.behind), o.status)...)
	}
	if f.response && o.entry == nil {
		o.age = f.life.Age(time.Now())
	}
	h.set("Age", ageValue(o.age))
	switch {
	case f.cacheControl != "":
		h.set("Cache-Control", f.cacheControl)
	case f.response: // as it came
	case class == format.Immutable:
		h.set("Cache-Control", ccImmutable)
	default:
		h.set("Cache-Control", ccVolatile)
	}
}

// drop takes fields out that do not belong to a response without the object.
func drop(h http.Header, names ...string) {
	for _, name := range names {
		delete(h, name)
	}
}

func ageValue(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
