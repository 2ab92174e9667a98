package diskcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// observe opens a cache whose log lines are kept.
func observe(t *testing.T, dir string, l Limits) (*Cache, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	c, err := Open(dir, l, zap.New(core, offLockHook))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	await(t, c, Ready)
	return c, logs
}

// lines are the messages of a log from a level on.
func lines(logs *observer.ObservedLogs, from zapcore.Level) (all []string) {
	for _, l := range logs.All() {
		if l.Level >= from {
			all = append(all, fmt.Sprint(l.Message, " ", l.ContextMap()))
		}
	}
	return all
}

// serve has a reader get an object, from the cache or else from its origin, as
// the handler does. It reports whether the cache was of use.
func serve(t *testing.T, c *Cache, key Key, size int, known bool) bool {
	t.Helper()
	want := body(key, 1, size)
	if e, ok := c.Get(key); ok {
		defer e.Close()
		if err := checkEntry(e, 200_000); err != nil {
			t.Error(err)
		}
		return true
	}
	f, begun := c.Fill(key)
	defer f.Leave()
	if begun {
		go runFill(f, key, 1, size, known)
	}
	got, err := readFill(t.Context(), f)
	if !bytes.Equal(got, want[:len(got)]) {
		t.Error("wrong bytes")
	}
	if err != io.EOF && !errors.Is(err, ErrBypass) {
		t.Error(err)
	}
	for c.Filling(key) == f { // to see it stored
		f.Leave()
		time.Sleep(time.Millisecond)
	}
	return err == io.EOF
}

// TestDiskFull gives a cache more to use than the disk has.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if !isolated(t) {
		return
	}
	for _, free := range []Free{{}, {Percent: 2}, {Bytes: 20 << 20}} {
		t.Run(free.String(), func(t *testing.T) {
			t.Parallel()
			testDiskFull(t, free)
		})
	}
}

func testDiskFull(t *testing.T, free Free) {
	const total = 64 << 20
	mnt := tmpfs(t, "64m")
	dir := filepath.Join(mnt, "cache")
	c, logs := observe(t, dir, Limits{MaxSize: 1 << 30, MinFree: free, Memory: 1 << 20})
	avail := func() int64 {
		var st unix.Statfs_t
		if err := unix.Statfs(mnt, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Bavail) * st.Bsize
	}
	leave := free.of(total)

	// Twice the disk: each is stored, at the cost of others.
	for n := range 32 {
		if !serve(t, c, key(n), 4<<20-n*1000, n%3 > 0) {
			t.Errorf("object %d was not stored", n)
		}
		if n := avail(); n < leave {
			t.Errorf("%d bytes free, should leave %d", n, leave)
		}
	}
	if s := c.Stats(); s.Evictions == 0 || s.Bypassed > 0 || s.State != Ready || s.Size < (total-leave)/2 {
		t.Errorf("%+v", s)
	}
	checkSize(t, c, dir)
	// One that can never fit does not cost the others.
	before := c.Stats().Entries
	if serve(t, c, key(1000), 80<<20, true) {
		t.Error("80 MiB fit on a disk of 64")
	}
	if n := c.Stats().Entries; n != before {
		t.Errorf("%d entries of %d are left", n, before)
	}
	if got := lines(logs, zapcore.WarnLevel); len(got) > 1 {
		t.Errorf("log: %s", got)
	}

	// Someone else takes all there is, the cache's share too, with time.
	other, err := os.Create(filepath.Join(mnt, "other"))
	if err != nil {
		t.Fatal(err)
	}
	chunk := random(1<<20, 1)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if _, err := other.Write(chunk); err == nil {
			continue
		}
		// What the cache gives up, to leave free what it must, is taken too.
		c.wake()
		if leave == 0 || c.Stats().Entries == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if s := c.Stats(); leave > 0 && s.Entries > 0 {
		t.Errorf("the cache has not shrunk: %+v", s)
	}
	logs.TakeAll()
	for n := range 30 {
		serve(t, c, key(2000+n), 1<<20+n, n%2 == 0)
		serve(t, c, key(3000+n), 40_000+n, true)
	}
	// Many, at last, come from the origin, with one word about it.
	for n := range 40 {
		f, _ := c.Fill(key(4000 + n))
		err := f.Start(Meta{Size: 70 << 20}, Freshness{})
		f.Fail(err)
		f.Leave()
		if !errors.Is(err, ErrBypass) {
			t.Errorf("got %v", err)
		}
	}
	if s := c.Stats(); s.Bypassed < 40 || s.State != Ready {
		t.Errorf("%+v", s)
	}
	if got := lines(logs, zapcore.InfoLevel); len(got) > 1 {
		t.Errorf("log: %s", got)
	}

	// There is room again.
	if err := errors.Join(other.Close(), os.Remove(other.Name())); err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		if !serve(t, c, key(5000+n), 1<<20+n, true) {
			t.Errorf("object %d was not stored", n)
		}
	}
	checkSize(t, c, dir)
	within(t, "idle", func() bool { return running(c) == 0 })
	checkIdle(t, c)
}

