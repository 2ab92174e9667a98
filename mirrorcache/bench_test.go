package mirrorcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// discard is a response nobody reads.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func benchmarkHit(b *testing.B, size int) {
	tree := b.TempDir()
	write(b, tree, "f", bytes.Repeat([]byte("x"), size))
	s := newSite(b, mount("/t", `, "ttl": "1h"`, tree))
	s.ask(b, "GET", "/t/f").wantStatus(b, 200)
	s.settle(b)
	h := s.h
	r := httptest.NewRequest(http.MethodGet, "/t/f", nil)
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

func BenchmarkHit4KiB(b *testing.B)  { benchmarkHit(b, 4<<10) }
func BenchmarkHit64KiB(b *testing.B) { benchmarkHit(b, 64<<10) }
func BenchmarkHit1MiB(b *testing.B)  { benchmarkHit(b, 1<<20) }
func BenchmarkHit64MiB(b *testing.B) { benchmarkHit(b, 64<<20) }
