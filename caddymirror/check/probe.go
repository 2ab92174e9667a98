package check

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
)

// probe asks for an object in all the ways in which clients do.
func (l *mountLook) probe(ctx context.Context, f *fetched) {
	p := prober{l, ctx, f}
	if !p.again() { // what follows would tell of the same
		return
	}
	p.head()
	etag, date := f.header.Get("Etag"), f.header.Get("Last-Modified")
	if etag == "" && date == "" {
		if !f.generated {
			p.fault(Validator, "has neither an ETag nor a Last-Modified: clients and caches must fetch all of it each time")
		}
	} else {
		p.conditions(etag, date)
	}
	if !f.generated && f.size > 0 {
		p.ranges(etag)
	}
}

type prober struct {
	*mountLook
	ctx context.Context
	f   *fetched
}

func (p *prober) fault(a Aspect, format string, args ...any) {
	p.mountLook.fault(a, p.f.at, format, args...)
}

func (p *prober) failed(a Aspect, err error) { p.mountLook.failed(p.ctx, a, p.f.at, err) }

// ask asks for the object with more fields: their names, each with its value behind it.
func (p *prober) ask(method string, fields ...string) (*answer, error) {
	header := p.f.request.Clone()
	if header == nil {
		header = http.Header{}
	}
	for pair := range slices.Chunk(fields, 2) {
		header.Set(pair[0], pair[1])
	}
	return p.c.ask(p.ctx, method, p.f.at, header)
}

// tries is how often an object is asked for again until it comes from the cache: an answer
// may be complete just before it is in there.
const tries = 4

// again fetches the object again: it is the same, with the same validators, and comes from
// the cache. It reports whether the object is the same.
func (p *prober) again() bool {
	var status freshness.CacheStatus
	var told bool
	for try := range tries {
		if try > 0 {
			select {
			case <-time.After(time.Duration(try) * 200 * time.Millisecond):
			case <-p.ctx.Done():
				return false
			}
		}
		var part []string
		if p.f.size > large && len(p.f.window.kept) > 0 {
			part = []string{"Range", p.f.window.spec()}
		}
		a, err := p.ask(http.MethodGet, part...)
		if err != nil {
			p.failed(p.f.aspect, err)
			return false
		}
		var same bool
		if part != nil && a.StatusCode == http.StatusPartialContent {
			same = p.sameValidator(Validator, "Etag", a, "in the answer to a Range") // ranges tells of the bytes
		} else {
			same = p.same(a)
		}
		status, told = cacheStatus(a.Header)
		a.close()
		if !same {
			return false
		}
		if !told || isHit(status) {
			break
		}
	}
	switch {
	case !told:
		p.noteOnce(Cache, p.f.at, "has no Cache-Status of this mirror: whether it comes from a cache is not known")
	case status.Detail == "origin-away", strings.HasPrefix(status.Detail, "origin-status-"):
		p.note(Cache, p.f.at, "comes from the cache, and the origin is away: Cache-Status: %s", status)
	case isHit(status):
	case status.Detail == "unfinished":
		p.note(Cache, p.f.at, "is not cached until all that it lists is read")
	case status.Fwd == freshness.FwdBypass && p.f.size > 1<<30:
		p.note(Cache, p.f.at, "is not cached; it may be larger than max_object")
	default:
		p.fault(Cache, "does not come from the cache, also when it is asked for again: Cache-Status: %s", status)
	}
	return true
}

// same reports whether a second answer is the first one, and notes it if not.
func (p *prober) same(a *answer) bool {
	if a.StatusCode != http.StatusOK {
		p.fault(p.f.aspect, "%s, when it is asked for again", statusError(a.StatusCode))
		return false
	}
	h := digest.NewHash(p.f.sum.Kind)
	n, err := io.Copy(h, &bounded.Reader{R: a.body, Left: p.f.size + 1, Err: fmt.Errorf("has more than %d bytes, when it is asked for again", p.f.size)})
	if err != nil {
		p.failed(p.f.aspect, err)
		return false
	}
	if sum := sumOf(p.f.sum.Kind, h); sum != p.f.sum {
		if !p.f.generated { // a page may have changed
			p.fault(p.f.aspect, "has other bytes when it is asked for again: %d, once it had %d", n, p.f.size)
		}
		return false
	}
	return p.sameValidators(Validator, a, "when it is asked for again")
}

// sameValidators notes validators that are not those of the first answer.
func (p *prober) sameValidators(as Aspect, a *answer, when string) bool {
	return p.sameValidator(as, "Etag", a, when) && p.sameValidator(as, "Last-Modified", a, when)
}

func (p *prober) sameValidator(as Aspect, name string, a *answer, when string) bool {
	was, is := p.f.header.Get(name), a.Header.Get(name)
	if was == is || was == "" { // a cache may know it only once it has the whole
		return true
	}
	p.fault(as, "has %s %q %s, and had %q, though the bytes are the same", label(name), is, when, was)
	return false
}

func label(name string) string {
	if name == "Etag" {
		return "ETag"
	}
	return name
}

// head asks for the header alone.
func (p *prober) head() {
	a, err := p.ask(http.MethodHead)
	if err != nil {
		p.failed(Head, err)
		return
	}
	defer a.close()
	switch {
	case a.StatusCode != http.StatusOK:
		p.fault(Head, "HEAD %s, GET is not", statusError(a.StatusCode))
	case a.ContentLength >= 0 && a.ContentLength != p.f.size:
		p.fault(Head, "has Content-Length %d in the answer to HEAD, and %d bytes", a.ContentLength, p.f.size)
	case a.Header.Get("Content-Type") != p.f.header.Get("Content-Type"):
		p.fault(Head, "has Content-Type %q in the answer to HEAD, and %q in that to GET", a.Header.Get("Content-Type"), p.f.header.Get("Content-Type"))
	default:
		p.sameValidators(Head, a, "in the answer to HEAD")
	}
}

