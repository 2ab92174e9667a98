package mirrorcache

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/gzip" // for precompressed

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
)

// site is a handler with its app, as a configuration has them.
type site struct {
	*httptest.Server
	app *mirror.App
	dir string // of the cache
	h   *Handler
}

// newSite serves mounts, given as JSON.
func newSite(t testing.TB, mounts ...string) *site {
	t.Helper()
	s := &site{dir: filepath.Join(t.TempDir(), "cache")}
	ctx, cancel := provision(t, caddy.ModuleMap{
		"mirror": json.RawMessage(fmt.Sprintf(`{"caches": {"default": {"path": %q, "min_free": "0", "max_size": 268435456}}}`, s.dir)),
	})
	t.Cleanup(cancel)
	mod, err := ctx.LoadModuleByID("http.handlers.mirror_cache", []byte(`{"mounts": [`+strings.Join(mounts, ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("mirror")
	if err != nil {
		t.Fatal(err)
	}
	s.app = app.(*mirror.App)
	if err := s.app.Start(); err != nil {
		t.Fatal(err)
	}
	s.awaitScan(t)
	h := mod.(*Handler)
	s.h = h
	t.Cleanup(func() {
		s.settle(t) // else fills still write where the test removes its directories
		if err := s.app.Stop(); err != nil {
			t.Error(err)
		}
	})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveAs(h, w, r) }))
	t.Cleanup(s.Close)
	return s
}

// provisioning is held while Caddy provisions, which writes to certmagic's defaults
// without a lock: outside of tests it does so once at a time.
var provisioning sync.Mutex

// provision is a context of Caddy's with these apps, which logs errors only.
func provision(t testing.TB, apps caddy.ModuleMap) (caddy.Context, context.CancelFunc) {
	t.Helper()
	provisioning.Lock()
	defer provisioning.Unlock()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		AppsRaw: apps,
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return caddy.NewContext(ctx)
}

// awaitScan waits until the cache has read its directory: nothing is filled before,
// and a busy machine may take its time.
func (s *site) awaitScan(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); s.app.Status().Caches[0].State == diskcache.Scanning; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the cache is still reading its directory")
		}
	}
}

// settle waits until no fill runs, nor waits for its turn.
func (s *site) settle(t testing.TB) {
	t.Helper()
	c := s.h.Mounts[0].cache.Open()
	for end := time.Now().Add(10 * time.Second); c != nil; time.Sleep(time.Millisecond) {
		running, waiting := c.Turns("")
		if running+waiting == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%d fills run and %d wait, and do not end", running, waiting)
			return
		}
	}
}

// serveAs has the handler answer as Caddy's server would.
func serveAs(h *Handler, w http.ResponseWriter, r *http.Request) {
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	}))
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		w.WriteHeader(he.StatusCode)
	} else if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// mount is the JSON of a mount of dirs; more is added to it.
func mount(prefix, more string, dirs ...string) string {
	var origins []string
	for _, d := range dirs {
		origins = append(origins, fmt.Sprintf(`{"origin": "dir", "root": %q, "release_check": "50ms", "timeout": "2s"}`, d))
	}
	return fmt.Sprintf(`{"prefix": %q, "origins": [%s] %s}`, prefix, strings.Join(origins, ","), more)
}

// write makes a file of a tree that has been there for a while.
func write(t testing.TB, dir, name string, body []byte) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p+".new", body, 0o644); err != nil {
		t.Fatal(err)
	}
	age(t, p+".new", time.Hour+time.Duration(len(body))*time.Second)
	if err := os.Rename(p+".new", p); err != nil {
		t.Fatal(err)
	}
}

func age(t testing.TB, p string, d time.Duration) {
	t.Helper()
	then := time.Now().Add(-d)
	if err := os.Chtimes(p, then, then); err != nil {
		t.Fatal(err)
	}
}

