package mirrorcache

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// manyDirs makes a tree with n directories in "simple".
func manyDirs(t testing.TB, n int) string {
	t.Helper()
	tree := t.TempDir()
	for i := range n {
		if err := os.MkdirAll(fmt.Sprintf("%s/simple/project-%05d", tree, i), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// heldDir is an origin whose listings begin when it is told so.
type heldDir struct {
	origin.Tree
	begun, start chan struct{}
	reads        atomic.Int32
}

func (d *heldDir) ReadDir(ctx context.Context, name string) iter.Seq2[origin.Info, error] {
	if d.reads.Add(1) == 1 {
		close(d.begun)
	}
	<-d.start
	return d.Tree.ReadDir(ctx, name)
}

// TestListingCollapsed: a directory is read once, however many ask for it, and
// whether they wait for it or not.
func TestListingCollapsed(t *testing.T) {
	const n, clients = 1500, 50
	s := newSite(t, mount("/t", `, "browse": true, "ttl": "1h"`, manyDirs(t, n)))
	m := s.h.Mounts[0]
	held := &heldDir{Tree: m.origins[0].Tree, begun: make(chan struct{}), start: make(chan struct{})}
	m.origins[0].Tree = held

	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/t/simple/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-held.begun
		cancel()
	}()
	if resp, err := s.Client().Do(r); err == nil {
		resp.Body.Close()
		t.Error("the first client has an answer before there can be one")
	}

	var wg sync.WaitGroup
	var asked atomic.Int32
	for i := range clients {
		wg.Go(func() {
			accept := "Accept: " + []string{"text/html", "application/json", "text/plain"}[i%3]
			asked.Add(1)
			a := s.ask(t, "GET", "/t/simple/", accept)
			if a.status != 200 || bytes.Count(a.body, []byte("project-")) < n {
				t.Errorf("status %d, %d bytes", a.status, len(a.body))
			}
		})
	}
	for asked.Load() < clients {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	close(held.start)
	wg.Wait()
	if got := held.reads.Load(); got != 1 {
		t.Errorf("the directory was read %d times", got)
	}
	m.listings.check(t)
	m.nothingInUse(t)
}

// nothingInUse looks whether listings are in use. It forgets all of them.
func (m *Mount) nothingInUse(t *testing.T) {
	t.Helper()
	m.listings.forgetAll()
	m.listings.mu.Lock()
	defer m.listings.mu.Unlock()
	if len(m.listings.old) != 0 {
		t.Errorf("%d listings are in use that nobody uses", len(m.listings.old))
	}
}

// TestListingReplaced: what has changed is shown, what is gone is not, and old
// listings are let go of.
func TestListingReplaced(t *testing.T) {
	tree := manyDirs(t, 10)
	s := newSite(t, mount("/t", `, "browse": true, "ttl": "10ms"`, tree))
	again := func(want int, has string) {
		t.Helper()
		time.Sleep(50 * time.Millisecond)
		if a := s.ask(t, "GET", "/t/simple/"); a.status != want || !bytes.Contains(a.body, []byte(has)) {
			t.Errorf("status %d, want %d and %s", a.status, want, has)
		}
	}
	again(200, "project-00000")
	again(200, "project-00000")
	write(t, tree, "simple/new", nil)
	again(200, `href="./new"`)
	if err := os.RemoveAll(filepath.Join(tree, "simple")); err != nil {
		t.Fatal(err)
	}
	write(t, tree, "stays", nil)
	again(404, "")
	write(t, tree, "simple", []byte("a file"))
	time.Sleep(100 * time.Millisecond)
	s.ask(t, "GET", "/t/simple/").wantStatus(t, 308)
	s.h.Mounts[0].nothingInUse(t)
}

// TestListingHead: no page is made for HEAD.
func TestListingHead(t *testing.T) {
	s := newSite(t, mount("/t", `, "browse": true, "ttl": "1h"`, manyDirs(t, 10)))
	w := httptest.NewRecorder()
	serveAs(s.h, w, httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/t/simple/", nil))
	if w.Code != 200 || w.Body.Len() > 0 || w.Header().Get("Etag") == "" {
		t.Errorf("status %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
}

// TestListingCut: a directory that is too large is listed in part, says so, and
// nothing of it is held back otherwise.
func TestListingCut(t *testing.T) {
	s := newSite(t, mount("/t", `, "browse": true, "browse_memory": 65536`, manyDirs(t, 1500)))
	a := s.ask(t, "GET", "/t/simple/")
	rows := bytes.Count(a.body, []byte(`href="./project-`))
	if a.status != 200 || rows < 500 || rows > 2000 {
		t.Errorf("status %d, %d entries", a.status, rows)
	}
	if want := fmt.Sprintf("This listing is cut: the directory has more than these %d entries.", rows); !bytes.Contains(a.body, []byte(want)) {
		t.Errorf("the page does not say so:\n%.1500s", a.body)
	}
	for range 2 {
		a = s.ask(t, "GET", "/t/simple/", "Accept: application/json")
		if cs := a.header.Get("Cache-Status"); !json.Valid(a.body) || !strings.HasSuffix(cs, "; detail=listing-cut") {
			t.Errorf("Cache-Status: %s", cs)
		}
	}
	if a := s.ask(t, "GET", "/t/"); strings.Contains(a.header.Get("Cache-Status"), "cut") || bytes.Contains(a.body, []byte("cut")) {
		t.Error("a small directory is said to be cut")
	}
	s.h.Mounts[0].listings.check(t)
}

// TestListingConditional: who has a listing is not sent it again, before and after
// it was read anew; who has another form, part, or version of it, is.
func TestListingConditional(t *testing.T) {
	tree := manyDirs(t, 10)
	s := newSite(t, mount("/t", `, "browse": true, "ttl": "50ms"`, tree))
	first := s.ask(t, "GET", "/t/simple/")
	tag := first.header.Get("Etag")
	if tag == "" || first.header.Get("Vary") != "Accept" || first.header.Get("Cache-Control") != ccVolatile || first.header.Get("Age") == "" {
		t.Errorf("%v", first.header)
	}
	head := s.ask(t, "HEAD", "/t/simple/")
	for _, field := range []string{"Etag", "Content-Type", "Vary", "Cache-Control", "Content-Security-Policy"} {
		if got, want := head.header.Get(field), first.header.Get(field); got != want || got == "" {
			t.Errorf("HEAD: %s: %s, GET has %s", field, got, want)
		}
	}
	time.Sleep(100 * time.Millisecond)
	again := s.ask(t, "GET", "/t/simple/", "If-None-Match: "+tag)
	if again.status != 304 || len(again.body) > 0 || again.header.Get("Etag") != tag {
		t.Errorf("the same once more: %d, %v", again.status, again.header)
	}
	if cs := again.header.Get("Cache-Status"); cs != statusRevalidated {
		t.Errorf("Cache-Status: %s", cs)
	}
	for _, other := range [][]string{
		{"/t/simple/?sort=time"},
		{"/t/simple/?order=desc"},
		{"/t/simple/?limit=1"},
		{"/t/simple/?offset=1"},
		{"/t/simple/", "Accept: application/json"},
		{"/t/simple/", "Accept: text/plain"},
		{"/t/"},
	} {
		if a := s.ask(t, "GET", other[0], append(other[1:], "If-None-Match: "+tag)...); a.status != 200 {
			t.Errorf("%v: %d", other, a.status)
		}
	}

	// The date of a listing is no earlier than when it was seen, and comes once no
	// other can have it.
	var dated answer
	for end := time.Now().Add(5 * time.Second); dated.header.Get("Last-Modified") == "" && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		dated = s.ask(t, "HEAD", "/t/simple/")
	}
	since := "If-Modified-Since: " + dated.header.Get("Last-Modified")
	s.ask(t, "GET", "/t/simple/", since).wantStatus(t, 304)

	if err := os.Mkdir(filepath.Join(tree, "simple", "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	for _, field := range []string{"If-None-Match: " + tag, since} {
		a := s.ask(t, "GET", "/t/simple/", field)
		if a.status != 200 || !bytes.Contains(a.body, []byte(`href="./new/"`)) {
			t.Errorf("after a change, %s: %d", field, a.status)
		}
	}
}

// TestListingStale: an old listing is served while the origin is away, unless it is
// older than allowed.
func TestListingStale(t *testing.T) {
	tree := manyDirs(t, 10)
	s := newSite(t, mount("/t", `, "browse": true, "ttl": "10ms"`, tree), mount("/short", `, "browse": true, "ttl": "10ms", "max_stale": "20ms"`, tree),
		mount("/side", `, "browse": true, "ttl": "10ms", "precompressed": {"gzip": {}}, "precompressed_order": ["gzip"]`, tree),
		mount("/alone", `, "browse": true, "ttl": "10ms", "index_names": [], "max_stale": "20ms"`, tree))
	for _, p := range []string{"/t/simple/", "/short/simple/", "/side/simple/", "/alone/simple/"} {
		s.ask(t, "GET", p).wantStatus(t, 200)
	}
	if err := os.Rename(tree, tree+".away"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	for _, p := range []string{"/t/simple/", "/side/simple/"} {
		a := s.ask(t, "GET", p, "Accept-Encoding: gzip")
		if cs := a.header.Get("Cache-Status"); a.status != 200 || !strings.Contains(cs, "detail=origin-away") || !bytes.Contains(a.body, []byte("project-00009")) {
			t.Errorf("%s: status %d, %s", p, a.status, cs)
		}
	}
	s.ask(t, "GET", "/short/simple/").wantStatus(t, 503)
	s.ask(t, "GET", "/alone/simple/").wantStatus(t, 503)
	for _, m := range s.h.Mounts {
		m.nothingInUse(t)
	}
}

// TestListingOfSlowClients: they share one listing, and have small buffers besides.
func TestListingOfSlowClients(t *testing.T) {
	const n, clients = 200_000, 50
	infos := simple(n)
	s := newSite(t, mount("/t", `, "browse": true, "ttl": "1h"`, manyDirs(t, 1)))
	m := s.h.Mounts[0]
	m.listings.put("large", 0, 0, kept{listing: pack(t, defaultBrowseMemory, infos...), at: time.Now()})
	s.ask(t, "GET", "/t/large/").wantStatus(t, 200)

	before := heap()
	var conns []net.Conn
	for range clients {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /t/large/ HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	time.Sleep(500 * time.Millisecond)
	took := heap() - before
	runtime.KeepAlive(infos)
	t.Logf("%d slow clients: %d bytes each", clients, took/clients)
	if took > clients*(150<<10) {
		t.Errorf("%d slow clients take %d bytes each", clients, took/clients)
	}
	all, err := io.ReadAll(io.LimitReader(conns[0], 1<<20))
	if err != nil || len(all) != 1<<20 {
		t.Errorf("%d bytes, %v", len(all), err)
	}
	m.listings.mu.Lock()
	defer m.listings.mu.Unlock()
	if k, _ := m.listings.current.Peek("large"); k.refs < clients/2 {
		t.Errorf("only %d clients are being sent the listing: there is nothing to see here", k.refs)
	}
}

// TestListingAsFileServer: clients of file_server's listings find here what they
// know.
func TestListingAsFileServer(t *testing.T) {
	tree := t.TempDir()
	for i, name := range []string{"b.txt", "a.txt", "d/x", "c/x", "e&f #1?.txt", "g:h", "n%41", "sp ace", "a;b,c=d@e+f$'\"<!*()", "Upper", "long/" + strings.Repeat("x", 100)} {
		write(t, tree, name, bytes.Repeat([]byte("x"), (i*37)%11))
	}
	s := newSite(t, mount("/", `, "browse": true`, tree))

	ctx, cancel := provision(t, nil)
	t.Cleanup(cancel)
	mod, err := ctx.LoadModuleByID("http.handlers.file_server", fmt.Appendf(nil, `{"root": %q, "browse": {}, "index_names": []}`, tree))
	if err != nil {
		t.Fatal(err)
	}
	theirs := func(url string) []map[string]any {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "GET", url, nil)
		r.Header.Set("Accept", "application/json")
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		if err := mod.(*fileserver.FileServer).ServeHTTP(w, r, nil); err != nil {
			t.Fatal(err)
		}
		return items(t, w.Body.Bytes())
	}
	for _, query := range []string{
		"", "?sort=name", "?sort=size", "?sort=name&order=desc", "?order=desc", "?sort=size&order=desc",
		"?limit=3", "?offset=2", "?offset=2&limit=3", "?limit=-1&offset=x", "?sort=nonsense&order=nonsense", "?limit=100",
	} {
		want, got := theirs("/"+query), items(t, s.ask(t, "GET", "/"+query, "Accept: application/json").body)
		if strings.Contains(query, "sort=nonsense") { // theirs is not sorted then
			want = theirs("/")
		}
		if len(got) != len(want) || len(got) == 0 {
			t.Errorf("%q: %d items, file_server has %d", query, len(got), len(want))
			continue
		}
		for i := range got {
			for field, v := range want[i] {
				switch field {
				case "mode": // we show what clients may do
				case "size":
					if want[i]["is_dir"] == false && got[i][field] != v {
						t.Errorf("%q: %v: size %v, file_server has %v", query, got[i]["name"], got[i][field], v)
					}
				case "mod_time":
					if !strings.HasPrefix(v.(string), strings.TrimSuffix(got[i][field].(string), "Z")) {
						t.Errorf("%q: %v: time %v, file_server has %v", query, got[i]["name"], got[i][field], v)
					}
				default:
					if got[i][field] != v {
						t.Errorf("%q: item %d: %s is %v, of file_server %v", query, i, field, got[i][field], v)
					}
				}
			}
		}
	}
}

func items(t testing.TB, body []byte) []map[string]any {
	t.Helper()
	var all []map[string]any
	if err := json.Unmarshal(body, &all); err != nil {
		t.Fatalf("%v:\n%.300s", err, body)
	}
	return slices.Clip(all)
}

func TestBrowseMemory(t *testing.T) {
	for config, want := range map[string]string{
		`"browse": true, "browse_memory": 65536`: "",
		`"browse": true, "browse_memory": 65535`: "less than 64 KiB",
		`"browse": true, "browse_memory": -1`:    "less than 64 KiB",
		`"browse_memory": 1048576`:               "browse_memory without browse",
	} {
		m := new(Mount)
		if err := json.Unmarshal([]byte("{"+config+"}"), m); err != nil {
			t.Fatal(err)
		}
		err := m.provisionBrowse()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", config, err)
		}
	}
	m := &Mount{Browse: true}
	if err := m.provisionBrowse(); err != nil || m.BrowseMemory != 64<<20 {
		t.Errorf("by default: %d, %v", m.BrowseMemory, err)
	}
}
