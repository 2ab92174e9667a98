package releaser

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// childVar has the test binary make a release, of TREE to LINK, and nothing else.
const childVar = "SNAPSHOT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVar) == "" {
		os.Exit(m.Run())
	}
	s := &Snapshot{Tree: os.Args[1], Link: os.Args[2], Keep: 2}
	if err := s.Provision(caddy.Context{}); err != nil {
		panic(err)
	}
	_, err := s.Release(context.Background(), &step.Run{Log: zap.NewNop(), Report: func(step.Progress) {}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// place is a tree and where it is released.
func place(t *testing.T) (tree, link string) {
	t.Helper()
	dir := t.TempDir()
	tree, link = filepath.Join(dir, "tree"), filepath.Join(dir, "link")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	return tree, link
}

func release(t *testing.T, s *Snapshot, want bool) {
	t.Helper()
	got, err := s.Release(t.Context(), newRun(t))
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("released: %v", got)
	}
}

// refuse is a release that fails, and what of.
func refuse(t *testing.T, s *Snapshot, r *step.Run, why string) {
	t.Helper()
	got, err := s.Release(t.Context(), r)
	if err == nil || got || !strings.Contains(err.Error(), why) {
		t.Fatalf("released: %v, error: %v; want %q", got, err, why)
	}
}

// describe says all that a release has to keep of a tree, by path.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d:%d %d", st.Mode, st.Uid, st.Gid, unix.TimespecToNsec(st.Mtim))
		if !isDir(&st) {
			text += fmt.Sprintf(" inode %d", st.Ino)
		}
		rel, _ := filepath.Rel(dir, path)
		all[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameTree(t *testing.T, got, want string) {
	t.Helper()
	a, b := describe(t, got+"/."), describe(t, want+"/.")
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if a[name] != b[name] {
			t.Errorf("%q: %q, want %q", name, a[name], b[name])
		}
	}
	for name := range a {
		if b[name] == "" {
			t.Errorf("%q is too many", name)
		}
	}
}

// left makes sure that there are n releases and nothing else.
func left(t *testing.T, s *Snapshot, n int) {
	t.Helper()
	entries, err := os.ReadDir(s.releases())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	for _, name := range names {
		if _, _, ok := parseName(name); !ok {
			t.Errorf("%s is left over", name)
		}
	}
	if len(names) != n {
		t.Errorf("there are %v, want %d releases", names, n)
	}
}

func TestSnapshot(t *testing.T) {
	tree, link := place(t)
	for _, name := range []string{"a", "dir/b", "dir/deep/er/c", "new\nline", "odd\xff\x01byte", " ", "-rf", "dir/ü"} {
		write(t, filepath.Join(tree, name), name)
	}
	for name, target := range map[string]string{"out": "/etc", "up": "../..", "dangling": "nothing", "in": "dir/b", "dir/loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(tree, "empty"), 0o750); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	for _, name := range []string{"dir/deep", "empty", "a", "."} {
		if err := os.Chtimes(filepath.Join(tree, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]fs.FileMode{"a": 0o600, "dir/deep/er": 0o555, "dir": 0o755 | fs.ModeSetgid} {
		if err := os.Chmod(filepath.Join(tree, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+w", filepath.Dir(tree)).Run() })

	s := newSnapshot(t, tree, link)
	release(t, s, true)
	sameTree(t, link, tree)
	if target, err := os.Readlink(link); err != nil || !strings.HasPrefix(target, "link.releases/000001-") {
		t.Errorf("the link is to %q, %v", target, err)
	}
	release(t, s, false)
	left(t, s, 1)

	// What nobody sees is no change; whatever is seen is.
	if err := os.Chtimes(filepath.Join(tree, "dir"), old, old); err != nil {
		t.Fatal(err)
	}
	release(t, s, false)
	n := 1
	for what, change := range map[string]func() error{
		"new file":     func() error { return os.WriteFile(filepath.Join(tree, "dir/new"), nil, 0o644) },
		"file gone":    func() error { return os.Remove(filepath.Join(tree, " ")) },
		"mode":         func() error { return os.Chmod(filepath.Join(tree, "empty"), 0o700) },
		"empty gone":   func() error { return os.Mkdir(filepath.Join(tree, "empty2"), 0o700) },
		"renamed":      func() error { return os.Rename(filepath.Join(tree, "a"), filepath.Join(tree, "aa")) },
		"other target": func() error { return relink(filepath.Join(tree, "in"), "dir/ü") },
		"same content": func() error { write(t, filepath.Join(tree, "dir/b"), "dir/b"); return nil },
	} {
		if err := change(); err != nil {
			t.Fatal(what, err)
		}
		if got, err := s.Release(t.Context(), newRun(t)); err != nil || !got {
			t.Errorf("%s: released: %v, %v", what, got, err)
		}
		n++
		sameTree(t, link, tree)
		left(t, s, min(n, 3))
		release(t, s, false)
	}
}

// Web servers find their way to a release, however files are made that are nobody
// else's business.
func TestUmask(t *testing.T) {
	tree, link := place(t)
	write(t, filepath.Join(tree, "f"), "x")
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	s := newSnapshot(t, tree, link)
	release(t, s, true)
	mode := func() fs.FileMode {
		fi, err := os.Stat(s.releases())
		if err != nil {
			t.Fatal(err)
		}
		return fi.Mode().Perm()
	}
	if got := mode(); got != 0o755 {
		t.Errorf("the releases have mode %o", got)
	}
	sameTree(t, link, tree)
	// Who changes it has a reason.
	if err := os.Chmod(s.releases(), 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree, "f"), "y")
	release(t, s, true)
	if got := mode(); got != 0o750 {
		t.Errorf("the releases have mode %o again", got)
	}
}

func relink(name, target string) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	return os.Symlink(target, name)
}

// Who goes back to an older release keeps it until the job runs again.
func TestRollback(t *testing.T) {
	tree, link := place(t)
	s := newSnapshot(t, tree, link)
	var targets []string
	for i := range 3 {
		write(t, filepath.Join(tree, "f"), fmt.Sprint(i))
		release(t, s, true)
		target, _ := os.Readlink(link)
		targets = append(targets, target)
	}
	if err := relink(link, targets[0]); err != nil {
		t.Fatal(err)
	}
	release(t, s, true)
	if target, _ := os.Readlink(link); !strings.HasPrefix(target, "link.releases/000004-") {
		t.Errorf("the link is to %s", target)
	}
	sameTree(t, link, tree)
	left(t, s, 3)

	// A link that is not ours is replaced, and what it leads to is left alone.
	if err := relink(link, tree); err != nil {
		t.Fatal(err)
	}
	release(t, s, true)
	left(t, s, 3)
	sameTree(t, link, tree)
}

// All at once: a reader that has looked the link up finds one release, whole.
func TestSwitch(t *testing.T) {
	tree, link := place(t)
	names := []string{"a/gen", "m/n/gen", "z/gen"}
	set := func(gen int) {
		for _, name := range names {
			write(t, filepath.Join(tree, name), fmt.Sprint(gen))
		}
	}
	set(0)
	s := newSnapshot(t, tree, link)
	s.Keep = 20
	release(t, s, true)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			last := 0
			for n := 0; ; n++ {
				select {
				case <-stop:
					if n == 0 {
						t.Error("nothing was read")
					}
					return
				default:
				}
				gen := readAll(t, link, names)
				if gen < last {
					t.Errorf("release %d after %d", gen, last)
				}
				last = gen
			}
		})
	}
	for gen := 1; gen < 150; gen++ {
		set(gen)
		release(t, s, true)
	}
	close(stop)
	readers.Wait()
}

func readAll(t *testing.T, link string, names []string) (gen int) {
	root, err := os.OpenRoot(link)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer root.Close()
	gen = -1
	for _, name := range names {
		data, err := root.ReadFile(name)
		var n int
		if _, e := fmt.Sscan(string(data), &n); err != nil || e != nil || (gen >= 0 && n != gen) {
			t.Errorf("%s: %q in release %d: %v", name, data, gen, err)
		}
		gen = n
	}
	return gen
}

func TestKilled(t *testing.T) {
	tree, link := place(t)
	pool(t, tree, 4000)
	s := newSnapshot(t, tree, link)
	s.Keep = 2
	write(t, filepath.Join(tree, "pool", "gen"), "0")
	release(t, s, true)
	start := time.Now()
	write(t, filepath.Join(tree, "pool", "gen"), "1")
	release(t, s, true)
	whole := time.Since(start) + 30*time.Millisecond
	killed, stage := 0, map[string]int{}
	for gen := 2; gen < 32; gen++ {
		write(t, filepath.Join(tree, "pool", "gen"), fmt.Sprint(gen))
		cmd := exec.Command(os.Args[0], tree, link)
		cmd.Env = append(os.Environ(), childVar+"=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(whole))))
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err != nil {
			killed++
		}
		stage[leftover(t, s)]++

		// What is served is whole.
		data, err := os.ReadFile(filepath.Join(link, "pool", "gen"))
		if now, last := fmt.Sprint(gen), fmt.Sprint(gen-1); err != nil || (string(data) != now && string(data) != last) {
			t.Fatalf("%q is served, %v", data, err)
		}
		if n := len(describe(t, link+"/.")); n != len(describe(t, tree+"/.")) {
			t.Fatalf("%d files are served", n)
		}
		if _, err := s.Release(t.Context(), newRun(t)); err != nil {
			t.Fatal(err)
		}
		sameTree(t, link, tree)
		left(t, s, 2)
	}
	t.Logf("killed %d times of 30; left over: %v", killed, stage)
	if killed == 0 {
		t.Error("no release was interrupted")
	}
}

func leftover(t *testing.T, s *Snapshot) string {
	entries, err := os.ReadDir(s.releases())
	if err != nil {
		t.Fatal(err)
	}
	text := "nothing"
	for _, e := range entries {
		if e.Name() != lockName && strings.HasPrefix(e.Name(), ".") {
			text = strings.TrimRight(e.Name(), "0123456789TZ.-")
		}
	}
	return text
}

// A copy that was finished and not switched to is not a release.
func TestUnpublished(t *testing.T) {
	tree, link := place(t)
	write(t, filepath.Join(tree, "f"), "1")
	s := newSnapshot(t, tree, link)
	release(t, s, true)
	name, err := s.name("")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.releases(), name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("link.releases/"+name, filepath.Join(s.releases(), nextName)); err != nil {
		t.Fatal(err)
	}
	release(t, s, false)
	left(t, s, 1)
}

func TestOneAtATime(t *testing.T) {
	tree, link := place(t)
	write(t, filepath.Join(tree, "f"), "1")
	s := newSnapshot(t, tree, link)
	release(t, s, true)
	lock, err := s.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	refuse(t, s, newRun(t), "under way")
	cmd := exec.Command(os.Args[0], tree, link)
	cmd.Env = append(os.Environ(), childVar+"=1")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "under way") {
		t.Errorf("another process: %v, %s", err, out)
	}
	lock.Close()
	release(t, s, false)
}

// during has something done when the release comes to a stage.
func during(t *testing.T, stage string, f func()) *step.Run {
	r := newRun(t)
	var once sync.Once
	r.Report = func(p step.Progress) {
		if p.Stage == stage {
			once.Do(f)
		}
	}
	return r
}

func TestChangingTree(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"replaced": func(path string) error { return os.WriteFile(path+"2", nil, 0o644) },
		"renamed":  func(path string) error { return os.Rename(path, path+"2") },
		"removed":  os.Remove,
		"grown":    func(path string) error { return os.WriteFile(path, []byte("more"), 0o644) },
		"same size": func(path string) error {
			return os.WriteFile(path, []byte("y"), 0o644)
		},
		"directory gone": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		"tree gone":      func(path string) error { return os.RemoveAll(filepath.Join(path, "../../..")) },
	} {
		t.Run(what, func(t *testing.T) {
			tree, link := place(t)
			path := filepath.Join(tree, "d", "e", "f")
			write(t, path, "x")
			write(t, filepath.Join(tree, "other"), "x")
			s := newSnapshot(t, tree, link)
			release(t, s, true)
			before, _ := os.Readlink(link)
			write(t, filepath.Join(tree, "other"), "y")
			time.Sleep(10 * time.Millisecond) // a tick of the file system's clock
			r := during(t, "verifying", func() {
				if err := change(path); err != nil {
					t.Error(err)
				}
			})
			refuse(t, s, r, "changed while it was copied")
			if after, _ := os.Readlink(link); after != before {
				t.Errorf("the link is to %s", after)
			}
			left(t, s, 1)
			if what != "tree gone" {
				release(t, s, true)
				sameTree(t, link, tree)
			}
		})
	}
}