// TestInodesFull has a disk with room for bytes, but not for files.
func TestInodesFull(t *testing.T) {
	t.Parallel()
	if !isolated(t) {
		return
	}
	dir := filepath.Join(tmpfs(t, "64m,nr_inodes=2000"), "cache")
	c, logs := observe(t, dir, Limits{MaxSize: 1 << 30})
	for n := range 4000 {
		if !serve(t, c, key(n), 100, true) {
			t.Errorf("object %d was not stored", n)
		}
	}
	s := c.Stats()
	if s.State != Ready || s.Entries < 500 || s.Evictions < 500 {
		t.Errorf("%+v", s)
	}
	if got := lines(logs, zapcore.WarnLevel); len(got) > 1 {
		t.Errorf("log: %s", got)
	}
	checkIdle(t, c)
}

// TestMinFree has others fill the file system.
func TestMinFree(t *testing.T) {
	t.Parallel()
	if !isolated(t) {
		return
	}
	mnt := tmpfs(t, "64m")
	dir := filepath.Join(mnt, "cache")
	c, _ := observe(t, dir, Limits{MaxSize: 1 << 30, MinFree: Free{Percent: 25}})
	for n := range 40 {
		serve(t, c, key(n), 1<<20, true)
	}
	if err := os.WriteFile(filepath.Join(mnt, "other"), make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	total, _, err := c.dir.space()
	if err != nil {
		t.Fatal(err)
	}
	leave := Free{Percent: 25}.of(total)
	var avail int64
	within(t, "shrunk", func() bool {
		_, avail, err = c.dir.space() // Stats has it a second later
		return err != nil || avail >= leave
	})
	if s := c.Stats(); s.Entries < 20 || avail > leave+2<<20 || err != nil {
		t.Errorf("it shrank too much, to %d bytes free: %+v, %v", avail, s, err)
	}
	within(t, "told", func() bool { return c.Stats().DiskFree == avail })
	got := order(c, 40)
	if got[0] != 39 || got[len(got)-1] != 40-len(got) {
		t.Errorf("left is %v", got)
	}
	checkSize(t, c, dir)
}

// TestReadOnly makes the file system read-only for a while.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	if !isolated(t) {
		return
	}
	mnt := tmpfs(t, "64m")
	dir := filepath.Join(mnt, "cache")
	c, logs := observe(t, dir, Limits{MaxSize: 32 << 20, Memory: 1 << 20})
	for n := range 10 {
		serve(t, c, key(n), n*50_000, true)
	}
	remount := func(flags uintptr) {
		t.Helper()
		// Busy as long as a file is being written.
		within(t, "remounted", func() bool {
			return unix.Mount("", mnt, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "") == nil
		})
	}
	for round := range 2 {
		remount(unix.MS_RDONLY)
		for n := range 200 {
			serve(t, c, key(100+n), 2_000_000*(n%2)+100, true)
			if !serve(t, c, key(n%10), n%10*50_000, true) {
				t.Error("a hit was not served")
			}
			if n == 100 {
				time.Sleep(1500 * time.Millisecond) // it looks whether it is well
			}
		}
		if e, ok := c.Get(key(3)); ok { // nor can this be saved now
			e.Refresh(Freshness{At: time.Now(), Release: 99})
			e.Close()
		}
		c.save()
		s := c.Stats()
		if s.State != Bypass || !strings.Contains(s.Why, "read-only") || s.DiskErrors == 0 {
			t.Errorf("%+v", s)
		}
		if got := lines(logs, zapcore.WarnLevel); len(got) != 1 && round == 0 {
			t.Errorf("log: %s", got)
		}
		remount(0)
		start := time.Now()
		await(t, c, Ready)
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("it took %v to be well again", d)
		}
		if !serve(t, c, key(1000+round), 100_000, true) {
			t.Error("nothing is filled after it")
		}
	}
	if got := lines(logs, zapcore.InfoLevel); len(got) != 2 {
		t.Errorf("log: %s", got)
	}
	checkSize(t, c, dir)
	checkIdle(t, c)
	c.Close()
	c = open(t, dir, small)
	if e, ok := c.Get(key(3)); !ok || e.Fresh().Release != 99 {
		t.Error("the validation was lost")
	} else {
		e.Close()
	}
}

