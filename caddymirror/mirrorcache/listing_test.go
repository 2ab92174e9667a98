package mirrorcache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"math/rand/v2"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// pack makes a listing.
func pack(t testing.TB, limit int64, infos ...origin.Info) *listing {
	t.Helper()
	p := newPacker(limit)
	for _, i := range infos {
		if !p.add(i) {
			break
		}
	}
	return p.listing()
}

// show is a page of a listing.
func show(t testing.TB, l *listing, p page) string {
	t.Helper()
	var b bytes.Buffer
	n, err := l.send(&b, p)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("%d of %d bytes, %v", n, b.Len(), err)
	}
	return b.String()
}

var oddNames = []string{
	"plain", "Upper", "a b", "a&b", `"quoted"`, "'single'", "<script>alert(1)</script>", "50%", "q?x=1", "frag#ment",
	"http:x", "new\nline", "tab\tbed", "\xff\xfe", "grüße", "..", "...", "a;b", "a\\b", "{{.Path}}", strings.Repeat("n", 255),
}

var anchor = regexp.MustCompile(`<tr><td><a href="([^"]*)">([^<]*)</a></td>`)

// TestListingNames: every name is shown, and its link leads to it and no further,
// whatever it is.
func TestListingNames(t *testing.T) {
	var infos []origin.Info
	for i, name := range oddNames {
		infos = append(infos, origin.Info{Name: name, Dir: i%3 == 0, Size: int64(i), ModTime: time.Unix(int64(i)<<40, 0)})
	}
	l := pack(t, math.MaxInt64, infos...)

	text := show(t, l, page{path: `/p/<b>&"'/`})
	var got []string
	for _, m := range anchor.FindAllStringSubmatch(text, -1) {
		if m[2] == ".." && m[1] == "../" {
			continue // the way up
		}
		u, err := url.Parse(html.UnescapeString(m[1]))
		if err != nil || u.IsAbs() || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("link %q: %+v, %v", m[1], u, err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(u.Path, "./"), "/")
		if shown := strings.TrimSuffix(html.UnescapeString(m[2]), "/"); shown != strings.ToValidUTF8(name, "\ufffd") {
			t.Errorf("%q is shown as %q", name, shown)
		}
		got = append(got, name)
	}
	want := slices.Clone(oddNames)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("links lead to\n%q, want\n%q", got, want)
	}
	for _, bad := range []string{"<script", "<b>"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is in the page", bad)
		}
	}

	var items []struct{ Name, URL string }
	if err := json.Unmarshal([]byte(show(t, l, in(formJSON))), &items); err != nil || len(items) != len(oddNames) {
		t.Fatalf("%d items, %v", len(items), err)
	}
	for _, i := range items {
		u, err := url.Parse(i.URL)
		if name := strings.TrimPrefix(u.Path, "./"); err != nil || string([]rune(name)) != i.Name {
			t.Errorf("%q is at %q, %v", i.Name, i.URL, err)
		}
	}
	if lines := strings.Count(show(t, l, in(formText)), "\n"); lines != len(oddNames)+2 {
		t.Errorf("%d lines of text for %d names", lines, len(oddNames))
	}
}

func in(f form) page { return page{form: f, path: "/p"} }

func jsonNames(t testing.TB, l *listing, p page) []string {
	t.Helper()
	p.form = formJSON
	var items []struct{ Name string }
	if err := json.Unmarshal([]byte(show(t, l, p)), &items); err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(items))
	for _, i := range items {
		names = append(names, i.Name)
	}
	return names
}

func TestListingOrder(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	l := pack(t, math.MaxInt64,
		origin.Info{Name: "b", Size: 1, ModTime: at(5)},
		origin.Info{Name: "Z", Size: 9, ModTime: at(1)},
		origin.Info{Name: "a", Size: 5, ModTime: at(4)},
		origin.Info{Name: "y", Dir: true, ModTime: at(3)},
		origin.Info{Name: "C", Dir: true, ModTime: at(2)},
		origin.Info{Name: "a-b", Size: 5, ModTime: at(4)},
	)
	for _, tc := range []struct {
		page page
		want string
	}{
		{page{}, "C/ y/ a a-b b Z"},
		{page{descending: true}, "Z b a-b a y/ C/"},
		{page{key: sortName}, "a a-b b C/ y/ Z"},
		{page{key: sortSize}, "C/ y/ b a a-b Z"},
		{page{key: sortSize, descending: true}, "Z a-b a b y/ C/"},
		{page{key: sortTime}, "Z C/ y/ a a-b b"},
		{page{key: sortTime, descending: true, limit: 2}, "b a-b"},
		{page{offset: 4}, "b Z"},
		{page{offset: 1, limit: 2}, "y/ a"},
		{page{offset: 6}, ""},
		{page{offset: math.MaxInt, limit: math.MaxInt}, ""},
		{page{offset: 2, limit: math.MaxInt}, "a a-b b Z"},
	} {
		if got := strings.Join(jsonNames(t, l, tc.page), " "); got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.page, got, tc.want)
		}
	}
	if got := show(t, pack(t, math.MaxInt64), in(formJSON)); got != "[]\n" {
		t.Errorf("an empty one: %q", got)
	}
}

