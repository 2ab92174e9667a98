package diskcache

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var errGaveUp = errors.New("somebody else needs the slot")

// TestFollowers counts those who follow a fill, and who is told when it has none.
func TestFollowers(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), small)
	f, _ := c.Fill(key(1))
	if n := f.Followers(); n != 1 {
		t.Errorf("%d followers of a fill that was just begun", n)
	}
	idle := 0
	f.OnIdle(func() { idle++ })
	r, _ := c.Fill(key(1))
	if n := f.Followers(); n != 2 {
		t.Errorf("%d followers, want 2", n)
	}
	f.Leave()
	if n := f.Followers(); n != 1 || idle != 0 {
		t.Errorf("%d followers, want 1; told %d times that there is none", n, idle)
	}
	if f.GiveUp(errGaveUp) {
		t.Error("gave up what somebody follows")
	}
	r.Leave()
	if n := f.Followers(); n != 0 || idle != 1 {
		t.Errorf("%d followers, want 0; told %d times", n, idle)
	}
	// One comes back, in time.
	r, begun := c.Fill(key(1))
	if begun || f.GiveUp(errGaveUp) {
		t.Error("gave up what somebody follows again")
	}
	r.Leave()
	if idle != 2 {
		t.Errorf("told %d times, want 2", idle)
	}
	f.OnIdle(func() { idle += 10 }) // at once, too
	if idle != 12 {
		t.Errorf("told %d, want 12", idle)
	}
	if err := runFill(f, key(1), 1, 100, true); err != nil {
		t.Fatal(err)
	}
	r, _ = c.Fill(key(2))
	r.Fail(nil)
	r.Leave()
	if idle != 12 {
		t.Errorf("told of a fill that has ended: %d", idle)
	}
	if f.GiveUp(errGaveUp) {
		t.Error("gave up a fill that has ended")
	}
	f.Fail(errGaveUp) // nothing happens
	if get(t, c, key(1)) == nil {
		t.Error("the entry is gone")
	}
	checkIdle(t, c)
}

// TestGiveUp ends fills that nobody follows, at all points. They cost nothing,
// and leave nothing.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		size    int64
		written int
		files   int // that are made for it
	}{
		{"before start", -2, 0, 0},
		{"small", 5000, 1000, 0},
		{"small, all written", 5000, 5000, 0},
		{"large", 5 << 20, 1 << 20, 1},
		{"unknown size", -1, 1 << 20, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := open(t, dir, small)
			before, temps := c.Stats().Size, c.temps.Load()
			f, _ := c.Fill(key(1))
			f.Leave()
			if tt.size > -2 {
				if err := f.Start(Meta{Size: tt.size}, Freshness{}); err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(make([]byte, tt.written)); err != nil {
					t.Fatal(err)
				}
			}
			if !f.GiveUp(errGaveUp) {
				t.Fatal("did not give up")
			}
			other, begun := c.Fill(key(1))
			if !begun {
				t.Error("who asks now gets a fill that is given up")
			}
			var err error
			if tt.size > -2 {
				_, err = f.Write(make([]byte, 1))
				if tt.written == int(tt.size) {
					err = f.Commit()
				}
			} else {
				err = f.Start(Meta{Size: 5 << 20}, Freshness{})
			}
			if !errors.Is(err, errGaveUp) && !errors.Is(err, errLong) {
				t.Errorf("its runner got %v", err)
			}
			f.Fail(err)
			if n := int(c.temps.Load() - temps); n != tt.files {
				t.Errorf("%d files were made for it", n)
			}
			if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
				t.Errorf("%d temporary files are left, %v", len(left), err)
			}
			if n := unlinkedUsage(os.Getpid(), dir); n > 0 {
				t.Errorf("%d bytes are still open", n)
			}
			if n := c.Stats().Size; n != before || c.buffers.Load() != 0 {
				t.Errorf("%d bytes are counted, before %d; %d in buffers", n, before, c.buffers.Load())
			}
			if err := runFill(other, key(1), 2, 100, true); err != nil {
				t.Error(err)
			}
			other.Leave()
			checkIdle(t, c)
			checkSize(t, c, dir)
		})
	}
}

// TestGiveUpRace has fills given up while readers come and go: who has joined a
// fill is served by it, unless its own runner fails.
func TestGiveUpRace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	var wg, runners sync.WaitGroup
	var gaveUp, served atomic.Int64
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 9))
			for range 300 {
				k, size := key(r.IntN(4)), []int{0, 900, 1<<20 + 77}[r.IntN(3)]
				f, begun := c.Fill(k)
				if begun {
					runners.Go(func() {
						f.OnIdle(func() {
							if r := rand.IntN(2); r == 0 && f.GiveUp(errGaveUp) {
								gaveUp.Add(1)
							}
						})
						if err := runFill(f, k, 1, size, true); err != nil && !errors.Is(err, errGaveUp) {
							t.Error(err)
						}
					})
				}
				if r.IntN(3) > 0 {
					time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond)
					f.Leave()
					continue
				}
				if _, err := readFill(t.Context(), f); err != io.EOF {
					t.Errorf("who follows it got %v", err)
				}
				served.Add(1)
				f.Leave()
			}
		})
	}
	wg.Wait()
	runners.Wait()
	t.Logf("%d given up, %d served", gaveUp.Load(), served.Load())
	if gaveUp.Load() < 20 || served.Load() < 200 {
		t.Error("too few to tell")
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("%d temporary files are left, %v", len(left), err)
	}
	checkIdle(t, c)
	checkSize(t, c, dir)
}