// reads is how often the origin of the first mount was asked.
func (s *site) reads() uint64 {
	o := s.app.Status().Mounts[0].Origins[0]
	return o.Reads + o.Stats + o.Lists
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask makes a request; fields are "Name: value".
func (s *site) ask(t testing.TB, method, path string, fields ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return answer{resp.StatusCode, resp.Header, body}
}

// want checks status, body and the beginning of Cache-Status.
func (a answer) want(t testing.TB, status int, body []byte, cacheStatus string) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d", a.status, status)
	}
	if body != nil && !bytes.Equal(a.body, body) {
		t.Errorf("got a body of %d bytes, want %d, or others", len(a.body), len(body))
	}
	if got := a.header.Get("Cache-Status"); !strings.HasPrefix(got, "mirror; "+cacheStatus) {
		t.Errorf("Cache-Status is %q, want mirror; %s", got, cacheStatus)
	}
}

func TestCleanPath(t *testing.T) {
	for _, tc := range []struct {
		in, want string
	}{
		{"/", "/"},
		{"", "/"},
		{"/a", "/a"},
		{"/a/", "/a/"},
		{"//a//b", "/a/b"},
		{"/a/./b/", "/a/b/"},
		{"/a/..", "/"},
		{"/a/b/..", "/a/"},
		{"/a/.", "/a/"},
		{"/../../etc/passwd", "/etc/passwd"},
		{"/caf\xe9", "/caf\xe9"},
	} {
		if got := cleanPath(tc.in); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestWayOfARequest(t *testing.T) {
	tree := t.TempDir()
	bodies := map[string][]byte{
		"small":     []byte("small"),
		"empty":     {},
		"dir/a.whl": bytes.Repeat([]byte("0123456789"), 20_000),
		"large.iso": bytes.Repeat([]byte("abcdefgh"), 400_000),
	}
	for name, body := range bodies {
		write(t, tree, name, body)
	}
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	for name, body := range bodies {
		s.ask(t, "GET", "/t/"+name).want(t, 200, body, "fwd=uri-miss")
	}
	before := s.reads()
	for name, body := range bodies {
		for range 2 {
			a := s.ask(t, "GET", "/t/"+name)
			a.want(t, 200, body, "hit")
			if a.header.Get("Etag") == "" || a.header.Get("Last-Modified") == "" || a.header.Get("Age") == "" ||
				a.header.Get("Accept-Ranges") != "bytes" || a.header.Get("Content-Length") != fmt.Sprint(len(body)) {
				t.Errorf("%s: %v", name, a.header)
			}
		}
		s.ask(t, "HEAD", "/t/"+name).want(t, 200, []byte{}, "hit")
	}
	if n := s.reads() - before; n != 0 {
		t.Errorf("hits asked the origin %d times", n)
	}
	s.ask(t, "POST", "/t/small").wantStatus(t, 405)
	s.ask(t, "GET", "/elsewhere").wantStatus(t, http.StatusTeapot)
	s.ask(t, "GET", "/tt").wantStatus(t, http.StatusTeapot)
	s.ask(t, "GET", "/t/%00").wantStatus(t, 400)
	s.ask(t, "GET", "/t/a%0ab").wantStatus(t, 400)
	s.ask(t, "GET", "/t/%00/../small").wantStatus(t, 400)
	s.ask(t, "GET", "/elsewhere/%01").wantStatus(t, http.StatusTeapot)
}

func (a answer) wantStatus(t testing.TB, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d", a.status, status)
	}
}

func TestConditionsAndRanges(t *testing.T) {
	tree := t.TempDir()
	body := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	write(t, tree, "f", body)
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	head := s.ask(t, "HEAD", "/t/f")
	head.want(t, 200, []byte{}, "fwd=uri-miss")
	etag, mod := head.header.Get("Etag"), head.header.Get("Last-Modified")

	cases := []struct {
		field  string
		status int
		body   []byte
	}{
		{"Range: bytes=0-9", 206, body[:10]},
		{"Range: bytes=3000000-", 206, body[3000000:]},
		{"Range: bytes=-7", 206, body[len(body)-7:]},
		{"Range: bytes=99999999-", 416, nil},
		{"If-None-Match: " + etag, 304, []byte{}},
		{`If-None-Match: "other"`, 200, body},
		{"If-Modified-Since: " + mod, 304, []byte{}},
		{`If-Match: "other"`, 412, nil},
	}
	for _, state := range []string{"cold", "warm"} {
		for _, tc := range cases {
			a := s.ask(t, "GET", "/t/f", tc.field)
			if a.status != tc.status || tc.body != nil && !bytes.Equal(a.body, tc.body) {
				t.Errorf("%s, %s: status %d, %d bytes", state, tc.field, a.status, len(a.body))
			}
		}
		for _, tc := range []struct {
			tag    string
			status int
		}{{etag, 206}, {`"other"`, 200}} {
			if a := s.ask(t, "GET", "/t/f", "Range: bytes=5-8", "If-Range: "+tc.tag); a.status != tc.status {
				t.Errorf("%s, If-Range %s: status %d", state, tc.tag, a.status)
			}
		}
		s.settle(t)
		s.ask(t, "GET", "/t/f").want(t, 200, body, "hit")
	}
	if a := s.ask(t, "GET", "/t/f", "Range: bytes=0-1,100-101"); a.status != 206 ||
		!strings.HasPrefix(a.header.Get("Content-Type"), "multipart/byteranges") {
		t.Errorf("two ranges: %d %v", a.status, a.header)
	}
}

func TestRevalidation(t *testing.T) {
	tree := t.TempDir()
	one, two := []byte("one"), []byte("two, longer")
	write(t, tree, "f", one)
	s := newSite(t, mount("/t", `, "ttl": "1ms"`, tree))
	s.ask(t, "GET", "/t/f").want(t, 200, one, "fwd=uri-miss")
	time.Sleep(5 * time.Millisecond)
	before := s.app.Status().Mounts[0].Origins[0].ReadBytes
	s.ask(t, "GET", "/t/f").want(t, 200, one, "fwd=stale; fwd-status=304")
	if s.app.Status().Mounts[0].Origins[0].ReadBytes != before {
		t.Error("an unchanged file was read again")
	}
	write(t, tree, "f", two)
	time.Sleep(5 * time.Millisecond)
	s.ask(t, "GET", "/t/f").want(t, 200, two, "fwd=stale; fwd-status=200")
	if err := os.Remove(filepath.Join(tree, "f")); err != nil {
		t.Fatal(err)
	}
	write(t, tree, "other", one) // an empty tree would be one that is not mounted
	time.Sleep(5 * time.Millisecond)
	s.ask(t, "GET", "/t/f").want(t, 404, nil, "fwd=stale; fwd-status=404")
	write(t, tree, "f", one)
	time.Sleep(5 * time.Millisecond)
	s.ask(t, "GET", "/t/f").want(t, 200, one, "fwd=uri-miss")
}

func TestOriginAway(t *testing.T) {
	tree := filepath.Join(t.TempDir(), "tree")
	write(t, tree, "f", []byte("f"))
	write(t, tree, "d/index.html", []byte("index"))
	s := newSite(t, mount("/t", `, "ttl": "1ms"`, tree), mount("/short", `, "ttl": "1ms", "max_stale": "30ms"`, tree))
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("f"), "fwd=uri-miss")
	s.ask(t, "GET", "/short/f").want(t, 200, []byte("f"), "fwd=uri-miss")
	s.ask(t, "GET", "/t/d").want(t, 308, nil, "")
	s.ask(t, "GET", "/t/d/").want(t, 200, []byte("index"), "fwd=uri-miss")
	if err := os.Rename(tree, tree+".away"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	for range 5 {
		s.ask(t, "GET", "/t/f").want(t, 200, []byte("f"), "hit; ttl=-")
		s.ask(t, "GET", "/t/d").wantStatus(t, 308)
		s.ask(t, "GET", "/t/d/").want(t, 200, []byte("index"), "hit; ttl=-")
		a := s.ask(t, "GET", "/t/uncached")
		a.want(t, 503, nil, "fwd=")
		if a.header.Get("Retry-After") == "" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("503 has %v", a.header)
		}
		s.ask(t, "GET", "/short/f").wantStatus(t, 503)
	}
	if err := os.Rename(tree+".away", tree); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if a := s.ask(t, "GET", "/t/f"); strings.Contains(a.header.Get("Cache-Status"), "304") {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the origin is back, and is not asked")
}

func TestFallback(t *testing.T) {
	base := t.TempDir()
	first, second := filepath.Join(base, "1"), filepath.Join(base, "2")
	write(t, first, "f", []byte("first"))
	write(t, second, "f", []byte("second, as it happens"))
	write(t, second, "only", []byte("x"))
	s := newSite(t, mount("/t", `, "ttl": "1ms"`, first, second))
	s.ask(t, "GET", "/t/only").wantStatus(t, 404)
	if err := os.Rename(first, first+".away"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // that it is away is seen at the next look
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("second, as it happens"), "fwd=uri-miss")
	time.Sleep(5 * time.Millisecond)
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("second, as it happens"), "fwd=stale; fwd-status=304")
	if err := os.Rename(first+".away", first); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if a := s.ask(t, "GET", "/t/f"); string(a.body) == "first" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the first origin is back, and is not asked")
}

