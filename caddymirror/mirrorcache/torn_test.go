package mirrorcache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestTorn: a file is overwritten in place while it is being sent. Whatever part
// of it a client asks for, it gets bytes of one version, or a connection that
// is cut.
func TestTorn(t *testing.T) {
	const size = 48 << 20 // more than sockets hold
	for _, tc := range []struct {
		name, spec string
		first      string // a request that has begun a fill
	}{
		{"whole", "", ""},
		{"range", "bytes=1048576-", ""},
		{"range that ends early", "bytes=1048576-50331646", ""},
		{"range of a fill", "bytes=65536-50331646", "x"},
		{"several ranges", "bytes=0-40000000,40000001-50331646", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := t.TempDir()
			write(t, tree, "f", bytes.Repeat([]byte("a"), size))
			s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
			if tc.first != "" {
				closeAfter(t, s, "/t/f")
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/t/f", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.spec != "" {
				r.Header.Set("Range", tc.spec)
			}
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			p := make([]byte, 1000)
			if _, err := io.ReadFull(resp.Body, p); err != nil {
				t.Fatal(err)
			}
			overwrite(t, filepath.Join(tree, "f"), bytes.Repeat([]byte("b"), size))
			rest, err := io.ReadAll(resp.Body)
			got := slices.Concat(p, rest)
			if tc.name != "several ranges" && bytes.Contains(got, []byte("a")) && bytes.Contains(got, []byte("b")) {
				t.Errorf("a torn response: %d bytes, %d of the new version, error %v", len(got), bytes.Count(got, []byte("b")), err)
			}
			if n := bytes.Count(got, []byte("bbbb")); tc.name == "several ranges" && n > 0 {
				t.Errorf("a torn response: %d times four bytes of the new version", n)
			}
			if err == nil {
				t.Log("all of it was sent before the change was seen")
			}
		})
	}
}

// closeAfter begins to read an object, and leaves.
func closeAfter(t *testing.T, s *site, path string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// overwrite writes body into the file as it lies.
func overwrite(t *testing.T, path string, body []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(body, 0); err != nil {
		t.Fatal(err)
	}
}
