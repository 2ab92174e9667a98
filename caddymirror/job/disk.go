package job

import (
	"fmt"
	"sync"
	"time"
)

// patience is how long the disk of the jobs' state may take before it counts as one
// that does not answer.
const patience = 5 * time.Second

// disk watches calls to the disk that has the state of jobs. They cannot be ended, and
// are made where they hold up nobody who looks. The zero value is ready for use.
type disk struct {
	mu    sync.Mutex // guards what follows; a leaf
	calls map[*time.Time]bool
}

// call notes that a call begins. It has ended when done is called.
func (d *disk) call() (done func()) {
	began := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calls == nil {
		d.calls = map[*time.Time]bool{}
	}
	d.calls[&began] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.calls, &began)
	}
}

// problem is that a call has not ended for long, or nil.
func (d *disk) problem(now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var longest time.Duration
	for began := range d.calls {
		longest = max(longest, now.Sub(*began))
	}
	if longest < patience {
		return nil
	}
	return fmt.Errorf("the disk of the jobs' state has not answered for %v", longest.Round(time.Second))
}

// within returns what f does, or an error if that takes longer than the disk may. Then f
// goes on.
func within[T any](f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	c := make(chan result, 1)
	go func() {
		v, err := f()
		c <- result{v, err}
	}()
	select {
	case r := <-c:
		return r.v, r.err
	case <-time.After(patience):
		var none T
		return none, fmt.Errorf("the disk of the jobs' state has not answered for %v", patience)
	}
}