// TestStubborn has a directory that fails, on a disk that is otherwise well: one
// line a minute tells of it, not one per request, and the rest goes on.
func TestStubborn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	for n := range 20 {
		serve(t, c, key((3+n)%20), 1000, true)
	}
	c.Close()
	// Those that cannot be removed are the first to be evicted.
	c, logs := observe(t, dir, Limits{MaxSize: 1 << 20})
	shard := filepath.Dir(fileOf(dir, key(3)))
	if err := os.RemoveAll(shard); err != nil {
		t.Fatal(err)
	}
	// A loop of links: nothing can be made in it.
	if err := os.Symlink(shard, shard); err != nil {
		t.Fatal(err)
	}
	for n := range 150 {
		serve(t, c, key(3), 1000, true)
		serve(t, c, key(100+n), 1000, true)
		time.Sleep(10 * time.Millisecond)
	}
	if got := lines(logs, zapcore.InfoLevel); len(got) > 4 {
		t.Errorf("%d lines, beginning with %s", len(got), strings.Join(got[:4], "\n"))
	}
	if s := c.Stats(); s.Stored < 145 || s.Evictions == 0 || s.Size > s.MaxSize || s.State != Ready {
		t.Errorf("%+v", s)
	}
}

// TestLitter fails a fill while its file cannot be removed: it stays counted, and
// goes when it can.
func TestLitter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	f, _ := c.Fill(key(1))
	if err := f.Start(Meta{Size: 3 << 20}, Freshness{}); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Rename(tmp, tmp+".x"), os.Symlink(tmp, tmp)); err != nil {
		t.Fatal(err)
	}
	f.Fail(errShort)
	f.Leave()
	if n := c.Stats().Size; n < 3<<20 {
		t.Errorf("%d bytes are counted", n)
	}
	if err := errors.Join(os.Remove(tmp), os.Rename(tmp+".x", tmp)); err != nil {
		t.Fatal(err)
	}
	within(t, "swept", func() bool { return running(c) == 0 })
	checkSize(t, c, dir)
	checkIdle(t, c)
}