// What is written into a file shows in its releases. At least that is said, and the
// caches hear of it.
func TestWrittenInto(t *testing.T) {
	tree, link := place(t)
	path := filepath.Join(tree, "f")
	write(t, path, "x")
	s := newSnapshot(t, tree, link)
	release(t, s, true)
	time.Sleep(10 * time.Millisecond)
	if err := os.WriteFile(path, []byte("y"), 0o644); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	r := newRun(t)
	r.Log = zap.New(core)
	if got, err := s.Release(t.Context(), r); !got || err != nil {
		t.Errorf("released: %v, %v", got, err)
	}
	if logs.FilterField(zap.String("file", path)).Len() != 1 {
		t.Errorf("the log says %v", logs.All())
	}
	release(t, s, false)
}

func TestCancelled(t *testing.T) {
	for _, stage := range []string{"comparing", "copying", "verifying"} {
		t.Run(stage, func(t *testing.T) {
			tree, link := place(t)
			pool(t, tree, 2000)
			s := newSnapshot(t, tree, link)
			release(t, s, true)
			write(t, filepath.Join(tree, "zzz"), "x") // is found last
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			r := during(t, stage, func() { cancel(why) })
			if got, err := s.Release(ctx, r); got || !errors.Is(err, why) {
				t.Errorf("released: %v, %v", got, err)
			}
			left(t, s, 1)
			release(t, s, true)
			sameTree(t, link, tree)
		})
	}
}