// noSuchTag is an ETag that no object has.
const noSuchTag = `"caddy-mirror-check"`

// conditions makes requests for what has changed only (RFC 9110 section 13.1).
func (p *prober) conditions(etag, date string) {
	p.condition("If-None-Match", etag, http.StatusNotModified)
	p.condition("If-Modified-Since", date, http.StatusNotModified)
	if etag != "" {
		p.condition("If-None-Match", noSuchTag, http.StatusOK)
	}
	if t, err := http.ParseTime(date); err == nil && t.Unix() > 1<<20 {
		p.condition("If-Modified-Since", t.Add(-time.Hour).UTC().Format(http.TimeFormat), http.StatusOK)
	}
}

func (p *prober) condition(name, value string, want int) {
	if value == "" {
		return
	}
	a, err := p.ask(http.MethodGet, name, value)
	if err != nil {
		p.failed(Condition, err)
		return
	}
	defer a.close()
	if a.StatusCode != want {
		p.fault(Condition, "%s to %s: %s; it should be %d", statusError(a.StatusCode), name, value, want)
	}
}

// ranges asks for parts (RFC 9110 section 14).
func (p *prober) ranges(etag string) {
	w, size := p.f.window.kept, p.f.size
	first := p.f.window.from
	whole := p.f.window.spec()
	ok := len(w) == 0 || p.part(whole, "", first, w)
	if ok {
		t := p.f.tail.kept
		ok = p.part(fmt.Sprintf("bytes=-%d", len(t)), "", size-int64(len(t)), t)
	}
	if ok {
		p.unsatisfied()
	}
	if strong := etag != "" && !strings.HasPrefix(etag, "W/"); ok && strong && len(w) > 0 {
		// A download that goes on.
		if p.part(whole, etag, first, w) {
			p.ifRange(whole)
		}
	}
}

// part asks for a part, of the version ifRange if that is not empty, and compares it.
func (p *prober) part(spec, ifRange string, first int64, want []byte) bool {
	fields, with := []string{"Range", spec}, "Range: "+spec
	if ifRange != "" {
		fields = append(fields, "If-Range", ifRange)
		with += " with If-Range: " + ifRange
	}
	a, err := p.ask(http.MethodGet, fields...)
	if err != nil {
		p.failed(Range, err)
		return false
	}
	defer a.close()
	if a.StatusCode != http.StatusPartialContent {
		p.fault(Range, "%s to %s; it should be 206", statusError(a.StatusCode), with)
		return false
	}
	should := fmt.Sprintf("bytes %d-%d/%d", first, first+int64(len(want))-1, p.f.size)
	is := a.Header.Get("Content-Range")
	if is != should && is != strings.TrimSuffix(should, fmt.Sprint(p.f.size))+"*" {
		p.fault(Range, "has Content-Range %q in the answer to %s; it should be %q", is, with, should)
		return false
	}
	// What a part has to say of its version, it may leave out in the answer to If-Range.
	if a.Header.Get("Etag") != "" && !p.sameValidator(Range, "Etag", a, "in the answer to "+with) {
		return false
	}
	got, err := io.ReadAll(io.LimitReader(a.body, int64(len(want))+1))
	if err != nil {
		p.failed(Range, err)
		return false
	}
	if !bytes.Equal(got, want) {
		p.fault(Range, "has other bytes in the answer to %s than as a whole", with)
		return false
	}
	return true
}

// unsatisfied asks for what is behind the end.
func (p *prober) unsatisfied() {
	a, err := p.ask(http.MethodGet, "Range", fmt.Sprintf("bytes=%d-", p.f.size))
	if err != nil {
		p.failed(Range, err)
		return
	}
	defer a.close()
	if a.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		p.fault(Range, "%s to Range: bytes=%d-, which is behind its end; it should be 416", statusError(a.StatusCode), p.f.size)
	}
}

// ifRange asks for a part of another version: the whole is to come.
func (p *prober) ifRange(spec string) {
	a, err := p.ask(http.MethodGet, "Range", spec, "If-Range", noSuchTag)
	if err != nil {
		p.failed(Range, err)
		return
	}
	defer a.close()
	if a.StatusCode != http.StatusOK {
		p.fault(Range, "%s to a Range with If-Range: %s, of another version; it should be 200, or downloads that go on mix versions", statusError(a.StatusCode), noSuchTag)
	}
}

// cacheName is what this mirror is called in Cache-Status (RFC 9211).
const cacheName = "mirror"

// cacheStatus returns what the cache of this mirror says, that of the one next to us if
// there are several; told is false if there is none.
func cacheStatus(h http.Header) (status freshness.CacheStatus, told bool) {
	for _, line := range h["Cache-Status"] {
		members, err := freshness.ParseCacheStatus([]string{line})
		if err != nil {
			continue // of another cache: what ours says stands in a line of its own
		}
		for _, member := range members {
			if member.Cache == cacheName {
				status, told = member, true
			}
		}
	}
	return status, told
}

// isHit reports whether a Cache-Status says that the bytes came from the cache, be it after
// the origin was asked for something newer.
func isHit(status freshness.CacheStatus) bool {
	return status.Hit || status.FwdStatus == http.StatusNotModified
}
