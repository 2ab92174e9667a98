package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// failLate makes a configuration fail after all of its apps have started: Caddy then
// cleans them up and has not stopped them.
func failLate(t testing.TB, srv *testcaddy.Server, caddyfile string) (config string) {
	t.Helper()
	text, err := srv.Run("adapt", "--config", write(t, srv, caddyfile), "--adapter", "caddyfile")
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var all map[string]any
	from := strings.Index(text, `{"apps"`) // there is a log around it
	if err := json.NewDecoder(strings.NewReader(text[from:])).Decode(&all); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	all["admin"] = map[string]any{"config": map[string]any{
		"load": map[string]any{"module": "there_is_none"},
	}}
	late, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(late)
}

// locked reports whether a process has locked a file.
func locked(t testing.TB, name string) bool {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Fatal(err)
	}
	return err != nil
}

// A configuration that fails when all is started keeps nothing: no cache, no place of
// the jobs' state, no limit or setting that comes into force later.
func TestReloadFailsLate(t *testing.T) {
	tr := newTree(t)
	for n := range 8 {
		tr.add(t, fmt.Sprint("file", n), 100_000+int64(n))
	}
	first, other := t.TempDir(), t.TempDir()
	config := func(size string) string {
		return site("path "+first+";max_size "+size, mount("/a", tr.dir, "ttl 1h"))
	}
	srv := testcaddy.Start(t, config("128MiB"))
	srv.WaitReady(t)
	for _, name := range tr.names() {
		mustGet(t, srv, "/a", tr, name)
	}
	bad := strings.Replace(config("8MiB"), "mirror {", "mirror {\ncache b {\npath "+other+"\n}\njob x {\nevery 1h\nsync exec true\n}\n", 1)
	late := failLate(t, srv, bad)
	for range 5 { // Caddy cleans up in random order
		if err := srv.Reload(late); err == nil || !strings.Contains(err.Error(), "loading config loader") {
			t.Fatalf("a config without its loader: %v", err)
		}
		a, err := get(srv, "/a", tr, "file0")
		if errors.Is(err, syscall.ECONNRESET) {
			// The server that failed had the listener, too: this was its connection.
			a, err = get(srv, "/a", tr, "file0")
		}
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("after a config that failed: status %d, %v", a.status, err)
		}
	}
	if locked(t, filepath.Join(other, "lock")) {
		t.Error("a cache of the configuration that failed is still locked")
	}
	wait(t, 10*time.Second, "the state of its jobs is free", func() bool {
		return !locked(t, filepath.Join(srv.Home, "data/caddy/mirror/jobs/.lock"))
	})
	if s := theCache(t, srv); s.MaxSize != 128<<20 {
		t.Errorf("the limit is %d after a configuration that failed", s.MaxSize)
	}

	if err := srv.Reload(config("64MiB")); err != nil {
		t.Fatal(err)
	}
	if s := theCache(t, srv); s.MaxSize != 64<<20 {
		t.Errorf("the limit is %d, want what was configured: %d", s.MaxSize, 64<<20)
	}
	if a := mustGet(t, srv, "/a", tr, "file0"); !a.hit() {
		t.Errorf("after a good reload: %s", a.cache())
	}

	if err := srv.Reload(site("path "+other, mount("/a", tr.dir))); err != nil {
		t.Fatal(err)
	}
	wait(t, 10*time.Second, "the cache that is not configured any more is free", func() bool {
		return !locked(t, filepath.Join(first, "lock"))
	})
	if !locked(t, filepath.Join(other, "lock")) {
		t.Error("the cache in use is not locked")
	}
}
