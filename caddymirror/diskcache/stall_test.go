package diskcache

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stallable mounts a FUSE file system, and returns where, and what stops and
// continues its server: all calls to it wait meanwhile.
func stallable(t *testing.T) (dir string, stop, cont func()) {
	t.Helper()
	for _, name := range []string{"bindfs", "fusermount3"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "" {
				t.Skip(err)
			}
			t.Fatal(err)
		}
	}
	below, dir := t.TempDir(), t.TempDir()
	cmd := exec.Command("bindfs", "--multithreaded", "-f", below, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // nothing hangs any more
		cmd.Wait()
		unix.Unmount(dir, unix.MNT_DETACH)
	})
	within(t, "mounted", func() bool {
		var st, parent unix.Stat_t
		return unix.Stat(dir, &st) == nil && unix.Stat(filepath.Dir(dir), &parent) == nil && st.Dev != parent.Dev
	})
	signal := func(s os.Signal) func() {
		return func() {
			if err := cmd.Process.Signal(s); err != nil {
				t.Error(err)
			}
		}
	}
	return dir, signal(syscall.SIGSTOP), signal(syscall.SIGCONT)
}

// TestStall stops the disk for two seconds, again and again, while everything
// that the cache does is under way: what is in memory does not wait for it.
func TestStall(t *testing.T) {
	if !isolated(t) {
		return
	}
	const (
		stall  = 2 * time.Second
		rounds = 4
		most   = stall / 2 // one that waits for the disk waits for nearly all of it
		hot    = 32
	)
	mnt, stop, cont := stallable(t)
	dir := filepath.Join(mnt, "cache")
	c := open(t, dir, Limits{MaxSize: 24 << 20, MinFree: Free{Bytes: 1 << 20}, Memory: 16 << 20})
	hit := func(n int) time.Duration {
		start := time.Now()
		e, ok := c.Get(key(n % hot))
		if !ok || e.Bytes() == nil {
			t.Errorf("%d is not in memory", n%hot)
		}
		if ok {
			e.Close()
		}
		return time.Since(start)
	}
	for n := range hot {
		if err := fill(c, key(n), 1, 2000, true); err != nil {
			t.Fatal(err)
		}
	}

	done := make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(cont)
	var once sync.Once
	end := func() { once.Do(func() { close(done) }) }
	t.Cleanup(end)
	work := func(do func(r *rand.Rand)) {
		for w := range 2 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(w), 3))
				for {
					select {
					case <-done:
						return
					default:
						do(r)
					}
				}
			})
		}
	}
	filled := func(err error) {
		if err != nil && !errors.Is(err, ErrBypass) {
			t.Error(err)
		}
	}
	some := func(r *rand.Rand) Key { return key(1000 + r.IntN(200)) }
	work(func(r *rand.Rand) { filled(fill(c, some(r), 1, r.IntN(9000), true)) })
	work(func(r *rand.Rand) { filled(fill(c, some(r), 1, 1<<20+r.IntN(1<<20), r.IntN(2) > 0)) })
	work(func(r *rand.Rand) {
		f, begun := c.Fill(some(r))
		if begun {
			_ = f.Start(Meta{Size: 2 << 20}, Freshness{})
			f.Fail(nil)
		}
		f.Leave()
	})
	work(func(r *rand.Rand) {
		if e, ok := c.Get(some(r)); ok {
			_, _ = e.ReadAt(make([]byte, 1000), 0)
			if r.IntN(2) == 0 {
				e.Refresh(Freshness{At: time.Now()})
			}
			if r.IntN(8) == 0 {
				e.Remove()
			}
			e.Close()
		}
	})
	work(func(r *rand.Rand) { _, _ = c.PurgeKey(some(r)); time.Sleep(time.Millisecond) })
	work(func(*rand.Rand) { c.remeasure() })
	work(func(*rand.Rand) { c.save(); c.shrink(); c.sweep() })
	work(func(*rand.Rand) { c.Stats(); c.Usage("/pypi"); time.Sleep(100 * time.Microsecond) })
	work(func(r *rand.Rand) {
		if err := c.Resize(Limits{MaxSize: int64(23+r.IntN(2)) << 20, MinFree: Free{Bytes: 1 << 20}, Memory: 16 << 20}); err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		file := c.onFile.back
		c.mu.Unlock()
		coolIdle(c, file) // as if there were too many
		time.Sleep(time.Millisecond)
	})

	var longest, usual time.Duration
	for n, round := 0, 0; round < rounds; round++ {
		for start := time.Now(); time.Since(start) < 300*time.Millisecond; n++ {
			usual = max(usual, hit(n))
			time.Sleep(100 * time.Microsecond)
		}
		stop()
		for start := time.Now(); time.Since(start) < stall; n++ {
			took := make(chan time.Duration, 1)
			go func() { took <- hit(n) }()
			select {
			case d := <-took:
				longest = max(longest, d)
			case <-time.After(stall):
				cont()
				longest = max(longest, stall, <-took)
			}
			time.Sleep(time.Millisecond)
		}
		cont()
	}
	end()
	wg.Wait()
	t.Logf("a hit in memory takes %v at most, %v while the disk stalls for %v", usual, longest, stall)
	if longest > most {
		t.Errorf("a hit in memory waited %v for the disk", longest)
	}
	checkIdle(t, c)
	checkSize(t, c, dir)
}
