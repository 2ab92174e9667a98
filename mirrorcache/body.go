package mirrorcache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/unifiedmirrors/mirror/diskcache"
	"github.com/unifiedmirrors/mirror/origin"
)

// body reads an object for one request: from an entry or a fill and, where
// those have not got it, from the origin, if that has the same version. It is
// not safe for concurrent use.
type body struct {
	m    *Mount
	name string
	meta diskcache.Meta

	entry  *diskcache.Entry // of the caller
	fill   *diskcache.Fill
	hurry  bool        // read from the origin what fill has not got yet
	remote origin.Body // at at
	at     int64
	ahead  []byte // read from remote already, and what comes before at
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

// readAt reads what there is at off, at least a byte, but at the end.
func (b *body) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	if b.meta.Size >= 0 && off >= b.meta.Size {
		return 0, io.EOF
	}
	n, err := b.readCached(ctx, p, off)
	if n > 0 || err == io.EOF || ctx.Err() != nil {
		return n, err
	}
	return b.readRemote(ctx, p, off)
}

// errElsewhere says that the bytes are not in the cache.
var errElsewhere = errors.New("not in the cache")

func (b *body) readCached(ctx context.Context, p []byte, off int64) (int, error) {
	switch {
	case b.entry != nil:
		n, err := b.entry.ReadAt(p, off)
		if n > 0 {
			return n, nil
		}
		return 0, err
	case b.fill == nil:
		return 0, errElsewhere
	case b.hurry && b.meta.Validator != "" && off >= b.fill.Published():
		// Bytes far ahead of the fill are not waited for.
		return 0, errElsewhere
	}
	return b.fill.ReadAt(ctx, p, off)
}

// peek waits for the first bytes at off, without taking them.
func (b *body) peek(ctx context.Context, off int64) error {
	var p [512]byte
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
		remote, err := b.m.reopen(ctx, b.name, &b.meta, off)
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

// bufferSize is what a body that is not in memory costs while it is sent:
// hundreds of clients may follow one fill.
const bufferSize = 128 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// errClient says that the client is gone.
var errClient = errors.New("client is gone")

// copyTo writes the whole body.
//
// Not by sendfile(2), which would take half the time: it queues pages of the
// file by reference, and whoever truncates the file changes them on their way
// to the client.
func (b *body) copyTo(ctx context.Context, w http.ResponseWriter) (int64, error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	var off int64
	for {
		n, err := b.readAt(ctx, buf[:], off)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return off, errClient
			}
			off += int64(n)
		}
		if err == io.EOF {
			return off, nil
		}
		if err != nil {
			return off, err
		}
	}
}

// seeker is a body as http.ServeContent wants it. That reads several ranges in
// a goroutine of its own and, when the client leaves, does not wait for it: end
// does.
type seeker struct {
	ctx context.Context //nolint:containedctx // it lives for one call

	mu  sync.Mutex // guards what follows; held while reading
	b   *body      // nil after end
	off int64
	err error // why a read failed
}

// end waits for a read under way, and lets no other begin. It returns why one
// failed.
func (s *seeker) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = nil
	return s.err
}

func (s *seeker) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.b == nil {
		return 0, errClient
	}
	n, err := s.b.readAt(s.ctx, p, s.off)
	s.off += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *seeker) Seek(off int64, whence int) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.b == nil {
		return 0, errClient
	}
	switch whence {
	case io.SeekCurrent:
		off += s.off
	case io.SeekEnd:
		off += s.b.meta.Size
	}
	if off < 0 {
		return 0, errors.New("seek before the beginning")
	}
	s.off = off
	return off, nil
}
