package afs

import (
	"sync"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

const (
	// chunk is how much is read by one call. A file server cannot release a
	// volume while a call reads from it, so calls have to be short.
	chunk = 256 << 10

	// smallChunk is a chunk of those who have no budget.
	smallChunk = 64 << 10

	// maxReadAhead is how many bytes may be read ahead of their readers, by all
	// of them together.
	maxReadAhead = 64 << 20

	// maxParallel is how many calls read from one file at a time. A call moves
	// 45 KB in a round trip at most, so far away it takes many.
	maxParallel = 16
)

// budget bounds the memory of readers.
type budget struct {
	mu   sync.Mutex
	free int64
}

func newBudget(size int64) *budget { return &budget{free: size} }

// take reports whether n bytes could be had.
func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free < n {
		return false
	}
	b.free -= n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
}

// Reply buffers of the two sizes.
var (
	chunks      = sync.Pool{New: func() any { return newReplyBuffer(chunk) }}
	smallChunks = sync.Pool{New: func() any { return newReplyBuffer(smallChunk) }}
)

func newReplyBuffer(n int) *[]byte {
	b := make([]byte, wire.FetchData64ReplySize(n))
	return &b
}
