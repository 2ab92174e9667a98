package mirrorcache

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

// Of a response of an upstream, its header fields are kept, and notes, which are not
// served. A note has a colon in front.
const (
	noteStatus  = ":status"  // absent: 200
	noteVary    = ":vary"    // the request fields that the response depends on
	noteVariant = ":variant" // what the request said in these
	noteSeries  = ":series"  // of the first of several variants: what the keys of the others hold
	noteAccept  = ":accept"  // of the request
	noteAsked   = ":asked"   // what the upstream was asked for, if not what the key says
	noteDelay   = ":delay"   // how long the upstream took to answer, in milliseconds
	noteWeb     = ":web"     // it is a response
	noteUser    = ":user"    // it is a user's, and not stored: the request had an Authorization
)

// fieldsIn are the header fields among what is kept of an object, without the notes.
func fieldsIn(meta *diskcache.Meta) http.Header {
	fields := make(http.Header, len(meta.Header))
	for name, lines := range meta.Header {
		if name[0] != ':' {
			fields[name] = lines
		}
	}
	return fields
}

func statusOf(meta *diskcache.Meta) int {
	if n, err := strconv.Atoi(meta.Get(noteStatus)); err == nil {
		return n
	}
	return http.StatusOK
}

func delayOf(meta *diskcache.Meta) time.Duration {
	ms, _ := strconv.Atoi(meta.Get(noteDelay))
	return time.Duration(ms) * time.Millisecond
}

// got is what an origin has answered.
type got struct {
	origin.Reply
	src source
	rel release
	ask origin.Request // that it answers
}

// at is when the object was current.
func (g *got) at() time.Time {
	if g.Response != nil {
		return g.Response.ResponseTime
	}
	return time.Now()
}

// describe is what is kept of an object besides its bytes, also if it is not to be stored.
func (m *Mount) describe(q *question, g *got) diskcache.Meta {
	if g.Response != nil {
		return m.describeResponse(q, g)
	}
	meta := g.src.meta(g.Info)
	meta.DateWeak = m.dates.note(q.key, &meta, time.Now())
	return meta
}

func (m *Mount) describeResponse(q *question, g *got) diskcache.Meta {
	resp := *g.Response
	meta := m.keep(q.rules(), q.name, resp)
	meta.Size, meta.Validator = g.Size, g.src.validator(g.Info)
	if g.Redirect != nil {
		to, ok := m.mounted(g.Redirect)
		if !ok {
			to = g.Redirect.String() // a relative one would lead here
		}
		meta.Header["Location"] = []string{to}
	}
	if g.Body == nil && !q.ask.Head {
		meta.Size = 0
	}
	if len(meta.Header[noteVary]) > 0 {
		meta.Header[noteSeries] = []string{rand.Text()}
	}
	if q.ask.Authorization != "" && m.policy(q.name).Storable(q.rules(), resp) != "" {
		meta.Header[noteUser] = []string{"1"}
	}
	if q.ask.Accept != "" {
		meta.Header[noteAccept] = []string{q.ask.Accept}
	}
	if key, _, _ := strings.Cut(q.key, variantMark); key != q.ask.Name {
		meta.Header[noteAsked] = []string{q.ask.Name}
	}
	return meta
}

// ofTheUpstream are fields that speak of an upstream's host or to one client, and mean
// something else when they come from here.
var ofTheUpstream = []string{
	"Set-Cookie", "Set-Cookie2", "Alt-Svc", "Strict-Transport-Security", "Public-Key-Pins", "Public-Key-Pins-Report-Only",
	"Expect-Ct", "Nel", "Report-To", "Reporting-Endpoints", "Clear-Site-Data", "Server", "Via",
}

// keep is what is kept of a response's header.
func (m *Mount) keep(req freshness.Request, name string, resp freshness.Response) diskcache.Meta {
	header := m.policy(name).StoredHeader(resp)
	drop(header, ofTheUpstream...)
	header[noteWeb] = []string{"1"}
	if resp.Status != http.StatusOK {
		header[noteStatus] = []string{strconv.Itoa(resp.Status)}
	}
	if delay := resp.ResponseTime.Sub(resp.RequestTime).Milliseconds(); delay > 0 {
		header[noteDelay] = []string{strconv.FormatInt(delay, 10)}
	}
	if v, ok := freshness.NewVariant(req, resp); ok && len(v.Fields) > 0 {
		header[noteVary], header[noteVariant] = v.Fields, []string{v.Key}
	}
	meta := diskcache.Meta{Header: header}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		meta.ModTime = t
	}
	noTag := resp.Header.Clone()
	noTag.Del("Etag")
	meta.DateWeak = freshness.StrongValidator(noTag) == ""
	return meta
}

// errPass says that the answer of an upstream is not to be stored: each request gets its
// own.
var errPass = fmt.Errorf("%w: a response that is not stored", diskcache.ErrBypass)

// errPassOnce is an errPass for reasons of the request.
var errPassOnce = fmt.Errorf("%w for this request", errPass)

