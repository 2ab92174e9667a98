package upstreams

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// outcome is what a client is given.
type outcome string

const (
	current    outcome = "current"    // 200, and all bytes of what the upstream has now
	old        outcome = "old"        // 200, and all bytes of the entry, which is said to be stale, and why
	guarded    outcome = "guarded"    // 200, and all bytes of the entry: what the upstream has looks older
	passed     outcome = "passed"     // the upstream's own status and body
	broken     outcome = "broken"     // 502, 503 or 504, or a body that the client sees is not whole
	loop       outcome = "loop"       // 508
	redirected outcome = "redirected" // the upstream's redirect
)

// faultRow is one thing that an upstream does wrong.
type faultRow struct {
	name  string
	fault faulty.Fault // nil: connections are refused

	cold   outcome // to the first request, without an entry
	stored bool    // the answer to it answers the next one, with the upstream away
	stale  outcome // with an entry that is stale, and a newer version at the upstream
	within time.Duration
	status int // of an answer that is passed
	most   int // requests that the upstream gets for the cold one; 0: any number

	lost bool // the old version may be gone afterwards: the new one is not to be stored
}

// Bounds of time: what takes no time, what ends with the deadline for the header, or with
// that between two reads of a body. A stale entry waits for neither.
const (
	atOnce     = 1 * time.Second
	headerTime = 2 * time.Second
	readTime   = 1 * time.Second
	stalls     = 6*readTime + 3*time.Second // what stands still is taken up again, by the fill and by its reader
	slack      = 2500 * time.Millisecond    // for a machine that does much else
)

// deadlines are the mount's options that make these.
const deadlines = "header_timeout 2s;read_timeout 1s;revalidate_timeout 500ms"

const objectSize = 100_000

