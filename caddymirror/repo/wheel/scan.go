package wheel

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
)

// keptTail is how much of the end of a wheel is kept while it is scanned: the archive's
// directory is there and, in front of it, METADATA, if the wheel was made as PEP 427
// recommends.
const keptTail = 1 << 20

// Scan reads a wheel of a size from its first byte to its last, which is what its SHA-256
// costs, and opens it then. open opens the wheel from an offset on: it is called once with
// 0, and again only where the wheel's directory or METADATA do not lie in its last
// 1 MiB. The memory that it takes does not depend on the size.
//
// Errors are as those of [Open]. The checksum is right also with one that is [fault.Error].
// What is returned can not be verified.
func Scan(ctx context.Context, file string, size int64, open func(offset int64) (io.ReadCloser, error)) (*Wheel, [sha256.Size]byte, error) {
	s := &scanned{ctx: ctx, size: size, open: open}
	defer s.close()
	sum, err := s.scan()
	if err != nil {
		return nil, sum, err
	}
	w, err := s.wheel(file)
	return w, sum, err
}

// OpenFrom is [Open] for a file that can only be read from an offset on, with few
// requests for it. What is returned can not be verified.
func OpenFrom(ctx context.Context, file string, size int64, open func(offset int64) (io.ReadCloser, error)) (*Wheel, error) {
	s := &scanned{ctx: ctx, size: size, open: open}
	defer s.close()
	return s.wheel(file)
}

// Sum reads a file of a size for its SHA-256.
func Sum(ctx context.Context, size int64, open func(offset int64) (io.ReadCloser, error)) ([sha256.Size]byte, error) {
	s := &scanned{ctx: ctx, size: size, open: open}
	defer s.close()
	return s.scan()
}

// scanned reads a file that was scanned: its end from memory, anything else again.
type scanned struct {
	ctx  context.Context
	size int64
	open func(offset int64) (io.ReadCloser, error)

	tail []byte // the end of the file

	again io.ReadCloser // at the offset at+len(part)
	at    int64
	part  []byte // what it read last
}

// wheel opens the file, and keeps nothing of the archive.
func (s *scanned) wheel(file string) (*Wheel, error) {
	w, err := Open(s, s.size, file)
	if err != nil {
		return nil, err
	}
	w.in, w.files, w.names = nil, nil, nil
	return w, nil
}

func (s *scanned) scan() (sum [sha256.Size]byte, err error) {
	r, err := s.open(0)
	if err != nil {
		return sum, err
	}
	defer r.Close()
	h := sha256.New()
	read := int64(0)
	// A file that is longer than it was is noticed with the byte after its end. Of a large
	// one the first half of the buffer is dropped again and again.
	buf := make([]byte, min(max(s.size, 0)+1, 2*keptTail))
	held := 0 // of buf
	for {
		if err := s.ctx.Err(); err != nil {
			return sum, err
		}
		if held == len(buf) {
			held = copy(buf, buf[keptTail:])
		}
		n, err := r.Read(buf[held:])
		h.Write(buf[held : held+n])
		held += n
		read += int64(n)
		if err == io.EOF || read > s.size {
			break
		}
		if err != nil {
			return sum, err
		}
	}
	if read != s.size {
		return sum, fmt.Errorf("the file had %d bytes when it was looked at, and has others now", s.size)
	}
	s.tail = buf[:held]
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// ReadAt implements [io.ReaderAt] for one caller at a time.
func (s *scanned) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	for n < len(p) {
		if off+int64(n) >= s.size {
			return n, io.EOF
		}
		m, err := s.readSome(p[n:], off+int64(n))
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// readSome reads one byte at least.
func (s *scanned) readSome(p []byte, off int64) (int, error) {
	if start := s.size - int64(len(s.tail)); off >= start {
		return copy(p, s.tail[off-start:]), nil
	}
	if off < s.at || off > s.at+int64(len(s.part)) || s.again == nil {
		s.close()
		r, err := s.open(off)
		if err != nil {
			return 0, err
		}
		s.again, s.at, s.part = r, off, make([]byte, 0, 64<<10)
	}
	for off == s.at+int64(len(s.part)) {
		if err := s.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := s.again.Read(s.part[:cap(s.part)])
		s.at, s.part = off, s.part[:n]
		if n == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	return copy(p, s.part[off-s.at:]), nil
}

func (s *scanned) close() {
	if s.again != nil {
		s.again.Close()
		s.again = nil
	}
}
