package diskcache

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

const (
	crashKeys = 150
	crashMax  = 32 << 20
)

func crashKey(n int) Key { return Key{"/crash" + strconv.Itoa(n%2), "file" + strconv.Itoa(n)} }

// mixedRole does a bit of everything until it is killed.
func mixedRole(dir string) {
	c, err := Open(dir, Limits{MaxSize: crashMax, Memory: 2 << 20}, zap.NewNop())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	var version atomic.Int64
	version.Store(time.Now().UnixNano())
	var keys [crashKeys]sync.Mutex // who validates does so alone
	for range 4 {
		go func() {
			for {
				n := rand.IntN(crashKeys)
				key := crashKey(n)
				switch op := rand.IntN(40); {
				case op == 0:
					c.Purge(key.Group, func(name string) bool { return name[len(name)-1] == '3' })
				case op == 1:
					c.PurgeKey(key)
				case op == 2:
					c.save()
				case op < 20:
					e, ok := c.Get(key)
					if !ok {
						continue
					}
					if err := errors.Join(checkEntry(e, 300_000), checkCurrent(e)); err != nil {
						fmt.Println(err)
					}
					keys[n].Lock()
					if now := uint64(version.Add(1)); op < 12 {
						e.Refresh(Freshness{At: time.Now(), Release: releaseOf(e.Meta())})
					} else {
						e.Update(updated(e, now, rand.IntN(800)), Freshness{At: time.Now(), Release: now})
					}
					keys[n].Unlock()
					e.Close()
				default:
					size := rand.IntN(100_000)
					if op == 39 {
						size = rand.IntN(4 << 20)
					}
					fill(c, key, int(version.Add(1)), size, op%2 == 0)
				}
			}
		}()
	}
	select {}
}

// TestKill kills a process in the middle of a mixed load, again and again.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	dir := t.TempDir()
	entries := 0
	for round := range rounds {
		kill(t, dir, time.Duration(50+rand.IntN(250))*time.Millisecond)
		if round%3 == 0 {
			continue // the next one starts on what is left
		}
		left, _ := os.ReadDir(filepath.Join(dir, "tmp"))
		c := open(t, dir, Limits{MaxSize: crashMax, Memory: 1 << 20})
		await(t, c, Ready)
		if now, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(now) > 0 {
			t.Errorf("%d temporary files are left of %d, %v", len(now), len(left), err)
		}
		s := c.Stats()
		checkSize(t, c, dir)
		found := 0
		for n := range crashKeys {
			e, ok := c.Get(crashKey(n))
			if !ok {
				continue
			}
			found++
			if err := errors.Join(checkEntry(e, 200_000), checkCurrent(e)); err != nil {
				t.Error(err)
			}
			e.Close()
		}
		if found != s.Entries || s.Corrupt != 0 || c.Stats().Corrupt != 0 {
			t.Errorf("found %d of %d entries, %d corrupt", found, s.Entries, c.Stats().Corrupt)
		}
		checkSize(t, c, dir)
		checkIdle(t, c)
		entries += found
		c.Close()
	}
	if entries == 0 {
		t.Error("nothing was ever there to be checked")
	}
	t.Logf("%d entries were whole after %d kills", entries, rounds)
}

func kill(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	cmd := process(t, "mixed", dir)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if lines.Scan(); lines.Text() != "ready" {
		t.Errorf("got %q", lines.Text())
	}
	time.Sleep(after)
	cmd.Process.Kill()
	for lines.Scan() {
		t.Error(lines.Text())
	}
	cmd.Wait()
}

// await waits until the cache is in a state.
func await(t testing.TB, c *Cache, want State) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); c.Stats().State != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still %+v, not %s", c.Stats(), want)
		}
	}
}
