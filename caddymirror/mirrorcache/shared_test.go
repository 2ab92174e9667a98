package mirrorcache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// releasedOrigin has files in memory, and a release when a test says so. A call can
// be held once it has its answer.
type releasedOrigin struct {
	origin.Tree

	mu      sync.Mutex
	release int
	files   map[string][]byte
	away    bool
	holds   map[string]*hold // by call: of the next one
	all     []*hold
	calls   map[string]int
}

// hold is of one call, or of every one: reached is closed when the first has its
// answer, which it gives once letGo is closed.
type hold struct {
	reached, letGo chan struct{}
	every          bool
	reach, end     func()
}

// newReleased has a mount read from an origin with releases.
func newReleased(t *testing.T, more string) (*site, *releasedOrigin) {
	t.Helper()
	s := newSite(t, mount("/t", `, "ttl": "1h", "revalidate_timeout": "20s"`+more, t.TempDir()))
	m := s.h.Mounts[0]
	o := &releasedOrigin{Tree: m.origins[0].Tree, files: map[string][]byte{}, holds: map[string]*hold{}, calls: map[string]int{}}
	m.origins[0].Tree = o
	t.Cleanup(func() { // before fills are waited for
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, h := range o.all {
			h.end()
		}
	})
	return s, o
}

// next makes a release; a file of nil is removed.
func (o *releasedOrigin) next(name string, body []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.release++
	o.files = maps.Clone(o.files)
	if o.files[name] = body; body == nil {
		delete(o.files, name)
	}
}

// hold holds the next call.
func (o *releasedOrigin) hold(op string) *hold { return o.holdAs(op, false) }

// holdEvery holds all calls from now on.
func (o *releasedOrigin) holdEvery(op string) *hold { return o.holdAs(op, true) }

func (o *releasedOrigin) holdAs(op string, every bool) *hold {
	h := &hold{reached: make(chan struct{}), letGo: make(chan struct{}), every: every}
	h.reach = sync.OnceFunc(func() { close(h.reached) })
	h.end = sync.OnceFunc(func() { close(h.letGo) })
	o.mu.Lock()
	defer o.mu.Unlock()
	o.holds[op] = h
	o.all = append(o.all, h)
	return h
}

func (o *releasedOrigin) held(op string) {
	o.mu.Lock()
	h := o.holds[op]
	if h != nil && !h.every {
		delete(o.holds, op)
	}
	o.mu.Unlock()
	if h != nil {
		h.reach()
		<-h.letGo
	}
}

func (o *releasedOrigin) count(op string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.calls[op]
}

func (o *releasedOrigin) find(op, name string) (body []byte, info origin.Info, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls[op]++
	body, ok := o.files[name]
	switch {
	case o.away:
		err = origin.ErrAway
	case !ok:
		err = fs.ErrNotExist
	}
	return body, origin.Info{Name: name, Size: int64(len(body)), ModTime: time.Unix(1e9, 0), Validator: fmt.Sprintf("%.20s %d", body, len(body))}, err
}

func (o *releasedOrigin) Stat(_ context.Context, name string) (origin.Info, error) {
	_, info, err := o.find("stat", name)
	o.held("stat")
	return info, err
}

func (o *releasedOrigin) Open(_ context.Context, name string, offset int64) (origin.Body, error) {
	body, info, err := o.find("open", name)
	o.held("open")
	if err != nil {
		return nil, err
	}
	return &releasedBody{bytes.NewReader(body[offset:]), o, info}, nil
}

func (o *releasedOrigin) ReadDir(context.Context, string) iter.Seq2[origin.Info, error] {
	o.mu.Lock()
	files := o.files
	o.mu.Unlock()
	return func(yield func(origin.Info, error) bool) {
		o.held("list")
		for name, body := range files {
			if !yield(origin.Info{Name: name, Size: int64(len(body)), ModTime: time.Unix(1e9, 0)}, nil) {
				return
			}
		}
	}
}

func (o *releasedOrigin) Release(context.Context) origin.Release {
	o.mu.Lock()
	defer o.mu.Unlock()
	return origin.Release{Token: fmt.Sprint("r", o.release), Seen: time.Now()}
}

// releasedBody is held after its first bytes.
type releasedBody struct {
	r    *bytes.Reader
	o    *releasedOrigin
	info origin.Info
}

func (b *releasedBody) Info() origin.Info { return b.info }
func (b *releasedBody) Close() error      { return nil }

