package afs

import (
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// maxStatuses is of how many files the status is remembered, for each volume.
const maxStatuses = 32 << 10

// snapshot is what is known of the files of a volume in one release.
type snapshot struct {
	release  uint32
	statuses *lru.Cache[wire.FID, wire.Status]
}

func newSnapshot(release uint32) *snapshot {
	statuses, err := lru.New[wire.FID, wire.Status](maxStatuses)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &snapshot{release, statuses}
}

// maxTexts is how many bytes of directories and symbolic links are kept.
const maxTexts = 64 << 20

// textKey names the contents of a directory or symbolic link. They are the same
// in every release that has the version.
type textKey struct {
	cell    string
	fid     wire.FID
	version uint64
	mtime   int64
}

// textCache keeps directories (*wire.Dir) and the targets of symbolic links
// (string), those used last and not more than so many bytes.
type textCache struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[textKey, text]
	size  int64
	limit int64
}

type text struct {
	value any
	size  int64
}

func newTextCache(limit int64) *textCache {
	c := &textCache{limit: limit}
	l, err := simplelru.NewLRU(1<<20, func(_ textKey, t text) { c.size -= t.size })
	if err != nil {
		panic(err) // the size is a constant
	}
	c.lru = l
	return c
}

func (c *textCache) get(k textKey) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.lru.Get(k)
	return t.value, ok
}

// add keeps a value that came from so many bytes.
func (c *textCache) add(k textKey, value any, size int64) {
	const overhead = 256
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(k) // so that it is not counted twice
	c.lru.Add(k, text{value, size + overhead})
	for c.size += size + overhead; c.size > c.limit; {
		c.lru.RemoveOldest()
	}
}
