package rx

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

// TestPanicOfAPacket: a packet that brings out a bug fails its call, and no other.
func TestPanicOfAPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{delay: time.Millisecond})
		var e *Endpoint
		var once sync.Once
		poison := func() {
			e.mu.RLock()
			defer e.mu.RUnlock()
			for _, c := range e.conns {
				for i := range c.calls {
					c.calls[i].mu.Lock()
					c.calls[i].in.n = -1 // what the reply is copied to
					c.calls[i].mu.Unlock()
				}
			}
		}
		var p *Peer
		e, _, p = newPair(t, n, Options{}, func(b []byte) fakeReply {
			once.Do(poison)
			return echoSum(b)
		})
		start := time.Now()
		err := check(t.Context(), p, 10_000, 4)
		if !isPanic(err) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the call took %v to fail", took)
		}
		for range 3 {
			if err := check(t.Context(), p, 10_000, 4); err != nil {
				t.Error(err)
			}
		}
		if e.Stats().InFlight != 0 || len(p.slots) != 0 {
			t.Errorf("%d in flight, %d slots taken", e.Stats().InFlight, len(p.slots))
		}
	})
}

// TestPanicInACall: one in the goroutine of the caller does not cost a channel.
func TestPanicInACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{delay: time.Millisecond})
		_, _, p := newPair(t, n, Options{MaxConns: 1}, echoSum)
		for range 2 * channels {
			if _, err := p.Call(&badContext{Context: t.Context()}, request(10, 4), make([]byte, 100)); !isPanic(err) {
				t.Errorf("got %v", err)
			}
		}
		if err := check(t.Context(), p, 10_000, 4); err != nil {
			t.Error(err)
		}
		if len(p.slots) != 0 {
			t.Errorf("%d slots taken", len(p.slots))
		}
	})
}

// badContext panics once the call has a channel.
type badContext struct {
	context.Context
	asked int
}

func (c *badContext) Done() <-chan struct{} {
	if c.asked++; c.asked > 1 {
		panic("bad context")
	}
	return c.Context.Done()
}

func isPanic(err error) bool {
	_, ok := errors.AsType[*panics.Error](err)
	return ok
}

// TestPanicOfAHandler: the call is aborted, and the handler's slot is free again.
func TestPanicOfAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, c := newServing(t, func(r Request) ([]byte, int32) {
			if string(r.Body) == "call" {
				return []byte("fine"), 0
			}
			panic("bad callback")
		})
		for i := range uint32(2 * maxHandlers) {
			c.ask(2*i+1, "evil")
			c.want("call " + strconv.Itoa(int(2*i+1)) + ` seq 0 type 4 flags 0 "\xff\xff\xff\xfa"`)
		}
		c.ask(1001, "call")
		c.want(`call 1001 seq 1 type 1 flags 4 "fine"`)
		if len(e.server.slots) != 0 {
			t.Errorf("%d slots taken", len(e.server.slots))
		}
	})
}

// TestBusyIsNotDead: a call that finds no channel before its time is over says so,
// and one that begins late has all of its time.
func TestBusyIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		_, _, p := newPair(t, n, Options{MaxConns: 1}, func(b []byte) fakeReply {
			r := echoSum(b)
			r.delay = 3 * time.Second
			return r
		})
		var wg sync.WaitGroup
		for range channels {
			wg.Go(func() {
				if err := check(t.Context(), p, 10, 4); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(1500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.Call(ctx, request(10, 4), make([]byte, 100)); !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no channel in time: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, err := p.Call(ctx, request(10, 4), make([]byte, 100)); errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that has left: %v", err)
		}
		if _, err := p.CallWithin(t.Context(), 3500*time.Millisecond, request(10, 4), make([]byte, 100)); err != nil {
			t.Errorf("a call that begins late: %v", err)
		}
		if _, err := p.CallWithin(t.Context(), 2*time.Second, request(10, 4), make([]byte, 100)); errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call that takes too long: %v", err)
		}
		wg.Wait()
	})
}
