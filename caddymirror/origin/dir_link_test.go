package origin

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func link(t testing.TB, target, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// agree checks that Stat, Open and the listing of its directory say the same of a
// name: content is that of a file, "/" stands for a directory, "" for nothing.
func agree(t *testing.T, d *Dir, name, content string) {
	t.Helper()
	listed := false
	list, lerr := readDir(t.Context(), d, path.Dir(name))
	for _, i := range list {
		if i.Name == path.Base(name) {
			listed = true
			if content != "" && i.Dir != (content == "/") {
				t.Errorf("%s: listed as %+v", name, i)
			}
		}
	}
	i, serr := d.Stat(t.Context(), name)
	got, oerr := read(d, name, 0)
	switch content {
	case "":
		if !errors.Is(serr, fs.ErrNotExist) || !errors.Is(oerr, fs.ErrNotExist) || listed {
			t.Errorf("%s: Stat says %v, Open %v, listed: %v", name, serr, oerr, listed)
		}
	case "/":
		if serr != nil || !i.Dir || !errors.Is(oerr, ErrIsDir) || !listed {
			t.Errorf("%s: Stat says %+v, %v, Open %v, listed: %v (%v)", name, i, serr, oerr, listed, lerr)
		}
	default:
		if serr != nil || i.Dir || i.Size != int64(len(content)) || oerr != nil || got != content || !listed {
			t.Errorf("%s: Stat says %+v, %v, Open %q, %v, listed: %v (%v)", name, i, serr, got, oerr, listed, lerr)
		}
	}
}

// TestAbsoluteLinks: one that leads to a place inside of the tree is as good as a
// relative one.
func TestAbsoluteLinks(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "tree")
	write(t, top, "outside/f", "secret", "tree2/f", "secret", "tree/pool/f", "bytes", "tree/pool/sub/g", "more")
	for name, target := range map[string]string{
		"file":        root + "/pool/f",
		"dir":         root + "/pool",
		"slashes":     "//" + root + "//pool/./f",
		"dots":        root + "/pool/sub/../f",
		"self":        root,
		"chain":       root + "/chain2",
		"chain2":      "deep/chain3",
		"deep/chain3": root + "/dir/sub",
		"up":          root + "/dir/sub/../f", // of where dir leads to
		"relative":    "dir/f",
		"loop":        root + "/loop",
		"loop2":       root + "/loop2/x",
		"missing":     root + "/none",
		"through":     root + "/pool/f/x", // a file
		"out":         top + "/outside/f",
		"beside":      top + "/tree2/f",
		"dots-out":    root + "/../outside/f",
		"back":        root + "/../tree/pool/f", // out, and in again
		"relout":      "../outside/f",
		"root":        "/",
		"passwd":      "/etc/passwd",
	} {
		link(t, target, filepath.Join(root, name))
	}
	for n := range 20 { // more than os.Root would follow
		link(t, root+"/many"+string(rune('b'+n)), filepath.Join(root, "many"+string(rune('a'+n))))
	}
	link(t, "pool/f", filepath.Join(root, "many"+string(rune('a'+20))))
	d := newDir(t, root)
	for name, content := range map[string]string{
		"file": "bytes", "dir": "/", "dir/f": "bytes", "dir/sub": "/", "dir/sub/g": "more",
		"slashes": "bytes", "dots": "bytes", "self": "/", "self/self/self/pool/f": "bytes",
		"chain": "/", "chain/g": "more", "deep/chain3/g": "more", "up": "bytes", "relative": "bytes", "manya": "bytes",

		"loop": "", "loop2": "", "missing": "", "through": "", "out": "", "beside": "", "dots-out": "",
		"back": "", "relout": "", "root": "", "root/etc/passwd": "", "passwd": "", "dir/none": "",
	} {
		agree(t, d, name, content)
	}
	if s := d.Status(); s.State != "up" || s.Errors != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAbsoluteLinksToTheRoot: the root is known by the path that the user wrote, by
// what that leads to, and by all between; and by no other release.
func TestAbsoluteLinksToTheRoot(t *testing.T) {
	top := t.TempDir()
	write(t, top, "disk/releases/1/f", "one", "disk/releases/2/f", "two")
	link(t, filepath.Join(top, "disk"), filepath.Join(top, "mirror"))
	link(t, "releases/1", filepath.Join(top, "disk/current"))
	root := filepath.Join(top, "mirror/current")
	for _, r := range []string{"1", "2"} {
		dir := filepath.Join(top, "disk/releases", r)
		link(t, root+"/f", filepath.Join(dir, "configured"))
		link(t, filepath.Join(top, "disk/current/f"), filepath.Join(dir, "between"))
		link(t, filepath.Join(top, "disk/releases/1/f"), filepath.Join(dir, "real1"))
		link(t, filepath.Join(top, "disk/releases/2/f"), filepath.Join(dir, "real2"))
	}
	d := newDir(t, root, checkEvery(10*time.Millisecond))
	d.Release(t.Context())
	for name, content := range map[string]string{"configured": "one", "between": "one", "real1": "one", "real2": ""} {
		agree(t, d, name, content)
	}
	link(t, "releases/2", filepath.Join(top, "disk/new"))
	if err := os.Rename(filepath.Join(top, "disk/new"), filepath.Join(top, "disk/current")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the release", func() bool {
		d.Release(t.Context())
		got, _ := read(d, "f", 0)
		return got == "two"
	})
	for name, content := range map[string]string{"configured": "two", "between": "two", "real1": "", "real2": "two"} {
		agree(t, d, name, content)
	}
}

// TestAbsoluteLinkIsSwapped: whatever a link is changed to while it is followed,
// nothing outside of the tree is read.
func TestAbsoluteLinkIsSwapped(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "tree")
	write(t, top, "outside/f", "secret", "tree/pool/f", "bytes")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		targets := []string{root + "/pool", top + "/outside", "../outside", "pool", root + "/../outside"}
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			next := filepath.Join(root, ".next")
			if err := os.Symlink(targets[n%len(targets)], next); err != nil {
				t.Error(err)
				return
			}
			if err := os.Rename(next, filepath.Join(root, "dir")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	d := newDir(t, root)
	seen := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		got, err := read(d, "dir/f", 0)
		switch {
		case err == nil && got == "bytes":
			seen++
		case err == nil:
			t.Fatalf("read %q", got)
		case !errors.Is(err, fs.ErrNotExist):
			t.Fatal(err)
		}
		list, err := readDir(t.Context(), d, "dir")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, i := range list {
			if i.Size == int64(len("secret")) || strings.Contains(i.Name, "secret") {
				t.Fatalf("listed %+v", i)
			}
		}
	}
	if seen == 0 {
		t.Error("it was never inside")
	}
}
