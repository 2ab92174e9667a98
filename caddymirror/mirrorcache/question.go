package mirrorcache

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// question is what a request asks of a mount.
type question struct {
	name string         // of the object, as the format and patterns know it
	key  string         // of its entry: the name, or what an upstream is asked for, and which variant
	ask  origin.Request // how the origin is asked
	head bool
	part bool // a range is wanted

	again bool // a part of it was asked for not long ago

	since time.Time // when it was asked whether an entry is current

	header http.Header // of the request, nil if there is none: to be read only before that has ended
	// Of the request, to an upstream.
	cacheControl, pragma []string
}

// treeQuestion is that of a file of a tree.
func treeQuestion(r *http.Request, name string) question {
	return question{name: name, key: name, ask: origin.Request{Name: name}, head: r.Method == http.MethodHead, header: r.Header}
}

// acceptEncoding is what upstreams are asked for if the format does not say, whatever
// clients accept: so there is one entry for all of them, and those that do not take it have
// it decoded.
const acceptEncoding = "gzip"

// maxAccept bounds the Accept that is passed on, in bytes.
const maxAccept = 1 << 10

// maxTarget bounds what an upstream is asked for, path and query, in bytes: it is a key in
// memory and on the disk. RFC 9110 section 4.1 wants at least 8000 to be taken.
const maxTarget = 8 << 10

// webQuestion is that of an HTTP upstream. rest is the cleaned path below the mount. It
// reports false if the path has dot elements, which upstreams understand in their own ways.
func (m *Mount) webQuestion(r *http.Request, rest string) (question, bool) {
	raw, ok := rawBelow(r.URL, rest)
	if !ok {
		return question{}, false
	}
	q := question{
		name: strings.TrimPrefix(rest, "/"), head: r.Method == http.MethodHead, part: len(r.Header["Range"]) > 0, header: r.Header,
		cacheControl: r.Header["Cache-Control"], pragma: r.Header["Pragma"],
	}
	q.ask = origin.Request{Name: raw, Accept: strings.Join(r.Header["Accept"], ", "), Via: r.Header["Via"]}
	if len(q.ask.Accept) > maxAccept {
		q.ask.Accept = ""
	}
	q.ask.Accept, q.ask.AcceptEncoding = m.asks.of(q.name, q.ask.Accept)
	q.key = raw
	if r.URL.RawQuery != "" {
		q.ask.Name += "?" + r.URL.RawQuery
		if !matchAny(m.IgnoreQuery, q.name) {
			q.key = q.ask.Name
		}
	}
	if m.PassAuthorization {
		q.ask.Authorization = r.Header.Get("Authorization")
	}
	return q, true
}

// rawBelow is what a client has sent of the path below a mount, without a slash in front.
// rest is the same, decoded and cleaned.
func rawBelow(u *url.URL, rest string) (raw string, ok bool) {
	raw = u.EscapedPath()
	for n := elements(cleanPath(u.Path)) - elements(rest); n > 0; n-- {
		raw = strings.TrimLeft(raw, "/")
		if at := strings.IndexByte(raw, '/'); at >= 0 {
			raw = raw[at:]
		} else {
			raw = ""
		}
	}
	raw = strings.TrimPrefix(raw, "/")
	if !strings.Contains(raw, ".") && !strings.Contains(raw, "%2") {
		return raw, true
	}
	for element := range strings.SplitSeq(raw, "/") {
		if len(element) > len("%2e%2e") {
			continue
		}
		if plain, err := url.PathUnescape(element); err != nil || plain == "." || plain == ".." {
			return "", false
		}
	}
	return raw, true
}

// elements is how many elements a clean path has.
func elements(p string) int {
	p = strings.Trim(p, "/")
	if p == "" {
		return 0
	}
	return strings.Count(p, "/") + 1
}

