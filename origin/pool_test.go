package origin

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// idle is a breaker that nothing opens.
func idle(t *testing.T) *breaker {
	b := &breaker{
		probe: func() error { return nil },
		moved: func(open bool, _ error) {
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
	var opened atomic.Bool
	b := &breaker{
		probe: func() error { return errors.New("away") },
		stop:  t.Context().Done(),
		moved: func(open bool, _ error) { opened.Store(open) },
	}
	back := make(chan struct{})
	late := make(chan int, 10)
	hang := func(v int) func() (int, error) {
		return func() (int, error) { <-back; return v, nil }
	}

	if _, err := do(t.Context(), p, b, 20*time.Millisecond, hang(1), func(v int) { late <- v }); !errors.Is(err, ErrAway) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := do(ctx, p, b, time.Minute, hang(2), func(v int) { late <- v }); !errors.Is(err, ErrAway) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if p.stuckCalls() != 2 || p.usable() {
		t.Errorf("%d stuck, usable: %v", p.stuckCalls(), p.usable())
	}

	// Nobody gets a slot now.
	never := func() (int, error) { t.Error("called"); return 0, nil }
	if _, err := do(t.Context(), p, b, 20*time.Millisecond, never, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := do(ctx, p, b, time.Minute, never, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if p.queue.Len() != 0 {
		t.Errorf("%d still wait", p.queue.Len())
	}

	// Two of them ran into the time-out. Callers that left do not count.
	if b.failures != 2 || opened.Load() {
		t.Errorf("%d failures, open: %v", b.failures, opened.Load())
	}
	if _, err := do(t.Context(), p, b, 20*time.Millisecond, never, nil); !errors.Is(err, ErrAway) || !b.isOpen() {
		t.Errorf("open: %v, %v", b.isOpen(), err)
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
		return p.busy == 0 && p.stuck == 0
	})
}

// TestPoolImpatience: a file system that hangs is found out even if no caller
// waits as long as the time-out.
func TestPoolImpatience(t *testing.T) {
	p := &pool{size: 16}
	b := &breaker{probe: func() error { return errors.New("away") }, stop: t.Context().Done(), moved: func(bool, error) {}}
	back := make(chan struct{})
	defer close(back)
	for range breakerFailures {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := do(ctx, p, b, 50*time.Millisecond, func() (int, error) { <-back; return 0, nil }, nil)
		cancel()
		if !errors.Is(err, ErrAway) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if b.isOpen() {
		t.Error("opened by callers who did not wait")
	}
	waitFor(t, "the breaker is open", b.isOpen)
}

func TestPoolOrder(t *testing.T) {
	p := &pool{size: 1}
	if !p.acquire(t.Context(), nil) {
		t.Fatal("no slot")
	}
	got := make(chan int, 3)
	for i := range 3 {
		go func() {
			p.acquire(t.Context(), nil)
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
	p.acquire(ctx, nil)
	waits := make(chan bool)
	go func() { waits <- p.acquire(t.Context(), nil) }()
	waitFor(t, "it waits", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.queue.Len() == 1
	})
	p.resize(2)
	if !<-waits {
		t.Error("no slot in the larger pool")
	}
	p.resize(1)
	p.release()
	if p.acquire(ctx, nil) {
		t.Error("a slot too many in the smaller pool")
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
