package origin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
)

// newDir provisions a Dir on root.
func newDir(t testing.TB, root string, settings ...func(*Dir)) *Dir {
	t.Helper()
	d := &Dir{Root: root}
	for _, set := range settings {
		set(d)
	}
	if err := d.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Cleanup() })
	return d
}

func timeout(after time.Duration) func(*Dir) {
	return func(d *Dir) { d.Timeout = caddy.Duration(after) }
}

func poolSize(n int) func(*Dir) {
	return func(d *Dir) { d.Pool = n }
}

// write writes files into dir, names and contents in turn. A name that ends in
// a slash is a directory.
func write(t testing.TB, dir string, namesAndContents ...string) {
	t.Helper()
	for i := 0; i < len(namesAndContents); i += 2 {
		path := filepath.Join(dir, namesAndContents[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(namesAndContents[i], "/") {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = os.WriteFile(path, []byte(namesAndContents[i+1]), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func symlink(t testing.TB, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// read opens name and reads it to its end.
func read(d *Dir, name string, offset int64) (string, error) {
	b, err := d.Open(context.Background(), name, offset)
	if err != nil {
		return "", err
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	return string(all), err
}

// waitFor waits until ok holds.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so after 10s: %s", what)
		}
	}
}

// openFiles counts the descriptors of this process that are open under dir.
func openFiles(t testing.TB, dir string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc:", err)
	}
	for _, fd := range fds {
		if path, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(path, dir) {
			n++
		}
	}
	return n
}

func TestDirIsAModule(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	t.Setenv("MIRROR_TEST_ROOT", "/nowhere/at/all")
	load := func(config string) (*Dir, error) {
		m, err := ctx.LoadModuleByID("mirror.origins.dir", json.RawMessage(config))
		if err != nil {
			return nil, err
		}
		return m.(*Dir), nil
	}

	before := runtime.NumGoroutine()
	d, err := load(`{"root": "{env.MIRROR_TEST_ROOT}/x/../wheels/"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.String(), "/nowhere/at/all/wheels"; got != want {
		t.Errorf("root is %s, want %s", got, want)
	}
	if time.Duration(d.Timeout) != 10*time.Second || time.Duration(d.ReleaseCheck) != 5*time.Second || d.Pool != 16 {
		t.Errorf("defaults: %+v", d)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after provisioning", before, after)
	}
	if d.state.tree.Load() != nil {
		t.Error("the tree was opened")
	}

	for _, config := range []string{
		`{}`,
		`{"root": "wheels"}`,
		`{"root": "{env.MIRROR_TEST_UNSET}/x"}`,
		`{"root": "{nonsense}/x"}`,
		`{"root": "/x\u0000y"}`,
		`{"root": "/x", "timeout": -1}`,
		`{"root": "/x", "release_check": -1}`,
		`{"root": "/x", "pool": -1}`,
		`{"root": "/x", "release_marker": "../y"}`,
		`{"root": "/x", "release_marker": "."}`,
		`{"root": "/x", "colour": "red"}`,
	} {
		if _, err := load(config); err == nil {
			t.Errorf("%s: no error", config)
		}
	}
	if _, held := dirStates.References("/x"); held {
		t.Error("a config that was refused left its state behind")
	}
}

func TestCleanup(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes")
	a, b := newDir(t, root), newDir(t, root)
	if a.state != b.state {
		t.Fatal("two states for one root")
	}
	a.Release(context.Background())
	a.Cleanup()
	a.Cleanup()
	if n, _ := dirStates.References(root); n != 1 {
		t.Fatalf("%d references, want 1", n)
	}
	body, err := b.Open(context.Background(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	b.Cleanup()
	if _, held := dirStates.References(root); held {
		t.Fatal("still held")
	}

	// A request that is still under way is not disturbed.
	if got, err := io.ReadAll(body); string(got) != "bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	body.Close()
	if got, err := read(b, "f", 0); got != "bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if r := b.Release(context.Background()); r.Seen.IsZero() {
		t.Error("no release")
	}
	waitFor(t, "the watcher has ended", func() bool {
		stacks := make([]byte, 1<<20)
		return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("watchRelease"))
	})
	if c := newDir(t, root); c.Status().Reads != 2 {
		t.Errorf("%d reads, want 2: counters must survive", c.Status().Reads)
	}
}

func TestCleanupOfUnprovisioned(t *testing.T) {
	if err := new(Dir).Cleanup(); err != nil {
		t.Fatal(err)
	}
}

// hostileNames are names that must not be looked up at all.
var hostileNames = []string{
	"", "/", "/etc/passwd", "..", "../secret", "a/../../secret", "./f", "f/", "a//f", "a/./f", "a/..",
	"f\x00", "\x00", "a/\x00/f", "../\xff",
}

func TestNames(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "1", "a/f", "2", `..\secret`, "3", "...", "4", "\xff\xfe", "5", "%2e%2e", "6")
	d := newDir(t, root)
	for _, name := range hostileNames {
		_, err := d.Stat(t.Context(), name)
		_, oerr := read(d, name, 0)
		_, rerr := readDir(t.Context(), d, name)
		for _, err := range []error{err, oerr, rerr} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if s := d.Status(); s.Reads+s.Stats+s.Lists != 0 {
		t.Errorf("the file system was asked: %+v", s)
	}
	for _, name := range []string{
		"nope", "f/x", "f/x/y", "a/nope", strings.Repeat("n", 300), strings.Repeat("n/", 3000) + "n",
		"%2e%2e/secret", `a\f`, "\xff",
	} {
		_, err := d.Stat(t.Context(), name)
		_, oerr := read(d, name, 0)
		_, rerr := readDir(t.Context(), d, name)
		for _, err := range []error{err, oerr, rerr} {
			if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrAway) {
				t.Errorf("%.50q: %v", name, err)
			}
		}
	}
	for name, want := range map[string]string{"f": "1", "a/f": "2", `..\secret`: "3", "...": "4", "\xff\xfe": "5", "%2e%2e": "6"} {
		if got, err := read(d, name, 0); got != want || err != nil {
			t.Errorf("%q: %q, %v", name, got, err)
		}
		i, err := d.Stat(t.Context(), name)
		if err != nil || i.Dir || i.Size != 1 || i.Name != filepath.Base(name) {
			t.Errorf("%q: %+v, %v", name, i, err)
		}
	}
	for _, name := range []string{".", "a"} {
		i, err := d.Stat(t.Context(), name)
		if err != nil || !i.Dir || i.Name != name || i.Validator != "" {
			t.Errorf("%q: %+v, %v", name, i, err)
		}
		if _, err := d.Open(t.Context(), name, 0); !errors.Is(err, ErrIsDir) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := d.Open(t.Context(), "f", -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("offset -1: %v", err)
	}
	if _, err := readDir(t.Context(), d, "f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("list of a file: %v", err)
	}
	if s := d.Status(); s.Errors != 0 || s.State != "up" {
		t.Errorf("%+v", s)
	}
}

// linkTree makes a tree with links of all kinds, beside a secret.
func linkTree(t testing.TB) (root string) {
	top := t.TempDir()
	root = filepath.Join(top, "root")
	write(t, top, "secret", "SECRET", "outside/secret", "SECRET", "root/in", "inside", "root/sub/deep/f", "deep", "root-not/secret", "SECRET")
	for link, target := range map[string]string{
		"rel":          "in",
		"sub/up":       "../in",
		"chain":        "rel",
		"dirlink":      "sub/deep",
		"sub/deep/up3": "../../sub/up",
		"viadir":       "dirlink/../up", // by way of the link: sub/up
		"slash":        "sub/",
		"dot":          "sub/.",
		"dotdot":       "sub/deep/..",
		"fileslash":    "in/",
		"dangling":     "nope",
		"loop":         "loop",
		"loop1":        "loop2",
		"loop2":        "loop1",
		"abs":          filepath.Join(root, "in"),
		"abs-out":      filepath.Join(top, "secret"),
		"rel-out":      "../secret",
		"sub/rel-out":  "../../secret",
		"sneaky":       "sub/../../secret",
		"sneaky2":      "dirlink/../../../secret",
		"sibling":      "../root-not/secret",
		"chain-out":    "rel-out",
		"dir-out":      "../outside",
		"dir-abs-out":  filepath.Join(top, "outside"),
		"out-and-in":   "../root/in",
	} {
		symlink(t, target, filepath.Join(root, link))
	}
	return root
}

func TestSymlinks(t *testing.T) {
	d := newDir(t, linkTree(t))
	for name, want := range map[string]string{
		"rel": "inside", "sub/up": "inside", "chain": "inside", "dirlink/f": "deep", "dirlink/up3": "inside",
		"abs": "inside", "viadir": "inside", "slash/deep/f": "deep", "slash/up": "inside", "dotdot/up": "inside",
	} {
		if got, err := read(d, name, 0); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if i, err := d.Stat(t.Context(), name); err != nil || i.Size != int64(len(want)) || i.Name != filepath.Base(name) || i.Symlink {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
	for _, name := range []string{"dirlink", "slash", "dot", "dotdot"} {
		if _, err := read(d, name, 0); !errors.Is(err, ErrIsDir) {
			t.Errorf("%s: %v", name, err)
		}
		if i, err := d.Stat(t.Context(), name); err != nil || !i.Dir {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
	for _, name := range []string{
		"fileslash", "dangling", "loop", "loop1", "loop/x", "abs-out", "rel-out", "sub/rel-out", "sneaky", "sneaky2",
		"sibling", "chain-out", "dir-out", "dir-out/secret", "dir-abs-out/secret", "out-and-in",
	} {
		_, err := d.Stat(t.Context(), name)
		_, oerr := read(d, name, 0)
		_, rerr := readDir(t.Context(), d, name)
		for _, err := range []error{err, oerr, rerr} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if s := d.Status(); s.Errors != 0 {
		t.Errorf("%+v", s)
	}
}

// TestSymlinkRace has a directory and a file replaced by links out of the tree
// again and again, while both are read.
func TestSymlinkRace(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "root")
	write(t, top, "outside/f", "SECRET", "root/d/f", "inside", "root/g", "inside", "d2/", "")
	symlink(t, "../outside", filepath.Join(top, "d-out"))
	symlink(t, "../outside/f", filepath.Join(top, "g-out"))
	d := newDir(t, root)

	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			for _, pair := range [][2]string{{"root/d", "d-out"}, {"root/g", "g-out"}} {
				a, b := filepath.Join(top, pair[0]), filepath.Join(top, pair[1])
				for _, r := range [][2]string{{a, a + "-tmp"}, {b, a}, {a + "-tmp", b}} {
					if err := os.Rename(r[0], r[1]); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}
	})
	found, lost := 0, 0
	for range 1000 {
		for _, name := range []string{"d/f", "g"} {
			switch got, err := read(d, name, 0); {
			case err == nil && got == "inside":
				found++
			case errors.Is(err, fs.ErrNotExist):
				lost++
			default:
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	if found == 0 || lost == 0 {
		t.Errorf("no race: found %d times, not found %d times", found, lost)
	}
}

func FuzzName(f *testing.F) {
	for _, name := range slices.Concat(hostileNames, []string{
		"in", "rel-out", "dir-out/secret", "sub/rel-out", "sneaky", "chain-out", "abs-out", "%2e%2e/secret", "..%2fsecret", `..\secret`,
		"sub/deep/up3", "\xc0\xae\xc0\xae/secret", "dir-out/../secret",
	}) {
		f.Add(name)
	}
	root := linkTree(f)
	d := newDir(f, root)
	f.Fuzz(func(t *testing.T, name string) {
		got, err := read(d, name, 0)
		if strings.Contains(got, "SECRET") {
			t.Fatalf("%q leads out of the root", name)
		}
		if (err == nil) != (got == "inside" || got == "deep") {
			t.Fatalf("%q: %q, %v", name, got, err)
		}
		i, serr := d.Stat(t.Context(), name)
		if (err == nil) != (serr == nil && !i.Dir) || errors.Is(err, ErrIsDir) != (serr == nil && i.Dir) {
			t.Fatalf("%q: open says %v, stat %+v, %v", name, err, i, serr)
		}
		list, lerr := readDir(t.Context(), d, name)
		if (lerr == nil) != errors.Is(err, ErrIsDir) {
			t.Fatalf("%q: open says %v, list %v", name, err, lerr)
		}
		for _, i := range list {
			if i.Name == "secret" {
				t.Fatalf("%q lists what is outside of the root", name)
			}
		}
		for _, err := range []error{err, serr, lerr} {
			if errors.Is(err, ErrAway) {
				t.Fatalf("%q: a name must not open the breaker: %v", name, err)
			}
		}
	})
}

func TestSpecialFiles(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes")
	names := []string{"fifo", "socket", "link"}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root) // the path of a socket must be short
	l, err := net.Listen("unix", "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	symlink(t, "fifo", filepath.Join(root, "link"))
	if out, err := exec.Command("mknod", filepath.Join(root, "null"), "c", "1", "3").CombinedOutput(); err == nil {
		names = append(names, "null")
	} else {
		t.Logf("no device: %v\n%s", err, out)
	}

	d := newDir(t, root)
	// A writer that does not block can only open a FIFO that somebody reads.
	opened := func() bool {
		fd, err := unix.Open(filepath.Join(root, "fifo"), unix.O_WRONLY|unix.O_NONBLOCK, 0)
		unix.Close(fd)
		return err == nil
	}
	for _, name := range names {
		if _, err := d.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %s: %v", name, err)
		}
		if _, err := d.Open(t.Context(), name, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %s: %v", name, err)
		}
		if _, err := readDir(t.Context(), d, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("list %s: %v", name, err)
		}
		if opened() {
			t.Errorf("%s is open", name)
		}
	}
	list, err := readDir(t.Context(), d, ".")
	if err != nil || len(list) != 1 || list[0].Name != "f" {
		t.Errorf("%+v, %v", list, err)
	}
	if s := d.Status(); s.Stuck != 0 || s.Errors != 0 {
		t.Errorf("%+v", s)
	}

	// Should a FIFO take the place of a file that is about to be opened, it
	// is not waited for.
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fd, err := unix.Openat(int(dir.Fd()), "fifo", openFlags, 0)
		if err != nil {
			t.Error(err)
		}
		unix.Close(fd)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("to open a FIFO waits for its writer")
		opened()
		<-done
	}
}

// TestPermission runs itself again as nobody, where it is run by root.
func TestPermission(t *testing.T) {
	root := os.Getenv("MIRROR_TEST_PERMISSION")
	if root == "" {
		root = t.TempDir()
		write(t, root, "open", "bytes", "closed", "bytes", "dir/f", "bytes")
		for name, mode := range map[string]os.FileMode{"": 0o755, "closed": 0, "dir": 0} {
			if err := os.Chmod(filepath.Join(root, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { os.Chmod(filepath.Join(root, "dir"), 0o755) })
		if os.Getuid() == 0 {
			if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestPermission$", "-test.v", "-test.testlogfile=")
			cmd.Dir = root
			cmd.Env = append(os.Environ(), "MIRROR_TEST_PERMISSION="+root, "GOCOVERDIR=")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			out, err := cmd.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("--- PASS: TestPermission")) {
				t.Fatalf("%v\n%s", err, out)
			}
			return
		}
	}
	d := newDir(t, root)
	if got, err := read(d, "open", 0); got != "bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err1 := read(d, "closed", 0)
	_, err2 := read(d, "dir/f", 0)
	_, err3 := d.Stat(t.Context(), "dir/f")
	_, err4 := readDir(t.Context(), d, "dir")
	for i, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrAway) {
			t.Errorf("%d: %v", i+1, err)
		}
	}
	// That the root itself may not be read says nothing about an object.
	if _, err := newDir(t, filepath.Join(root, "dir")).Stat(t.Context(), "f"); !errors.Is(err, ErrAway) || errors.Is(err, fs.ErrPermission) {
		t.Errorf("root: %v", err)
	}
}

func TestReadDir(t *testing.T) {
	root := linkTree(t)
	d := newDir(t, root)
	list, err := readDir(t.Context(), d, ".")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range list {
		s := i.Name
		if i.Dir {
			s += "/"
		}
		if i.Symlink {
			s += "@"
		}
		got = append(got, s)
		if want, err := d.Stat(t.Context(), i.Name); err != nil || i.Size != want.Size || !i.ModTime.Equal(want.ModTime) || i.Validator != want.Validator {
			t.Errorf("listed as %+v, but stat says %+v, %v", i, want, err)
		}
	}
	if want := []string{"abs@", "chain@", "dirlink/@", "dot/@", "dotdot/@", "in", "rel@", "slash/@", "sub/", "viadir@"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	list, err = readDir(t.Context(), d, "dirlink")
	if err != nil || len(list) != 2 || list[0].Name != "f" || list[1].Name != "up3" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestReadDirLarge(t *testing.T) {
	root := t.TempDir()
	const n = 20_000
	for i := range n {
		f, err := os.Create(filepath.Join(root, fmt.Sprintf("%05d", (i*7919)%n)))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	d := newDir(t, root)
	start := time.Now()
	list, err := readDir(t.Context(), d, ".")
	if err != nil || len(list) != n {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	t.Log(time.Since(start))
	for i := range list {
		if list[i].Name != fmt.Sprintf("%05d", i) {
			t.Fatalf("entry %d is %s", i, list[i].Name)
		}
	}
}

func TestValidator(t *testing.T) {
	root := t.TempDir()
	d := newDir(t, root)
	path := filepath.Join(root, "f")
	stat := func() Info {
		t.Helper()
		i, err := d.Stat(t.Context(), "f")
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.Open(t.Context(), "f", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if o := b.Info(); o.Validator != i.Validator || !o.ModTime.Equal(i.ModTime) || o.Size != i.Size {
			t.Fatalf("stat says %+v, open %+v", i, o)
		}
		return i
	}
	at := func(mtime time.Time) {
		t.Helper()
		if err := os.Chtimes(path, mtime, mtime); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()

	write(t, root, "f", "one")
	for _, mtime := range []time.Time{now, now.Add(-time.Second), now.Add(10 * time.Second), now.Add(24 * time.Hour)} {
		at(mtime)
		if i := stat(); i.Validator != "" || i.Same(i) {
			t.Errorf("changed %v ago, validator %q", now.Sub(mtime), i.Validator)
		}
	}
	old := now.Add(-time.Hour)
	at(old)
	one := stat()
	if !one.Same(stat()) {
		t.Fatalf("%+v is not the same as itself", one)
	}
	at(old.Add(time.Nanosecond))
	if one.Same(stat()) {
		t.Error("mtime differs")
	}

	// Renamed into its place: same size, same mtime.
	write(t, root, "f.new", "two")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	at(old)
	if two := stat(); two.Validator == "" || one.Same(two) {
		t.Errorf("%+v, %+v", one, two)
	}

	// A large file is the same in a copy of the tree.
	big := strings.Repeat("x", smallFile+1)
	write(t, root, "f", big)
	at(old)
	i := stat()
	write(t, root, "f.new", big)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	at(old)
	if !i.Same(stat()) {
		t.Errorf("%+v, %+v", i, stat())
	}
	write(t, root, "f", big+"x")
	at(old)
	if i.Same(stat()) {
		t.Error("size differs")
	}
}

func TestBody(t *testing.T) {
	root := t.TempDir()
	content := make([]byte, 3*readSize+12345)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	write(t, root, "f", string(content), "empty", "")
	d := newDir(t, root)
	var want uint64
	for _, offset := range []int64{0, 1, readSize - 1, readSize, int64(len(content)) - 1, int64(len(content)), int64(len(content)) + 1} {
		for _, size := range []int{1000, 32 << 10, readSize, 1 << 20} {
			b, err := d.Open(t.Context(), "f", offset)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := b.Read(nil); n != 0 || err != nil {
				t.Errorf("Read(nil): %d, %v", n, err)
			}
			var got []byte
			p := make([]byte, size)
			for {
				n, err := b.Read(p)
				got = append(got, p[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil || n == 0 {
					t.Fatal(n, err)
				}
			}
			tail := content[min(offset, int64(len(content))):]
			if !bytes.Equal(got, tail) {
				t.Fatalf("offset %d, buffer %d: %d bytes, or other ones", offset, size, len(got))
			}
			want += uint64(len(tail))
			if i := b.Info(); i.Size != int64(len(content)) || i.Name != "f" {
				t.Errorf("%+v", i)
			}
			b.Close()
			if _, err := b.Read(p); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("read after close: %v", err)
			}
			if err := b.Close(); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("second close: %v", err)
			}
		}
	}
	if got, err := read(d, "empty", 0); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if s := d.Status(); s.ReadBytes != want || s.Reads != 7*4+1 || s.Stats != 0 || s.Lists != 0 {
		t.Errorf("%+v, want %d bytes", s, want)
	}
	waitFor(t, "all files are closed", func() bool { return openFiles(t, root+"/") == 0 })
}

func TestBodyChanges(t *testing.T) {
	size := 2 * readSize
	tests := []struct {
		name   string
		change func(path string) error
		read   int // bytes that can be read: those of the first version
		err    error
	}{
		{"nothing", func(string) error { return nil }, size, nil},
		{"grows", func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("b"), 2*size), 0) }, readSize, errChanged},
		{"shrinks", func(p string) error { return os.Truncate(p, int64(size)-1000) }, readSize, errChanged},
		{"is emptied", func(p string) error { return os.Truncate(p, 0) }, readSize, errChanged},
		{"is rewritten", func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("b"), size), 0) }, readSize, errChanged},
		{"is replaced", func(p string) error {
			if err := os.WriteFile(p+".new", []byte("other"), 0o644); err != nil {
				return err
			}
			return os.Rename(p+".new", p)
		}, size, nil},
		{"is removed", os.Remove, size, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, "f")
			write(t, root, "f", strings.Repeat("a", size))
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			d := newDir(t, root)
			b, err := d.Open(t.Context(), "f", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if n, err := b.Read(make([]byte, readSize)); n != readSize || err != nil {
				t.Fatal(n, err)
			}
			if err := test.change(path); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(b)
			if n := readSize + len(rest); n != test.read || !errors.Is(err, test.err) {
				t.Errorf("%d bytes, %v; want %d, %v", n, err, test.read, test.err)
			}
			if errors.Is(err, ErrAway) {
				t.Errorf("a change of the file is the origin's failure: %v", err)
			}
			if s := d.Status(); s.Errors != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestNotMounted(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "root")
	isAway := func(t *testing.T, err error, text string) {
		t.Helper()
		if !errors.Is(err, ErrAway) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want away: %s", err, text)
		}
	}
	t.Run("missing", func(t *testing.T) {
		_, err := newDir(t, root).Stat(t.Context(), ".")
		isAway(t, err, "no such file")
	})
	t.Run("a file", func(t *testing.T) {
		write(t, top, "file", "")
		_, err := newDir(t, filepath.Join(top, "file")).Stat(t.Context(), ".")
		isAway(t, err, "not a directory")
	})
	t.Run("a FIFO", func(t *testing.T) {
		if err := unix.Mkfifo(filepath.Join(top, "fifo"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := newDir(t, filepath.Join(top, "fifo")).Stat(t.Context(), ".")
		isAway(t, err, "not a directory")
	})
	t.Run("dangling", func(t *testing.T) {
		symlink(t, "nowhere", filepath.Join(top, "dangling"))
		_, err := newDir(t, filepath.Join(top, "dangling")).Stat(t.Context(), ".")
		isAway(t, err, "no such file")
	})

	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	d := newDir(t, root)
	if _, err := d.Stat(t.Context(), "."); err != nil {
		t.Fatal(err)
	}
	if list, err := readDir(t.Context(), d, "."); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	_, err := read(d, "f", 0)
	isAway(t, err, "is it mounted?")
	_, err = readDir(t.Context(), d, "d")
	isAway(t, err, "is it mounted?")

	// As if it was mounted now, over the directory that is open.
	write(t, top, "mounted/f", "bytes")
	if err := os.Rename(root, root+"-under"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(top, "mounted"), root); err != nil {
		t.Fatal(err)
	}
	if got, err := read(d, "f", 0); got != "bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := read(d, "g", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}

	// Gone again: the breaker opens, and closes when it is back.
	if err := os.Rename(root, root+"-gone"); err != nil {
		t.Fatal(err)
	}
	for range breaker.Threshold {
		_, err := read(d, "g", 0)
		isAway(t, err, "no such file")
	}
	_, err = read(d, "f", 0)
	isAway(t, err, "breaker open")
	if s := d.Status(); s.State != "away" || s.Errors < 5 || s.LastError == "" {
		t.Errorf("%+v", s)
	}
	if err := os.Rename(root+"-gone", root); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the breaker is closed", func() bool { return d.Status().State == "up" })
	if got, err := read(d, "f", 0); got != "bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestErrorClasses(t *testing.T) {
	classes := map[error][]error{
		fs.ErrNotExist: {
			unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.EINVAL, unix.EILSEQ,
		},
		fs.ErrPermission: {unix.EACCES, unix.EPERM},
		ErrAway: {
			unix.EIO, unix.ESTALE, unix.ENOTCONN, unix.ETIMEDOUT, unix.ENODEV, unix.ENXIO, unix.EHOSTDOWN, unix.EMFILE,
			unix.ECONNABORTED, unix.EBADF, unix.ENOMEM,
		},
	}
	root := t.TempDir()
	write(t, root, "f", "bytes")
	d := newDir(t, root)
	var errno error
	d.state.inject = func(op, _ string) error { return &fs.PathError{Op: op, Path: "x", Err: errno} }
	for class, errnos := range classes {
		for _, errno = range errnos {
			_, err := d.Open(t.Context(), "f", 0)
			for _, c := range []error{fs.ErrNotExist, fs.ErrPermission, ErrAway, fs.ErrInvalid} {
				if errors.Is(err, c) != (c == class) {
					t.Errorf("%v (%d): %v", errno, errno, err)
				}
			}
			d.state.breaker.Report(nil)
		}
	}
	if s := d.Status(); s.State != "up" || s.Errors != uint64(len(classes[ErrAway])) || s.Timeouts != 0 {
		t.Errorf("%+v", s)
	}
}
