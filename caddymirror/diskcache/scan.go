package diskcache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// found is what the scan learns of an entry, from its name and its inode.
type found struct {
	id     id
	group  uint32
	used   int64
	charge int64
	mark   segment
}

// scanners read shards side by side: a cold disk answers several at once.
const scanners = 4

// scan reads the directory into the index. Entries are served meanwhile.
func (c *Cache) scan() {
	start := time.Now()
	c.mu.Lock()
	d := c.dir
	if c.state != Closed {
		c.state, c.why = Scanning, nil
	}
	c.mu.Unlock()

	d.clearTemp()

	var (
		next    atomic.Int64
		strange atomic.Int64
		wg      sync.WaitGroup
		mu      sync.Mutex
		all     []found
		failed  error
	)
	for range scanners {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= shards || c.stopped() {
					return
				}
				entries, odd, err := d.readShard(n)
				strange.Add(int64(odd))
				mu.Lock()
				all = append(all, entries...)
				if err != nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if c.stopped() {
		return
	}
	if failed != nil {
		c.bypass("reading the cache directory", failed)
		return
	}
	c.measure(d, allShards()...)
	if n := strange.Load(); n > 0 {
		c.log.Warn("cache directory holds files that are not the cache's: leaving them alone, uncounted",
			zap.Int64("files", n), zap.String("cache", d.path))
	}
	slices.SortFunc(all, func(a, b found) int {
		switch {
		case a.used > b.used:
			return -1
		case a.used < b.used:
			return 1
		}
		return 0
	})
	c.adopt(all, start)
	c.becomeReady()
	c.log.Debug("cache directory read", zap.Int("entries", len(all)), zap.Duration("took", time.Since(start)))
}

// adopt puts what the scan found into the index, behind what was used since.
func (c *Cache) adopt(all []found, start time.Time) {
	const batch = 10_000 // a hit must not wait for a million
	written := start.Add(-time.Minute).UnixNano()
	for part := range slices.Chunk(all, batch) {
		c.mu.Lock()
		for _, f := range part {
			_, known := c.index.find(f.id)
			_, gone := c.gone[f.id]
			if known || gone {
				continue
			}
			c.index.insert(record{id: f.id, group: f.group, used: f.used, charge: f.charge, segment: f.mark, marked: f.mark})
			if f.used > written {
				c.recent = append(c.recent, f.id)
			}
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	if len(all) > 0 {
		c.index.saved = max(c.index.saved, all[0].used)
	}
	c.gone = nil
	c.scanned = true
	c.idle.Broadcast()
	c.mu.Unlock()
}

// becomeReady shrinks the cache to its limits and lets fills begin.
func (c *Cache) becomeReady() {
	c.shrink()
	c.mu.Lock()
	ready := c.state == Scanning
	told := c.told
	if ready {
		c.state, c.told = Ready, false
	}
	c.mu.Unlock()
	if ready && told {
		c.log.Info("cache disk is well again")
	}
}

func (c *Cache) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// readShard lists a directory under objects/, and counts what is in it that
// is none of ours.
func (d *dir) readShard(n int) (all []found, strange int, err error) {
	dir, err := sysOpen(d.shard(n), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer dir.Close()
	names, err := dir.names(-1)
	if errors.Is(err, unix.ENOTDIR) {
		return nil, 1, nil
	}
	if err != nil {
		return nil, 0, err
	}
	all = make([]found, 0, len(names))
	for _, name := range names {
		i, group, ok := parseName(name)
		if !ok || shardOf(i) != n {
			strange++
			continue
		}
		st, err := dir.stat(name)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, strange, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			strange++
			continue
		}
		all = append(all, found{i, group, st.Mtim.Nano(), d.charge(st.Size, st.Blocks), markOf(fs.FileMode(st.Mode).Perm())})
	}
	return all, strange, nil
}

// clearTemp removes what fills of processes before this one left behind.
func (d *dir) clearTemp() {
	entries, err := sysReadDir(filepath.Join(d.path, "tmp"))
	if err != nil {
		return
	}
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 64); err == nil || e.Name() == probeName {
			_ = sysRemove(filepath.Join(d.path, "tmp", e.Name())) // or at the next start
		}
	}
}