func (b *releasedBody) Read(p []byte) (int, error) {
	if int64(b.r.Len()) < b.info.Size {
		b.o.held("read")
	}
	n, err := b.r.Read(p)
	if err == nil && b.r.Len() == 0 {
		err = io.EOF
	}
	return n, err
}

// later makes a request that may have to wait.
func (s *site) later(t *testing.T, path string) <-chan answer {
	got := make(chan answer, 1)
	go func() { got <- s.ask(t, "GET", path) }()
	return got
}

// without has a request answered while another is held: one that waits for that is let
// go, and shows what it was given.
func (h *hold) without(t *testing.T, asked <-chan answer) answer {
	t.Helper()
	select {
	case a := <-asked:
		return a
	case <-time.After(2 * time.Second):
	}
	t.Error("it waits for what was asked in an older release")
	h.end()
	return <-asked
}

// TestCheckOfOlderRelease: who asks after a release does not share what the origin says
// to a question from before it. What that was told then does no harm either.
func TestCheckOfOlderRelease(t *testing.T) {
	one, three := []byte("one"), []byte("three, of the third release")
	for _, tc := range []struct {
		name          string
		second, third []byte
		first, later  int // status of who has asked in the second release, and in the third
		is            string
	}{
		{"changed", one, three, 200, 200, "fwd=stale; fwd-status=200"},
		{"unchanged", one, one, 200, 200, "fwd=stale; fwd-status=304"},
		{"removed", one, nil, 200, 404, "fwd=stale; fwd-status=404"},
		{"put back", nil, one, 404, 200, "fwd=stale; fwd-status=304"},
		{"changed twice", []byte("two"), three, 200, 200, "fwd=stale; fwd-status=200"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, o := newReleased(t, "")
			o.next("f", one)
			s.ask(t, "GET", "/t/f").want(t, 200, one, "fwd=uri-miss")
			s.settle(t)
			o.next("f", tc.second)
			h := o.hold("stat")
			a := s.later(t, "/t/f")
			<-h.reached
			o.next("f", tc.third)
			h.without(t, s.later(t, "/t/f")).want(t, tc.later, tc.third, tc.is)
			s.settle(t)
			h.end()
			if got := <-a; got.status != tc.first {
				t.Errorf("who has asked before got status %d, %s", got.status, got.body)
			}
			s.settle(t)
			stats := o.count("stat")
			got := s.ask(t, "GET", "/t/f")
			if got.status != tc.later || tc.third != nil && !bytes.Equal(got.body, tc.third) {
				t.Errorf("afterwards: status %d, %s", got.status, got.body)
			}
			// What was removed by mistake is a miss; nothing else is asked for again.
			if n := o.count("stat") - stats; n != 0 {
				t.Errorf("afterwards the origin was asked %d times", n)
			}
			if tc.second != nil && tc.third != nil {
				got.want(t, 200, tc.third, "hit")
			}
		})
	}
}

