package mirrorcache

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/format"
)

// TestRangeEdges: on the wire, from a fill, from memory and from disk.
func TestRangeEdges(t *testing.T) {
	tree := t.TempDir()
	small, large := bytes.Repeat([]byte("0123456789"), 100), bytes.Repeat([]byte("0123456789"), 300_000)
	write(t, tree, "small", small)
	write(t, tree, "large", large)
	write(t, tree, "empty", nil)
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	for _, state := range []string{"cold", "warm"} {
		for name, body := range map[string][]byte{"small": small, "large": large} {
			for _, tc := range []struct {
				ranges string
				status int
				body   []byte
			}{
				{"Bytes=0-0", 206, body[:1]},
				{"items=0-5", 200, body},
				{"bytes=-0", 416, []byte{}},
				{"bytes=-5", 206, body[len(body)-5:]},
				{"bytes=-99999999", 206, body},
				{"bytes=990-99999999", 206, body[990:]},
				{"bytes=99999999-", 416, []byte{}},
				{"bytes=5-4", 416, []byte{}},
				{"bytes=0-,0-,0-", 200, body},
			} {
				if state == "cold" {
					if _, err := s.h.Mounts[0].Purge(name, ""); err != nil {
						t.Fatal(err)
					}
				}
				a := s.ask(t, "GET", "/t/"+name, "Range: "+tc.ranges)
				if a.status != tc.status || !bytes.Equal(a.body, tc.body) {
					t.Errorf("%s, %s, %s: status %d, %d bytes, want %d, %d", state, name, tc.ranges, a.status, len(a.body), tc.status, len(tc.body))
				}
				if got := a.header.Get("Content-Length"); got != strconv.Itoa(len(tc.body)) {
					t.Errorf("%s, %s, %s: Content-Length is %s", state, name, tc.ranges, got)
				}
				head := s.ask(t, "HEAD", "/t/"+name, "Range: "+tc.ranges)
				if head.status != 200 || head.header.Get("Content-Length") != strconv.Itoa(len(body)) {
					t.Errorf("%s, %s, HEAD %s: status %d %v", state, name, tc.ranges, head.status, head.header)
				}
				s.settle(t)
			}
		}
		s.ask(t, "GET", "/t/empty", "Range: bytes=0-").want(t, 200, []byte{}, "")
	}
}

// TestParts: several ranges come in the order asked for.
func TestParts(t *testing.T) {
	tree := t.TempDir()
	body := make([]byte, 3<<20)
	for i := range body {
		body[i] = byte(i >> 8)
	}
	write(t, tree, "f.txt", body)
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	for _, state := range []string{"cold", "warm"} {
		a := s.ask(t, "GET", "/t/f.txt", "Range: bytes=1048570-1048580,0-299999,-1")
		kind, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
		if a.status != 206 || err != nil || kind != "multipart/byteranges" || a.header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
			t.Fatalf("%s: %d %v", state, a.status, a.header)
		}
		mr := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
		for _, want := range [][]byte{body[1048570:1048581], body[:300_000], body[len(body)-1:]} {
			p, err := mr.NextRawPart()
			if err != nil {
				t.Fatal(state, err)
			}
			got, err := io.ReadAll(p)
			if err != nil || !bytes.Equal(got, want) || p.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%s: got %d bytes, %v, %v, want %d", state, len(got), p.Header, err, len(want))
			}
		}
		if _, err := mr.NextRawPart(); err != io.EOF {
			t.Errorf("%s: after the last part: %v", state, err)
		}
		s.settle(t)
	}
}

// TestRefusalsAreNotKept: what answers a condition must not be taken for the
// object, by caches least of all.
func TestRefusalsAreNotKept(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("0123456789"))
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	for range 2 {
		for _, tc := range []struct {
			field, contentRange string
			status              int
		}{
			{`If-Match: "other"`, "", 412},
			{"Range: bytes=10-", "bytes */10", 416},
		} {
			a := s.ask(t, "GET", "/t/f", tc.field)
			if a.status != tc.status || len(a.body) != 0 || a.header.Get("Content-Range") != tc.contentRange ||
				a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %v", tc.field, a.status, a.header)
			}
		}
		s.settle(t)
	}
}

// setTime sets a file's mtime.
func setTime(t testing.TB, dir, name string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
		t.Fatal(err)
	}
}

