package upstreams

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// TestTargets shows that the upstream is asked for the very path and query that the client
// has sent, below its own path.
func TestTargets(t *testing.T) {
	t.Parallel()
	u := faulty.Start(t, newContents(t, 100).URL)
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", u.URL+"/base", "ttl 1h"), mount("/root", u.URL, "ttl 1h")))
	for path, want := range map[string]string{
		"/x/simple":             "/base/simple",
		"/x/":                   "/base/",
		"/root/simple":          "/simple",
		"/x/@scope%2fname":      "/base/@scope%2fname",
		"/x/@scope%2Fname":      "/base/@scope%2Fname",
		"/x/@scope/name":        "/base/@scope/name",
		"/x/a%253ab":            "/base/a%253ab",
		"/x/a+b":                "/base/a+b",
		"/x/a%2Bb":              "/base/a%2Bb",
		"/x/a%20b":              "/base/a%20b",
		"/x/a%25":               "/base/a%25",
		"/x/%C3%BC":             "/base/%C3%BC",
		"/x/!toml/@v/v1.0.info": "/base/!toml/@v/v1.0.info",
		"/x/a:b;c=d,e":          "/base/a:b;c=d,e",
		"/x/q?a=b&c=%2F+d":      "/base/q?a=b&c=%2F+d",
		"/x/q?":                 "/base/q",
		"/x/q?a=b?c":            "/base/q?a=b?c",
		"/x/%7euser":            "/base/%7euser",
		"/x/...":                "/base/...",
	} {
		u.Forget()
		got := ask(srv, http.MethodGet, path)
		seen := u.Seen()
		if got.status() != http.StatusOK || len(seen) != 1 || seen[0].Target != want {
			t.Errorf("%s: %v, the upstream was asked %+v, want %s", path, got, seen, want)
		}
		// The same again is a hit, and nothing else is.
		if again := ask(srv, http.MethodGet, path); !again.cache().Hit || len(u.Seen()) != 1 {
			t.Errorf("%s, again: %v", path, again)
		}
	}
	for _, path := range []string{"/x/a/../../secret", "/x/%2e%2e/secret", "/x/a/%2e%2e/%2e%2e/secret", "/x/..%2fsecret"} {
		u.Forget()
		got := ask(srv, http.MethodGet, path)
		for _, r := range u.Seen() {
			if !strings.HasPrefix(r.Target, "/base/") || strings.Contains(strings.ToLower(strings.ReplaceAll(r.Target, "%2e", ".")), "..") {
				t.Errorf("%s: %v: the upstream was asked for %s", path, got, r.Target)
			}
		}
	}
}

// TestRequestFields shows that of a client's fields none goes to the upstream that says who
// it is, and which go at all.
func TestRequestFields(t *testing.T) {
	t.Parallel()
	u := faulty.Start(t, newContents(t, 100_000).URL)
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", u.URL, "ttl 1ms")))
	fields := []string{
		"Cookie: secret=1", "Authorization: Bearer secret", "Proxy-Authorization: Basic secret", "X-Forwarded-For: 192.0.2.1",
		"Forwarded: for=192.0.2.1", "X-Real-IP: 192.0.2.1", "Referer: http://secret.example/", "Origin: http://secret.example",
		"User-Agent: secret/1", "From: secret@example.org", "X-Secret: secret", "Accept: text/html;q=0.5, */*",
		"Accept-Language: secret", "If-None-Match: \"secret\"", "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT",
		"Range: bytes=1-2", "Te: trailers", "Npm-Auth-Type: web", "Connection: X-Secret",
	}
	for _, path := range []string{"/x/a", "/x/a", "/x/b"} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			ask(srv, method, path, fields...)
			pause()
		}
	}
	allowed := []string{"Accept", "Accept-Encoding", "User-Agent", "Via", "If-None-Match", "If-Modified-Since", "Range", "If-Range", "Cache-Control", "Pragma"}
	seen := u.Seen()
	if len(seen) < 4 {
		t.Fatalf("%d requests to the upstream: this test shows nothing", len(seen))
	}
	for _, r := range seen {
		if r.Host != u.Addr {
			t.Errorf("%s %s with Host %q", r.Method, r.Target, r.Host)
		}
		for name, values := range r.Header {
			if !slices.Contains(allowed, name) || strings.Contains(strings.Join(values, " "), "secret") || strings.Contains(strings.Join(values, " "), "192.0.2.1") {
				t.Errorf("%s %s has %s: %q", r.Method, r.Target, name, values)
			}
		}
	}
}
