// Package packed reads compressed files as clients of repositories do.
package packed

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
)

// Endings are those of files that can be read, the fastest first. The first is
// empty, for a file that is not compressed.
var Endings = []string{"", ".zst", ".gz", ".xz", ".bz2"}

// Unreadable are endings of compressed files that can not be read.
var Unreadable = []string{".lzma", ".lz4", ".zck", ".lz", ".br"}

const (
	// MaxWindow bounds the memory for reading one compressed file, in bytes.
	MaxWindow = 128 << 20

	// MaxUnpacked is how many bytes a compressed index may have when it is unpacked:
	// one of Debian has 60 MiB, and the largest of Fedora 250.
	MaxUnpacked = 8 << 30
)

const bufferSize = 128 << 10

// Ending returns the ending of a name that says how the file is compressed, also in a way
// that can not be read; empty if it has none.
func Ending(name string) string {
	if ext := path.Ext(name); slices.Contains(Endings, ext) || slices.Contains(Unreadable, ext) {
		return ext
	}
	return ""
}

// A Reader reads what a compressed file has in it, as clients read it. apt 2.6.1 (zlib, liblzma,
// libbz2, libzstd) and dnf 4.14 were asked:
//
//   - gzip: all members; whatever follows the last one, zeros or not, is left out.
//   - xz, bzip2: the first stream; whatever follows is left out, be it another one. (Of
//     xz, padding that is cut off is refused here, as by xz itself; of bzip2, one single
//     byte that follows.)
//   - zstd: all frames, and nothing else may follow.
type Reader struct {
	io.Reader
	close func()      // gives back what the reading takes; may be nil
	left  func() bool // whether there is more that is not read
}

// Close gives back what the reading takes.
func (p *Reader) Close() {
	if p.close != nil {
		p.close()
	}
}

// More reports whether something is left out. Call it after everything was read.
func (p *Reader) More() bool { return p.left() }

// Open returns what the file with this name has in it, read from r. An error of what it
// reads may be the file's fault or that of r, see [fault.Of]. What it reads has no end that
// one could rely on, see [Bound].
func Open(name string, r io.Reader) (*Reader, error) {
	file := bufio.NewReaderSize(r, bufferSize)
	p := &Reader{Reader: file, left: func() bool {
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
		z, err := xz.NewReader(file, MaxWindow)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		p.Reader, p.left = z, func() bool { return z.Reset(nil) != io.EOF }
	case ".zst":
		z, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(MaxWindow))
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

// Bound returns a reader of what a compressed file has in it, which fails if that is more
// than limit bytes.
func Bound(r io.Reader, limit int64) io.Reader {
	err := fmt.Errorf("there are more than %s in it when it is unpacked", humanize.IBytes(uint64(limit)))
	return &bounded.Reader{R: r, Left: limit + 1, Err: err} // one more, to see the end
}
