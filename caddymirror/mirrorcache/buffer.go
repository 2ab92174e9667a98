package mirrorcache

import (
	"sync"
	"sync/atomic"
)

const (
	// bufferSize is what a body that is not in memory costs while it is sent:
	// hundreds of clients may follow one fill.
	bufferSize = 128 << 10

	// largeSize is what one costs as long as no more than maxLarge are sent or filled.
	// Each read and each write costs something, whatever its size.
	largeSize = 512 << 10
	maxLarge  = 64

	// maxSent is how many of them may be used to send: the others are for fills, which
	// must go on before the hundreds that follow them.
	maxSent = 48
)

var (
	buffers      = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeSize]byte) }}
	largeUsed    atomic.Int64
)

// buffer is what a body is to be copied through: a large one, unless most are used.
// putBuffer must follow.
func buffer(most int64) []byte {
	if largeUsed.Add(1) <= most {
		return largeBuffers.Get().(*[largeSize]byte)[:]
	}
	largeUsed.Add(-1)
	return smallBuffer()
}

// smallBuffer is buffer for what comes slowly.
func smallBuffer() []byte { return buffers.Get().(*[bufferSize]byte)[:] }

// putBuffer releases a buffer.
func putBuffer(buf []byte) {
	if len(buf) == largeSize {
		largeBuffers.Put((*[largeSize]byte)(buf))
		largeUsed.Add(-1)
		return
	}
	buffers.Put((*[bufferSize]byte)(buf))
}
