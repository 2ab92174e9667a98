package gate

import (
	"bufio"
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
	// maxWindow bounds the memory for reading one compressed file.
	maxWindow = 128 << 20

	bufferSize = 128 << 10
)

// unpack returns what the file with this name has in it, read from r. An error
// of what it reads may be the file's fault or that of r, see spoilt.
func unpack(name string, r io.Reader) (io.ReadCloser, error) {
	r = bufio.NewReaderSize(r, bufferSize)
	switch path.Ext(name) {
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		z, err := xz.NewReader(r, maxWindow)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case ".bz2":
		return io.NopCloser(bzip2.NewReader(r)), nil
	}
	return io.NopCloser(r), nil
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