// TestTwoVersionsInOneSecond: a client that sends a date which two versions have
// gets the whole: it may have a part of the other.
func TestTwoVersionsInOneSecond(t *testing.T) {
	second := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, tc := range []struct {
		name, settings string
		size           int
	}{
		{"memory", `, "ttl": "1ms"`, 1000},
		{"disk", `, "ttl": "1ms"`, 2 << 20},
		{"never fresh", `, "ttl": "1ns"`, 1000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := t.TempDir()
			one, two := bytes.Repeat([]byte("1"), tc.size), bytes.Repeat([]byte("2"), tc.size)
			write(t, tree, "f", one)
			setTime(t, tree, "f", second.Add(time.Millisecond))
			s := newSite(t, mount("/t", tc.settings, tree))
			first := s.ask(t, "GET", "/t/f")
			date := first.header.Get("Last-Modified")
			s.settle(t)
			for range 2 {
				s.ask(t, "GET", "/t/f", "Range: bytes=500-", "If-Range: "+date).want(t, 206, one[500:], "")
				s.ask(t, "GET", "/t/f", "If-Modified-Since: "+date).want(t, 304, nil, "")
				s.ask(t, "GET", "/t/f", "Range: bytes=500-", "If-Unmodified-Since: "+date).want(t, 206, one[500:], "")
			}

			write(t, tree, "f", two)
			setTime(t, tree, "f", second.Add(900*time.Millisecond))
			time.Sleep(5 * time.Millisecond)
			for range 3 {
				a := s.ask(t, "GET", "/t/f", "Range: bytes=500-", "If-Range: "+date)
				a.want(t, 200, two, "")
				if got := a.header.Get("Last-Modified"); got != date {
					t.Errorf("Last-Modified is %s, want %s", got, date)
				}
				s.ask(t, "GET", "/t/f", "If-Modified-Since: "+date).want(t, 200, two, "")
				s.ask(t, "GET", "/t/f", "Range: bytes=500-", "If-Unmodified-Since: "+date).want(t, 412, nil, "")
				s.settle(t)
			}

			// The ETag still does.
			etag := s.ask(t, "HEAD", "/t/f").header.Get("Etag")
			s.ask(t, "GET", "/t/f", "Range: bytes=500-", "If-Range: "+etag).want(t, 206, two[500:], "")
			s.ask(t, "GET", "/t/f", "If-None-Match: "+etag).want(t, 304, nil, "")
		})
	}
}

// TestDates: what is known of the seconds of versions.
func TestDates(t *testing.T) {
	at := time.Unix(1000, 5e8)
	version := func(etag string, d time.Duration) *diskcache.Meta {
		if etag == "" {
			return &diskcache.Meta{ModTime: at.Add(d)}
		}
		return &diskcache.Meta{ModTime: at.Add(d), Validator: "v" + etag, Header: map[string][]string{"Etag": {etag}}}
	}
	const second = time.Second
	for _, tc := range []struct {
		name  string
		steps []*diskcache.Meta
		seen  time.Duration // of the first, after its time
		want  bool          // of the last
	}{
		{"one", []*diskcache.Meta{version("1", 0)}, time.Hour, false},
		{"seen within its second", []*diskcache.Meta{version("", 0)}, second / 4, true},
		{"seen before it", []*diskcache.Meta{version("", 0)}, -second, true},
		{"seen right after it", []*diskcache.Meta{version("", 0)}, second / 2, false},
		{"the same again", []*diskcache.Meta{version("1", 0), version("1", 0)}, time.Hour, false},
		{"another of the second", []*diskcache.Meta{version("1", 0), version("2", second/4)}, time.Hour, true},
		{"and again", []*diskcache.Meta{version("1", 0), version("2", second/4), version("2", second/4)}, time.Hour, true},
		{"back to the first", []*diskcache.Meta{version("1", 0), version("2", second/4), version("1", 0)}, time.Hour, true},
		{"another second", []*diskcache.Meta{version("1", 0), version("2", second)}, time.Hour, false},
		{"at rest by now", []*diskcache.Meta{version("", 0), version("1", 0)}, second / 2, false},
		{"first seen within the second", []*diskcache.Meta{version("", 0), version("1", 0)}, second / 4, true},
		{"kept with an entry", []*diskcache.Meta{{ModTime: at, DateWeak: true, Validator: "1"}, version("2", 0)}, time.Hour, true},
	} {
		d := newDates()
		var got bool
		for n, meta := range tc.steps {
			seen := at.Add(tc.seen)
			if n > 0 {
				seen = at.Add(time.Hour)
			}
			got = d.note("f", meta, seen)
		}
		if got != tc.want {
			t.Errorf("%s: weak is %v, want %v", tc.name, got, tc.want)
		}
		if d.note("g", version("3", 0), at.Add(time.Hour)) {
			t.Errorf("%s: two objects share a second", tc.name)
		}
	}
}

// TestDateOfYoungFile: of a file that has no ETag yet, the date tells once its
// second is over.
func TestDateOfYoungFile(t *testing.T) {
	tree := t.TempDir()
	body := []byte("0123456789")
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	for name, age := range map[string]time.Duration{"closed": 1100 * time.Millisecond, "open": 0} {
		write(t, tree, name, body)
		setTime(t, tree, name, time.Now().Add(-age))
		a := s.ask(t, "GET", "/t/"+name)
		if a.header.Get("Etag") != "" {
			t.Skip("this machine is too slow")
		}
		date := a.header.Get("Last-Modified")
		s.settle(t)
		part, unchanged := 206, 304
		if name == "open" {
			part, unchanged = 200, 200
		}
		s.ask(t, "GET", "/t/"+name, "Range: bytes=1-2", "If-Range: "+date).want(t, part, nil, "hit")
		s.ask(t, "GET", "/t/"+name, "If-Modified-Since: "+date).want(t, unchanged, nil, "hit")
	}
}