// verify is why the answer of an upstream does not become an entry, nil if it does.
func (m *Mount) verify(q *question, g *got) error {
	if g.Response == nil {
		return nil
	}
	if freshness.Failed(g.Response.Status) {
		return newFailure(g)
	}
	if matchAny(m.Pass, q.name) || g.Unframed || g.Response.Status == http.StatusPartialContent {
		return errPass
	}
	why := m.policy(q.name).Storable(q.rules(), *g.Response)
	if why == freshness.RefusedRequest || why == freshness.RefusedAuthorization {
		return errPassOnce
	}
	if why != "" {
		return errPass
	}
	return nil
}

// update notes that an entry is what the upstream has, as a 304 says. It reports false if
// that is about another response, or makes it one that is not to be stored.
func (m *Mount) update(e *diskcache.Entry, g *got) bool {
	notModified := g.Response
	key, meta := e.Key().Name, e.Meta()
	name := m.nameOf(key)
	old := stored(meta, e.Fresh().At)
	if len(freshness.Freshened([]http.Header{old.Header}, notModified.Header)) == 0 {
		return false
	}
	p := m.policy(name)
	now := p.Update(old, *notModified)
	q := question{ask: m.again(key, meta, "")}
	if p.Storable(q.rules(), now) != "" {
		return false
	}
	q.ask.Authorization = g.ask.Authorization // which the variant may depend on
	next := m.keep(q.rules(), name, now)
	if next.Get(noteVariant) != meta.Get(noteVariant) {
		return false
	}
	for _, name := range [...]string{noteAccept, noteAsked, noteSeries} {
		if lines := meta.Header[name]; len(lines) > 0 {
			next.Header[name] = lines
		}
	}
	next.Size, next.Validator = meta.Size, meta.Validator
	e.Update(next, diskcache.Freshness{At: now.ResponseTime})
	return true
}

// failure is the answer of an upstream that has failed: an entry is better than that, and
// so is another origin.
type failure struct {
	status int
	header http.Header
	body   []byte
	text   string
}

// maxFailure bounds the body that is kept of a failure, in bytes. Of a larger one nothing
// is.
const maxFailure = 64 << 10

// failureWithin is how long that body may take.
const failureWithin = 2 * time.Second

func newFailure(g *got) *failure {
	f := &failure{
		status: g.Response.Status, header: freshness.Policy{}.StoredHeader(*g.Response),
		text: fmt.Sprintf("%s: status %d", g.src, g.Response.Status),
	}
	drop(f.header, ofTheUpstream...)
	if body, err := plainFailure(g); err == nil {
		f.body = body
	} else {
		drop(f.header, "Content-Type")
	}
	drop(f.header, "Content-Encoding")
	return f
}

// plainFailure is the body of a failure without its encoding: not all clients take that.
func plainFailure(g *got) ([]byte, error) {
	if g.Body == nil {
		return nil, nil
	}
	late := time.AfterFunc(failureWithin, g.Close)
	defer late.Stop()
	encoding := strings.Join(g.Response.Header["Content-Encoding"], ", ")
	plain, err := upstream.Decode(io.LimitReader(g.Body, maxFailure+1), encoding, maxFailure)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	return io.ReadAll(plain)
}

func (f *failure) Error() string { return f.text }

// Is makes it an [origin.ErrAway].
func (f *failure) Is(target error) bool { return target == origin.ErrAway }

// respond passes the failure on.
func (f *failure) respond(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	for name, values := range f.header {
		if name != "Content-Length" && name != "Etag" && name != "Last-Modified" && name != "Accept-Ranges" {
			h[name] = values
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(f.body)))
	w.WriteHeader(f.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.body)
	}
}

// handOver leaves an answer that is not stored to one of those who wait for it and have asked
// the same. Whoever takes it closes it.
func (m *Mount) handOver(f *diskcache.Fill, g *got) {
	m.passing.Store(f, g)
	time.AfterFunc(handOverFor, func() {
		if _, ok := m.passing.LoadAndDelete(f); ok {
			g.Close()
		}
	})
}

// handOverFor is how long an answer waits for the one who asked: it waits already, unless
// it has left.
const handOverFor = 2 * time.Second

func (m *Mount) takeOver(f *diskcache.Fill, q *question) (*got, bool) {
	v, ok := m.passing.Load(f)
	if !ok || !q.asks(&v.(*got).ask) || !m.passing.CompareAndDelete(f, v) {
		return nil, false
	}
	return v.(*got), true
}

// takeChecked is takeOver of what a check has found that the question has waited for, if
// that is not stored, and its fill over.
func (m *Mount) takeChecked(q *question) (g *got, ok bool) {
	m.passing.Range(func(f, v any) bool {
		if !v.(*got).at().Before(q.since) {
			g, ok = m.takeOver(f.(*diskcache.Fill), q)
		}
		return !ok
	})
	return g, ok
}

// asks reports whether the answer to a request of the upstream is one to this question, also
// if it is for nobody else.
func (q *question) asks(r *origin.Request) bool {
	return q.ask.Name == r.Name && q.ask.Accept == r.Accept && q.ask.Authorization == r.Authorization
}

// isFailure is the answer of an upstream that has failed, if that is why.
func isFailure(err error) (*failure, bool) {
	return errors.AsType[*failure](err)
}
