package gate

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// packings are the endings of the files that can be read, the one that takes the
// least time first.
var packings = []string{"", ".zst", ".gz", ".xz", ".bz2"}

// otherPackings are endings of files that can not.
var otherPackings = []string{".lzma", ".lz4", ".zck", ".lz", ".br"}

const (
	bufferSize = 128 << 10
)

// packed is what a compressed file has in it, as clients read it. apt 2.6.1 (zlib, liblzma,
// libbz2, libzstd) and dnf 4.14 were asked:
//
//   - gzip: all members; whatever follows the last one, zeros or not, is left out.
//   - xz, bzip2: the first stream; whatever follows is left out, be it another one. (Of
//     xz, padding that is cut off is refused here, as by xz itself; of bzip2, one single
//     byte that follows.)
//   - zstd: all frames, and nothing else may follow.
type packed struct {
	io.Reader
	close func()      // gives back what the reading takes; may be nil
	left  func() bool // whether there is more that is not read
}

// Close gives back what the reading takes.
func (p *packed) Close() {
	if p.close != nil {
		p.close()
	}
}

// oddMore is what there is to say of a file with more in it than clients read.
const oddMore = "there is more after the compressed data, which clients leave out"

// more reports whether something is left out. All that is to be read must have been.
func (p *packed) more() bool { return p.left() }

// unpack returns what the file with this name has in it, read from r. An error
// of what it reads may be the file's fault or that of r, see spoilt.
func unpack(name string, r io.Reader) (*packed, error) {
	file := bufio.NewReaderSize(r, bufferSize)
	p := &packed{Reader: file, left: func() bool {
		b, _ := file.Peek(1)
		return len(b) > 0
	}}
	switch path.Ext(name) {
	case ".gz":
		z, err := gzip.NewReader(file)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		p.Reader = &members{z, file}
	case ".xz":
		z, err := xz.NewReader(file, maxWindow)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		p.Reader, p.left = z, func() bool { return z.Reset(nil) != io.EOF }
	case ".zst":
		z, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		p.Reader, p.close = z, z.Close
	case ".bz2":
		p.Reader = bzip2Stream{bzip2.NewReader(&firstStream{Reader: file})}
	}
	return p, nil
}

// members reads the members of a gzip file, up to what is none.
type members struct {
	z *gzip.Reader
	r *bufio.Reader
}

var gzipMagic = []byte{0x1f, 0x8b}

func (m *members) Read(b []byte) (n int, err error) {
	for {
		n, err = m.z.Read(b)
		if err != io.EOF {
			return n, err
		}
		head, err := m.r.Peek(len(gzipMagic))
		if err != nil && err != io.EOF {
			return n, err
		}
		if !bytes.Equal(head, gzipMagic) {
			return n, io.EOF
		}
		if err := m.z.Reset(m.r); err != nil {
			return n, noEOF(err)
		}
		m.z.Multistream(false)
		if n > 0 {
			return n, nil
		}
	}
}

// noEOF is err, if something was to come.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// firstStream ends a bzip2 file before a second stream.
type firstStream struct {
	*bufio.Reader
	begun bool
}

// ReadByte implements [io.ByteReader].
func (f *firstStream) ReadByte() (byte, error) {
	if f.begun && f.another() {
		return 0, io.EOF
	}
	f.begun = true
	return f.Reader.ReadByte()
}

// another reports whether a stream begins here: there is as much to tell it as to tell
// chance out.
func (f *firstStream) another() bool {
	if head, _ := f.Peek(1); len(head) == 0 || head[0] != 'B' {
		return false
	}
	head, _ := f.Peek(10)
	return len(head) == 10 && string(head[:3]) == "BZh" && string(head[4:]) == "1AY&SY"
}

// bzip2Stream reads a bzip2 file up to what is not one.
type bzip2Stream struct{ r io.Reader }

func (s bzip2Stream) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err == bzip2.StructuralError("bad magic value in continuation file") {
		err = io.EOF
	}
	return n, err
}

// spoilt turns an error of unpacking or parsing a file into a fileError, unless it
// is one of reading it.
func spoilt(err error) error {
	var (
		errno syscall.Errno
		perr  *fs.PathError
		b     *fileError
	)
	switch {
	case err == nil, errors.As(err, &b), errors.As(err, &errno), errors.As(err, &perr), errors.Is(err, os.ErrClosed),
		isContext(err):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return bad("is cut off")
	}
	return bad("can not be read: %s", show(err.Error()))
}
