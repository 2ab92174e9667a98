package faults

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// file tells files apart, whatever their names.
type file struct{ dev, ino uint64 }

// usage is what du says of a directory, in bytes.
func usage(t testing.TB, dir string) int64 {
	t.Helper()
	n, err := du(dir, map[file]bool{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// du counts what files below dir have on disk, each of them once.
func du(dir string, seen map[file]bool) (n int64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		if f := (file{st.Dev, st.Ino}); !seen[f] {
			seen[f] = true
			n += st.Blocks * 512
		}
		return nil
	})
	return n, err
}

// unlinked counts what a process has open of the file system that dir is on,
// but without a name.
func unlinked(pid int, dir string, seen map[file]bool) (n int64, err error) {
	var at syscall.Stat_t
	if err := syscall.Stat(dir, &at); err != nil {
		return 0, err
	}
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(fds)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		var st syscall.Stat_t
		if syscall.Stat(filepath.Join(fds, e.Name()), &st) != nil {
			continue // closed meanwhile
		}
		f := file{st.Dev, st.Ino}
		if st.Dev == at.Dev && st.Nlink == 0 && st.Mode&syscall.S_IFMT == syscall.S_IFREG && !seen[f] {
			seen[f] = true
			n += st.Blocks * 512
		}
	}
	return n, nil
}

// freeze stops a process for as long as look takes, so that it sees one
// moment.
func freeze(pid int, look func() error) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	if err := stopped(pid); err != nil {
		return err
	}
	return look()
}

// stopped waits until all threads of a process are stopped: SIGSTOP does not.
func stopped(pid int) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		states, err := testcaddy.ThreadStates(pid)
		if err != nil {
			return err
		}
		if strings.Trim(states, "T") == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not stop: states of its threads: %s", pid, states)
		}
	}
}

// openFiles is how many descriptors a process has.
func openFiles(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// threads is how many threads a process has.
func threads(t testing.TB, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "\nThreads:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("/proc/%d/status: %v", pid, err)
	}
	return n
}

// tmpfs mounts a file system of its own, and returns where.
func tmpfs(t testing.TB, size string) string {
	t.Helper()
	needMounts(t)
	dir := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "mode=0755,size="+size, "tmpfs", dir)
	t.Cleanup(func() { run(t, "umount", "-l", dir) })
	return dir
}

// readOnly makes a directory read-only until undo is called, even for files
// below it that are open: it mounts the directory over itself.
func readOnly(t testing.TB, dir string) (undo func()) {
	t.Helper()
	needMounts(t)
	side := t.TempDir()
	run(t, "mount", "--bind", dir, side)
	run(t, "mount", "-o", "remount,bind,ro", side)
	run(t, "mount", "--bind", side, dir)
	run(t, "umount", "-l", side)
	done := false
	undo = func() {
		if !done {
			done = true
			run(t, "umount", "-l", dir)
		}
	}
	t.Cleanup(undo)
	return undo
}

// run runs a program that must succeed.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// fuse is a FUSE file system that shows another directory.
type fuse struct {
	dir     string // where
	cmd     *exec.Cmd
	resumed func() // of the last hang
}

// bind mounts a FUSE file system that shows the directory from.
func bind(t testing.TB, from string, options ...string) *fuse {
	t.Helper()
	needMounts(t)
	testcaddy.Need(t, "bindfs", "fusermount3")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testcaddy.Missing(t, "there is no /dev/fuse")
	}
	f := &fuse{dir: t.TempDir()}
	f.cmd = exec.Command("bindfs", append(options, "-f", from, f.dir)...)
	f.cmd.Stderr = os.Stderr
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Without its server, nothing hangs in it any more.
		f.cmd.Process.Kill()
		f.cmd.Wait()
		syscall.Unmount(f.dir, syscall.MNT_DETACH) // a test may have done so
	})
	wait(t, 10*time.Second, "mounted: "+f.dir, func() bool {
		var below, above syscall.Stat_t
		return syscall.Stat(f.dir, &below) == nil && syscall.Stat(filepath.Dir(f.dir), &above) == nil && below.Dev != above.Dev
	})
	return f
}

// maxHang is how long a file system may hang. A process that waits for it can
// not be killed, so that a test might never end.
const maxHang = 3 * time.Minute

// hang stops the file system's server: every call to it waits until resume, or
// the test's end. What the test has started before, a server for one, ends later.
func (f *fuse) hang(t testing.TB) {
	t.Helper()
	err := f.cmd.Process.Signal(syscall.SIGSTOP)
	if err == nil {
		err = stopped(f.cmd.Process.Pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	long := time.AfterFunc(maxHang, func() {
		t.Errorf("the test hangs: its file system has hung for %v", maxHang)
		f.resume(t)
	})
	f.resumed = func() { long.Stop() }
	t.Cleanup(func() { f.resume(t) })
}

func (f *fuse) resume(t testing.TB) {
	t.Helper()
	if f.resumed != nil {
		f.resumed()
	}
	if err := f.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Error(err)
	}
}