func TestReleaseSwitch(t *testing.T) {
	base := t.TempDir()
	tree := filepath.Join(base, "current")
	for _, rel := range []string{"r1", "r2"} {
		write(t, filepath.Join(base, rel), "index", []byte("index of "+rel+strings.Repeat(".", len(rel)*int(rel[1]))))
		write(t, filepath.Join(base, rel), "pool/big", bytes.Repeat([]byte("x"), 2<<20))
	}
	// What did not change keeps its time.
	for _, rel := range []string{"r1", "r2"} {
		if err := os.Chtimes(filepath.Join(base, rel, "pool/big"), time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
			t.Fatal(err)
		}
	}
	point := func(rel string) {
		os.Remove(tree + ".new")
		if err := errors.Join(os.Symlink(rel, tree+".new"), os.Rename(tree+".new", tree)); err != nil {
			t.Fatal(err)
		}
	}
	point("r1")
	s := newSite(t, mount("/t", `, "ttl": "1ms"`, tree))
	s.ask(t, "GET", "/t/index").wantStatus(t, 200)
	s.ask(t, "GET", "/t/pool/big").wantStatus(t, 200)
	time.Sleep(10 * time.Millisecond)
	// The release holds: fresh, whatever the ttl.
	s.ask(t, "GET", "/t/index").want(t, 200, nil, "hit")
	s.ask(t, "GET", "/t/pool/big").want(t, 200, nil, "hit")
	point("r2")
	for range 100 {
		if a := s.ask(t, "GET", "/t/index"); bytes.HasPrefix(a.body, []byte("index of r2")) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	before := s.app.Status().Mounts[0].Origins[0].ReadBytes
	s.ask(t, "GET", "/t/pool/big").want(t, 200, nil, "fwd=stale; fwd-status=304")
	s.ask(t, "GET", "/t/pool/big").want(t, 200, nil, "hit")
	if n := s.app.Status().Mounts[0].Origins[0].ReadBytes - before; n != 0 {
		t.Errorf("%d bytes of an unchanged file were read again", n)
	}
	if a := s.ask(t, "GET", "/t/index"); !bytes.HasPrefix(a.body, []byte("index of r2")) {
		t.Errorf("an older release after a newer one: %s", a.body[:20])
	}
}

func TestCollapsing(t *testing.T) {
	tree := t.TempDir()
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	write(t, tree, "f", body)
	s := newSite(t, mount("/t", "", tree))
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() { s.ask(t, "GET", "/t/f").want(t, 200, body, "") })
	}
	wg.Wait()
	o := s.app.Status().Mounts[0].Origins[0]
	if o.ReadBytes != uint64(len(body)) || o.Reads != 1 {
		t.Errorf("30 clients read %d bytes of the origin in %d reads, want %d in 1", o.ReadBytes, o.Reads, len(body))
	}
}

