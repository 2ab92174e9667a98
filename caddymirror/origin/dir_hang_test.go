package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
)

// A hang is a file system that can be made to hang.
type hang struct {
	mu   sync.Mutex
	back chan struct{} // nil while it answers
	in   atomic.Int32  // calls that hang
}

func (h *hang) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.back = make(chan struct{})
}

func (h *hang) cont() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.back != nil {
		close(h.back)
		h.back = nil
	}
}

func (h *hang) inject(string, string) error {
	h.mu.Lock()
	back := h.back
	h.mu.Unlock()
	if back != nil {
		h.in.Add(1)
		<-back
		h.in.Add(-1)
	}
	return nil
}

func newHang(t *testing.T, d *Dir) *hang {
	h := new(hang)
	d.state.inject = h.inject
	t.Cleanup(h.cont)
	return h
}

func TestHang(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes")
	d := newDir(t, root, timeout(200*time.Millisecond), poolSize(4))
	h := newHang(t, d)
	if _, err := read(d, "f", 0); err != nil {
		t.Fatal(err)
	}
	body, err := d.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()

	h.stop()
	start := time.Now()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			var err error
			switch i % 4 {
			case 0:
				_, err = d.Stat(context.Background(), "f")
			case 1:
				_, err = d.Open(context.Background(), "f", 0)
			case 2:
				_, err = readDir(context.Background(), d, ".")
			case 3:
				ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
				defer cancel()
				_, err = d.Stat(ctx, "f")
			}
			if !errors.Is(err, ErrAway) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the calls took %v", took)
	}
	if s := d.Status(); s.State != "away" || s.Stuck != 4 || s.Errors+s.Busy != 100 || s.Busy > 25 || s.Timeouts == 0 {
		t.Errorf("%+v", s)
	}
	waitFor(t, "the pool and the probe hang", func() bool { return h.in.Load() == 4+1 })

	// All fail at once now, reads of what is open too.
	start = time.Now()
	for range 1000 {
		if _, err := d.Stat(context.Background(), "f"); !errors.Is(err, ErrAway) {
			t.Fatal(err)
		}
	}
	_, rerr := body.Read(make([]byte, 10))
	if !errors.Is(rerr, ErrAway) {
		t.Errorf("read: %v", rerr)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the calls took %v", took)
	}

	h.cont()
	waitFor(t, "the breaker is closed", func() bool { return d.Status().State == "up" })
	if got, err := read(d, "f", 0); got != "bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	waitFor(t, "nothing is stuck", func() bool { return d.Status().Stuck == 0 })
	// What was opened too late is closed.
	body.Close()
	waitFor(t, "all files are closed", func() bool { return openFiles(t, root+"/") == 0 })
}

// TestHangOverReloads: no sequence of configs lets a hung file system have
// more than its pool.
func TestHangOverReloads(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes")
	h := new(hang)
	h.stop()
	defer h.cont()
	for range 5 {
		d := newDir(t, root, timeout(20*time.Millisecond), poolSize(4))
		d.state.inject = h.inject
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := d.Stat(context.Background(), "f"); !errors.Is(err, ErrAway) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s := d.Status(); s.State != "away" || s.Stuck != 4 {
			t.Errorf("%+v", s)
		}
		d.Cleanup()
	}
	if n := h.in.Load(); n > 4+1 {
		t.Errorf("%d calls hang", n)
	}
	h.cont()
	d := newDir(t, root)
	waitFor(t, "nothing is stuck", func() bool { return d.Status().Stuck == 0 })
	if got, err := read(d, "f", 0); got != "bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestHungRead: a read that hangs keeps the file and the buffer it reads into,
// and nobody else gets either.
func TestHungRead(t *testing.T) {
	root := t.TempDir()
	write(t, root, "a", strings.Repeat("a", readSize), "b", strings.Repeat("b", readSize))
	d := newDir(t, root, timeout(50*time.Millisecond))
	h := newHang(t, d)
	d.state.inject = func(op, name string) error {
		if name == "a" {
			return h.inject(op, name)
		}
		return nil
	}
	a, err := d.Open(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, readSize)
	h.stop()
	n, err := a.Read(p)
	if n != 0 || !errors.Is(err, ErrAway) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(n, err)
	}
	if n, err := a.Read(p); n != 0 || !errors.Is(err, ErrAway) {
		t.Fatal(n, err)
	}
	start := time.Now()
	a.Close()
	if took := time.Since(start); took > time.Second {
		t.Errorf("close took %v", took)
	}

	// The read comes back while b is read.
	b, err := d.Open(t.Context(), "b", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h.cont()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, bytes.Repeat([]byte("b"), readSize)) {
		t.Errorf("%d bytes, or other ones, %v", len(got), err)
	}
	waitFor(t, "nothing is stuck", func() bool { return d.Status().Stuck == 0 })
	if !bytes.Equal(p, make([]byte, readSize)) {
		t.Error("the caller's buffer was written to")
	}
	waitFor(t, "a is closed", func() bool { return openFiles(t, root+"/a") == 0 })
}