// simple is the index of a large mirror of PyPI.
func simple(n int) []origin.Info {
	infos := make([]origin.Info, n)
	for i := range infos {
		infos[i] = origin.Info{Name: fmt.Sprintf("project-%d", i), Dir: true, ModTime: time.Unix(1e9+int64(i), 0)}
	}
	return infos
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestListingMemory: a listing of 600,000 entries takes what it says and not a lot,
// and each that it is sent to next to nothing more.
func TestListingMemory(t *testing.T) {
	const n = 600_000
	infos := simple(n)
	before := heap()
	l := pack(t, math.MaxInt64, infos...)
	for key := range sortKeys {
		l.order(sortKey(key))
	}
	held := heap() - before
	runtime.KeepAlive(infos)
	t.Logf("%d entries: %d bytes, %d each, of which %d accounted for", n, held, held/n, l.cost/n)
	if held > l.cost || l.cost > 64*n {
		t.Errorf("%d bytes are held and %d accounted for, for %d entries", held, l.cost, n)
	}

	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	allocated := m.TotalAlloc
	start := time.Now()
	size, err := l.send(io.Discard, page{path: "/simple", key: sortTime})
	runtime.ReadMemStats(&m)
	t.Logf("a page of %d bytes in %v, with %d bytes allocated", size, time.Since(start), m.TotalAlloc-allocated)
	if err != nil || size < 50*n {
		t.Errorf("%d bytes, %v", size, err)
	}
	if took := m.TotalAlloc - allocated; took > 256<<10 {
		t.Errorf("to send a page took %d bytes of memory", took)
	}
}

func TestListingCutByPacker(t *testing.T) {
	infos := simple(10_000)
	l := pack(t, minBrowseMemory, infos...)
	if !l.cut || l.cost > minBrowseMemory || len(l.entries) < 500 || l.dirs != len(l.entries) {
		t.Errorf("%d entries, cost %d, cut: %t", len(l.entries), l.cost, l.cut)
	}
	sentence := fmt.Sprintf("the directory has more than these %d entries", len(l.entries))
	for _, f := range []form{formHTML, formText} {
		if !strings.Contains(show(t, l, in(f)), sentence) {
			t.Errorf("form %d does not say that it is cut", f)
		}
	}
	whole := pack(t, math.MaxInt64, infos[:len(l.entries)]...)
	if whole.cut || strings.Contains(show(t, whole, in(formHTML)), "cut") {
		t.Error("one that is whole says that it is cut")
	}
	if whole.digest == l.digest {
		t.Error("that it is cut makes no difference")
	}
}

// check looks whether listings are what they promise.
func (s *listings) check(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var cost int64
	for _, k := range s.current.Values() {
		cost += k.cost
		if k.refs < 1 {
			t.Fatal("a current listing has no reference")
		}
	}
	if cost != s.cost || cost > s.max {
		t.Fatalf("listings cost %d, accounted for are %d of %d", cost, s.cost, s.max)
	}
	var used int64
	for _, l := range s.old {
		if l.refs < 1 {
			t.Fatal("an unused listing is kept")
		}
		if !l.revoked.Load() {
			used += l.cost
		}
	}
	if used > s.max {
		t.Fatalf("old listings that are not revoked cost %d of %d", used, s.max)
	}
}

// TestListingsBound: however directories are listed, changed, purged and sent, the
// memory for listings stays within bounds, and all is let go of.
func TestListingsBound(t *testing.T) {
	const limit = 1 << 20
	s := newListings(limit)
	infos := simple(3000)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(n)))
			var using []kept
			for range 300 {
				name := fmt.Sprint("d", rnd.IntN(20))
				switch op := rnd.IntN(20); {
				case op < 8:
					if k, ok := s.use(name); ok {
						using = append(using, k)
					}
				case op < 14:
					epoch := s.began()
					first := rnd.IntN(3)
					k := s.put(name, epoch, 0, kept{listing: pack(t, limit, infos[first:first+500*rnd.IntN(4)]...), at: time.Now()})
					using = append(using, s.share(k))
				case op < 15:
					s.forget(name, 0)
				case op < 16:
					s.forgetAll()
				case len(using) > 0:
					i := rnd.IntN(len(using))
					s.done(using[i])
					using = slices.Delete(using, i, i+1)
				}
				s.check(t)
			}
			for _, k := range using {
				s.done(k)
			}
		})
	}
	wg.Wait()
	s.forgetAll()
	s.check(t)
	if s.cost != 0 || len(s.old) != 0 {
		t.Errorf("%d bytes and %d old listings are left", s.cost, len(s.old))
	}
}

// TestListingRevoked: clients that read slowly cannot hold on to any number of old
// listings. The newest are left to them.
func TestListingRevoked(t *testing.T) {
	s := newListings(1 << 20)
	var using []kept
	for n := range 10 {
		infos := simple(8000 + n)
		k := s.share(s.put("d", 0, 0, kept{listing: pack(t, s.max, infos...), at: time.Now()}))
		using = append(using, k)
		s.check(t)
	}
	for n, k := range using {
		_, err := k.send(io.Discard, page{})
		if revoked := n < len(using)-3; errors.Is(err, errRevoked) != revoked {
			t.Errorf("listing %d of cost %d: %v", n, k.cost, err)
		}
		s.done(k)
	}
}

// TestListingsPurgedWhileRead: what was read before a purge is not what is there
// after it.
func TestListingsPurgedWhileRead(t *testing.T) {
	s := newListings(1 << 20)
	epoch := s.began()
	s.forgetAll()
	k := s.share(s.put("d", epoch, 0, kept{listing: pack(t, s.max, simple(3)...), at: time.Now()}))
	if _, ok := s.use("d"); ok {
		t.Error("a listing from before the purge is current")
	}
	s.check(t)
	s.done(k)
	s.check(t)
}
