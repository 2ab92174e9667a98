package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// mountFUSE mounts a directory with the given files by bindfs, and returns the
// place and the process that can be stopped.
func mountFUSE(t *testing.T, namesAndContents ...string) (root string, server *os.Process) {
	t.Helper()
	if _, err := exec.LookPath("bindfs"); err != nil {
		if os.Getuid() != 0 || os.Getenv("CI") == "" && os.Getenv("MIRROR_TEST_INSTALL") != "1" {
			t.Skip("needs bindfs; as root with MIRROR_TEST_INSTALL=1 it is installed")
		}
		if out, err := exec.Command("apt-get", "install", "-y", "bindfs", "fuse3").CombinedOutput(); err != nil {
			t.Fatalf("apt-get: %v\n%s", err, out)
		}
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skip("needs FUSE:", err)
	} else {
		f.Close()
	}
	dir := t.TempDir()
	root = filepath.Join(dir, "mounted")
	write(t, dir, append(namesAndContents, "mounted/", "")...)
	// The kernel keeps nothing, so that every call asks the server.
	cmd := exec.Command("bindfs", "-f", "--no-allow-other", "-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0",
		filepath.Join(dir, "src"), root)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		exec.Command("fusermount3", "-u", "-z", root).Run() // fails if the test has unmounted it
		select {
		case <-exited:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill() // which also ends all that waits for it
			<-exited
		}
	})
	parent, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "bindfs has mounted", func() bool {
		select {
		case <-exited:
			t.Fatalf("bindfs: %s", &out)
		default:
		}
		fi, err := os.Stat(root)
		return err == nil && fi.Sys().(*syscall.Stat_t).Dev != parent.Sys().(*syscall.Stat_t).Dev
	})
	return root, cmd.Process
}

// inKernel counts the goroutines of this package that are inside of a system
// call.
func inKernel() (n int) {
	stacks := make([]byte, 4<<20)
	for stack := range bytes.SplitSeq(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
		head, _, _ := bytes.Cut(stack, []byte("\n"))
		if bytes.Contains(head, []byte("[syscall")) && bytes.Contains(stack, []byte("origin.(*")) {
			n++
		}
	}
	return n
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

func TestFUSEHangs(t *testing.T) {
	files := []string{"src/big", strings.Repeat("b", 8*readSize)}
	for i := range 200 {
		files = append(files, fmt.Sprintf("src/dir%d/f", i), "bytes")
	}
	root, server := mountFUSE(t, files...)
	const size = 4
	d := newDir(t, root, timeout(500*time.Millisecond), poolSize(size), checkEvery(50*time.Millisecond))
	if got, err := read(d, "dir0/f", 0); got != "bytes" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if d.Release(t.Context()).Seen.IsZero() {
		t.Fatal("never seen")
	}
	body, err := d.Open(t.Context(), "big", 0)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, readSize)
	if _, err := body.Read(p); err != nil {
		t.Fatal(err)
	}

	threadsBefore := threads(t)
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			name := fmt.Sprintf("dir%d/f", i)
			var err error
			switch i % 3 {
			case 0:
				_, err = d.Stat(context.Background(), name)
			case 1:
				_, err = d.Open(context.Background(), name, 0)
			case 2:
				_, err = readDir(context.Background(), d, filepath.Dir(name))
			}
			if !errors.Is(err, ErrAway) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(stopped); took > 2*time.Second {
		t.Errorf("the calls took %v", took)
	}
	waitFor(t, "the breaker is open", func() bool { return d.Status().State == "away" })
	if s := d.Status(); s.Stuck > size || s.Timeouts == 0 {
		t.Errorf("%+v", s)
	}
	// The pool, the probe, and what closes files.
	if n := inKernel(); n < 1 || n > size+2 {
		t.Errorf("%d goroutines are in the kernel", n)
	}
	if n := threads(t); n > threadsBefore+size+8 {
		t.Errorf("%d threads before, now %d", threadsBefore, n)
	}

	// What is open fails at once, and is closed at once.
	start := time.Now()
	for {
		if _, err := body.Read(p); err != nil {
			if !errors.Is(err, ErrAway) {
				t.Error(err)
			}
			break
		}
	}
	body.Close()
	runtime.GC() // needs all threads that run Go
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}

	// It fails fast for as long as it hangs, and its release grows old.
	seen := d.Release(t.Context()).Seen
	for range 20 {
		start := time.Now()
		if _, err := d.Stat(t.Context(), "dir1/f"); !errors.Is(err, ErrAway) {
			t.Error(err)
		}
		if took := time.Since(start); took > 400*time.Millisecond {
			t.Errorf("took %v", took)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if r := d.Release(t.Context()); !r.Seen.Equal(seen) || seen.After(stopped) {
		t.Errorf("seen %v, then %v; stopped %v", seen, r.Seen, stopped)
	}

	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	waitFor(t, "the breaker is closed", func() bool { return d.Status().State == "up" })
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v to notice", took)
	}
	waitFor(t, "nothing is stuck", func() bool { return d.Status().Stuck == 0 })
	for i := range 200 { // a slow machine may need more than the short time-out
		waitFor(t, "all is as before", func() bool {
			got, _ := read(d, fmt.Sprintf("dir%d/f", i), 0)
			return got == "bytes"
		})
	}
	waitFor(t, "the release is seen again", func() bool { return d.Release(t.Context()).Seen.After(start) })
	waitFor(t, "all files are closed", func() bool { return openFiles(t, root+"/") == 0 })
}

