package diskcache

import (
	"fmt"
	"io/fs"
	"time"

	"errors"
)

// The scrub reads every entry in the background, slowly, and removes those
// that are not what was written, before anyone asks for them. It begins anew
// a day after it is through.
const (
	scrubRate  = 16 << 20 // bytes a second
	scrubEvery = 24 * time.Hour
	scrubPause = 10 * time.Second // after the start, when there is much to do
)

func (c *Cache) scrub() {
	for pause := scrubPause; ; pause = scrubEvery {
		if !c.sleep(pause) {
			return
		}
		if !c.scrubAll(scrubRate) {
			return
		}
	}
}

func (c *Cache) sleep(d time.Duration) bool {
	select {
	case <-c.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// scrubAll verifies all entries, at this many bytes a second. It reports
// whether it came to the end.
func (c *Cache) scrubAll(rate int64) bool {
	for slot := int32(0); ; slot++ {
		if c.stopped() {
			return false
		}
		c.mu.Lock()
		x, d := c.index, c.dir
		if slot >= x.size {
			c.mu.Unlock()
			return true
		}
		r := *x.at(slot)
		_, filling := c.busy[r.id]
		c.mu.Unlock()
		if !r.live || filling {
			continue
		}
		start := time.Now()
		n, err := verifyFile(d.object(r.id, r.group), r.id)
		switch {
		case errors.Is(err, errCorrupt), errors.Is(err, fs.ErrNotExist):
			c.drop(r.id, r.group, r.gen, err)
		case err != nil:
			c.trouble("scrubbing", err)
		default:
			c.counters.scrubbed.Add(1)
			c.scrubbed(r)
		}
		due := time.Duration(float64(n) / float64(rate) * float64(time.Second))
		if wait := due - time.Since(start); wait > 0 && !c.sleep(wait) {
			return false
		}
	}
}

// scrubbed notes that an entry is what was written.
func (c *Cache) scrubbed(r record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slot, ok := c.index.find(r.id); ok && c.index.at(slot).gen == r.gen {
		c.index.at(slot).verified = true
	}
}

// verifyFile reads an entry's file, all of it, and returns how much that was.
func verifyFile(path string, i id) (int64, error) {
	f, contents, fi, err := openFile(path, nil, i)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for b, want := range contents.sums {
		sum, err := sumBlock(f, contents.bodyOff, contents.meta.Size, int64(b))
		if err != nil {
			return 0, readError(err)
		}
		if sum != want {
			return fi.Size(), fmt.Errorf("%w: block %d", errCorrupt, b)
		}
	}
	return fi.Size(), nil
}
