package origin

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
)

// idle is a breaker that nothing opens.
func idle(t *testing.T) *breaker.Breaker {
	b := &breaker.Breaker{
		Away:  ErrAway,
		Probe: func() error { return nil },
		Moved: func(open bool, _ error) {
			if open {
				t.Error("the breaker opened")
			}
		},
	}
	return b
}

func TestPoolBounds(t *testing.T) {
	p := &pool{size: 3}
	b := idle(t)
	var now, most atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			v, err := do(t.Context(), p, b, time.Minute, func() (int, error) {
				n := now.Add(1)
				defer now.Add(-1)
				for {
					if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
						break
					}
				}
				time.Sleep(time.Millisecond)
				return 7, nil
			}, nil)
			if v != 7 || err != nil {
				t.Error(v, err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 3 {
		t.Errorf("%d calls at a time, want 3", most.Load())
	}
	if p.busy != 0 || p.stuck != 0 || p.queue.Len() != 0 {
		t.Errorf("%+v", p)
	}
}

// TestPoolGivesUp has calls hang, and their callers leave for either reason.
func TestPoolGivesUp(t *testing.T) {
	p := &pool{size: 2}
	b := hopeless(t)
	back := make(chan struct{})
	late := make(chan int, 10)
	hang := func(v int) func() (int, error) {
		return func() (int, error) { <-back; return v, nil }
	}

	if _, err := do(t.Context(), p, b, 20*time.Millisecond, hang(1), func(v int) { late <- v }); !errors.Is(err, ErrAway) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := do(ctx, p, b, time.Minute, hang(2), func(v int) { late <- v }); !errors.Is(err, ErrAway) || !errors.Is(err, context.Canceled) || errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if p.stuckCalls() != 2 || p.usable() {
		t.Errorf("%d stuck, usable: %v", p.stuckCalls(), p.usable())
	}

	// Nobody gets a slot now. Callers that leave because of that do not count.
	never := func() (int, error) { t.Error("called"); return 0, nil }
	if _, err := do(ctx, p, b, time.Minute, never, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, err := do(short, p, b, time.Minute, never, nil); !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if p.queue.Len() != 0 {
		t.Errorf("%d still wait", p.queue.Len())
	}
	if b.Failures() != 1 || b.Open() {
		t.Errorf("%d failures, open: %v", b.Failures(), b.Open())
	}

	// One that waits as long as a call may take, while none ends, has seen enough.
	if _, err := do(t.Context(), p, b, 20*time.Millisecond, never, nil); !errors.Is(err, ErrAway) || errors.Is(err, ErrBusy) || !b.Open() {
		t.Errorf("open: %v, %v", b.Open(), err)
	}
	start := time.Now()
	if _, err := do(t.Context(), p, b, time.Minute, never, nil); !errors.Is(err, ErrAway) || time.Since(start) > time.Second {
		t.Error(err, time.Since(start))
	}

	close(back)
	if v := <-late + <-late; v != 3 {
		t.Errorf("late results add up to %d, want 3", v)
	}
	waitFor(t, "all slots are free", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.busy == 0 && p.stuck == 0 && p.overdue == 0
	})
}

// hopeless is a breaker that stays open once it is.
func hopeless(t *testing.T) *breaker.Breaker {
	return &breaker.Breaker{
		Away:  ErrAway,
		Probe: func() error { return ErrAway },
		Stop:  t.Context().Done(),
		Moved: func(bool, error) {},
	}
}

// TestPoolCongestion: however many calls wait for a slot, and however long, a
// healthy origin does not count as away.
func TestPoolCongestion(t *testing.T) {
	p := &pool{size: 16}
	b := idle(t)
	var done, busy, other atomic.Int32
	var wg sync.WaitGroup
	for range 2000 {
		wg.Go(func() {
			_, err := do(t.Context(), p, b, 200*time.Millisecond, func() (int, error) {
				time.Sleep(5 * time.Millisecond)
				return 0, nil
			}, nil)
			switch {
			case err == nil:
				done.Add(1)
			case errors.Is(err, ErrBusy):
				busy.Add(1)
			default:
				other.Add(1)
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d done, %d found no slot in time", done.Load(), busy.Load())
	if busy.Load() == 0 || done.Load() == 0 {
		t.Error("there was no congestion")
	}
	if b.Failures() != 0 || b.Open() {
		t.Errorf("%d failures, open: %v", b.Failures(), b.Open())
	}
}

// TestPoolLateSlot: the wait for a slot does not shorten the call.
func TestPoolLateSlot(t *testing.T) {
	p := &pool{size: 1}
	b := idle(t)
	const timeout = 300 * time.Millisecond
	call := func() (int, error) { time.Sleep(timeout * 2 / 3); return 7, nil }
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if v, err := do(t.Context(), p, b, timeout, call, nil); v != 7 || err != nil {
				t.Error(v, err)
			}
		})
	}
	wg.Wait()
}

// TestPoolHung: where all slots hang no further call can begin, let alone fail.
// Then the breaker opens however few they are, and nobody waits any longer.
func TestPoolHung(t *testing.T) {
	for _, size := range []int{1, 2, 16} {
		p := &pool{size: size}
		b := hopeless(t)
		back := make(chan struct{})
		start := time.Now()
		var wg sync.WaitGroup
		for n := range 10 * size {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * 40 * time.Millisecond / time.Duration(size))
				_, err := do(t.Context(), p, b, 500*time.Millisecond, func() (int, error) { <-back; return 0, nil }, nil)
				if !errors.Is(err, ErrAway) || errors.Is(err, ErrBusy) {
					t.Errorf("%d slots: %v", size, err)
				}
			})
		}
		wg.Wait()
		// Those that came last and waited for a slot leave with the first.
		if took := time.Since(start); !b.Open() || took > 850*time.Millisecond {
			t.Errorf("%d slots: open: %v, after %v", size, b.Open(), took)
		}
		// A new breaker of the same pool, as after a reload, knows at once.
		b = hopeless(t)
		start = time.Now()
		if _, err := do(t.Context(), p, b, time.Minute, func() (int, error) { return 0, nil }, nil); !errors.Is(err, ErrAway) || errors.Is(err, ErrBusy) || time.Since(start) > 10*time.Second {
			t.Errorf("%d slots: %v", size, err)
		}
		close(back)
		waitFor(t, "nothing hangs", func() bool { return !p.hung() && p.stuckCalls() == 0 })
	}
}

