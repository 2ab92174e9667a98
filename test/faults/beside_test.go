package faults

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// snapshot is what a directory has: every name with its kind, size and time.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// write puts a configuration for the server into a file.
func write(t testing.TB, srv *testcaddy.Server, config string) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "Caddyfile")
	config = strings.ReplaceAll(config, "{$ADDR}", srv.Addr)
	if err := os.WriteFile(name, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// To check a configuration beside the server that runs touches nothing: not its
// cache, nor one that is yet to be made, nor an origin, be that one that hangs.
func TestValidateBeside(t *testing.T) {
	tr := newTree(t)
	for n := range 20 {
		tr.add(t, "file"+strconv.Itoa(n), 1000+int64(n)*50_000)
	}
	mnt := bind(t, tr.dir, "--multithreaded")
	cache := t.TempDir()
	config := site("path "+cache, mount("/a", mnt.dir, "ttl 1h"))
	srv := testcaddy.Start(t, config)
	srv.WaitReady(t)
	for _, name := range tr.names() {
		waitHit(t, srv, "/a", tr, name, 5*time.Second)
	}
	waitQuiet(t, srv)

	yet := filepath.Join(t.TempDir(), "yet", "to", "be")
	for _, file := range []struct{ name, path string }{
		{"its own", write(t, srv, config)},
		{"a smaller one", write(t, srv, site("path "+cache+";max_size 1MiB;max_object 1KiB", mount("/a", mnt.dir, "ttl 1s")))},
		{"one with a new directory", write(t, srv, site("path "+yet, mount("/a", mnt.dir)))},
	} {
		for _, args := range [][]string{
			{"validate", "--adapter", "caddyfile", "--config", file.path},
			{"adapt", "--validate", "--adapter", "caddyfile", "--config", file.path},
		} {
			t.Run(args[0]+" "+file.name, func(t *testing.T) {
				files, status, origin := snapshot(t, cache), theCache(t, srv), srv.Origins(t, "/a")[0]
				mnt.hang(t)
				start := time.Now()
				out, err := srv.Run(args...)
				took := time.Since(start)
				mnt.resume(t)
				if err != nil {
					t.Errorf("%v\n%s", err, out)
				}
				// The time-out of the origin alone is as long.
				if took > 10*time.Second {
					t.Errorf("it took %v", took)
				}
				if now := snapshot(t, cache); !maps.Equal(now, files) {
					t.Errorf("the cache directory is not what it was:\n got %v\nwant %v", now, files)
				}
				if now := theCache(t, srv); now != status {
					t.Errorf("the cache is not what it was:\n got %+v\nwant %+v", now, status)
				}
				if now := srv.Origins(t, "/a")[0]; now.Touches() != origin.Touches() {
					t.Errorf("the origin was touched:\n got %+v\nwant %+v", now, origin)
				}
				if _, err := os.Stat(filepath.Dir(filepath.Dir(yet))); err == nil {
					t.Errorf("%s was made", yet)
				}
			})
		}
	}
	for _, name := range tr.names() {
		if a := mustGet(t, srv, "/a", tr, name); !a.hit() {
			t.Errorf("%s is no hit any more: %s", name, a.cache())
		}
	}
}

// A cache directory has one user. Who comes second is told whose it is,
// however the directory is spelled; the first goes on, and when it is gone,
// even killed, the next may have it.
func TestSecondProcess(t *testing.T) {
	t.Parallel() // it waits most of the time
	tr := newTree(t)
	tr.add(t, "file", 100_000)
	parent := t.TempDir()
	cache := filepath.Join(parent, "cache")
	config := func(path string) string { return site("path "+path, mount("/a", tr.dir, "ttl 1h")) }
	first := testcaddy.Start(t, config(cache))
	first.WaitReady(t)
	waitHit(t, first, "/a", tr, "file", 5*time.Second)
	waitQuiet(t, first)
	if info, err := os.Stat(cache); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache directory: %v, %v", info, err)
	}

	link := filepath.Join(parent, "link")
	if err := os.Symlink("cache", link); err != nil {
		t.Fatal(err)
	}
	second := testcaddy.Start(t, "http://{$ADDR} {\n\tbind 127.0.0.1\n\trespond ok\n}\n")
	for _, path := range []string{cache, link, parent + "/./link/"} {
		files := snapshot(t, cache)
		err := second.Reload(config(path))
		if err == nil {
			t.Fatalf("a second process may use %s", path)
		}
		for _, want := range []string{"in use", cache, "process " + strconv.Itoa(first.Pid())} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("path %s: the error does not say %q: %v", path, want, err)
			}
		}
		if now := snapshot(t, cache); !maps.Equal(now, files) {
			t.Errorf("path %s: the cache directory is not what it was:\n got %v\nwant %v", path, now, files)
		}
	}
	// One that has nothing else to serve ends.
	file := write(t, second, strings.NewReplacer("{$ADDR}", "127.0.0.1:0", "mirror {", "admin off\nmirror {").Replace(config(cache)))
	out, err := second.Run("run", "--adapter", "caddyfile", "--config", file)
	if err == nil || !strings.Contains(out, cache) || !strings.Contains(out, strconv.Itoa(first.Pid())) {
		t.Errorf("a second process ends with %v, and does not say why:\n%s", err, out)
	}
	if a := mustGet(t, first, "/a", tr, "file"); !a.hit() {
		t.Errorf("the first process: %s", a.cache())
	}

	first.Kill()
	if err := second.Reload(config(link)); err != nil {
		t.Fatalf("the first process is gone: %v", err)
	}
	second.WaitReady(t)
	if a := mustGet(t, second, "/a", tr, "file"); !a.hit() {
		t.Errorf("what the first process has filled: %s", a.cache())
	}
}