// TestReplacedBeforeCheck: what a check finds of the entry that has taken the place of
// a request's own does not make that current.
func TestReplacedBeforeCheck(t *testing.T) {
	s, o := newReleased(t, "")
	one, two := []byte("one"), []byte("two, which is longer")
	o.next("f", one)
	s.ask(t, "GET", "/t/f").want(t, 200, one, "fwd=uri-miss")
	s.settle(t)
	m := s.h.Mounts[0]
	c := m.cache.Open()
	old, ok := c.Get(m.key("f"))
	if !ok {
		t.Fatal("it is not cached")
	}
	o.next("f", two)
	s.ask(t, "GET", "/t/f").want(t, 200, two, "fwd=stale; fwd-status=200")
	s.settle(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/t/f", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.stale(t.Context(), c, old, treeQuestion(r, "f"), freshness.AskOrServe)
	if err != nil {
		t.Fatal(err)
	}
	defer got.close()
	if got.entry == nil || !bytes.Equal(got.entry.Bytes(), two) {
		t.Errorf("%s: an older version than was served before", got.status)
	}
}

// always is a format of what never changes.
type always struct{ format.Format }

func (always) Class(string) format.Class { return format.Immutable }

// TestFillOfOlderRelease: who asks after a release follows a fill from before it only if
// the file is still the same, or the origin is away.
func TestFillOfOlderRelease(t *testing.T) {
	one, two := bytes.Repeat([]byte("one "), 100_000), bytes.Repeat([]byte("two: "), 100_000)
	for _, tc := range []struct {
		name    string
		next    []byte
		before  func(*Mount)
		away    bool
		follows bool
		status  int
		is      string
		stats   int
	}{
		{"changed", two, nil, false, false, 200, "fwd=uri-miss; fwd-status=200; stored", 1},
		{"unchanged", one, nil, false, true, 200, "fwd=uri-miss; collapsed", 1},
		{"removed", nil, nil, false, false, 404, "fwd=uri-miss; fwd-status=404", 1},
		{"away", two, nil, true, true, 200, "fwd=uri-miss; collapsed; detail=origin-away", 1},
		{"immutable", two, func(m *Mount) { m.format = always{m.format} }, false, true, 200, "fwd=uri-miss; collapsed", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, o := newReleased(t, "")
			if tc.before != nil {
				tc.before(s.h.Mounts[0])
			}
			o.next("f", one)
			h := o.hold("read")
			a := s.later(t, "/t/f")
			<-h.reached
			o.next("f", tc.next)
			o.mu.Lock()
			o.away = tc.away
			o.mu.Unlock()
			var b answer
			if tc.follows {
				asked := s.later(t, "/t/f")
				time.Sleep(100 * time.Millisecond) // it is following by then
				h.end()
				b = <-asked
				b.want(t, tc.status, one, tc.is)
			} else {
				b = h.without(t, s.later(t, "/t/f"))
				b.want(t, tc.status, tc.next, tc.is)
				h.end()
			}
			(<-a).want(t, 200, one, "fwd=uri-miss")
			s.settle(t)
			if n := o.count("stat"); n != tc.stats {
				t.Errorf("the origin was asked %d times, want %d", n, tc.stats)
			}
			if !tc.follows && tc.status == 200 {
				// The fill that was left has not replaced what is newer.
				s.ask(t, "GET", "/t/f").want(t, 200, tc.next, "hit")
			}
		})
	}
}

// TestManyLeaveOlderFill: all who ask after a release share one new fill, and one look.
func TestManyLeaveOlderFill(t *testing.T) {
	s, o := newReleased(t, "")
	one, two := bytes.Repeat([]byte("one "), 100_000), bytes.Repeat([]byte("two: "), 100_000)
	o.next("f", one)
	h := o.hold("read")
	a := s.later(t, "/t/f")
	<-h.reached
	o.next("f", two)
	look := o.holdEvery("stat")
	var asked []<-chan answer
	for range 20 {
		asked = append(asked, s.later(t, "/t/f"))
	}
	select {
	case <-look.reached:
	case <-time.After(5 * time.Second):
		t.Error("nobody looks whether the file is still the same")
	}
	time.Sleep(200 * time.Millisecond) // all are waiting by then
	look.end()
	for _, b := range asked {
		h.without(t, b).want(t, 200, two, "")
	}
	h.end()
	(<-a).want(t, 200, one, "fwd=uri-miss")
	if stats, opens := o.count("stat"), o.count("open"); stats > 3 || opens != 2 {
		t.Errorf("the file was looked at %d times and opened %d times, want one look and 2", stats, opens)
	}
}

// TestListingOfOlderRelease: who asks after a release does not share a reading of the
// directory that began before it, and what that has read does not replace what is newer.
func TestListingOfOlderRelease(t *testing.T) {
	for _, cached := range []bool{false, true} {
		t.Run(fmt.Sprint("cached ", cached), func(t *testing.T) {
			s, o := newReleased(t, `, "browse": true, "index_names": []`)
			o.next("first", []byte("1"))
			if cached {
				s.ask(t, "GET", "/t/").wantStatus(t, 200)
				o.next("second", []byte("2"))
			}
			h := o.hold("list")
			a := s.later(t, "/t/")
			<-h.reached
			o.next("third", []byte("3"))
			if b := h.without(t, s.later(t, "/t/")); !strings.Contains(string(b.body), "third") {
				t.Errorf("%s: an older listing", b.header.Get("Cache-Status"))
			}
			h.end()
			(<-a).wantStatus(t, 200)
			b := s.ask(t, "GET", "/t/")
			b.want(t, 200, nil, "hit")
			if !strings.Contains(string(b.body), "third") {
				t.Error("an older listing has replaced one that is newer")
			}
		})
	}
}