func TestDirectories(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "d/index.html", []byte("index"))
	write(t, tree, "list/a.txt", []byte("a"))
	write(t, tree, "list/.secret", []byte("s"))
	write(t, tree, "list/sub/x", []byte("x"))
	s := newSite(t, mount("/t", `, "browse": true, "hide": [".*", "list/sub"]`, tree), mount("/plain", "", tree))
	for _, tc := range []struct {
		path     string
		status   int
		location string
		body     string
	}{
		{"/t", 308, "/t/", ""},
		{"/t/d", 308, "/t/d/", ""},
		{"/t/d?x=1", 308, "/t/d/?x=1", ""},
		{"/t/d/", 200, "", "index"},
		{"/t/d/index.html", 200, "", "index"},
		{"/t/d/index.html/", 308, "/t/d/index.html", ""},
		{"/t/list/", 200, "", `href="./a.txt"`},
		{"/t/list/.secret", 404, "", ""},
		{"/t/list/sub/x", 404, "", ""},
		{"/t/nothing", 404, "", ""},
		{"/t/nothing/", 404, "", ""},
		{"/plain/list/", 404, "", ""},
		{"/plain/list", 308, "/plain/list/", ""},
		{"/plain/", 404, "", ""},
		{"/t//d", 308, "/t/d/", ""},
	} {
		for range 2 {
			a := s.ask(t, "GET", tc.path)
			if a.status != tc.status || a.header.Get("Location") != tc.location || !bytes.Contains(a.body, []byte(tc.body)) {
				t.Errorf("%s: %d %q\n%.300s", tc.path, a.status, a.header.Get("Location"), a.body)
			}
		}
	}
	if a := s.ask(t, "GET", "/t/list/"); bytes.Contains(a.body, []byte("secret")) || bytes.Contains(a.body, []byte("sub")) {
		t.Error("a listing shows what is hidden")
	}
	if a := s.ask(t, "GET", "/t/list/", "Accept: application/json"); !json.Valid(a.body) {
		t.Errorf("listing in JSON: %s", a.body)
	}
}