var faultTable = []faultRow{
	{name: "honest", fault: faulty.Honest, cold: current, stored: true, stale: current, within: atOnce, most: 1},

	// No answer, or none in time.
	{name: "refused", cold: broken, stale: old, within: atOnce},
	{name: "silent", fault: faulty.Silent, cold: broken, stale: old, within: headerTime},
	{name: "closed", fault: faulty.Close, cold: broken, stale: old, within: atOnce},
	{name: "reset before the header", fault: faulty.ResetBefore, cold: broken, stale: old, within: atOnce},
	{name: "reset in the header", fault: faulty.ResetInHeader, cold: broken, stale: old, within: atOnce},
	{name: "slow header", fault: faulty.SlowHeader(30 * time.Second), cold: broken, stale: old, within: headerTime},
	{name: "header that is a little slow", fault: faulty.SlowHeader(200 * time.Millisecond), cold: current, stored: true, stale: current, within: atOnce},
	{name: "trickled header", fault: faulty.TrickledHeader(50 * time.Millisecond), cold: broken, stale: old, within: headerTime},
	{name: "not HTTP", fault: faulty.NotHTTP, cold: broken, stale: old, within: atOnce},
	{name: "100 MB of header", fault: faulty.HugeHeader(100 << 20), cold: broken, stale: old, within: headerTime},
	{name: "100 MB in one line of header", fault: faulty.LongLine(100 << 20), cold: broken, stale: old, within: headerTime},
	{name: "flood of 1xx", fault: faulty.Informational(1_000_000), cold: broken, stale: old, within: headerTime},
	{name: "some 1xx", fault: faulty.Informational(3), cold: current, stored: true, stale: current, within: atOnce},

	// Bodies that are not whole.
	{name: "stalled body", fault: faulty.Stall(5_000), cold: broken, within: stalls},
	{name: "trickled body", fault: faulty.Trickle(5_000, 3*time.Second), cold: broken, within: stalls},
	{name: "slow body", fault: faulty.Slow(10_000, 50*time.Millisecond), cold: current, stored: true, within: 2 * time.Second},
	{name: "reset at the first byte of the body", fault: faulty.ResetAt(0), cold: broken, within: 4 * time.Second},
	{name: "reset in the body", fault: faulty.ResetAt(5_000), cold: broken, within: 4 * time.Second},
	{name: "reset in the body, once", fault: faulty.First(1, faulty.ResetAt(50_000), faulty.Honest), cold: current, stored: true, within: atOnce, most: 2},
	{name: "reset in the body, once, without a validator", fault: faulty.First(1, weakened(faulty.ResetAt(50_000)), weakened(faulty.Honest)), cold: broken, within: atOnce},
	{name: "length too large", fault: faulty.TooShort(10), cold: broken, within: 4 * time.Second},
	{name: "length too small", fault: faulty.TooLong(10), cold: current, stored: true, stale: current, within: atOnce},
	{name: "two lengths", fault: faulty.TwoLengths, cold: broken, stale: old, within: atOnce},
	{name: "chunks that are cut", fault: faulty.CutChunks, cold: broken, within: 4 * time.Second},
	{name: "a chunk that is cut", fault: faulty.CutChunk, cold: broken, within: 4 * time.Second},
	{name: "no last chunk", fault: faulty.NoLastChunk, cold: broken, within: 4 * time.Second},
	{name: "a chunk that is none", fault: faulty.BadChunk, cold: broken, within: 4 * time.Second},
	{name: "trailers", fault: faulty.Trailers, cold: current, stored: true, stale: current, within: atOnce, most: 1},
	{name: "endless chunks", fault: faulty.EndlessChunks(128 << 20), cold: broken, within: 8 * time.Second},

	// Answers that are whole, and say that something is wrong.
	{name: "400", fault: faulty.Status(400), cold: passed, status: 400, stale: passed, within: atOnce, most: 1},
	{name: "403", fault: faulty.Status(403), cold: passed, status: 403, stale: passed, within: atOnce, most: 1},
	{name: "404", fault: faulty.Status(404), cold: passed, stored: true, status: 404, stale: passed, within: atOnce, most: 1},
	{name: "410", fault: faulty.Status(410), cold: passed, stored: true, status: 410, stale: passed, within: atOnce, most: 1},
	{name: "429", fault: faulty.Status(429, "Retry-After: 60"), cold: passed, status: 429, stale: old, within: atOnce, most: 1},
	{name: "429 without Retry-After", fault: faulty.Status(429), cold: passed, status: 429, stale: old, within: atOnce, most: 1},
	{name: "500", fault: faulty.Status(500), cold: passed, status: 500, stale: old, within: atOnce},
	{name: "502", fault: faulty.Status(502), cold: passed, status: 502, stale: old, within: atOnce},
	{name: "503", fault: faulty.Status(503, "Retry-After: 60"), cold: passed, status: 503, stale: old, within: atOnce},
	{name: "504", fault: faulty.Status(504), cold: passed, status: 504, stale: old, within: atOnce},
	{name: "206 that nobody asked for", fault: faulty.Part("bytes 0-99999/200000"), cold: broken, stale: old, within: atOnce},
	{name: "304 that nobody asked for", fault: faulty.Unasked304, cold: broken, within: atOnce},

	// Redirects.
	{name: "redirect to itself", fault: faulty.Redirect("/x/object"), cold: loop, stale: old, within: atOnce, most: 1},
	{name: "redirects without an end", fault: faulty.RedirectOn, cold: loop, stale: old, within: atOnce},
	{name: "redirect to another host", fault: faulty.Redirect("http://elsewhere.invalid/y"), cold: redirected, status: 302, stale: redirected, within: atOnce, most: 1},

	// Fields that are wrong.
	{name: "Vary: *", fault: faulty.Fields("Vary: *"), cold: current, stale: current, lost: true, within: atOnce},
	{name: "Vary of nothing", fault: faulty.Fields("Vary: ,, ,"), cold: current, stored: true, stale: current, within: atOnce},
	{name: "Vary that is none", fault: faulty.Fields("Vary: Accept Encoding; q=1"), cold: current, stale: current, lost: true, within: atOnce},
	{name: "Vary on what differs each time", fault: faulty.Fields("Vary: User-Agent, X-Request-Id"), cold: current, stored: true, stale: current, within: atOnce},
	{name: "a date 50 years ago", fault: faulty.Dates(-50 * 365 * 24 * time.Hour), cold: current, stored: true, stale: guarded, within: atOnce},
	{name: "a date in 50 years", fault: faulty.Dates(50 * 365 * 24 * time.Hour), cold: current, stored: true, stale: current, within: atOnce},
	{name: "dates that are none", fault: faulty.Fields("Date: yesterday", "Expires: 0", "Last-Modified: 2020"), cold: current, stored: true, stale: current, within: atOnce},
	{name: "an age beyond numbers", fault: faulty.Fields("Age: 99999999999999999999"), cold: current, stored: true, stale: current, within: atOnce},
	{name: "an ETag that is none", fault: faulty.Fields("ETag: v1"), cold: current, stored: true, stale: current, within: atOnce},
	{name: "cookies", fault: faulty.Fields("Set-Cookie: id=1"), cold: current, stored: true, stale: current, within: atOnce},
	{name: "an encoding that is unknown", fault: faulty.Fields("Content-Encoding: x-secret"), cold: passed, status: 200, stored: true, lost: true, within: atOnce},
	{name: "an encoding that is a lie", fault: faulty.Fields("Content-Encoding: gzip", "Vary: Accept-Encoding"), cold: broken, lost: true, within: 4 * time.Second},
	{name: "a bomb", fault: faulty.Bomb(64 << 30), cold: broken, lost: true, within: 10 * time.Second},
}

