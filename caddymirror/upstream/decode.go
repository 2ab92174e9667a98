package upstream

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Decodable is an Accept-Encoding of what [Decode] can undo.
const Decodable = "zstd, gzip"

const (
	// maxExpansion is how many bytes one byte may become, once more than freeExpansion
	// came out. Indexes of packages become ten times as large, and seldom thirty.
	maxExpansion  = 200
	freeExpansion = 16 << 20

	// maxZstdWindow is what RFC 9659 allows for HTTP, in bytes.
	maxZstdWindow = 8 << 20
)

// Decode reads what a body with this Content-Encoding has in it: its values as one list.
// limit bounds that, in bytes; 0 does not. A body that becomes too many bytes, or is not
// what it says, is [ErrLying]; so are codings that are not known, and several at a time. An
// error of body itself is passed on. Close leaves body open.
func Decode(body io.Reader, encoding string, limit int64) (io.ReadCloser, error) {
	d := &decoder{in: &source{r: body}, limit: limit, close: func() {}}
	d.out = d.in
	for coding := range strings.SplitSeq(encoding, ",") {
		coding = strings.ToLower(strings.Trim(coding, " \t"))
		switch {
		case coding == "" || coding == "identity":
		case d.coded:
			d.close()
			return nil, fmt.Errorf("%w: several codings in Content-Encoding %q", ErrLying, encoding)
		default:
			if err := d.undo(coding); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

type decoder struct {
	in    *source
	out   io.Reader
	coded bool
	limit int64
	read  int64 // bytes that came out
	err   error
	close func()
}

func (d *decoder) undo(coding string) error {
	switch coding {
	case "gzip", "x-gzip":
		d.out = &lazyGzip{r: bufio.NewReader(d.in)}
	case "zstd":
		z, err := zstd.NewReader(d.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow),
			zstd.WithDecoderLowmem(true))
		if err != nil {
			return d.failure(err)
		}
		d.out, d.close = z, z.Close
	default:
		return fmt.Errorf("%w: Content-Encoding %q is not known", ErrLying, coding)
	}
	d.coded = true
	return nil
}

// Read implements [io.Reader].
func (d *decoder) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.out.Read(p)
	d.read += int64(n)
	switch {
	case d.limit > 0 && d.read > d.limit:
		err = fmt.Errorf("%w: more than %d bytes are in the body", ErrLying, d.limit)
		n -= int(min(int64(n), d.read-d.limit))
	case d.coded && d.read > freeExpansion && d.read/maxExpansion > d.in.n:
		err = fmt.Errorf("%w: the body becomes more than %d times as large", ErrLying, maxExpansion)
		n = 0
	case err != nil && err != io.EOF:
		err = d.failure(err)
	}
	d.err = err
	return n, err
}

// failure is the error of the body, or else that of what is in it.
func (d *decoder) failure(err error) error {
	if d.in.err != nil && d.in.err != io.EOF {
		return d.in.err
	}
	return fmt.Errorf("%w: in the content encoding: %v", ErrLying, err)
}

// Close gives back what the decoding takes.
func (d *decoder) Close() error {
	d.close()
	if d.err == nil {
		d.err = io.ErrClosedPipe
	}
	return nil
}

// source counts what is read of a body, and keeps its error.
type source struct {
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil {
		s.err = err
	}
	return n, err
}

// lazyGzip reads nothing before it is read. No bytes at all are an empty body, as browsers
// and net/http see it.
type lazyGzip struct {
	r *bufio.Reader
	z *gzip.Reader
}

func (l *lazyGzip) Read(p []byte) (int, error) {
	if l.z == nil {
		if _, err := l.r.Peek(1); err != nil {
			return 0, err
		}
		z, err := gzip.NewReader(l.r)
		if err != nil {
			return 0, noEOF(err)
		}
		l.z = z
	}
	return l.z.Read(p)
}

// noEOF is err, if something was to come.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
