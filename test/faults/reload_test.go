package faults

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// hold takes a cache directory as another process would that uses it.
func hold(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(strconv.Itoa(os.Getpid()) + "\n"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A reload that fails changes nothing: not the mounts, not the cache, and not
// the limits of the cache.
func TestReloadFails(t *testing.T) {
	tr := newTree(t)
	for n := range 30 {
		tr.add(t, "file"+strconv.Itoa(n), 1<<20+int64(n))
	}
	cache := t.TempDir()
	config := site("path "+cache+";max_size 128MiB", mount("/a", tr.dir, "ttl 1h"))
	srv := testcaddy.Start(t, config)
	srv.WaitReady(t)
	held := hold(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	small := strings.Replace(config, "128MiB", "4MiB", 1)
	for _, bad := range []struct{ name, config, says string }{
		{"no such directive", small + "\nhttp://127.0.0.1:1 {\n\tno_such_directive\n}\n", "no_such_directive"},
		{
			"a relative origin in a second mount",
			strings.Replace(small, "mirror_cache {", "mirror_cache {\n"+mount("/b", "relative/path"), 1), "absolute",
		},
		{
			"an unknown cache in a second mount",
			strings.Replace(small, "mirror_cache {", "mirror_cache {\n"+mount("/b", "/srv", "cache nowhere"), 1), "nowhere",
		},
		{
			"a cache directory in use",
			strings.Replace(small, "mirror {", "mirror {\ncache z {\npath "+held+"\n}", 1), held,
		},
		{"an address in use", small + "\nhttp://" + l.Addr().String() + " {\n\tbind 127.0.0.1\n\trespond ok\n}\n", "in use"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			for _, name := range tr.names() {
				mustGet(t, srv, "/a", tr, name)
			}
			waitQuiet(t, srv)
			before := theCache(t, srv)
			// Caddy starts its apps in random order: more than once.
			for range 3 {
				err := srv.Reload(bad.config)
				if err == nil {
					t.Fatal("the reload did not fail")
				}
				if !strings.Contains(err.Error(), bad.says) {
					t.Errorf("the error does not say %q: %v", bad.says, err)
				}
			}
			time.Sleep(1500 * time.Millisecond) // the cache looks at its limits once a second
			after := theCache(t, srv)
			if after != before {
				t.Errorf("the cache is not what it was:\n got %+v\nwant %+v", after, before)
			}
			for _, name := range tr.names() {
				if a := mustGet(t, srv, "/a", tr, name); !a.hit() {
					t.Errorf("%s is no hit any more: %s", name, a.cache())
					break
				}
			}
		})
	}
	if err := srv.Reload(config); err != nil {
		t.Errorf("the good configuration is refused: %v", err)
	}
	if a := mustGet(t, srv, "/a", tr, "file0"); !a.hit() {
		t.Errorf("after a good reload: %s", a.cache())
	}
}
