package upstreams

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// TestEncodings has an nginx that compresses: clients get the encoding that they accept,
// each with its own ETag, from one request to the upstream; ranges are of what is sent.
func TestEncodings(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	text := []byte(strings.Repeat("all work and no play makes jack a dull boy\n", 5000))
	if err := os.WriteFile(filepath.Join(tree, "text.txt"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "random.bin"), content("random", 1, 50_000), 0o644); err != nil {
		t.Fatal(err)
	}
	backdate(t, tree)
	u := startNginx(t, tree, "gzip on; gzip_proxied any; gzip_types *; gzip_vary on;")
	between := faulty.Start(t, u.url)
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", between.URL, "ttl 1h")))

	check := func(when string, want []byte, path string, header ...string) reply {
		t.Helper()
		got := ask(srv, http.MethodGet, path, header...)
		body := got.body
		switch enc := got.Header.Get("Content-Encoding"); enc {
		case "gzip":
			if !strings.Contains(strings.Join(header, " "), "gzip") {
				t.Errorf("%s: %v: gzip that nobody accepts", when, got)
			}
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err == nil {
				body, err = io.ReadAll(z)
			}
			if err != nil {
				t.Errorf("%s: %v: %v", when, got, err)
			}
		case "":
		default:
			t.Errorf("%s: Content-Encoding %q", when, enc)
		}
		if got.status() != http.StatusOK || got.err != nil || !bytes.Equal(body, want) {
			t.Errorf("%s: %v, with wrong bytes", when, got)
		}
		return got
	}
	for round, when := range []string{"cold", "warm"} {
		if round == 1 {
			between.Forget()
		}
		packed := check(when+", gzip", text, "/x/text.txt", "Accept-Encoding: gzip")
		plain := check(when+", identity", text, "/x/text.txt")
		none := check(when+", gzip forbidden", text, "/x/text.txt", "Accept-Encoding: gzip;q=0, *;q=0, identity")
		if packed.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: %v: what the upstream has compressed is not", when, packed)
		}
		if a, b := packed.Header.Get("ETag"), plain.Header.Get("ETag"); a == b && a != "" && !strings.HasPrefix(a, "W/") {
			t.Errorf("%s: one strong ETag for two encodings: %s", when, a)
		}
		for _, r := range []reply{packed, plain, none} {
			if !strings.Contains(strings.Join(r.Header["Vary"], ","), "Accept-Encoding") {
				t.Errorf("%s: %v: Vary %q", when, r, r.Header["Vary"])
			}
		}
		for _, r := range []struct {
			reply
			header []string
		}{{packed, []string{"Accept-Encoding: gzip"}}, {plain, nil}} {
			etag := r.Header.Get("ETag")
			if etag == "" {
				continue
			}
			if got := ask(srv, http.MethodGet, "/x/text.txt", append(r.header, "If-None-Match: "+etag)...); got.status() != http.StatusNotModified {
				t.Errorf("%s: %v, want 304 for its ETag %s", when, got, etag)
			}
			part := ask(srv, http.MethodGet, "/x/text.txt", append(r.header, "Range: bytes=100-199", "If-Range: "+etag)...)
			switch part.status() {
			case http.StatusOK:
				if !bytes.Equal(part.body, r.body) {
					t.Errorf("%s: a part: %v, with wrong bytes", when, part)
				}
			case http.StatusPartialContent:
				if !bytes.Equal(part.body, r.body[100:200]) || part.Header.Get("Content-Encoding") != r.Header.Get("Content-Encoding") {
					t.Errorf("%s: a part: %v, with wrong bytes", when, part)
				}
			default:
				t.Errorf("%s: a part: %v", when, part)
			}
			head := ask(srv, http.MethodHead, "/x/text.txt", r.header...)
			for _, name := range []string{"ETag", "Content-Encoding", "Content-Type", "Last-Modified"} {
				if head.Header.Get(name) != r.Header.Get(name) {
					t.Errorf("%s: HEAD %q has %s %q, GET %q", when, r.header, name, head.Header.Get(name), r.Header.Get(name))
				}
			}
		}
		check(when+", random", content("random", 1, 50_000), "/x/random.bin")
		if round == 1 {
			if n := between.Count(""); n > 0 {
				t.Errorf("%d requests to the upstream for what is cached: %+v", n, between.Seen())
			}
		}
	}
}
