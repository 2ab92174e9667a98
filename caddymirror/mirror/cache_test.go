package mirror

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
)

func newCache(t *testing.T, path string, maxSize int64) *Cache {
	t.Helper()
	c := &Cache{Path: path, MaxSize: maxSize}
	if err := c.provision("test", zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestReload: a cache outlives the configuration that opened it, and a
// configuration that fails after it has come changes nothing.
func TestReload(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a/b/cache")
	link := filepath.Join(t.TempDir(), "link")
	first, second, third := newCache(t, dir, 8<<20), newCache(t, link, 16<<20), newCache(t, dir, 32<<20)
	if _, err := os.Stat(filepath.Dir(dir)); err == nil {
		t.Error("provisioning has made a directory")
	}
	if first.Open() != nil {
		t.Error("open before start")
	}
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	open := first.Open()
	maxSize := func(c *Cache, want int64) {
		t.Helper()
		if c.Open() != open {
			t.Error("the cache was opened anew")
		}
		if s := open.Stats(); s.MaxSize != want || s.State != diskcache.Ready {
			t.Errorf("%+v, want a maximum of %d", s, want)
		}
	}
	if err := second.start(); err != nil { // the same directory by another name
		t.Fatal(err)
	}
	maxSize(second, 8<<20) // until first goes: second may fail yet
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	maxSize(second, 16<<20)

	if err := third.start(); err != nil {
		t.Fatal(err)
	}
	maxSize(third, 16<<20)
	if err := third.stop(); err != nil { // as after a failed reload
		t.Fatal(err)
	}
	maxSize(second, 16<<20)

	release, ok := second.Hold()
	if !ok {
		t.Fatal("an open cache cannot be held")
	}
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	if err := second.stop(); err != nil { // idempotent
		t.Fatal(err)
	}
	maxSize(second, 16<<20) // held by a fill
	release()
	if s := open.Stats(); s.State != diskcache.Closed {
		t.Errorf("nobody has the cache, and it is %s", s.State)
	}
	if _, ok := second.Hold(); ok {
		t.Error("a closed cache can be held")
	}
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestBadCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCache(t, filepath.Join(file, "cache"), 8<<20)
	if err := c.start(); err == nil || !strings.Contains(err.Error(), "making cache directory") {
		t.Errorf("a cache below a file: %v", err)
	}
	for _, c := range []*Cache{
		{MaxSize: -5},
		{MaxSize: 1000},
		{MinFree: "120%"},
		{MinFree: "x"},
		{MaxObject: -2},
		{Memory: -2},
		{Path: "{env.THERE_IS_NO_SUCH_VARIABLE_HERE}/x"},
	} {
		if err := c.provision("test", zap.NewNop()); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// TestOneDirectory: two caches cannot be one directory, whatever it is called.
func TestOneDirectory(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	app := &App{Caches: map[string]*Cache{"a": newCache(t, dir, 8<<20), "b": newCache(t, link, 8<<20)}}
	if err := app.Start(); err == nil || !strings.Contains(err.Error(), "same directory as cache a") {
		t.Errorf("got %v", err)
	}
	if app.Caches["a"].Open().Stats().State != diskcache.Closed {
		t.Error("a start that failed leaves a cache open")
	}
}