// TestHungBuffers: nobody gets the buffer of a read that may come back.
func TestHungBuffers(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", strings.Repeat("f", readSize))
	d := newDir(t, root, timeout(20*time.Millisecond))
	h := newHang(t, d)
	taken := make(map[*[readSize]byte]bool)
	var bodies []*body
	for range breaker.Threshold - 1 { // more would find the breaker open
		b, err := d.Open(t.Context(), "f", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, b.(*body))
		taken[b.(*body).buf] = true
	}
	h.stop()
	for _, b := range bodies {
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, ErrAway) {
			t.Fatal(err)
		}
		b.Close()
	}
	for range 100 {
		if taken[buffers.Get().(*[readSize]byte)] {
			t.Fatal("it is handed out")
		}
	}
}

// TestCanceled: clients who leave do not make an origin count as away.
func TestCanceled(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes")
	d := newDir(t, root)
	h := newHang(t, d)
	h.stop()
	for range 2 * breaker.Threshold {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Millisecond, cancel)
		if _, err := d.Stat(ctx, "f"); !errors.Is(err, ErrAway) || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	h.cont()
	if s := d.Status(); s.State != "up" || s.Errors != 0 || s.Timeouts != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBadFile(t *testing.T) {
	root := t.TempDir()
	write(t, root, "good", "bytes", "bad", "bytes")
	d := newDir(t, root)
	d.state.inject = func(op, name string) error {
		if op == "read" && name == "bad" {
			return syscall.EIO
		}
		return nil
	}
	for range 10 * breaker.Threshold {
		if _, err := read(d, "bad", 0); !errors.Is(err, ErrAway) {
			t.Fatal(err)
		}
	}
	waitFor(t, "the good file is there", func() bool { got, _ := read(d, "good", 0); return got == "bytes" })
	if s := d.Status(); s.State != "up" || s.Errors < 10*breaker.Threshold || s.Timeouts != 0 || !strings.Contains(s.LastError, "input/output error") {
		t.Errorf("%+v", s)
	}
}

// TestSettings: the settings of the newest config that is in use apply, and
// one that fails changes nothing.
func TestSettings(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes", "mark", "1")
	old := newDir(t, root, timeout(time.Second), poolSize(4))
	old.Release(t.Context())
	failed := newDir(t, root, timeout(time.Hour), poolSize(1))
	failed.Cleanup()
	if _, err := old.Stat(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	if c := old.state.conf.Load(); c.timeout != time.Second || c.pool != 4 {
		t.Errorf("%+v", c)
	}

	body, err := old.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	cur := newDir(t, root, timeout(2*time.Second), poolSize(8), func(d *Dir) { d.ReleaseMarker = "mark" })
	old.Cleanup()
	cur.Release(t.Context())
	old.Stat(t.Context(), "f") // a request under way
	if c := cur.state.conf.Load(); c.timeout != 2*time.Second || c.pool != 8 || cur.state.pool.size != 8 {
		t.Errorf("%+v", c)
	}
	// The marker is looked at now, not when the old interval of 5 s is over.
	start := time.Now()
	waitFor(t, "there is a release", func() bool { return cur.Release(t.Context()).Token != "" })
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if got, err := io.ReadAll(body); string(got) != "bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSettingsOfFailed: a config that fails when requests have come to it already takes
// its settings along, and they do not come back with what is still under way in it.
func TestSettingsOfFailed(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes")
	inForce := func(d *Dir, want time.Duration, pool int) {
		t.Helper()
		if c := d.state.conf.Load(); c.timeout != want || c.pool != pool || d.state.pool.size != pool {
			t.Errorf("in force are %+v and a pool of %d, want %v and %d", c, d.state.pool.size, want, pool)
		}
	}
	stat := func(d *Dir) {
		t.Helper()
		if _, err := d.Stat(t.Context(), "f"); err != nil {
			t.Fatal(err)
		}
	}
	first := newDir(t, root, timeout(time.Second), poolSize(4))
	stat(first)
	failed := newDir(t, root, timeout(time.Hour), poolSize(1))
	stat(failed)
	inForce(first, time.Hour, 1)
	waiting := newDir(t, root, timeout(time.Minute), poolSize(2)) // not in use yet
	failed.Cleanup()
	inForce(first, time.Second, 4)
	stat(failed) // a request that was under way
	inForce(first, time.Second, 4)
	stat(waiting)
	inForce(first, time.Minute, 2)
	stat(first)
	inForce(first, time.Minute, 2)

	// The config that has made the state fails, and another one has it already.
	waiting.Cleanup()
	first.Cleanup()
	made := newDir(t, root, timeout(time.Hour), poolSize(1))
	next := newDir(t, root, timeout(time.Second), poolSize(4))
	made.Cleanup()
	inForce(next, time.Second, 4)
}

// TestReplaceStale: a tree that was opened before the present one does not
// replace it.
func TestReplaceStale(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes")
	s := newDir(t, root).state
	old, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	cur, err := s.replace(old)
	if err != nil || cur == nil {
		t.Fatal(cur, err)
	}
	if late, err := s.replace(old); late != nil || err != nil || s.tree.Load() != cur {
		t.Errorf("%v, %v; the tree is %v, want %v", late, err, s.tree.Load(), cur)
	}
	// The old one is usable until it is dropped.
	if _, err := old.stat("f"); err != nil {
		t.Error(err)
	}
	waitFor(t, "the third is closed", func() bool { return openFiles(t, root) == 2 })
	s.drop(old)
	waitFor(t, "the old one is closed", func() bool { return openFiles(t, root) == 1 })
	if old.hold() || !cur.hold() {
		t.Error("the wrong one is open")
	}
}

// TestHangsBelowRoot: that the root answers is not enough while the calls that
// hang take up all of the pool.
func TestHangsBelowRoot(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes")
	d := newDir(t, root, timeout(20*time.Millisecond), poolSize(breaker.Threshold))
	h := new(hang)
	defer h.cont()
	d.state.inject = func(op, name string) error {
		if op == "probe" {
			return nil
		}
		return h.inject(op, name)
	}
	h.stop()
	waitFor(t, "the probe has failed", func() bool {
		d.Stat(t.Context(), "f")
		err := d.state.breaker.Check()
		return err != nil && strings.Contains(err.Error(), "all 3 calls")
	})
	h.cont()
	waitFor(t, "the breaker is closed", func() bool { return d.Status().State == "up" })
}

// TestReplacedUnderLoad: calls under way keep the tree they have begun with.
func TestReplacedUnderLoad(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	write(t, root, "a/b/f", "bytes", "a/link-to", "bytes")
	symlink(t, "a/b", filepath.Join(root, "l"))
	d := newDir(t, root, poolSize(8))
	end := time.Now().Add(500 * time.Millisecond)
	var wg sync.WaitGroup
	var replaced atomic.Int32
	wg.Go(func() {
		for time.Now().Before(end) {
			tr, err := d.state.replace(d.state.tree.Load())
			if err != nil {
				t.Error(err)
			}
			if tr != nil {
				d.state.drop(tr)
				replaced.Add(1)
			}
		}
	})
	for range 4 {
		wg.Go(func() {
			for time.Now().Before(end) {
				if got, err := read(d, "l/f", 0); got != "bytes" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				if list, err := readDir(t.Context(), d, "a"); len(list) != 2 || err != nil {
					t.Errorf("%+v, %v", list, err)
				}
				if _, err := d.Stat(t.Context(), "nope"); !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s := d.Status(); replaced.Load() < 10 || s.Stats < 10 {
		t.Errorf("replaced %d times, %+v", replaced.Load(), s)
	}
	waitFor(t, "the old trees are closed", func() bool { return openFiles(t, root) <= 1 })
}