func TestRefused(t *testing.T) {
	tree, link := place(t)
	s := newSnapshot(t, tree, link)
	refuse(t, s, newRun(t), "is empty")
	write(t, filepath.Join(tree, "f"), "x")
	if err := os.Mkdir(link, 0o755); err != nil {
		t.Fatal(err)
	}
	refuse(t, s, newRun(t), "is not a symbolic link")
	refuse(t, newSnapshot(t, filepath.Join(tree, "none"), filepath.Join(filepath.Dir(link), "l")), newRun(t), "no such file")
	r := newRun(t)
	r.Dir = filepath.Dir(link)
	refuse(t, newSnapshot(t, "", link), r, "must not lie in each other")
	r.Dir = ""
	refuse(t, newSnapshot(t, "", link), r, "no tree")

	// Without a tree of its own it is that of the job.
	r.Dir = tree
	s = newSnapshot(t, "", filepath.Join(filepath.Dir(link), "l"))
	if got, err := s.Release(t.Context(), r); err != nil || !got {
		t.Error(got, err)
	}
}

// tmpfs mounts a file system of its own.
func tmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skip("mounting a file system is not allowed here")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestOtherFileSystem(t *testing.T) {
	tree, link := place(t)
	write(t, filepath.Join(tree, "a"), "x")
	mount := filepath.Join(tree, "m")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	tmpfs(t, mount, "size=1m")
	s := newSnapshot(t, tree, link)
	refuse(t, s, newRun(t), mount+" and "+s.releases()+" are in different file systems")
	left(t, s, 0)
	write(t, filepath.Join(mount, "f"), "x")
	refuse(t, newSnapshot(t, mount, filepath.Join(filepath.Dir(link), "l")), newRun(t), "different file systems")
}

func TestDiskFull(t *testing.T) {
	mount := t.TempDir()
	tmpfs(t, mount, "nr_inodes=120")
	tree, link := filepath.Join(mount, "tree"), filepath.Join(mount, "link")
	for i := range 40 {
		write(t, filepath.Join(tree, fmt.Sprintf("d%d", i%5), fmt.Sprint(i)), "x")
	}
	s := newSnapshot(t, tree, link)
	release(t, s, true) // twice as many inodes
	write(t, filepath.Join(tree, "d0", "0"), "y")
	refuse(t, s, newRun(t), "no space left")
	left(t, s, 1)
	if data, err := os.ReadFile(filepath.Join(link, "d0", "0")); string(data) != "x" {
		t.Errorf("%q is served, %v", data, err)
	}
	if err := unix.Mount("", mount, "", unix.MS_REMOUNT, "nr_inodes=500"); err != nil {
		t.Fatal(err)
	}
	release(t, s, true)
	sameTree(t, link, tree)
}
