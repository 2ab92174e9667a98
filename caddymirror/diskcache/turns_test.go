package diskcache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func groupKey(group string, n int) Key { return Key{Group: group, Name: fmt.Sprint(n)} }

// begin begins a fill and has it run: it copies nothing until release is closed.
func begin(t *testing.T, c *Cache, k Key, running *atomic.Int64, release <-chan struct{}) *Fill {
	t.Helper()
	f, begun := c.Fill(k)
	if !begun {
		t.Fatalf("%v is being filled", k)
	}
	f.Run(func() {
		running.Add(1)
		defer running.Add(-1)
		<-release
		_ = runFill(f, k, 1, 1000, true)
	})
	return f
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still not so: " + what)
		}
	}
}

// TestTurnsBound: no more fills run than the limits say, a group in trouble leaves
// room for another, and all end.
func TestTurnsBound(t *testing.T) {
	t.Parallel()
	limits := small
	limits.Fills = 8
	c := open(t, t.TempDir(), limits)
	var slow, swift atomic.Int64
	hang := make(chan struct{})
	var fills []*Fill
	for n := range 100 {
		fills = append(fills, begin(t, c, groupKey("slow", n), &slow, hang))
	}
	eventually(t, "six of the slow group run", func() bool { return slow.Load() == 6 })
	if running, waiting := c.Turns("slow"); running != 6 || waiting != 94 {
		t.Errorf("%d run, %d wait; want 6, 94", running, waiting)
	}
	free := make(chan struct{})
	close(free)
	for n := range 100 {
		fills = append(fills, begin(t, c, groupKey("swift", n), &swift, free))
	}
	eventually(t, "all of the swift group are through", func() bool {
		running, waiting := c.Turns("swift")
		return running+waiting == 0
	})
	if n := slow.Load(); n != 6 {
		t.Errorf("%d of the slow group run, want 6", n)
	}
	close(hang)
	eventually(t, "nothing runs or waits", func() bool {
		running, waiting := c.Turns("")
		return running+waiting == 0
	})
	for _, f := range fills {
		if _, err := f.Meta(t.Context()); err != nil {
			t.Fatalf("a fill has failed: %v", err)
		}
		f.Leave()
	}
	if n := len(c.turns.groups) + len(c.turns.ring); n != 0 {
		t.Errorf("%d groups are left", n)
	}
}

// TestTurnsOfGroup: a group never has all turns, if there are two.
func TestTurnsOfGroup(t *testing.T) {
	for most, want := range map[int]int{1: 1, 2: 1, 3: 2, 4: 3, 8: 6, 128: 96} {
		if n := newTurns(most).perGroup(); n != want {
			t.Errorf("of %d fills a group may run %d, want %d", most, n, want)
		}
	}
}

// TestTurnsAreFair: groups that wait take turns, however many fills one of them has.
func TestTurnsAreFair(t *testing.T) {
	t.Parallel()
	limits := small
	limits.Fills = 1
	c := open(t, t.TempDir(), limits)
	var mu sync.Mutex
	var order []string
	hang := make(chan struct{})
	var running atomic.Int64
	first := begin(t, c, groupKey("z", 0), &running, hang)
	defer first.Leave()
	var done sync.WaitGroup
	for _, group := range []string{"a", "b", "c"} {
		for n := range map[string]int{"a": 30, "b": 2, "c": 1}[group] {
			k := groupKey(group, n)
			f, _ := c.Fill(k)
			defer f.Leave()
			done.Add(1)
			f.Run(func() {
				defer done.Done()
				mu.Lock()
				order = append(order, group)
				mu.Unlock()
				_ = runFill(f, k, 1, 10, true)
			})
		}
	}
	close(hang)
	done.Wait()
	if got := fmt.Sprint(order[:5]); got != "[a b c a b]" {
		t.Errorf("turns were taken as %v", got)
	}
}

// TestTurnsGiveWay: a fill that nobody follows goes on, until somebody waits for
// its turn; one that waits in vain is taken out of the queue.
func TestTurnsGiveWay(t *testing.T) {
	t.Parallel()
	limits := small
	limits.Fills = 2
	c := open(t, t.TempDir(), limits)
	slowly := func(f *Fill, k Key, ended *atomic.Bool) {
		defer ended.Store(true)
		if f.Start(Meta{Size: 1 << 20}, Freshness{}) != nil {
			f.Fail(nil)
			return
		}
		for range 1 << 10 {
			if _, err := f.Write(make([]byte, 1<<10)); err != nil {
				f.Fail(err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		_ = f.Commit()
	}
	var ended [3]atomic.Bool
	var fills []*Fill
	for n := range 2 {
		k := groupKey(fmt.Sprint("g", n), n)
		f, _ := c.Fill(k)
		f.Run(func() { slowly(f, k, &ended[n]) })
		if _, err := f.Meta(t.Context()); err != nil {
			t.Fatal(err)
		}
		fills = append(fills, f)
	}
	fills[0].Leave()
	time.Sleep(50 * time.Millisecond)
	if ended[0].Load() {
		t.Error("a fill ended because its follower left, though nobody waits")
	}
	// One that its follower leaves before its turn.
	k := groupKey("left", 1)
	f, _ := c.Fill(k)
	fills[0].mu.Lock()
	fills[0].followers++ // so that it does not give way to this one
	fills[0].mu.Unlock()
	f.Run(func() { t.Error("a fill runs that nobody follows") })
	f.Leave()
	if running, waiting := c.Turns(""); running != 2 || waiting != 0 {
		t.Errorf("%d run, %d wait; want 2, 0", running, waiting)
	}
	if _, err := f.Meta(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("what was left while it waited: %v", err)
	}
	fills[0].Leave()

	nextKey := groupKey("next", 1)
	next, _ := c.Fill(nextKey)
	defer next.Leave()
	next.Run(func() { slowly(next, nextKey, &ended[2]) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := next.Await(ctx); err != nil {
		t.Errorf("nobody gave way: %v", err)
	}
	if !ended[0].Load() || ended[1].Load() {
		t.Errorf("ended: the idle fill %v, the one that is followed %v", ended[0].Load(), ended[1].Load())
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	lateKey := groupKey("late", 1)
	late, _ := c.Fill(lateKey)
	late.Run(func() { _ = runFill(late, lateKey, 1, 10, true) })
	if err := late.Await(ctx); !errors.Is(err, ErrBusy) {
		t.Errorf("waiting too long: %v", err)
	}
	late.Leave()
	fills[1].Leave()
}

// TestTurnsOverClose: what waits when the cache is closed ends, too.
func TestTurnsOverClose(t *testing.T) {
	t.Parallel()
	limits := small
	limits.Fills = 1
	c := open(t, t.TempDir(), limits)
	hang := make(chan struct{})
	var running atomic.Int64
	a := begin(t, c, groupKey("g", 1), &running, hang)
	b := begin(t, c, groupKey("g", 2), &running, hang)
	defer a.Leave()
	defer b.Leave()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Meta(t.Context()); !errors.Is(err, ErrBypass) {
		t.Errorf("%v, want ErrBypass", err)
	}
	close(hang)
	eventually(t, "nothing runs or waits", func() bool {
		running, waiting := c.Turns("")
		return running+waiting == 0
	})
}