// TestVanished removes the directory, or parts of it, from under the cache.
func TestVanished(t *testing.T) {
	t.Parallel()
	ways := map[string]func(dir string) error{
		"removed": func(dir string) error {
			for { // the cache may make it anew in between
				if err := os.RemoveAll(dir); !errors.Is(err, unix.ENOTEMPTY) {
					return err
				}
			}
		},
		"moved":   func(dir string) error { return os.Rename(dir, dir+".old") },
		"lock":    func(dir string) error { return os.Remove(dir + "/lock") },
		"objects": func(dir string) error { return os.RemoveAll(dir + "/objects") },
		"tmp":     func(dir string) error { return os.RemoveAll(dir + "/tmp") },
		"replaced": func(dir string) error {
			// At one stroke: the cache would make it anew in between.
			c, err := Open(dir+".new", small, zap.NewNop())
			if err != nil {
				return err
			}
			await(t, c, Ready)
			return errors.Join(fill(c, key(500), 1, 5000, true), c.Close(),
				unix.Renameat2(unix.AT_FDCWD, dir+".new", unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE))
		},
		"a file": func(dir string) error {
			err := os.Rename(dir, dir+".old")
			time.AfterFunc(2*time.Second, func() { os.Remove(dir) })
			return errors.Join(err, os.WriteFile(dir, nil, 0o600))
		},
	}
	for name, vanish := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "cache")
			c, logs := observe(t, dir, small)
			for n := range 10 {
				serve(t, c, key(n), 3<<20*(n%2)+1000, true)
			}
			e, ok := c.Get(key(1))
			if !ok {
				t.Fatal("it is not there")
			}
			f, _ := c.Fill(key(2000)) // goes on meanwhile
			f.Start(metaOf(1, 3<<20), Freshness{})
			if err := vanish(dir); err != nil {
				t.Fatal(err)
			}
			stored := 0
			for n := range 150 {
				if serve(t, c, key(100+n), 1000+2_000_000*(n%10/9), true) {
					stored++
				}
				time.Sleep(20 * time.Millisecond)
			}
			await(t, c, Ready)
			f.Write(body(key(2000), 1, 3<<20))
			err := f.Commit()
			f.Leave()
			if err != nil && !errors.Is(err, ErrBypass) {
				t.Error(err)
			}
			if err := checkEntry(e, 100_000); err != nil {
				t.Errorf("who was reading is disturbed: %v", err)
			}
			e.Close()
			if !serve(t, c, key(1000), 100_000, true) || stored < 20 {
				t.Errorf("it did not begin anew: %d stored, %+v", stored, c.Stats())
			}
			if name == "replaced" {
				if _, ok := c.Get(key(500)); !ok {
					t.Error("what is in the new directory is not served")
				} else if e, ok := c.Get(key(500)); ok {
					e.Close()
				}
			}
			if got := lines(logs, zapcore.InfoLevel); len(got) > 5 {
				t.Errorf("log: %s", strings.Join(got, "\n"))
			}
			// All that is counted can be had, and is all there is.
			if name != "tmp" && name != "objects" && name != "lock" {
				if _, ok := c.Get(key(2)); ok {
					t.Error("it serves what is gone")
				}
			}
			within(t, "settled", func() bool { return running(c) == 0 })
			checkSize(t, c, dir)
			if n := unlinkedUsage(os.Getpid(), dir); n > 0 {
				t.Errorf("%d bytes are still open", n)
			}
		})
	}
}

// TestUnlinked removes single files.
func TestUnlinked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	for n := range 10 {
		serve(t, c, key(n), 10_000, true)
	}
	c.Close()
	c, logs := observe(t, dir, Limits{MaxSize: 32 << 20})
	for n := range 5 {
		if err := os.Remove(fileOf(dir, key(n))); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 10 {
		e, ok := c.Get(key(n))
		if ok != (n >= 5) {
			t.Errorf("%d is there: %t", n, ok)
		}
		if ok {
			e.Close()
		}
	}
	if s := c.Stats(); s.Entries != 5 || s.State != Ready || s.Corrupt > 0 || logs.Len() > 0 {
		t.Errorf("%+v, log %v", s, lines(logs, zapcore.InfoLevel))
	}
	checkSize(t, c, dir)
	checkIdle(t, c)
}

// holdRole has a cache open until it is told to go.
func holdRole(dir string) {
	c, err := Open(dir, small, zap.NewNop())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	c.Close()
}

// TestOtherProcess has another process use the directory.
func TestOtherProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	hold := func() (*exec.Cmd, io.Closer) {
		cmd := process(t, "hold", dir)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		if n, _ := stdout.Read(b); string(b[:n]) != "ready\n" {
			t.Fatalf("got %q", b[:n])
		}
		return cmd, stdin
	}
	cmd, stdin := hold()
	_, err := Open(dir, small, zap.NewNop())
	var inUse *InUseError
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
	holder := fmt.Sprintf("process %d (%s)", cmd.Process.Pid, strings.TrimSpace(string(comm)))
	if !errors.As(err, &inUse) || inUse.Path != dir || inUse.Holder != holder ||
		!strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), holder) {
		t.Errorf("got %v", err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}

	// One that is just leaving is waited for.
	time.AfterFunc(300*time.Millisecond, func() { stdin.Close() })
	c, err := Open(dir, small, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	cmd.Wait()

	// One that is killed leaves no lock.
	cmd, _ = hold()
	cmd.Process.Kill()
	cmd.Wait()
	c, err = Open(dir, small, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