// TestFUSEDies: the server is killed, and another mounts in its place.
func TestFUSEDies(t *testing.T) {
	root, server := mountFUSE(t, "src/f", "bytes")
	d := newDir(t, root, timeout(2*time.Second))
	body, err := d.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	server.Kill()
	waitFor(t, "it is missed", func() bool {
		_, err := d.Stat(t.Context(), "f")
		if err != nil && (!errors.Is(err, ErrAway) || errors.Is(err, fs.ErrNotExist)) {
			t.Fatal(err)
		}
		return d.Status().State == "away"
	})
	if _, err := body.Read(make([]byte, 10)); !errors.Is(err, ErrAway) {
		t.Errorf("read: %v", err)
	}
	// Unmounted, the directory is empty, and that is away as well.
	if out, err := exec.Command("fusermount3", "-u", "-z", root).CombinedOutput(); err != nil {
		t.Fatalf("fusermount3: %v\n%s", err, out)
	}
	if _, err := d.Stat(t.Context(), "f"); !errors.Is(err, ErrAway) {
		t.Error(err)
	}
	write(t, root, "f", "other bytes")
	waitFor(t, "it is back", func() bool { return d.Status().State == "up" })
	if got, err := read(d, "f", 0); got != "other bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Remove(filepath.Join(root, "f")); err != nil {
		t.Fatal(err)
	}
}

// TestNoEpoll: see tree.open.
func TestNoEpoll(t *testing.T) {
	root, _ := mountFUSE(t, "src/f", "bytes", "src/g", "bytes")
	inEpoll := func(path string) bool {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		var polled, number string
		for _, fd := range fds {
			switch link, _ := os.Readlink("/proc/self/fd/" + fd.Name()); link {
			case "anon_inode:[eventpoll]":
				info, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
				if err != nil {
					t.Fatal(err)
				}
				polled += string(info)
			case path:
				number = fd.Name()
			}
		}
		if number == "" {
			t.Fatalf("%s is not open", path)
		}
		for line := range strings.Lines(polled) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "tfd:" && f[1] == number {
				return true
			}
		}
		return false
	}

	d := newDir(t, root)
	b, err := d.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if inEpoll(filepath.Join(root, "f")) {
		t.Error("the runtime has asked epoll about the file")
	}

	g, err := os.Open(filepath.Join(root, "g"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if !inEpoll(filepath.Join(root, "g")) {
		t.Log("nor does it for files that package os opens")
	}
}
