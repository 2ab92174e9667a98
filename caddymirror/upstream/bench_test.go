package upstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

// BenchmarkFetch compares a fetch with the bare transport: what asking costs for a small
// body, and what watching it costs for a large one.
func BenchmarkFetch(b *testing.B) {
	chunk := make([]byte, 1<<20)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		w.Header().Set("Content-Length", strconv.Itoa(n))
		for ; n > 0; n -= min(n, len(chunk)) {
			w.Write(chunk[:min(n, len(chunk))])
		}
	}))
	defer s.Close()
	u, err := New(Config{URL: s.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	buf := make([]byte, 64<<10)
	drain := func(b *testing.B, r io.ReadCloser, size int64) {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf)
		if err != nil || n != size {
			b.Fatal(n, err)
		}
		r.Close()
	}
	for _, size := range []int64{10, 64 << 20} {
		target := "/" + strconv.FormatInt(size, 10)
		b.Run("direct/"+target[1:], func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				req, err := http.NewRequest(http.MethodGet, s.URL+target, nil)
				if err != nil {
					b.Fatal(err)
				}
				resp, err := u.transport.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				drain(b, resp.Body, size)
			}
		})
		b.Run("upstream/"+target[1:], func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := u.Fetch(b.Context(), Request{Target: target})
				if err != nil {
					b.Fatal(err)
				}
				drain(b, resp.Body, size)
			}
		})
	}
}
