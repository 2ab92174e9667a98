package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// readSize is the most that one call reads. It is small enough for an origin
// of 26 kB/s not to be taken for a hung one, with the default timeout.
const readSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// body is a file being read.
//
// Every call reads into a buffer of the body's own, from where it is copied.
// It cannot read into the caller's: a call that is given up on may still write
// to its buffer minutes later, when nobody knows what that memory has become,
// and an io.Reader's caller does not expect that. The copy costs little next
// to the reading.
type body struct {
	s    *dirState
	f    *os.File
	name string
	info Info
	off  int64
	buf  *[readSize]byte
	err  error // ends all further reading
}

func (b *body) Info() Info { return b.info }

// Read reads at most what Info().Size promises. If the file has become
// shorter, it returns io.ErrUnexpectedEOF. After any error but io.EOF the body
// can only be closed.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n := min(int64(len(p)), b.info.Size-b.off, readSize)
	if n <= 0 {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	if b.buf == nil {
		b.buf = buffers.Get().(*[readSize]byte)
	}
	f, buf, off := b.f, b.buf, b.off
	got, err := do(context.Background(), &b.s.pool, &b.s.breaker, b.s.conf.Load().timeout, func() (int, error) {
		if err := b.s.fault("read", b.name); err != nil {
			return 0, away(err)
		}
		got, err := f.ReadAt(buf[:n], off)
		if err != nil && err != io.EOF {
			return 0, away(err)
		}
		b.s.count.readBytes.Add(uint64(got))
		return got, nil
	}, nil)
	if err == nil && got == 0 {
		err = fmt.Errorf("the file has become shorter: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		b.buf = nil // it may still be written to
		b.err = b.s.failed("read", b.name, err)
		return 0, b.err
	}
	copy(p, buf[:got])
	b.off += int64(got)
	return got, nil
}

// Verify looks at the open file once more. Its error means that size or mtime
// are no longer those of Info, or that the file could not be looked at
// (ErrAway). That another file has been put in its place under the same name
// is no error: all bytes are those of the old one.
func (b *body) Verify(ctx context.Context) error {
	if b.err != nil {
		return b.err
	}
	f := b.f
	fi, err := do(ctx, &b.s.pool, &b.s.breaker, b.s.conf.Load().timeout, func() (os.FileInfo, error) {
		if err := b.s.fault("verify", b.name); err != nil {
			return nil, away(err)
		}
		fi, err := f.Stat()
		if err != nil {
			return nil, away(err)
		}
		return fi, nil
	}, nil)
	if err == nil && (fi.Size() != b.info.Size || !fi.ModTime().Equal(b.info.ModTime)) {
		err = errors.New("the file was changed while it was read")
	}
	if err != nil {
		return b.s.failed("verify", b.name, err)
	}
	return nil
}

// Close never waits. If a call on the file hangs, the file is closed when
// that comes back, which os.File sees to.
func (b *body) Close() error {
	if b.f == nil {
		return fs.ErrClosed
	}
	b.s.pool.close(b.f)
	b.f = nil
	b.err = fs.ErrClosed
	if b.buf != nil {
		buffers.Put(b.buf)
		b.buf = nil
	}
	return nil
}