// TestPoolPanic: a panic fails its call, gives the slot back, and says nothing of
// the origin.
func TestPoolPanic(t *testing.T) {
	p := &pool{size: 2}
	b := idle(t)
	for range 5 * breaker.Threshold {
		v, err := do(t.Context(), p, b, time.Minute, func() (int, error) { panic("bad page") }, nil)
		if v != 0 || !errors.Is(err, ErrAway) || !isPanic(err) {
			t.Fatal(v, err)
		}
	}
	if b.Failures() != 0 {
		t.Errorf("%d failures", b.Failures())
	}
	// So does one in what becomes of a late result.
	back := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := do(ctx, p, b, time.Minute, func() (int, error) { <-back; return 1, nil }, func(int) { panic("late") })
	if !errors.Is(err, ErrAway) {
		t.Error(err)
	}
	close(back)
	waitFor(t, "all slots are free", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.busy == 0 && p.stuck == 0
	})
	p.close(closeFunc(func() error { panic("close") }))
	closed := make(chan struct{})
	p.close(closeFunc(func() error { close(closed); return nil }))
	<-closed
}

// TestPoolImpatience: a file system that hangs is found out even if no caller
// waits as long as the time-out.
func TestPoolImpatience(t *testing.T) {
	p := &pool{size: 16}
	b := &breaker.Breaker{
		Away: ErrAway, Probe: func() error { return errors.New("away") }, Stop: t.Context().Done(), Moved: func(bool, error) {},
	}
	back := make(chan struct{})
	defer close(back)
	for range breaker.Threshold {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := do(ctx, p, b, 50*time.Millisecond, func() (int, error) { <-back; return 0, nil }, nil)
		cancel()
		if !errors.Is(err, ErrAway) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if b.Open() {
		t.Error("opened by callers who did not wait")
	}
	waitFor(t, "the breaker is open", b.Open)
}

func TestPoolOrder(t *testing.T) {
	p := &pool{size: 1}
	b := idle(t)
	if err := p.acquire(t.Context(), b, time.Minute); err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 3)
	for i := range 3 {
		go func() {
			if err := p.acquire(t.Context(), b, time.Minute); err != nil {
				t.Error(err)
			}
			got <- i
			p.release()
		}()
		waitFor(t, "it waits", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.queue.Len() == i+1
		})
	}
	p.release()
	for i := range 3 {
		if n := <-got; n != i {
			t.Errorf("%d came before %d", n, i)
		}
	}
}

func TestPoolResize(t *testing.T) {
	p := &pool{size: 1}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	b := idle(t)
	if err := p.acquire(ctx, b, time.Minute); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error)
	go func() { waits <- p.acquire(t.Context(), b, time.Minute) }()
	waitFor(t, "it waits", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.queue.Len() == 1
	})
	p.resize(2)
	if err := <-waits; err != nil {
		t.Errorf("no slot in the larger pool: %v", err)
	}
	p.resize(1)
	p.release()
	if err := p.acquire(ctx, b, time.Minute); !errors.Is(err, ErrBusy) {
		t.Errorf("a slot too many in the smaller pool: %v", err)
	}
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

func TestPoolClose(t *testing.T) {
	var p pool
	back := make(chan struct{})
	var now, most, closed atomic.Int32
	for range 100 {
		p.close(closeFunc(func() error {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-back
			now.Add(-1)
			closed.Add(1)
			return nil
		}))
	}
	close(back)
	waitFor(t, "all are closed", func() bool { return closed.Load() == 100 })
	if most.Load() != 1 {
		t.Errorf("%d at a time", most.Load())
	}
}
