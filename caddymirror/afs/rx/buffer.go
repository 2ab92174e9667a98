package rx

import "sync"

// bufferSize holds any packet we asked for, with room to tell one that is too
// long from one that just fits.
const bufferSize = 2048

type buffer [bufferSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func getBuffer() *buffer  { return buffers.Get().(*buffer) }
func putBuffer(b *buffer) { buffers.Put(b) }
