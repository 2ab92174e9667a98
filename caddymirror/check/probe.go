package check

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

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

// ask asks for the object with one more field.
func (p *prober) ask(method, name, value string) (*answer, error) {
	header := p.f.request.Clone()
	if header == nil {
		header = http.Header{}
	}
	if name != "" {
		header.Set(name, value)
	}
	return p.c.ask(p.ctx, method, p.f.at, header)
}

// tries is how often an object is asked for again until it comes from the cache: an answer
// may be complete just before it is in there.
const tries = 4

// again fetches the object again: it is the same, with the same validators, and comes from
// the cache. It reports whether the object is the same.
func (p *prober) again() bool {
	var status string
	for try := range tries {
		if try > 0 {
			select {
			case <-time.After(time.Duration(try) * 200 * time.Millisecond):
			case <-p.ctx.Done():
				return false
			}
		}
		name, value := "", ""
		if p.f.size > large && len(p.f.window.kept) > 0 {
			name, value = "Range", p.f.window.spec()
		}
		a, err := p.ask(http.MethodGet, name, value)
		if err != nil {
			p.failed(p.f.aspect, err)
			return false
		}
		var same bool
		if name != "" && a.StatusCode == http.StatusPartialContent {
			same = p.sameValidator(Validator, "Etag", a, "in the answer to a Range") // ranges tells of the bytes
		} else {
			same = p.same(a)
		}
		status = cacheStatus(a.Header)
		a.close()
		if !same {
			return false
		}
		if status == "" || isHit(status) {
			break
		}
	}
	switch {
	case status == "":
		p.noteOnce(Cache, p.f.at, "has no Cache-Status of this mirror: whether it comes from a cache is not known")
	case strings.Contains(status, "origin-away"):
		p.note(Cache, p.f.at, "comes from the cache, and the origin is away: Cache-Status: %s", status)
	case isHit(status):
	case strings.Contains(status, "detail=unfinished"):
		p.note(Cache, p.f.at, "is not cached until all that it lists is read")
	case strings.Contains(status, "fwd=bypass") && p.f.size > 1<<30:
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
	a, err := p.ask(http.MethodHead, "", "")
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
	ok := len(w) == 0 || p.part(whole, nil, first, w)
	if ok {
		t := p.f.tail.kept
		ok = p.part(fmt.Sprintf("bytes=-%d", len(t)), nil, size-int64(len(t)), t)
	}
	if ok {
		p.unsatisfied()
	}
	if strong := etag != "" && !strings.HasPrefix(etag, "W/"); ok && strong && len(w) > 0 {
		// A download that goes on.
		if p.part(whole, []string{etag}, first, w) {
			p.ifRange(whole)
		}
	}
}

// part asks for a part, and compares it.
func (p *prober) part(spec string, ifRange []string, first int64, want []byte) bool {
	header := p.f.request.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Range", spec)
	with := "Range: " + spec
	if ifRange != nil {
		header["If-Range"] = ifRange
		with += " with If-Range: " + ifRange[0]
	}
	a, err := p.c.ask(p.ctx, http.MethodGet, p.f.at, header)
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
	header := p.f.request.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Range", spec)
	header.Set("If-Range", noSuchTag)
	a, err := p.c.ask(p.ctx, http.MethodGet, p.f.at, header)
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
// there are several; "" if there is none.
func cacheStatus(h http.Header) string {
	status := ""
	for _, line := range h["Cache-Status"] {
		for _, member := range members(line) {
			name, _, _ := strings.Cut(member, ";")
			if strings.TrimSpace(name) == cacheName {
				status = member
			}
		}
	}
	return status
}

// members splits a list of structured fields (RFC 9651) at its commas, but those in strings.
func members(line string) []string {
	var all []string
	quoted, start := false, 0
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			all = append(all, strings.TrimSpace(line[start:i]))
			start = i + 1
		}
	}
	return append(all, strings.TrimSpace(line[start:]))
}

// isHit reports whether a Cache-Status says that the bytes came from the cache, be it after
// the origin was asked for something newer.
func isHit(status string) bool {
	revalidated := false
	for i, p := range strings.Split(status, ";") {
		switch p = strings.TrimSpace(p); {
		case i > 0 && p == "hit":
			return true
		case p == "fwd-status=304":
			revalidated = true
		}
	}
	return revalidated
}
