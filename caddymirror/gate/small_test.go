package gate

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestExists(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "full/x", "x")
	put(t, dir, "empty/sub/x", "")
	symlink(t, dir, "full/x", "link")
	symlink(t, dir, "/etc", "out")
	r := newRun(t, dir)
	passes(t, &Exists{Paths: []string{"full", "full/x", "full/", "link", "empty"}}, r)
	fails(t, &Exists{Paths: []string{"none"}}, r, "none", "is missing")
	fails(t, &Exists{Paths: []string{"empty/sub/x"}}, r, "empty/sub/x", "is empty")
	rm(t, dir, "empty/sub/x")
	fails(t, &Exists{Paths: []string{"empty/sub/"}}, r, "empty/sub", "is empty")
	fails(t, &Exists{Paths: []string{"out/passwd"}}, r, "out/passwd", "leads out")
	if v := fails(t, &Exists{Paths: []string{"full", "b", "a"}}, r, "b", "is missing"); v.Count != 2 {
		t.Error(v)
	}
}

func TestSame(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "repodata/repomd.xml", "<repomd/>")
	r := newRun(t, dir)
	answer := func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<repomd/>")) }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer srv.Close()
	g := provision(t, &Same{URL: srv.URL + "/x", File: "repodata/repomd.xml", MaxSize: 1000, Timeout: caddy.Duration(300 * time.Millisecond)})
	passes(t, g, r)

	answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT")
		w.Write([]byte("<repomd />"))
	}
	fails(t, g, r, "repodata/repomd.xml", "of Sat, 21 Nov 2026 10:00:00 GMT is")

	// Bytes are compared as they are sent, whatever they are said to be.
	answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write([]byte("<repomd/>"))
	}
	passes(t, g, r)

	answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	blind(t, g, r, "503")
	answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	blind(t, g, r, "404")
	answer = func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(strings.Repeat("x", 1001))) }
	blind(t, g, r, "max_size")
	answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Write([]byte("<repomd/>"))
	}
	blind(t, g, r, "EOF")
	answer = func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	}
	blind(t, g, r, "no answer within 300ms")

	// It ends with the job.
	g.Timeout = caddy.Duration(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.Check(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	srv.Close()
	blind(t, g, r, "asking the master for http://127.0.0.1")

	g.File = "none"
	fails(t, g, r, "none", "is missing")
}

func TestExec(t *testing.T) {
	need(t, "sh")
	r := newRun(t, t.TempDir())
	sh := func(script string) Gate { return &Exec{Command: []string{"sh", "-c", script}} }
	passes(t, sh("echo fine"), r)
	fails(t, sh("echo a; echo dists/x is old >&2; echo; exit 3"), r, "", "sh exited with 3: dists/x is old")
	fails(t, sh("exit 1"), r, "", "sh exited with 1")
	blind(t, sh("kill -9 $$"), r, "running sh")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := sh("exec sleep 10").Check(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