// TestFutureDate: Last-Modified is never after Date (RFC 9110 section 8.8.2.1).
func TestFutureDate(t *testing.T) {
	tree := t.TempDir()
	body := []byte("0123456789")
	write(t, tree, "f", body)
	setTime(t, tree, "f", time.Now().Add(time.Hour))
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	for range 3 {
		a := s.ask(t, "GET", "/t/f")
		a.want(t, 200, body, "")
		mod, err := http.ParseTime(a.header.Get("Last-Modified"))
		if err != nil || a.header.Get("Date") != a.header.Get("Last-Modified") || time.Since(mod).Abs() > time.Minute {
			t.Errorf("Last-Modified is %q, Date is %q", a.header.Get("Last-Modified"), a.header.Get("Date"))
		}
		s.ask(t, "GET", "/t/f", "Range: bytes=1-2", "If-Range: "+a.header.Get("Last-Modified")).want(t, 200, body, "")
		s.settle(t)
	}
}

// TestDateOfTwoEncodings: a file and its compressed form have one date, mostly, as
// gzip keeps it. A part of the one is not completed by the other for that.
func TestDateOfTwoEncodings(t *testing.T) {
	tree := t.TempDir()
	plain, packed := bytes.Repeat([]byte("p"), 100), bytes.Repeat([]byte("z"), 50)
	write(t, tree, "f", plain)
	write(t, tree, "f.gz", packed)
	for _, name := range []string{"f", "f.gz"} {
		age(t, filepath.Join(tree, name), time.Hour)
	}
	s := newSite(t, mount("/t", `, "precompressed": {"gzip": {}}`, tree))
	for range 2 {
		date := s.ask(t, "GET", "/t/f").header.Get("Last-Modified")
		s.ask(t, "GET", "/t/f", "Accept-Encoding: gzip", "Range: bytes=10-", "If-Range: "+date).want(t, 200, packed, "")
		s.ask(t, "GET", "/t/f", "Range: bytes=10-", "If-Range: "+date).want(t, 200, plain, "")
		s.ask(t, "GET", "/t/f", "If-Modified-Since: "+date).want(t, 304, nil, "")
		s.settle(t)
	}
}

// TestPartsOfEncoded: what is precompressed has an ETag of its own, and ranges are
// of its bytes.
func TestPartsOfEncoded(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f.txt", []byte("plain"))
	packed := []byte("compressed, as it were")
	write(t, tree, "f.txt.gz", packed)
	s := newSite(t, mount("/t", `, "ttl": "1h", "precompressed": {"gzip": {}}`, tree))
	for range 2 {
		plain := s.ask(t, "GET", "/t/f.txt").header.Get("Etag")
		whole := s.ask(t, "GET", "/t/f.txt", "Accept-Encoding: gzip")
		whole.want(t, 200, packed, "")
		etag := whole.header.Get("Etag")
		if etag == "" || etag == plain {
			t.Errorf("ETags are %s and %s", plain, etag)
		}
		part := s.ask(t, "GET", "/t/f.txt", "Accept-Encoding: gzip", "Range: bytes=3-5", "If-Range: "+etag)
		part.want(t, 206, packed[3:6], "")
		if part.header.Get("Content-Encoding") != "gzip" || part.header.Get("Etag") != etag || part.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("part: %v", part.header)
		}
		s.ask(t, "GET", "/t/f.txt", "Accept-Encoding: gzip", "Range: bytes=3-5", "If-Range: "+plain).want(t, 200, packed, "")
		same := s.ask(t, "GET", "/t/f.txt", "Accept-Encoding: gzip", "If-None-Match: "+etag)
		same.want(t, 304, []byte{}, "")
		if same.header.Get("Etag") != etag || same.header.Get("Vary") != "Accept-Encoding" || same.header.Get("Content-Encoding") != "" {
			t.Errorf("304: %v", same.header)
		}
		s.settle(t)
	}
}

// TestFieldLines serves a stored field of several lines as it is.
func TestFieldLines(t *testing.T) {
	meta := diskcache.Meta{Size: 1, Header: map[string][]string{
		"Etag": {`"1"`}, "Link": {"<a>", "<b>"}, "X-Empty": {""}, "X-None": {}, ":note": {"1", "2"},
	}}
	f := new(Mount).fieldsOf(&meta, time.Now(), representation{name: "f"})
	got := http.Header{}
	allocs := testing.AllocsPerRun(10, func() {
		clear(got)
		new(Mount).setFields(got, &object{}, f, format.Volatile)
	})
	if !slices.Equal(got["Link"], []string{"<a>", "<b>"}) || !slices.Equal(got["X-Empty"], []string{""}) ||
		!slices.Equal(got["Etag"], []string{`"1"`}) || len(got["X-None"])+len(got[":note"]) > 0 {
		t.Errorf("%q", got)
	}
	if got := cap(got["Link"]); got != 2 {
		t.Errorf("to add a line would change another field: room for %d", got)
	}
	if allocs > 1 {
		t.Errorf("%v allocations", allocs)
	}
}