func TestPrecompressed(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f.html", []byte("plain"))
	write(t, tree, "f.html.gz", []byte("gzipped"))
	write(t, tree, "left.html.gz", []byte("gzipped"))
	s := newSite(t, mount("/t", `, "precompressed": {"gzip": {}}, "precompressed_order": ["gzip"]`, tree))
	s.ask(t, "GET", "/t/left.html", "Accept-Encoding: gzip").wantStatus(t, 404)
	for range 2 {
		gz := s.ask(t, "GET", "/t/f.html", "Accept-Encoding: gzip")
		plain := s.ask(t, "GET", "/t/f.html")
		if string(gz.body) != "gzipped" || gz.header.Get("Content-Encoding") != "gzip" ||
			!strings.HasPrefix(gz.header.Get("Content-Type"), "text/html") || gz.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s %v", gz.body, gz.header)
		}
		if string(plain.body) != "plain" || plain.header.Get("Content-Encoding") != "" || plain.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s %v", plain.body, plain.header)
		}
		if gz.header.Get("Etag") == plain.header.Get("Etag") {
			t.Error("two representations share an ETag")
		}
		if a := s.ask(t, "GET", "/t/f.html", "Accept-Encoding: gzip", "If-None-Match: "+gz.header.Get("Etag")); a.status != 304 {
			t.Errorf("status %d", a.status)
		}
		if a := s.ask(t, "GET", "/t/f.html", "Accept-Encoding: gzip", `If-None-Match: "other"`); a.header.Get("Content-Length") != "7" {
			t.Errorf("no length: %v", a.header)
		}
	}
}

func TestNegativeAnswersAreCached(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("f"))
	s := newSite(t, mount("/t", "", tree))
	s.ask(t, "GET", "/t/nothing").want(t, 404, nil, "fwd=uri-miss")
	before := s.reads()
	a := s.ask(t, "GET", "/t/nothing")
	a.want(t, 404, nil, "hit")
	if s.reads() != before || a.header.Get("Cache-Control") != "public, max-age=10" {
		t.Errorf("asked %d times, %v", s.reads()-before, a.header)
	}
}

