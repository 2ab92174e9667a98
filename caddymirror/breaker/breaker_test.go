package breaker

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var errAway = errors.New("away")

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 500 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("in vain: " + what)
}

func TestBreaker(t *testing.T) {
	away := fmt.Errorf("%w: input/output error", errAway)
	back := make(chan error)
	var probes atomic.Int32
	var moves []bool
	b := &Breaker{
		Away:  errAway,
		Probe: func() error { probes.Add(1); return <-back },
		Stop:  t.Context().Done(),
		Moved: func(open bool, _ error) { moves = append(moves, open) },
	}
	// What speaks of an object counts as an answer.
	for _, answer := range []error{nil, fs.ErrNotExist, fs.ErrPermission, io.EOF} {
		for range 5 {
			b.Report(away)
			b.Report(away)
			b.Report(answer)
		}
	}
	if err := b.Check(); err != nil || len(moves) != 0 {
		t.Fatal(err, moves)
	}

	b.Report(away)
	b.Report(away)
	b.Report(away)
	err := b.Check()
	if !errors.Is(err, errAway) || !strings.Contains(err.Error(), "input/output error") {
		t.Fatal(err)
	}
	b.Report(nil) // of a call made before: only the probe closes it
	b.Report(away)
	b.Report(away)
	b.Report(away)
	if !b.Open() {
		t.Fatal("closed without a probe")
	}
	start := time.Now()
	back <- errors.New("no route to host")
	back <- nil
	if pause := time.Since(start); pause < probeEvery/2 {
		t.Errorf("probed again after %v", pause)
	}
	waitFor(t, "it is closed", func() bool { return b.Check() == nil })
	if probes.Load() != 2 {
		t.Errorf("%d probes, want 2", probes.Load())
	}
	waitFor(t, "it says so", func() bool { return b.Failures() == 0 })
}

func TestBreakerStops(t *testing.T) {
	stop := make(chan struct{})
	moved := make(chan bool, 2)
	b := &Breaker{
		Away:  errAway,
		Probe: func() error { return errAway },
		Stop:  stop,
		Moved: func(open bool, _ error) { moved <- open },
	}
	for range Threshold {
		b.Report(errAway)
	}
	if !<-moved {
		t.Error("not open")
	}
	close(stop)
	if <-moved {
		t.Error("not closed")
	}
	if b.Open() {
		t.Error("open, and nobody probes")
	}
}

// TestProbePanics checks that a probe that panics is one that failed.
func TestProbePanics(t *testing.T) {
	var probes atomic.Int32
	b := &Breaker{
		Away: errAway, Stop: t.Context().Done(), Moved: func(bool, error) {},
		Probe: func() error {
			if probes.Add(1) == 1 {
				panic("bad packet")
			}
			return nil
		},
	}
	b.Trip(errAway)
	waitFor(t, "it is closed", func() bool { return !b.Open() })
	if n := probes.Load(); n != 2 {
		t.Errorf("%d probes", n)
	}
}
