package mirrorcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// discard is a response nobody reads.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// benchmarkHit asks for a hit of so many bytes; field, if any, is added to the
// request, with the ETag in the place of ETAG.
func benchmarkHit(b *testing.B, size int, field ...string) {
	tree := b.TempDir()
	write(b, tree, "f", bytes.Repeat([]byte("x"), size))
	s := newSite(b, mount("/t", `, "ttl": "1h"`, tree))
	first := s.ask(b, "GET", "/t/f")
	first.wantStatus(b, 200)
	s.settle(b)
	h := s.h
	r := httptest.NewRequest(http.MethodGet, "/t/f", nil)
	for _, f := range field {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, strings.ReplaceAll(value, "ETAG", first.header.Get("Etag")))
	}
	w := &discard{http.Header{}}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		if err := h.ServeHTTP(w, r, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHit4KiB(b *testing.B)        { benchmarkHit(b, 4<<10) }
func BenchmarkHit64KiB(b *testing.B)       { benchmarkHit(b, 64<<10) }
func BenchmarkHit1MiB(b *testing.B)        { benchmarkHit(b, 1<<20) }
func BenchmarkHitNotModified(b *testing.B) { benchmarkHit(b, 64<<10, "If-None-Match: ETAG") }
func BenchmarkHitRange(b *testing.B)       { benchmarkHit(b, 64<<10, "Range: bytes=1000-4999") }
func BenchmarkHitRanges(b *testing.B)      { benchmarkHit(b, 64<<10, "Range: bytes=0-0,1000-4999") }
func BenchmarkHit64MiB(b *testing.B)       { benchmarkHit(b, 64<<20) }

// BenchmarkHitPackage is a file that the format has no plan for.
func BenchmarkHitPackage(b *testing.B) {
	tree := b.TempDir()
	write(b, tree, "packages/aa/bb/cc/p-1.0-py3-none-any.whl", bytes.Repeat([]byte("x"), 4<<10))
	s := newSite(b, mount("/pypi", pypiFormat, tree))
	s.ask(b, "GET", "/pypi/packages/aa/bb/cc/p-1.0-py3-none-any.whl").wantStatus(b, 200)
	s.settle(b)
	r := httptest.NewRequest(http.MethodGet, "/pypi/packages/aa/bb/cc/p-1.0-py3-none-any.whl", nil)
	w := &discard{http.Header{}}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		if err := s.h.ServeHTTP(w, r, nil); err != nil {
			b.Fatal(err)
		}
	}
	if got := w.h.Get("Cache-Control"); got != ccImmutable {
		b.Fatal(got)
	}
}

// BenchmarkHitNegotiated is a warm page of a project, as pip asks for it: of a tree that
// has JSON, and of one that has the last candidate only.
func BenchmarkHitNegotiated(b *testing.B) {
	for name, file := range map[string]string{"first": "index.v1_json", "last": "index.html"} {
		b.Run(name, func(b *testing.B) {
			tree := b.TempDir()
			pages(b, tree, "1/simple/p", 5, file)
			link := filepath.Join(tree, "current")
			if err := os.Symlink("1", link); err != nil {
				b.Fatal(err)
			}
			s := newSite(b, mount("/pypi", pypiFormat, link))
			s.ask(b, "GET", "/pypi/simple/p/", pipAccept).wantStatus(b, 200)
			s.settle(b)
			r := httptest.NewRequest(http.MethodGet, "/pypi/simple/p/", nil)
			_, accept, _ := strings.Cut(pipAccept, ": ")
			r.Header.Set("Accept", accept)
			w := &discard{http.Header{}}
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
			b.ReportAllocs()
			for b.Loop() {
				clear(w.h)
				if err := s.h.ServeHTTP(w, r, nil); err != nil {
					b.Fatal(err)
				}
			}
			if got := w.h.Get("Cache-Status"); got != statusHit {
				b.Fatal(got)
			}
		})
	}
}

// BenchmarkHitUpstream is a hit of what an HTTP upstream has answered with a dozen fields.
func BenchmarkHitUpstream(b *testing.B) {
	u := httptest.NewServer(give(200, strings.Repeat("x", 4<<10), `Etag: "5f0c"`, "Cache-Control: public, max-age=3600", "Content-Type: text/html",
		"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "Vary: Accept", "X-PyPI-Last-Serial: 1", "X-Frame-Options: deny", "X-XSS-Protection: 1",
		"X-Content-Type-Options: nosniff", "Content-Security-Policy: default-src 'none'", "Referrer-Policy: origin", "Link: <a>", "Link: <b>"))
	defer u.Close()
	s := newSite(b, `{"prefix": "/w", "origins": [{"origin": "http", "upstreams": ["`+u.URL+`"]}]}`)
	s.ask(b, "GET", "/w/simple/p/", "Accept: text/html").wantStatus(b, 200)
	s.settle(b)
	r := httptest.NewRequest(http.MethodGet, "/w/simple/p/", nil)
	r.Header.Set("Accept", "text/html")
	w := &discard{http.Header{}}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		if err := s.h.ServeHTTP(w, r, nil); err != nil {
			b.Fatal(err)
		}
	}
	if got := w.h.Get("Cache-Status"); got != statusHit {
		b.Fatal(got)
	}
}