// TestCorruptEntry: a download goes on from the origin where the cache fails.
func TestCorruptEntry(t *testing.T) {
	tree := t.TempDir()
	body := bytes.Repeat([]byte("0123456789abcdef"), 400_000)
	write(t, tree, "f", body)
	m := mount("/t", `, "ttl": "1h"`, tree)
	s := newSite(t, m)
	s.ask(t, "GET", "/t/f").want(t, 200, body, "fwd=uri-miss")
	s.settle(t)
	if err := s.app.Stop(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(s.dir, "objects/*/*"))
	if len(files) != 1 {
		t.Fatalf("there are %q", files)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("X"), 5_000_000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := s.app.Start(); err != nil {
		t.Fatal(err)
	}
	s.ask(t, "GET", "/t/f").want(t, 200, body, "hit")
	if n := s.app.Status().Caches[0].Corrupt; n != 1 {
		t.Errorf("%d corrupt entries were found", n)
	}
	s.ask(t, "GET", "/t/f").want(t, 200, body, "fwd=uri-miss")
}

// TestWithoutCache: a mirror whose cache is closed passes everything through.
func TestWithoutCache(t *testing.T) {
	tree := t.TempDir()
	body := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	write(t, tree, "f", body)
	s := newSite(t, mount("/t", "", tree))
	if err := s.app.Stop(); err != nil {
		t.Fatal(err)
	}
	s.ask(t, "GET", "/t/f").want(t, 200, body, "fwd=bypass")
	if a := s.ask(t, "GET", "/t/f", "Range: bytes=10-19"); a.status != 206 || !bytes.Equal(a.body, body[10:20]) {
		t.Errorf("range: %d", a.status)
	}
	s.ask(t, "GET", "/t/nothing").wantStatus(t, 404)
	if err := s.app.Start(); err != nil {
		t.Fatal(err)
	}
}

func TestPurge(t *testing.T) {
	tree := t.TempDir()
	for _, name := range []string{"a", "d/index.html", "d/x", "e/x"} {
		write(t, tree, name, []byte(name))
	}
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	fetch := func(status string) {
		t.Helper()
		for _, p := range []string{"/t/a", "/t/d/", "/t/d/x", "/t/e/x"} {
			s.ask(t, "GET", p).want(t, 200, nil, status)
		}
	}
	fetch("fwd=uri-miss")
	for _, tc := range []struct {
		path, prefix string
		purged       int
	}{{"/a", "", 1}, {"d/", "", 1}, {"/nothing", "", 0}, {"", "/d", 1}, {"", "", 1}} {
		if n, err := s.app.Purge("/t", tc.path, tc.prefix); n != tc.purged || err != nil {
			t.Errorf("path %q, prefix %q: purged %d, %v; want %d", tc.path, tc.prefix, n, err, tc.purged)
		}
	}
	fetch("fwd=uri-miss")
	if _, err := s.app.Purge("/other", "", ""); err == nil {
		t.Error("a mount that is not there was purged")
	}
}

func TestNestedPrefixes(t *testing.T) {
	outer, inner := t.TempDir(), t.TempDir()
	write(t, outer, "a/f", []byte("outer"))
	write(t, outer, "ab/f", []byte("outer ab"))
	write(t, inner, "f", []byte("inner"))
	s := newSite(t, mount("/", "", outer), mount("/a", "", inner))
	s.ask(t, "GET", "/a/f").want(t, 200, []byte("inner"), "")
	s.ask(t, "GET", "/ab/f").want(t, 200, []byte("outer ab"), "")
	s.ask(t, "GET", "/x/../a/f").want(t, 200, []byte("inner"), "")
}

// TestOneFillForSmallObjects: a request that has looked into the cache just
// before a fill ended does not begin another.
func TestOneFillForSmallObjects(t *testing.T) {
	tree := t.TempDir()
	for n := range 100 {
		write(t, tree, fmt.Sprint("f", n), bytes.Repeat([]byte("x"), 3000))
	}
	s := newSite(t, mount("/t", "", tree))
	for n := range 100 {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { s.ask(t, "GET", fmt.Sprint("/t/f", n)).want(t, 200, nil, "") })
		}
		wg.Wait()
	}
	if o := s.app.Status().Mounts[0].Origins[0]; o.Reads != 100 {
		t.Errorf("the origin was read %d times for 100 objects", o.Reads)
	}
}

