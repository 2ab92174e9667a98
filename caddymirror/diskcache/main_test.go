package diskcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roles are what the test binary can be told to do instead of testing, as a
// process of its own.
var roles = map[string]func(dir string){
	"mixed": mixedRole,
	"storm": stormRole,
	"hold":  holdRole,
	"scale": scaleRole,
}

const (
	roleVar     = "DISKCACHE_TEST_ROLE"
	isolatedVar = "DISKCACHE_TEST_ISOLATED"
)

func TestMain(m *testing.M) {
	scrubPause = time.Hour // who needs it calls scrubAll
	if role := roles[os.Getenv(roleVar)]; role != nil {
		role(os.Args[1])
		return
	}
	// Many a test waits, for the cache to look at its disk.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// process is this binary in a role. It is killed when the test ends.
func process(t testing.TB, role, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// isolated reports whether the test is in a process whose mounts are its own.
// If it is not, it runs the test in one.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(isolatedVar) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=2m", fmt.Sprintf("-test.v=%t", testing.Verbose()))
	cmd.Env = append(os.Environ(), isolatedVar+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Unshareflags = 0
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		if os.Getenv("CI") == "" {
			t.Skipf("no mount namespace: %v", err)
		}
		t.Fatalf("no mount namespace: %v", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// tmpfs is a file system of its own.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// inMemory is a directory that is in memory, if the system has such.
func inMemory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "diskcache") //nolint:usetesting // t.TempDir is elsewhere
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// diskUsage is what du -s says of dir, in bytes.
func diskUsage(t testing.TB, dir string) (n int64) {
	t.Helper()
	n, err := usageOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func usageOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // just now
			return nil
		}
		n += sysAllocated(path)
		return err
	})
	return n, err
}

// unlinkedUsage is what a process has open under dir that has no name any
// more.
func unlinkedUsage(pid int, dir string) (n int64) {
	seen := map[uint64]bool{}
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(fds)
	for _, e := range entries {
		fd := filepath.Join(fds, e.Name())
		name, _ := os.Readlink(fd)
		if strings.HasPrefix(name, dir+"/") && strings.HasSuffix(name, " (deleted)") {
			var st unix.Stat_t
			if unix.Stat(fd, &st) == nil && !seen[st.Ino] {
				seen[st.Ino] = true
				n += st.Blocks * 512
			}
		}
	}
	return n
}

// checkSize compares what the cache has counted with what is there.
func checkSize(t testing.TB, c *Cache, dir string) {
	t.Helper()
	for try := 0; ; try++ {
		counted, used := c.Stats().Size, diskUsage(t, dir)
		switch {
		case counted == used:
			return
		case try < 5:
			// The file system has yet to write files back, perhaps, or the
			// maintainer was at work in between.
			settle(c)
		default:
			t.Errorf("counted %d bytes on disk, there are %d (%+d); %d reserved, %d pinned, %d in peeks",
				counted, used, counted-used, c.space.reserved, c.space.pinned, len(c.peeks))
			return
		}
	}
}

// settle has the file system write files back, and the cache look at them.
func settle(c *Cache) {
	unix.Syncfs(int(c.dir.lock.std().Fd()))
	c.remeasure()
	c.remeasure()
}

