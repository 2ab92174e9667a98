package diskcache

import (
	"errors"
	"fmt"
	"time"
)

// The scrub reads every entry in the background, slowly, and removes those
// that are not what was written, before anyone asks for them. It begins anew
// a day after it is through.
const (
	scrubRate  = 16 << 20 // bytes a second
	scrubEvery = 24 * time.Hour
)

// scrubPause is how long it waits after the start, when there is much to do.
var scrubPause = 10 * time.Second // tests have their own

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
	// A file costs the disk some time beside its bytes.
	const perFile = 64 << 10
	pace := func(n int64) bool {
		return c.sleep(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	}
	for slot := int32(0); ; slot++ {
		c.mu.Lock()
		x, d := c.index, c.dir
		if slot >= x.size {
			c.mu.Unlock()
			return true
		}
		r := *x.at(slot)
		if !r.live || c.isBusy(r.id) || c.rewriting == r.id {
			c.mu.Unlock()
			continue
		}
		c.peek(r.id)
		c.mu.Unlock()
		err := verifyFile(d.object(r.id, r.group), r.id, pace)
		c.unpeek(r.id)
		switch {
		case errors.Is(err, errStopped):
			return false
		case errors.Is(err, errCorrupt), isGone(err):
			c.drop(r.id, r.group, r.gen, err)
		case err != nil:
			_ = c.failed("scrubbing", err)
		default:
			c.counters.scrubbed.Add(1)
		}
		if !pace(perFile) {
			return false
		}
	}
}

var errStopped = errors.New("stopped")

// verifyFile reads an entry's file, all of it, in its time.
func verifyFile(path string, i id, pace func(n int64) bool) error {
	f, contents, _, err := openFile(path, nil, i)
	if err != nil {
		return err
	}
	defer f.Close()
	for b, want := range contents.sums {
		sum, err := sumBlock(f, contents.bodyOff, contents.meta.Size, int64(b))
		if err != nil {
			return readError(err)
		}
		if sum != want {
			return fmt.Errorf("%w: block %d", errCorrupt, b)
		}
		if !pace(min(contents.meta.Size, blockSize)) {
			return errStopped
		}
	}
	return nil
}