// weakened takes the validators from honest answers of a fault.
func weakened(f faulty.Fault) faulty.Fault { return faulty.Without(f, "ETag", "Last-Modified") }

// rowRun is a row with its upstream and its two mounts.
type rowRun struct {
	faultRow
	n        int
	upstream *faulty.Server // of the mount /cold/N
	second   *faulty.Server // of the mount /stale/N
	errs     []string
	took     time.Duration
}

func (r *rowRun) fail(format string, args ...any) {
	r.errs = append(r.errs, fmt.Sprintf(format, args...))
}

// TestFaultTable has every row of faultTable happen to an object that is not cached, and to
// one that is. Whatever happens, no client takes wrong or missing bytes for the object, and
// nothing of them is stored.
func TestFaultTable(t *testing.T) {
	c := newContents(t, objectSize)
	var mounts []string
	var rows []*rowRun
	for n, row := range faultTable {
		r := &rowRun{faultRow: row, n: n, upstream: faulty.Start(t, c.URL), second: faulty.Start(t, c.URL)}
		rows = append(rows, r)
		mounts = append(mounts,
			mount(fmt.Sprintf("/cold/%d", n), r.upstream.URL+"/x", deadlines+";ttl 1h"),
			mount(fmt.Sprintf("/stale/%d", n), r.second.URL+"/x", deadlines+";ttl 1ms"))
	}
	srv := startMirror(t, site("path "+t.TempDir(), mounts...))

	var all sync.WaitGroup
	slots := make(chan struct{}, 16)
	done := make([]chan struct{}, len(rows))
	for i, r := range rows {
		done[i] = make(chan struct{})
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots; close(done[i]) }()
			start := time.Now()
			r.runCold(srv, c)
			r.runStale(srv, c)
			r.took = time.Since(start)
		})
	}
	t.Cleanup(all.Wait)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			<-done[i]
			for _, e := range r.errs {
				t.Error(e)
			}
			t.Logf("%v", r.took.Round(time.Millisecond))
		})
	}
	// The mirror itself is in good health, whatever was sent to it.
	if got := resident(t, srv); got > 400<<20 {
		t.Errorf("%d MiB are resident", got>>20)
	} else {
		t.Logf("%d MiB are resident", got>>20)
	}
	if resp := ask(srv, http.MethodGet, "/cold/0/another"); resp.StatusCode != http.StatusOK || !bytes.Equal(resp.body, content("another", 1, objectSize)) {
		t.Error(resp)
	}
}