// TestWiden: only Caddy's defaults are made wider, not what someone has chosen.
func TestWiden(t *testing.T) {
	for _, tc := range []struct {
		name        string
		chunk       int
		timeout     time.Duration
		minRate     int64
		tls         bool
		wantChunk   int
		wantTimeout time.Duration
	}{
		{"plain", caddyhttp.DefaultMaxWriteChunk, time.Minute, 0, false, 1 << 20, 4 * time.Minute},
		{"TLS", caddyhttp.DefaultMaxWriteChunk, time.Minute, 0, true, 256 << 10, time.Minute},
		{"chunk chosen", 16 << 10, time.Minute, 0, false, 16 << 10, time.Minute},
		{"large chunk chosen", 2 << 20, time.Minute, 0, false, 2 << 20, time.Minute},
		{"timeout chosen", caddyhttp.DefaultMaxWriteChunk, time.Second, 0, false, 256 << 10, time.Second},
		{"rate chosen", caddyhttp.DefaultMaxWriteChunk, time.Minute, 1000, false, 256 << 10, time.Minute},
	} {
		w := &caddyhttp.IdleTimeoutWriter{MaxChunk: tc.chunk, Deadline: caddyhttp.IdleDeadline{Timeout: tc.timeout, MinRate: tc.minRate}}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if tc.tls {
			r.TLS = new(tls.ConnectionState)
		}
		widen(r.WithContext(caddyhttp.ContextWithIdleTimeouts(r.Context(), nil, w)))
		if w.MaxChunk != tc.wantChunk || w.Deadline.Timeout != tc.wantTimeout {
			t.Errorf("%s: %d in %v, want %d in %v", tc.name, w.MaxChunk, w.Deadline.Timeout, tc.wantChunk, tc.wantTimeout)
		}
	}
	widen(httptest.NewRequest(http.MethodGet, "/", nil)) // no idle timeouts: nothing to widen
}

// TestHeaderRewrite: what another handler does to a response's fields is done
// to that response alone.
func TestHeaderRewrite(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("f"))
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	s.ask(t, "GET", "/t/f").wantStatus(t, 200)
	for range 3 {
		rec := httptest.NewRecorder()
		serveAs(s.h, rec, httptest.NewRequest(http.MethodGet, "/t/f", nil))
		for _, values := range rec.Header() {
			values[0] = "spoiled"
		}
		for field, values := range s.ask(t, "GET", "/t/f").header {
			if values[0] == "spoiled" {
				t.Errorf("%s is spoiled", field)
			}
		}
	}
}

// TestLateVerdict: a change that the origin tells of when nobody waits any more
// is fetched all the same.
func TestLateVerdict(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("one"))
	s := newSite(t, mount("/t", `, "ttl": "1ms", "revalidate_timeout": 1`, tree))
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("one"), "")
	write(t, tree, "f", []byte("two, longer"))
	for range 200 {
		if string(s.ask(t, "GET", "/t/f").body) != "one" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the new version never comes")
}

