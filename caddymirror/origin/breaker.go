package origin

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// breakerFailures is how many calls in a row must end in ErrAway for a
	// breaker to open.
	breakerFailures = 3

	// probeEvery is the pause between two probes of an open breaker.
	probeEvery = time.Second
)

// A breaker lets calls fail at once while what they would ask is known to be
// away. While it is open, one goroutine probes until the answer is good, and
// then closes it.
type breaker struct {
	probe func() error                  // may hang
	stop  <-chan struct{}               // ends the probing
	moved func(open bool, reason error) // called when it opens and closes
	log   func() *zap.Logger            // of panics; may be nil

	mu       sync.Mutex
	failures int // in a row
	open     bool
	opens    chan struct{} // closed when it opens; nil: to be made
	since    time.Time
	err      error // the last failure
}

func (b *breaker) logger() *zap.Logger {
	if b.log == nil {
		return nil
	}
	return b.log()
}

// opening returns what is closed while the breaker is open.
func (b *breaker) opening() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opens == nil {
		b.opens = make(chan struct{})
	}
	return b.opens
}

// check returns ErrAway while the breaker is open.
func (b *breaker) check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return nil
	}
	return fmt.Errorf("%w: breaker open for %v, last error: %v", ErrAway, time.Since(b.since).Round(time.Second), b.err)
}

// report counts the outcome of a call.
func (b *breaker) report(err error) {
	if b.count(err) {
		b.opened(err)
	}
}

// trip opens the breaker, whatever was counted: nothing can be asked any more.
func (b *breaker) trip(err error) {
	b.mu.Lock()
	opened := b.openNow(err)
	b.mu.Unlock()
	if opened {
		b.opened(err)
	}
}

func (b *breaker) opened(err error) {
	b.moved(true, err)
	go b.recover()
}

// count is report, and returns whether the breaker has opened now.
func (b *breaker) count(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !errors.Is(err, ErrAway) {
		b.failures = 0
		return false
	}
	b.failures++
	b.err = err
	return b.failures >= breakerFailures && b.openNow(err)
}

// openNow opens the breaker, and returns whether it was closed. b.mu is held.
func (b *breaker) openNow(err error) bool {
	if b.open {
		return false
	}
	b.open, b.since, b.err = true, time.Now(), err
	if b.opens == nil {
		b.opens = make(chan struct{})
	}
	close(b.opens)
	return true
}

// recover probes until the answer is good. The first probe is made at once:
// if it was only one bad file that failed again and again, nobody notices.
func (b *breaker) recover() {
	for {
		_, err := contained(b, func() (none struct{}, err error) { return none, b.probe() })
		if err == nil {
			break
		}
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
		select {
		case <-time.After(probeEvery):
			continue
		case <-b.stop:
		}
		break // without a probe it must not stay open
	}
	b.mu.Lock()
	b.open, b.opens = false, nil
	b.failures = 0
	b.mu.Unlock()
	b.moved(false, nil)
}

// isOpen reports whether the breaker is open.
func (b *breaker) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}