// set makes the fault happen.
func (r *rowRun) set(s *faulty.Server) {
	if r.fault == nil {
		s.Refuse()
		return
	}
	s.Set(r.fault)
}

// runCold is a row without an entry.
func (r *rowRun) runCold(srv *testcaddy.Server, c *contents) {
	r.set(r.upstream)
	path := fmt.Sprintf("/cold/%d/object", r.n)
	got := ask(srv, http.MethodGet, path)
	r.judge("cold", got, r.cold, content("object", 1, objectSize), nil, r.within)
	asked := r.upstream.Count("")
	if r.most > 0 && asked > r.most || asked == 0 && r.fault != nil {
		r.fail("cold: %d requests to the upstream, want %d", asked, r.most)
	}

	// What was stored of it answers now.
	r.upstream.Set(faulty.Status(http.StatusServiceUnavailable))
	again := ask(srv, http.MethodGet, path)
	hit := again.Response != nil && again.cache().Hit && again.cache().Detail == ""
	switch {
	case r.stored && (!hit || again.StatusCode != got.StatusCode || !bytes.Equal(again.body, got.body)):
		r.fail("cold, again: %v, want what came first, from the cache", again)
	case !r.stored && again.cache().Hit:
		r.fail("cold, again: %v, want no hit", again)
	case !r.stored && r.cold == passed && again.status() == r.status && string(again.body) == string(got.body):
		// It came in time to share the answer of the first.
	case !r.stored && !slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, again.status()):
		r.fail("cold, again: %v, want 503, for nothing may be stored", again)
	case r.cold == current && !r.stored && string(again.body) != "upstream says 503\n":
		r.fail("cold, again: %v, want the upstream's own answer", again)
	}

	// A part and a head of others, which nobody knows.
	if r.fault == nil {
		return
	}
	r.set(r.upstream)
	part := ask(srv, http.MethodGet, fmt.Sprintf("/cold/%d/part", r.n), "Range: bytes=1000-1999")
	if part.Response != nil && part.StatusCode == http.StatusPartialContent && part.err == nil &&
		!bytes.Equal(part.body, content("part", 1, objectSize)[1000:2000]) {
		r.fail("cold, a part: %v, with wrong bytes", part)
	}
	if part.took > r.within+slack {
		r.fail("cold, a part: took %v, want %v", part.took, r.within)
	}
	head := ask(srv, http.MethodHead, fmt.Sprintf("/cold/%d/head", r.n))
	if head.Response == nil || len(head.body) > 0 {
		r.fail("cold, HEAD: %v", head)
	}
	if head.took > r.within+slack {
		r.fail("cold, HEAD: took %v, want %v", head.took, r.within)
	}
}

