package mirrorcache

import (
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
)

// TestBuffers: large ones are for few, and only for what is on disk.
func TestBuffers(t *testing.T) {
	if n := len(new(body).buffer()); n != bufferSize {
		t.Errorf("for a fill: %d bytes", n)
	}
	onDisk := &body{entry: new(diskcache.Entry)}
	var taken [][]byte
	for n := range maxLarge + 10 {
		want := largeSize
		if n >= maxLarge {
			want = bufferSize
		}
		buf := onDisk.buffer()
		if len(buf) != want {
			t.Errorf("buffer %d has %d bytes, want %d", n, len(buf), want)
		}
		taken = append(taken, buf)
	}
	for _, buf := range taken {
		putBuffer(buf)
	}
	if n := largeUsed.Load(); n != 0 {
		t.Errorf("%d large buffers are in use, and none is", n)
	}
	if n := len(onDisk.buffer()); n != largeSize {
		t.Errorf("after all were given back: %d bytes", n)
	}
	largeUsed.Store(0)
}