// checkIdle holds a cache that nobody uses to its invariants.
func checkIdle(t testing.TB, c *Cache) {
	t.Helper()
	// Runners of fills are through a moment after their readers are.
	within(t, "idle", func() bool { return running(c) == 0 && users(c) == 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.space
	if s.reserved != 0 || s.unbacked != 0 || s.pinned != 0 {
		t.Errorf("%d bytes reserved, %d unbacked, %d pinned by nobody", s.reserved, s.unbacked, s.pinned)
	}
	if len(c.underWay())+len(c.busy)+len(c.peeks) > 0 || c.evicting {
		t.Errorf("%d fills, %d busy, %d peeks, evicting %t", len(c.underWay()), len(c.busy), len(c.peeks), c.evicting)
	}
	sum := s.fixed.bytes
	for _, d := range s.shards {
		sum += d.bytes
	}
	if sum != s.overhead {
		t.Errorf("overhead is %d, of parts %d", s.overhead, sum)
	}
	var bytes, memory int64
	n := 0
	for from, l := range c.index.segments {
		prev, last, sum := none, int64(1<<63-1), int64(0)
		for slot := l.head; slot != none; slot = c.index.at(slot).next {
			r := c.index.at(slot)
			if !r.live || r.prev != prev || r.used > last || r.segment != segment(from) {
				t.Errorf("record %d of list %d is out of order: %+v", n, from, r)
			}
			if found, ok := c.index.find(r.id); !ok || found != slot {
				t.Errorf("record %d of list %d is not found by its id", n, from)
			}
			sum += r.charge
			last, prev = r.used, slot
			n++
		}
		if prev != l.tail || sum != l.bytes {
			t.Errorf("list %d with %d bytes, it says %d", from, sum, l.bytes)
		}
		bytes += sum
	}
	if n != c.index.len() || bytes != c.index.bytes {
		t.Errorf("lists of %d records with %d bytes, index has %d and %d", n, bytes, c.index.len(), c.index.bytes)
	}
	for i, e := range c.open {
		if e.refs != 0 || e.slot == none || c.index.at(e.slot).id != i || c.hot[e.key] != e || e.charge != c.index.at(e.slot).charge {
			t.Errorf("open entry %v: refs %d, slot %d, charge %d", e.key, e.refs, e.slot, e.charge)
		}
		memory += e.memoryCost()
	}
	if len(c.open) != len(c.hot) || len(c.open) != c.inMemory.len+c.onFile.len || memory != c.memory {
		t.Errorf("%d open, %d hot, %d+%d listed; %d bytes in memory, counted %d",
			len(c.open), len(c.hot), c.inMemory.len, c.onFile.len, memory, c.memory)
	}
}

// body is the one right body of a key, version and size.
func body(key Key, version, size int) []byte {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q %d %d", key, version, size)
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], h.Sum64())
	b := make([]byte, size)
	rand.NewChaCha8(seed).Read(b)
	return b
}

func metaOf(version, size int) Meta {
	return Meta{Size: int64(size), Validator: fmt.Sprintf("%d %d", version, size)}
}

// bodyOf is the body that an entry must have, by its own metadata.
func bodyOf(key Key, m Meta) []byte {
	var version, size int
	fmt.Sscanf(m.Validator, "%d %d", &version, &size)
	return body(key, version, size)
}

// checkEntry reads an entry in pieces and compares it with the right body.
func checkEntry(e *Entry, piece int) error {
	want := bodyOf(e.Key(), *e.Meta())
	if e.Meta().Size != int64(len(want)) {
		return fmt.Errorf("%v: size %d, want %d", e.Key(), e.Meta().Size, len(want))
	}
	buf := make([]byte, piece)
	for off := 0; ; {
		n, err := e.ReadAt(buf, int64(off))
		if !bytes.Equal(buf[:n], want[off:off+n]) {
			return fmt.Errorf("%v: %w at %d", e.Key(), errWrong, off)
		}
		off += n
		if err == io.EOF && off == len(want) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%v: at %d of %d: %w", e.Key(), off, len(want), err)
		}
	}
}

var errWrong = errors.New("wrong bytes")

// fill runs a fill of key, and reports whether it became an entry.
func fill(c *Cache, key Key, version, size int, known bool) error {
	f, begun := c.Fill(key)
	defer f.Leave()
	if !begun {
		return nil
	}
	return runFill(f, key, version, size, known)
}

func runFill(f *Fill, key Key, version, size int, known bool) error {
	meta := metaOf(version, size)
	if !known {
		meta.Size = -1
	}
	err := f.Start(meta, Freshness{Release: uint64(version)})
	for p := body(key, version, size); err == nil && len(p) > 0; {
		n := min(len(p), 64<<10)
		_, err = f.Write(p[:n])
		p = p[n:]
	}
	if err != nil {
		f.Fail(err)
		return err
	}
	return f.Commit()
}

// coolIdle takes an entry that nobody uses out of the open ones.
func coolIdle(c *Cache, e *Entry) {
	c.mu.Lock()
	if e == nil || e.refs > 0 || e.slot == none {
		c.mu.Unlock()
		return
	}
	c.cool(e)
	c.mu.Unlock()
	if e.file != nil {
		c.shut([]*Entry{e})
	}
}

// users counts those who use entries just now.
func users(c *Cache) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.open {
		n += e.refs
	}
	return n + len(c.busy) + len(c.peeks)
}

// Filling joins the fill of key that is under way, or is nil.
func (c *Cache) Filling(key Key) *Fill {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.fills[key]
	if f != nil {
		f.mu.Lock()
		f.followers++
		f.mu.Unlock()
	}
	return f
}
