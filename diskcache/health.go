package diskcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// whenFull runs op, and, when the disk is full, once more after it has evicted
// something. n is how many bytes op needs.
func (c *Cache) whenFull(n int64, op func() error) error {
	err := op()
	if err == nil || !isFull(err) {
		return err
	}
	c.mu.Lock()
	evicted := c.evict(2*n + blockSize)
	c.mu.Unlock()
	if !evicted {
		return err
	}
	return op()
}

// failed judges an error of a write, and wraps it for the fill.
func (c *Cache) failed(doing string, err error) error {
	err = fmt.Errorf("%w: %s: %w", ErrBypass, doing, err)
	switch {
	case isFull(err), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		// The disk is fine; there is just no room now.
		c.grumble("cannot cache", err)
	default:
		c.trouble(doing, err)
	}
	return err
}

// trouble takes the cache out of filling until the disk is well again. One
// line tells of it, however many requests meet it.
func (c *Cache) trouble(doing string, err error) {
	c.counters.troubles.Add(1)
	c.mu.Lock()
	news, d := c.state == Ready || c.state == Scanning, c.dir
	if news {
		c.state, c.why = Bypass, err
	}
	c.mu.Unlock()
	if news {
		c.log.Error("cache disk is in trouble: filling nothing until it is well again",
			zap.String("cache", d.path), zap.String("doing", doing), zap.Error(err))
	}
	c.wake()
}

// quiet holds log lines back that say the same again.
type quiet struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const quietFor = time.Minute

// grumble logs what a request ran into, once a minute.
func (c *Cache) grumble(msg string, err error) {
	c.quiet.mu.Lock()
	now := time.Now()
	silent := now.Sub(c.quiet.last[msg]) < quietFor
	if !silent {
		c.quiet.last[msg] = now
	}
	c.quiet.mu.Unlock()
	if !silent {
		c.log.Warn(msg, zap.Error(err))
	}
}

// heal looks whether a disk in trouble is well again.
func (c *Cache) heal() {
	c.mu.Lock()
	d := c.dir
	c.mu.Unlock()
	if !d.there() {
		c.reopen()
		return
	}
	if err := d.probe(); err != nil {
		c.mu.Lock()
		c.why = err
		c.mu.Unlock()
		return
	}
	c.mu.Lock()
	rescan := !c.scanned
	if c.state == Bypass && !rescan {
		c.state, c.why = Ready, nil
	}
	c.mu.Unlock()
	if rescan {
		c.scan()
		return
	}
	c.log.Info("cache disk is well again")
}

// reopen takes the directory anew after it was removed, or another one was put
// in its place.
func (c *Cache) reopen() {
	c.mu.Lock()
	if c.state == Closed {
		c.mu.Unlock()
		return
	}
	gone := c.dir
	if c.state != Bypass {
		c.state, c.why = Bypass, fmt.Errorf("cache directory %s is gone", gone.path)
		c.log.Error("cache directory is gone: making it anew", zap.String("cache", gone.path))
	}
	c.mu.Unlock()
	d, err := openDir(gone.path)
	if err != nil {
		c.mu.Lock()
		c.why = err
		c.mu.Unlock()
		return
	}
	c.mu.Lock()
	c.dir = d
	c.forget()
	c.mu.Unlock()
	gone.close()
	c.scan()
}

// probe writes a file, as a fill does.
func (d *dir) probe() error {
	f, err := os.CreateTemp(d.path+"/tmp", "probe")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, block))
	return errors.Join(err, f.Close())
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
			c.measure()
			continue
		case <-c.kick:
		case <-look.C:
		}
		c.mu.Lock()
		state, d := c.state, c.dir
		c.mu.Unlock()
		switch {
		case state == Bypass:
			c.heal()
		case !d.there():
			c.reopen()
		}
		c.shrink()
	}
}

// wake has the maintainer look now.
func (c *Cache) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// measure counts anew what directories have on disk.
func (c *Cache) measure() {
	c.mu.Lock()
	d := c.dir
	c.mu.Unlock()
	n := d.overhead()
	c.mu.Lock()
	defer c.mu.Unlock()
	if d != c.dir {
		return
	}
	for _, s := range c.space.shards {
		n += s
	}
	c.space.overhead = n
}

// save writes recency and validations since the last time to the files.
func (c *Cache) save() {
	type use struct {
		id    id
		group uint32
		used  int64
	}
	c.mu.Lock()
	d := c.dir
	fresh := c.unsaved
	c.unsaved = map[id]unsaved{}
	var uses []use
	last := c.index.saved
	for s := c.index.head; s != none; {
		r := c.index.at(s)
		if r.used <= last {
			break
		}
		uses = append(uses, use{r.id, r.group, r.used})
		s = r.next
	}
	if len(uses) > 0 {
		c.index.saved = uses[0].used
	}
	c.mu.Unlock()

	for i, u := range fresh {
		if err := d.saveFreshness(i, u); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.trouble("saving a validation", err)
			return
		}
	}
	// From the oldest, so that a kill in between keeps the order.
	for n := len(uses) - 1; n >= 0; n-- {
		u := uses[n]
		t := time.Unix(0, u.used)
		if err := os.Chtimes(d.object(u.id, u.group), time.Time{}, t); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.trouble("saving recency", err)
			return
		}
	}
}

func (d *dir) saveFreshness(i id, u unsaved) error {
	f, err := os.OpenFile(d.object(i, u.group), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(encodeFreshness(u.Freshness), freshOff)
	return errors.Join(err, f.Close())
}
