package origin_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/origin/origintest"
)

// put makes or replaces a file of a certain time.
func put(t testing.TB, root, name string, body []byte, mtime time.Time) {
	t.Helper()
	path := filepath.Join(root, name)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Dir(path), 0o755))
	if strings.HasSuffix(name, "/") {
		must(os.MkdirAll(path, 0o755))
		return
	}
	next := filepath.Join(filepath.Dir(path), ".put")
	must(os.WriteFile(next, body, 0o644))
	must(os.Chtimes(next, mtime, mtime))
	must(os.Rename(next, path))
}

// TestDirConforms runs the suite on a plain directory, and on one with releases: each
// a new tree of hard links, to which a symbolic link is switched.
func TestDirConforms(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		origintest.Run(t, func(t *testing.T) *origintest.Tree {
			root := filepath.Join(t.TempDir(), "root")
			tree := newTree(t, root)
			past := time.Now().Add(-time.Hour)
			tree.Put = func(t testing.TB, files map[string][]byte) {
				past = past.Add(time.Second)
				for name, body := range files {
					put(t, root, name, body, past)
				}
			}
			tree.Twin = func(t testing.TB, name string, body []byte) { put(t, root, name, body, past) }
			return tree
		})
	})
	t.Run("releases", func(t *testing.T) {
		origintest.Run(t, func(t *testing.T) *origintest.Tree {
			top := t.TempDir()
			root := filepath.Join(top, "current")
			tree := newTree(t, root)
			tree.Releases = true
			past := time.Now().Add(-time.Hour)
			release := func(t testing.TB, files map[string][]byte) {
				t.Helper()
				next := switchTo(t, top, func(dir string) {
					for name, body := range files {
						put(t, dir, name, body, past)
					}
				})
				for end := time.Now().Add(10 * time.Second); !strings.HasPrefix(tree.Release(t.Context()).Token, next+"@"); time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("release %s is not noticed: %+v", next, tree.Status())
					}
				}
			}
			tree.Put = func(t testing.TB, files map[string][]byte) {
				past = past.Add(time.Second)
				release(t, files)
			}
			tree.Twin = func(t testing.TB, name string, body []byte) { release(t, map[string][]byte{name: body}) }
			return tree
		})
	})
}

// switchTo makes a tree of hard links to the current one, changes it, and makes it
// the current one. It returns its name.
func switchTo(t testing.TB, top string, change func(dir string)) string {
	t.Helper()
	link := filepath.Join(top, "current")
	old, _ := os.Readlink(link)
	name := "r" + strconv.FormatInt(time.Now().UnixNano(), 36)
	dir := filepath.Join(top, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if old != "" {
		if out, err := exec.Command("cp", "-al", filepath.Join(top, old)+"/.", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	change(dir)
	if err := os.Symlink(name, link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
	return name
}

// newTree is a tree at root whose origin can be made to panic.
func newTree(t *testing.T, root string) *origintest.Tree {
	d := &origin.Dir{Root: root, ReleaseCheck: caddy.Duration(10 * time.Millisecond)}
	if err := d.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	var bad atomic.Pointer[string]
	origin.Inject(d, func(_, name string) error {
		if p := bad.Load(); p != nil && *p == name {
			panic("a bug that " + name + " brings out")
		}
		return nil
	})
	return &origintest.Tree{Tree: d, Panic: func(name string) func() {
		bad.Store(&name)
		return func() { bad.Store(nil) }
	}}
}
