package diskcache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

const stormMax = 24 << 20

// stormRole fills ten times what the cache may hold, with readers, purges and
// failures at the same time. It prints the cache's size and what was wrong.
func stormRole(dir string) {
	c, err := Open(dir, Limits{MaxSize: stormMax, Memory: 1 << 20}, zap.NewNop())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	var (
		wg     sync.WaitGroup
		filled atomic.Int64
		stored atomic.Int64
	)
	wg.Go(func() {
		for filled.Load() < 10*stormMax {
			c.scrubAll(100 << 20)
			c.save()
		}
	})
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for filled.Load() < 10*stormMax {
				key := Key{"/storm", strconv.Itoa(r.IntN(300))}
				size := stormSize(r)
				switch op := r.IntN(20); {
				case op == 0:
					c.PurgeKey(key)
				case op == 1:
					c.Purge("/storm", func(name string) bool { return strings.HasSuffix(name, "7") })
				case op < 8:
					if e, ok := c.Get(key); ok {
						if err := checkEntry(e, 100_000); err != nil {
							fmt.Println(err)
						}
						if r.IntN(10) == 0 {
							e.Remove()
						}
						e.Close()
					}
				case op < 10:
					f, begun := c.Fill(key)
					if begun {
						f.Start(metaOf(w, size), Freshness{})
						f.Fail(errors.New("no such luck"))
					}
					f.Leave()
				default:
					f, begun := c.Fill(key)
					if begun {
						wg.Go(func() { follow(c, key) })
						if runFill(f, key, w, size, r.IntN(3) > 0) == nil {
							stored.Add(1)
						}
						filled.Add(int64(size))
					}
					f.Leave()
				}
				if s := c.Stats(); s.Size > s.MaxSize || s.Memory > s.MaxMemory {
					fmt.Printf("over: %+v\n", s)
				}
			}
		})
	}
	wg.Wait()
	if n := stored.Load(); n < 100 {
		fmt.Println("stored only", n)
	}
	c.mu.Lock()
	if s := c.space; s.reserved != 0 || s.unbacked != 0 || s.pinned != 0 {
		fmt.Printf("left: %d reserved, %d unbacked, %d pinned\n", s.reserved, s.unbacked, s.pinned)
	}
	c.mu.Unlock()
	settle(c)
	fmt.Println("size", c.Stats().Size)
	io.Copy(io.Discard, os.Stdin)
}

func stormSize(r *rand.Rand) int {
	switch r.IntN(10) {
	case 0:
		return r.IntN(4 << 20)
	case 1, 2, 3:
		return r.IntN(200_000)
	}
	return r.IntN(9000)
}

func follow(c *Cache, key Key) {
	f := c.Filling(key)
	if f == nil {
		return
	}
	defer f.Leave()
	ctx := context.Background()
	meta, err := f.Meta(ctx)
	if err != nil {
		return
	}
	want := bodyOf(key, meta)
	p := make([]byte, 50_000)
	for off := 0; ; {
		n, err := f.ReadAt(ctx, p, int64(off))
		if string(p[:n]) != string(want[off:off+n]) {
			fmt.Println("wrong bytes followed of", key)
		}
		if off += n; err != nil {
			return
		}
	}
}

// TestBound stops a process in the middle of a fill storm, again and again,
// to see from outside what it has on disk at that instant.
func TestBound(t *testing.T) {
	t.Parallel()
	for _, parent := range []string{"", "/dev/shm"} {
		t.Run(parent, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if parent != "" {
				var err error
				dir, err = os.MkdirTemp(parent, "diskcache") //nolint:usetesting // t.TempDir is elsewhere
				if err != nil {
					t.Skip(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
			}
			testBound(t, dir)
		})
	}
}

func testBound(t *testing.T, dir string) {
	cmd := process(t, "storm", dir)
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
	lines := bufio.NewScanner(stdout)
	if lines.Scan(); lines.Text() != "ready" {
		t.Fatalf("got %q", lines.Text())
	}
	counted := make(chan int64)
	go func() {
		for lines.Scan() {
			if s, ok := strings.CutPrefix(lines.Text(), "size "); ok {
				n, _ := strconv.ParseInt(s, 10, 64)
				counted <- n
				return
			}
			t.Error(lines.Text())
		}
		counted <- -1
	}()
	pid := cmd.Process.Pid
	var most, unlinked int64
	samples := 0
	deadline := time.Now().Add(5 * time.Minute) // on a machine with much to do
	var size int64
	for size == 0 && time.Now().Before(deadline) {
		select {
		case size = <-counted:
		case <-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond):
		}
		syscall.Kill(pid, syscall.SIGSTOP)
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatalf("the process is %v, not stopped: %v", status, err)
		}
		u := unlinkedUsage(pid, dir)
		n := diskUsage(t, dir) + u
		most, unlinked = max(most, n), max(unlinked, u)
		if n > stormMax {
			t.Errorf("%d bytes on disk, %d of them unlinked, are %d too many", n, u, n-stormMax)
		}
		samples++
		syscall.Kill(pid, syscall.SIGCONT)
	}
	if used := diskUsage(t, dir); size != used {
		t.Errorf("counted %d bytes on disk, there are %d", size, used)
	}
	t.Logf("at most %d of %d bytes in %d samples; unlinked at most %d", most, int64(stormMax), samples, unlinked)
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