// runStale is a row with an entry that is stale.
func (r *rowRun) runStale(srv *testcaddy.Server, c *contents) {
	name := fmt.Sprintf("object%d", r.n)
	path := fmt.Sprintf("/stale/%d/%s", r.n, name)
	first, second := content(name, 1, objectSize), content(name, 2, objectSize)
	if got := ask(srv, http.MethodGet, path); got.err != nil || !bytes.Equal(got.body, first) {
		r.fail("stale: to begin with: %v", got)
		return
	}
	time.Sleep(20 * time.Millisecond) // longer than the ttl
	c.publish(name)
	r.second.Forget()
	r.set(r.second)
	want := r.stale
	if want == "" {
		want = old
	}
	got := ask(srv, http.MethodGet, path)
	within := r.within
	if want == old {
		within = atOnce // nobody waits for what hangs
	}
	if r.stale == "" {
		// A body may have begun before it broke: then it is cut.
		if !r.isOld(got, first) && !r.isBroken(got, second) && !r.isCurrent(got, second) {
			r.fail("stale: %v, want the old version, or one that is cut", got)
		}
		within = r.within
	} else {
		r.judge("stale", got, want, second, first, within)
	}
	if got.took > within+slack {
		r.fail("stale: took %v, want %v", got.took, within)
	}

	// One whole version is there still, if the upstream did not say that it is gone.
	r.second.Set(faulty.Status(http.StatusServiceUnavailable))
	again := ask(srv, http.MethodGet, path)
	gone := r.lost || r.stale == passed || r.stale == redirected
	if !gone && (again.err != nil || again.Response == nil || again.StatusCode != http.StatusOK ||
		!bytes.Equal(again.body, first) && !bytes.Equal(again.body, second)) {
		r.fail("stale, again: %v, want a whole version", again)
	}
	part := ask(srv, http.MethodGet, path, "Range: bytes=500-599")
	if !gone && (part.Response == nil || part.StatusCode != http.StatusPartialContent ||
		!bytes.Equal(part.body, first[500:600]) && !bytes.Equal(part.body, second[500:600])) {
		r.fail("stale, a part: %v", part)
	}
}

func (r *rowRun) isCurrent(got reply, now []byte) bool {
	return got.Response != nil && got.err == nil && got.StatusCode == http.StatusOK && bytes.Equal(got.body, now)
}

func (r *rowRun) isOld(got reply, entry []byte) bool {
	s := got.cache()
	return got.Response != nil && got.err == nil && got.StatusCode == http.StatusOK && bytes.Equal(got.body, entry) &&
		(s.Detail != "" || s.FwdStatus >= http.StatusTooManyRequests) && (s.Fwd == "stale" || s.HasTTL && s.TTL <= 0) && !s.Stored &&
		got.Header.Get("Age") != ""
}

func (r *rowRun) isBroken(got reply, now []byte) bool {
	if got.Response == nil {
		return true // the connection was cut
	}
	if got.StatusCode == http.StatusOK {
		return got.err != nil && (bytes.HasPrefix(now, got.body) || r.name == "endless chunks" || r.name == "a bomb")
	}
	return slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, got.StatusCode)
}

// judge compares an answer with what it should be.
func (r *rowRun) judge(when string, got reply, want outcome, now, entry []byte, within time.Duration) {
	if got.took > within+slack {
		r.fail("%s: took %v, want %v", when, got.took, within)
	}
	ok := false
	switch want {
	case current:
		ok = r.isCurrent(got, now)
	case old:
		ok = r.isOld(got, entry)
	case guarded:
		ok = got.err == nil && got.status() == http.StatusOK && bytes.Equal(got.body, entry)
	case passed:
		text := fmt.Sprintf("upstream says %d\n", r.status)
		if r.status == http.StatusOK {
			text = string(now)
		}
		ok = got.Response != nil && got.err == nil && got.StatusCode == r.status && string(got.body) == text
	case broken:
		ok = r.isBroken(got, now)
	case loop:
		ok = got.Response != nil && got.StatusCode == http.StatusLoopDetected
	case redirected:
		ok = got.Response != nil && got.StatusCode == r.status && got.Header.Get("Location") != ""
	}
	if !ok {
		r.fail("%s: %v, want %s", when, got, want)
	}
	if got.Response == nil {
		return
	}
	if age := got.Header.Get("Age"); age != "" {
		if n, err := strconv.Atoi(age); err != nil || n < 0 || n > 1<<31 {
			r.fail("%s: Age %q", when, age)
		}
	}
	if etag := got.Header.Get("ETag"); etag == `"trailer"` || etag == `"hint"` {
		r.fail("%s: ETag %s is not of the header", when, etag)
	}
}
