// Package breaker lets calls fail at once while what they would ask is known to be away.
package breaker

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

const (
	// Threshold is how many calls in a row must fail for a breaker to open.
	Threshold = 3

	// probeEvery is the pause between two probes of an open breaker.
	probeEvery = time.Second
)

// A Breaker lets calls fail at once while what they would ask is known to be
// away. While it is open, one goroutine probes until the answer is good, and
// then closes it. The exported fields are not to be changed once it is in use.
type Breaker struct {
	Away  error                         // what errors of calls are ([errors.Is]) that count as failures
	Probe func() error                  // asks; it may hang
	Stop  <-chan struct{}               // ends the probing
	Moved func(open bool, reason error) // called when it opens and closes
	Log   func() *zap.Logger            // of panics; may be nil

	mu       sync.Mutex
	failures int // in a row
	open     bool
	opens    chan struct{} // closed when it opens; nil: to be made
	since    time.Time
	err      error // the last failure
}

// Opening returns what is closed while the breaker is open.
func (b *Breaker) Opening() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opens == nil {
		b.opens = make(chan struct{})
	}
	return b.opens
}

// Check returns an error that is Away while the breaker is open.
func (b *Breaker) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return nil
	}
	return fmt.Errorf("%w: breaker open for %v, last error: %v", b.Away, time.Since(b.since).Round(time.Second), b.err)
}

// Report counts the outcome of a call.
func (b *Breaker) Report(err error) {
	if b.count(err) {
		b.opened(err)
	}
}

// Trip opens the breaker, whatever was counted: nothing can be asked any more.
func (b *Breaker) Trip(err error) {
	b.mu.Lock()
	opened := b.openNow(err)
	b.mu.Unlock()
	if opened {
		b.opened(err)
	}
}

func (b *Breaker) opened(err error) {
	b.Moved(true, err)
	go b.recover()
}

// count is Report, and returns whether the breaker has opened now.
func (b *Breaker) count(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !errors.Is(err, b.Away) {
		b.failures = 0
		return false
	}
	b.failures++
	b.err = err
	return b.failures >= Threshold && b.openNow(err)
}

// openNow opens the breaker, and returns whether it was closed. b.mu is held.
func (b *Breaker) openNow(err error) bool {
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
func (b *Breaker) recover() {
	for {
		err := b.probe()
		if err == nil {
			break
		}
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
		select {
		case <-time.After(probeEvery):
			continue
		case <-b.Stop:
		}
		break // without a probe it must not stay open
	}
	b.mu.Lock()
	b.open, b.opens = false, nil
	b.failures = 0
	b.mu.Unlock()
	b.Moved(false, nil)
}

// probe is Probe, with a panic as an error.
func (b *Breaker) probe() (err error) {
	var log *zap.Logger
	if b.Log != nil {
		log = b.Log()
	}
	defer panics.Recover(log, "breaker probe", &err)
	return b.Probe()
}

// Failures is how many calls in a row have failed.
func (b *Breaker) Failures() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures
}

// Open reports whether the breaker is open.
func (b *Breaker) Open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}
