package mirrorcache

import (
	"bytes"
	"io"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// TestBuffers: large ones are for few.
func TestBuffers(t *testing.T) {
	var taken [][]byte
	for n := range maxLarge + 10 {
		want := largeSize
		if n >= maxSent {
			want = bufferSize
		}
		buf := buffer(maxSent)
		if len(buf) != want {
			t.Errorf("buffer %d has %d bytes, want %d", n, len(buf), want)
		}
		taken = append(taken, buf)
	}
	if n := len(buffer(maxLarge)); n != largeSize {
		t.Errorf("for a fill: %d bytes, where none is left to send", n)
	}
	largeUsed.Add(-1)
	for _, buf := range taken {
		putBuffer(buf)
	}
	if n := largeUsed.Load(); n != 0 {
		t.Errorf("%d large buffers are in use, and none is", n)
	}
	if n := len(buffer(maxSent)); n != largeSize {
		t.Errorf("after all were given back: %d bytes", n)
	}
	largeUsed.Store(0)
}

// paced is a body whose reads bring no more than so much.
type paced struct {
	origin.Body
	most, left, asked int
}

func (p *paced) Read(b []byte) (int, error) {
	p.asked = max(p.asked, len(b))
	if p.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), p.most, p.left)
	p.left -= n
	return n, nil
}

// TestPumpBuffers: a large buffer is for what comes fast, as long as there is one.
func TestPumpBuffers(t *testing.T) {
	for _, tc := range []struct {
		name       string
		most       int
		used       int64 // by others
		want, left int
	}{
		{"fast", largeSize, 0, largeSize, 8 << 20},
		{"slow", 100 << 10, 0, bufferSize, 8 << 20},
		{"fast, and many", largeSize, maxLarge, bufferSize, 8 << 20},
		{"small", largeSize, 0, bufferSize, 100 << 10},
	} {
		largeUsed.Store(tc.used)
		body := &paced{most: tc.most, left: tc.left}
		var got bytes.Buffer
		if err := pump(&got, body); err != nil || got.Len() != tc.left || body.asked != tc.want {
			t.Errorf("%s: %d bytes, reads of up to %d, want %d; %v", tc.name, got.Len(), body.asked, tc.want, err)
		}
		if n := largeUsed.Load(); n != tc.used {
			t.Errorf("%s: %d large buffers are in use, want %d", tc.name, n, tc.used)
		}
	}
	largeUsed.Store(0)
}
