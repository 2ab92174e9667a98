package mirrorcache

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// body reads an object for one request: from an entry or a fill and, where
// those have not got it, from the origin, if that has the same version. It is
// not safe for concurrent use.
type body struct {
	m    *Mount
	key  string
	meta diskcache.Meta
	end  int64 // of what is wanted, 0: all

	authorization string // of the request, to an upstream

	entry  *diskcache.Entry // of the caller
	fill   *diskcache.Fill
	hurry  bool // read from the origin what fill has not got yet
	waited bool // in vain, for what is far ahead of the fill
	remote origin.Body
	at     int64  // where remote is
	ahead  []byte // read from remote already: what comes before at
}

func (b *body) close() {
	if b.fill != nil {
		b.fill.Leave()
	}
	b.closeRemote()
}

func (b *body) closeRemote() {
	if b.remote != nil {
		b.remote.Close()
		b.remote = nil
	}
}

// readAt reads what there is at off: at least a byte, or there is an error. A read that
// ends early is no error: the next one has the rest from elsewhere.
func (b *body) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	if b.meta.Size >= 0 && off >= b.meta.Size {
		return 0, io.EOF
	}
	n, err := b.readCached(ctx, p, off)
	if n == 0 && err != io.EOF && ctx.Err() == nil {
		n, err = b.readRemote(ctx, p, off)
		if n == 0 && err != nil && b.hurry && b.fill != nil {
			b.hurry = false
			n, err = b.fill.ReadAt(ctx, p, off)
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// near is how far ahead of a fill bytes are waited for, in a hurry: about what it
// copies while the origin is asked for them.
const near = 256 << 10

// errElsewhere says that the bytes are not in the cache.
var errElsewhere = errors.New("not in the cache")

func (b *body) readCached(ctx context.Context, p []byte, off int64) (int, error) {
	switch {
	case b.entry != nil:
		return b.entry.ReadAt(p, off)
	case b.fill == nil:
		return 0, errElsewhere
	case b.hurry && b.meta.Validator != "" && off > b.fill.Published()+near:
		return b.readSoon(ctx, p, off)
	}
	return b.fill.ReadAt(ctx, p, off)
}

// Bytes that are far ahead of the fill of an upstream's object are waited for, since each
// request that they do not need spares the upstream: for as long as the fill goes on so fast
// that they come soon. How fast that is, is looked at after each glance.
const (
	soon   = 3 * time.Second
	glance = 300 * time.Millisecond

	// enough is when the speed is known: a crowd that has just come delays the fill, too.
	enough = time.Second
)

// readSoon reads bytes that are far ahead of the fill, if those come soon.
func (b *body) readSoon(ctx context.Context, p []byte, off int64) (int, error) {
	if !b.m.web || b.waited {
		return 0, errElsewhere
	}
	start, had := time.Now(), b.fill.Published()
	for {
		n, err := b.readGlance(ctx, p, off)
		if n > 0 || err != errElsewhere {
			return n, err
		}
		took, came := time.Since(start), b.fill.Published()-had
		left := off - b.fill.Published()
		if took > soon || took > enough && float64(left)*took.Seconds() > float64(came)*(soon-took).Seconds() {
			b.waited = true
			return 0, errElsewhere
		}
	}
}

// readGlance reads bytes that the fill has within a glance.
func (b *body) readGlance(ctx context.Context, p []byte, off int64) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, glance, errElsewhere)
	defer cancel()
	n, err := b.fill.ReadAt(ctx, p, off)
	if n == 0 && context.Cause(ctx) == errElsewhere {
		err = errElsewhere
	}
	return n, err
}

// peek waits for the first bytes at off, without taking them.
func (b *body) peek(ctx context.Context, off int64) (err error) {
	defer origin.Recover(b.m.log, "read", &err)
	var p [512]byte
	if b.fill != nil && b.meta.Size == 0 {
		// Nothing is to be read, but the next request is to be a hit.
		if _, err := b.fill.ReadAt(ctx, p[:], 0); !errors.Is(err, diskcache.ErrBypass) {
			return err
		}
		return io.EOF
	}
	n, err := b.readAt(ctx, p[:], off)
	if b.remote != nil && n > 0 {
		b.ahead = p[:n:n]
	}
	if n > 0 {
		return nil
	}
	return err
}

func (b *body) readRemote(ctx context.Context, p []byte, off int64) (int, error) {
	if len(b.ahead) > 0 && b.remote != nil && off == b.at-int64(len(b.ahead)) {
		n := copy(p, b.ahead)
		b.ahead = b.ahead[n:]
		return n, nil
	}
	b.ahead = nil
	if b.remote != nil && b.at != off {
		b.closeRemote()
	}
	if b.remote == nil {
		remote, err := b.m.enter(func() (origin.Body, error) { return b.m.reopen(ctx, b, off, max(0, b.end-off)) })
		if err != nil {
			return 0, err
		}
		b.remote, b.at = remote, off
	}
	n, err := b.remote.Read(p)
	b.at += int64(n)
	if n > 0 {
		return n, nil
	}
	if err == io.EOF && b.meta.Size >= 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// errClient says that the client is gone.
var errClient = errors.New("client is gone")

// copyRange writes n bytes from off on, or all that there are if n is negative,
// and returns how many it has written.
//
// Not by sendfile(2), which would take half the time: it queues pages of the
// file by reference, and whoever truncates the file changes them on their way
// to the client.
func (b *body) copyRange(ctx context.Context, w io.Writer, off, n int64) (int64, error) {
	if b.entry != nil && b.entry.Bytes() != nil {
		return b.copyMemory(w, off, n)
	}
	buf := buffer(maxSent)
	defer putBuffer(buf)
	begin := off
	for n != 0 {
		p := buf
		if n > 0 {
			p = p[:min(n, int64(len(p)))]
		}
		got, err := b.readAt(ctx, p, off)
		if got > 0 {
			if _, err := w.Write(p[:got]); err != nil {
				return off - begin, err
			}
			off += int64(got)
			if n > 0 {
				n -= int64(got)
			}
		}
		switch {
		case n == 0, err == io.EOF && n < 0:
			return off - begin, nil
		case err == io.EOF:
			return off - begin, io.ErrUnexpectedEOF
		case err != nil:
			return off - begin, err
		}
	}
	return 0, nil
}

// copyMemory is copyRange for an entry in memory.
func (b *body) copyMemory(w io.Writer, off, n int64) (int64, error) {
	p := b.entry.Bytes()[off:]
	if n >= 0 {
		p = p[:n]
	}
	written, err := w.Write(p)
	return int64(written), err
}
