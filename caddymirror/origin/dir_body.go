package origin

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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

// Read reads at most what Info().Size promises, and looks at the file once the
// bytes are there: if its size or mtime are no longer those of Info, the bytes
// may be of another version, and Read returns an error in their place. That
// another file was put in its place under the same name is no error: all bytes
// are those of the old one. After any error but io.EOF the body can only be
// closed.
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
		b.settle()
	}
	got, err := b.readVersion(b.buf, n)
	if err != nil {
		b.buf = nil // it may still be written to
		b.err = b.s.failed("read", b.name, err)
		return 0, b.err
	}
	copy(p, b.buf[:got])
	b.off += int64(got)
	return got, nil
}

// tick is the granularity of the kernel's file times, and more: two changes
// within one tick leave the same mtime.
const tick = 20 * time.Millisecond

// settle waits until a change of the file would show in its mtime.
func (b *body) settle() {
	if wait := time.Until(b.info.ModTime.Add(tick)); wait > 0 {
		time.Sleep(min(wait, tick))
	}
}

var errChanged = errors.New("the file was changed while it was read")

// readVersion reads n bytes of the version that Info describes.
func (b *body) readVersion(buf *[readSize]byte, n int64) (int, error) {
	f, off, want := b.f, b.off, b.info
	return do(context.Background(), &b.s.pool, &b.s.breaker, b.s.conf.Load().timeout, func() (int, error) {
		if err := b.s.fault("read", b.name); err != nil {
			return 0, away(err)
		}
		got, err := f.ReadAt(buf[:n], off)
		if err != nil && err != io.EOF {
			return 0, away(err)
		}
		b.s.count.readBytes.Add(uint64(got))
		size, mtime, err := state(f, off+int64(got) >= want.Size)
		switch {
		case err != nil:
			return 0, away(err)
		case got == 0, size != want.Size, !mtime.Equal(want.ModTime):
			return 0, errChanged
		}
		return got, nil
	}, nil)
}

// state is the size and mtime of an open file. Network file systems answer from
// a cache of a few seconds; where sure, the server is asked.
func state(f *os.File, sure bool) (size int64, mtime time.Time, err error) {
	if sure {
		var st unix.Statx_t
		const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_FORCE_SYNC
		if err := unix.Statx(int(f.Fd()), "", flags, unix.STATX_SIZE|unix.STATX_MTIME, &st); err == nil {
			return int64(st.Size), time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)), nil
		}
	}
	fi, err := f.Stat()
	if err != nil {
		return 0, time.Time{}, err
	}
	return fi.Size(), fi.ModTime(), nil
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