// sent are the request fields that the answer of an upstream may depend on: of all others
// none is sent.
func (q *question) sent() http.Header {
	h := http.Header{"Accept-Encoding": {q.ask.AcceptEncoding}}
	if q.ask.Accept != "" {
		h["Accept"] = []string{q.ask.Accept}
	}
	if q.ask.Authorization != "" { // it may become part of a key: as a digest, no secret is on disk
		h["Authorization"] = []string{fmt.Sprintf("%x", sha256.Sum256([]byte(q.ask.Authorization)))}
	}
	return h
}

// rules is the request as the rules of caching see it.
func (q *question) rules() freshness.Request {
	h := q.sent()
	if len(q.cacheControl) > 0 {
		h["Cache-Control"] = q.cacheControl
	}
	if len(q.pragma) > 0 {
		h["Pragma"] = q.pragma
	}
	return freshness.Request{Method: http.MethodGet, Header: h}
}

// variantMark stands between what is asked for and the variant, in keys.
const variantMark = "\x00"

// get finds the entry that answers a question. Of several variants (RFC 9111 section 4.1)
// the first one has the plain key, and tells which fields the others depend on: q.key is
// the key of the variant afterwards.
func (m *Mount) get(c *diskcache.Cache, q *question) (*diskcache.Entry, bool) {
	e, ok := c.Get(m.key(q.key))
	if !ok || !m.web {
		return e, ok
	}
	meta := e.Meta()
	if answers(meta, q) {
		return e, true
	}
	e.Close()
	q.key = q.variantKey(meta)
	e, ok = c.Get(m.key(q.key))
	if ok && !answers(e.Meta(), q) {
		e.Close()
		return nil, false
	}
	return e, ok
}

// answers reports whether a response answers a question, and not only another of the same
// name.
func answers(meta *diskcache.Meta, q *question) bool {
	fields := meta.Header[noteVary]
	if len(fields) == 0 {
		return true
	}
	sameAccept := q.ask.Accept == meta.Get(noteAccept) || !slices.Contains(fields, "accept")
	if sameAccept && !slices.Contains(fields, "authorization") {
		return true // nothing else differs: the encoding goes by the name
	}
	return meta.Get(noteVariant) == freshness.VariantKey(fields, q.sent())
}

// variantKey is the key of the variant that answers a question, by the fields that the first
// one depends on. It goes with that: once the first one is another, so are all.
func (q *question) variantKey(first *diskcache.Meta) string {
	base, _, _ := strings.Cut(q.key, variantMark)
	return base + variantMark + first.Get(noteSeries) + variantMark + freshness.VariantKey(first.Header[noteVary], q.sent())
}

// keepSeries has the other variants stay when the first one is replaced: they may be stale,
// and still better than nothing. When it was taken out, they go with it.
func (m *Mount) keepSeries(key string, meta *diskcache.Meta) {
	c := m.cache.Open()
	if c == nil || len(meta.Header[noteVary]) == 0 {
		return
	}
	e, ok := c.Get(m.key(key))
	if !ok {
		return
	}
	defer e.Close()
	if was := e.Meta(); slices.Equal(was.Header[noteVary], meta.Header[noteVary]) {
		meta.Header[noteSeries] = was.Header[noteSeries]
	}
}

// again is how an upstream is asked for what an entry is of, by somebody with this Authorization.
func (m *Mount) again(key string, meta *diskcache.Meta, authorization string) origin.Request {
	name, _, _ := strings.Cut(key, variantMark)
	if asked := meta.Get(noteAsked); asked != "" {
		name = asked
	}
	_, encoding := m.asks.of(m.nameOf(key), "")
	return origin.Request{Name: name, Accept: meta.Get(noteAccept), AcceptEncoding: encoding, Authorization: authorization}
}

// nameOf is the name that the format knows an entry's object by.
func (m *Mount) nameOf(key string) string {
	if !m.web {
		return key
	}
	name, _, _ := strings.Cut(key, variantMark)
	name, _, _ = strings.Cut(name, "?")
	if plain, err := url.PathUnescape(name); err == nil {
		name = plain
	}
	return strings.TrimPrefix(cleanPath(name), "/")
}
