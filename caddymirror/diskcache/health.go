package diskcache

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// whenFull runs op, and, while the disk is full, again after it has evicted
// something. n is how many bytes op needs.
func (c *Cache) whenFull(n int64, op func() error) error {
	err := op()
	for try := 0; try < 3 && err != nil && isFull(err); try++ {
		c.mu.Lock()
		evicted := c.evict(n)
		c.mu.Unlock()
		if !evicted {
			break
		}
		err = op()
	}
	return err
}

// failed judges an error of the disk, and wraps it for the fill.
func (c *Cache) failed(doing string, err error) error {
	if isPassing(err) {
		c.grumble(doing, err)
	} else {
		c.trouble(doing, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrBypass, doing, err)
}

// isPassing tells the errors that do not speak against the disk: there is no
// room just now, or something that is none of ours is in the way.
func isPassing(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EEXIST, unix.ENOTDIR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return isFull(err)
}

// trouble finds out whether an error of the disk is a matter of one file, or
// directory, and reports whether it is. If not, nothing is filled until the
// disk is well again.
func (c *Cache) trouble(doing string, err error) (local bool) {
	c.counters.troubles.Add(1)
	c.mu.Lock()
	d, state := c.dir, c.state
	c.mu.Unlock()
	if state == Bypass || state == Closed {
		return false
	}
	if bad := d.probe(); bad == nil || isPassing(bad) {
		c.grumble(doing, err)
		return true
	}
	c.bypass(doing, err)
	return false
}

// bypass takes the cache out of filling until the disk is well again. One line
// tells of it, however many requests meet it.
func (c *Cache) bypass(doing string, err error) {
	c.mu.Lock()
	d := c.dir
	news := c.state == Ready || c.state == Scanning
	if news {
		c.state, c.why = Bypass, err
		c.idle.Broadcast()
	}
	// Once a minute is enough of a disk that comes and goes.
	tell := news && c.quiet.due(doing)
	c.told = c.told || tell
	c.mu.Unlock()
	if tell {
		c.log.Error("cache disk is in trouble: filling nothing until it is well again",
			zap.String("cache", d.path), zap.String("doing", doing), zap.Error(err))
	}
}

// quiet holds log lines back that say the same again.
type quiet struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const quietFor = time.Minute

// due reports whether msg may be logged, and notes that it is.
func (q *quiet) due(msg string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if now.Sub(q.last[msg]) < quietFor {
		return false
	}
	q.last[msg] = now
	return true
}

// grumble logs what a request ran into, once a minute.
func (c *Cache) grumble(msg string, err error, fields ...zap.Field) {
	if c.quiet.due(msg) {
		c.log.Warn(msg, append(fields, zap.Error(err))...)
	}
}

// heal looks whether a disk in trouble is well again.
func (c *Cache) heal() {
	c.mu.Lock()
	d := c.dir
	c.mu.Unlock()
	err := d.probe()
	c.mu.Lock()
	if c.state != Bypass {
		c.mu.Unlock()
		return
	}
	if err != nil && !isPassing(err) {
		c.why = err
		c.mu.Unlock()
		return
	}
	c.state, c.why = Scanning, nil
	rescan := !c.scanned
	c.mu.Unlock()
	if rescan {
		c.scan()
	} else {
		c.becomeReady()
	}
}

// reopen takes the directory anew after it was removed, or another one was put
// in its place.
func (c *Cache) reopen() {
	c.mu.Lock()
	if c.state == Closed {
		c.mu.Unlock()
		return
	}
	gone, tell := c.dir, false
	if c.state == Ready {
		c.state, c.why = Bypass, fmt.Errorf("cache directory %s is gone", gone.path)
		c.told, tell = true, true
	}
	c.quiesce()
	idle := c.forget()
	c.mu.Unlock()
	if tell {
		c.log.Error("cache directory is gone: making it anew", zap.String("cache", gone.path))
	}
	for _, e := range idle {
		c.unuse(e)
	}
	// It may be the lock of this very directory, if only a part is gone.
	gone.close()
	d, err := openDir(gone.path)
	c.mu.Lock()
	if err != nil {
		c.why = err
		c.mu.Unlock()
		return
	}
	c.quiesce()
	c.dir = d
	c.mu.Unlock()
	c.scan()
}

// maintain runs for the life of the cache.
func (c *Cache) maintain() {
	c.scan()
	close(c.first)
	c.done.Go(c.scrub)

	look := time.NewTicker(time.Second)
	defer look.Stop()
	save := time.NewTicker(time.Minute)
	defer save.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-save.C:
			// What a kill may lose of recency and validations.
			c.save()
			c.remeasure()
		case <-c.kick:
		case <-look.C:
			c.look()
		}
		c.shrink()
	}
}

// look finds out whether the disk is what it was, for better or worse.
func (c *Cache) look() {
	c.mu.Lock()
	_ = c.lookAtFree() // for Stats; who needs it asks again
	state, d := c.state, c.dir
	c.mu.Unlock()
	switch {
	case !d.there():
		c.reopen()
	case state == Bypass:
		c.heal()
	case state == Ready:
		c.sweep()
	}
}

// wake has the maintainer shrink the cache now.
func (c *Cache) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}