// TestFallbackHasLess: a fall-back that lacks a file takes nothing away.
func TestFallbackHasLess(t *testing.T) {
	base := t.TempDir()
	first, second := filepath.Join(base, "1"), filepath.Join(base, "2")
	write(t, first, "f", []byte("first"))
	write(t, second, "other", []byte("x"))
	s := newSite(t, mount("/t", `, "ttl": "1ms"`, first, second))
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("first"), "fwd=uri-miss")
	if err := os.Rename(first, first+".away"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("first"), "hit; ttl=-")
	s.ask(t, "GET", "/t/never").wantStatus(t, 503)
	s.ask(t, "GET", "/t/other").want(t, 200, []byte("x"), "fwd=uri-miss")
	// A file is served though it has no compressed form.
	s = newSite(t, mount("/t", `, "precompressed": {"gzip": {}}, "precompressed_order": ["gzip"]`, first, second))
	s.ask(t, "GET", "/t/other", "Accept-Encoding: gzip").want(t, 200, []byte("x"), "fwd=uri-miss")
	// Nor does it need the first of several index files, or any.
	write(t, second, "d/index.htm", []byte("index"))
	s = newSite(t, mount("/t", `, "index_names": ["index.html", "index.htm"]`, first, second))
	s.ask(t, "GET", "/t/d/").want(t, 200, []byte("index"), "fwd=uri-miss")
	s.ask(t, "GET", "/t/").wantStatus(t, 503)
	s = newSite(t, mount("/t", `, "browse": true`, first, second))
	if a := s.ask(t, "GET", "/t/"); a.status != 200 || !strings.Contains(string(a.body), "./other") {
		t.Errorf("listing: %d\n%s", a.status, a.body)
	}
	s.ask(t, "GET", "/t/never/").wantStatus(t, 503)
}

// TestMaxStaleOfRelease: a release that nobody can see any more does not hold
// for ever.
func TestMaxStaleOfRelease(t *testing.T) {
	base := t.TempDir()
	write(t, base, "r1/f", []byte("f"))
	tree := filepath.Join(base, "current")
	if err := os.Symlink("r1", tree); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, mount("/t", `, "max_stale": "500ms"`, tree))
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("f"), "fwd=uri-miss")
	time.Sleep(time.Second)
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("f"), "hit")
	if err := os.Remove(tree); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	s.ask(t, "GET", "/t/f").wantStatus(t, 503)
}

func TestListingOfRoot(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("f"))
	s := newSite(t, mount("/", `, "browse": true, "ttl": "1h"`, tree))
	if a := s.ask(t, "GET", "/"); a.status != 200 || !bytes.Contains(a.body, []byte(`href="./f"`)) {
		t.Errorf("status %d", a.status)
	}
	write(t, tree, "new", []byte("f"))
	if _, err := s.app.Purge("/", "", ""); err != nil {
		t.Fatal(err)
	}
	if a := s.ask(t, "GET", "/"); !bytes.Contains(a.body, []byte(`href="./new"`)) {
		t.Error("a purge leaves an old listing")
	}
}

// TestPassedThrough: what is not cached and has no validator is sent whole.
func TestPassedThrough(t *testing.T) {
	tree := t.TempDir()
	body := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	write(t, tree, "f", body)
	age(t, filepath.Join(tree, "f"), -time.Hour) // in the future: it may change yet
	s := newSite(t, mount("/t", "", tree))
	if err := s.app.Stop(); err != nil {
		t.Fatal(err)
	}
	s.ask(t, "GET", "/t/f", "Range: bytes=1000-1999").want(t, 200, body, "fwd=bypass")
	if err := s.app.Start(); err != nil {
		t.Fatal(err)
	}
}

// TestFilledBeforeRelease: an entry from before the release was known is not
// fresh for the TTL once it is.
func TestFilledBeforeRelease(t *testing.T) {
	base := t.TempDir()
	write(t, base, "r1/f", []byte("f"))
	if err := os.Symlink("r1", filepath.Join(base, "current")); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, mount("/t", `, "ttl": "1h"`, filepath.Join(base, "current")))
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("f"), "fwd=uri-miss")
	m := s.h.Mounts[0]
	e, ok := m.cache.Open().Get(m.key("f"))
	if !ok {
		t.Fatal("it is not cached")
	}
	e.Refresh(diskcache.Freshness{At: time.Now()})
	e.Close()
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("f"), "fwd=stale; fwd-status=304")
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("f"), "hit")
}
