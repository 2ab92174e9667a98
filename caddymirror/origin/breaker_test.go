package origin

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	away := fmt.Errorf("%w: input/output error", ErrAway)
	back := make(chan error)
	var probes atomic.Int32
	var moves []bool
	b := &breaker{
		probe: func() error { probes.Add(1); return <-back },
		stop:  t.Context().Done(),
		moved: func(open bool, _ error) { moves = append(moves, open) },
	}
	// What speaks of an object counts as an answer.
	for _, answer := range []error{nil, fs.ErrNotExist, fs.ErrPermission, ErrIsDir} {
		for range 5 {
			b.report(away)
			b.report(away)
			b.report(answer)
		}
	}
	if err := b.check(); err != nil || len(moves) != 0 {
		t.Fatal(err, moves)
	}

	b.report(away)
	b.report(away)
	b.report(away)
	err := b.check()
	if !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "input/output error") {
		t.Fatal(err)
	}
	b.report(nil) // of a call made before: only the probe closes it
	b.report(away)
	b.report(away)
	b.report(away)
	if !b.isOpen() {
		t.Fatal("closed without a probe")
	}
	start := time.Now()
	back <- errors.New("no route to host")
	back <- nil
	if pause := time.Since(start); pause < probeEvery/2 {
		t.Errorf("probed again after %v", pause)
	}
	waitFor(t, "it is closed", func() bool { return b.check() == nil })
	if probes.Load() != 2 {
		t.Errorf("%d probes, want 2", probes.Load())
	}
	waitFor(t, "it says so", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.failures == 0
	})
}

func TestBreakerStops(t *testing.T) {
	stop := make(chan struct{})
	moved := make(chan bool, 2)
	b := &breaker{
		probe: func() error { return ErrAway },
		stop:  stop,
		moved: func(open bool, _ error) { moved <- open },
	}
	for range breakerFailures {
		b.report(ErrAway)
	}
	if !<-moved {
		t.Error("not open")
	}
	close(stop)
	if <-moved {
		t.Error("not closed")
	}
	if b.isOpen() {
		t.Error("open, and nobody probes")
	}
}
