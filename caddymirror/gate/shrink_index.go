package gate

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
)

// What a tree has is kept as a line of JSON, padded, and then a zstd stream of
// the entries in the order of the walk. An entry is the number of bytes that its
// name shares with the one before, the length of the rest of it, the rest, and
// its size; numbers are varints.
const (
	shrinkIndex = "shrink.index" // of what was released
	shrinkNext  = "shrink.next"  // of what may be released next

	indexFormat = 1
	headerLen   = 256
	maxNameLen  = 1 << 16
)

type total struct {
	entries, bytes int64
}

type indexHeader struct {
	Format  int    `json:"format"`
	Run     string `json:"run"`
	Entries int64  `json:"entries"`
	Bytes   int64  `json:"bytes"`
}

// An indexWriter writes a new index. There is nothing under its name before it
// is finished.
type indexWriter struct {
	name string
	f    *os.File
	z    *zstd.Encoder
	last string
	buf  []byte
}

func createIndex(name string) (*indexWriter, error) {
	// A check that was left behind may write to the old file yet.
	for _, name := range []string{name, name + ".tmp"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	w := &indexWriter{name: name, f: f}
	if _, err = f.Write(make([]byte, headerLen)); err == nil {
		w.z, err = zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	}
	if err != nil {
		w.abandon()
		return nil, err
	}
	return w, nil
}

func (w *indexWriter) add(e entry) error {
	n := 0
	for n < min(len(w.last), len(e.name)) && w.last[n] == e.name[n] {
		n++
	}
	w.buf = binary.AppendUvarint(w.buf[:0], uint64(n))
	w.buf = binary.AppendUvarint(w.buf, uint64(len(e.name)-n))
	w.buf = append(w.buf, e.name[n:]...)
	w.buf = binary.AppendUvarint(w.buf, uint64(e.size))
	w.last = e.name
	_, err := w.z.Write(w.buf)
	return err
}

// finish makes the index appear under its name.
func (w *indexWriter) finish(run string, t total) error {
	if err := w.z.Close(); err != nil {
		return err
	}
	header, err := json.Marshal(indexHeader{indexFormat, run, t.entries, t.bytes})
	if err != nil {
		return err
	}
	if len(header) >= headerLen {
		return fmt.Errorf("the id of the run is too long: %q", run)
	}
	padded := fmt.Sprintf("%-*s\n", headerLen-1, header)
	if _, err := w.f.WriteAt([]byte(padded), 0); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	if err := w.f.Close(); err != nil {
		return err
	}
	return os.Rename(w.name+".tmp", w.name)
}

// abandon removes what was written, unless it is finished, or another has begun.
func (w *indexWriter) abandon() {
	info, err := w.f.Stat()
	if err != nil {
		return // it is finished
	}
	w.f.Close()
	if now, err := os.Lstat(w.name + ".tmp"); err == nil && os.SameFile(info, now) {
		_ = os.Remove(w.name + ".tmp")
	}
}

// An indexReader reads an index.
type indexReader struct {
	total total
	name  string
	f     io.Closer
	z     *zstd.Decoder
	r     *bufio.Reader
	last  string
	left  int64
}

func openIndex(name string) (*indexReader, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	x, err := newIndexReader(name, f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return x, nil
}

func newIndexReader(name string, f io.ReadCloser) (*indexReader, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(packed.MaxWindow))
	if err != nil {
		return nil, err
	}
	return &indexReader{
		total: total{h.Entries, h.Bytes},
		name:  name, f: f, z: z, r: bufio.NewReader(z),
		left: h.Entries,
	}, nil
}

func readHeader(r io.Reader) (indexHeader, error) {
	var h indexHeader
	header := make([]byte, headerLen)
	if _, err := io.ReadFull(r, header); err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	if err := json.Unmarshal(header, &h); err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	if h.Format != indexFormat || h.Entries < 0 || h.Bytes < 0 {
		return h, fmt.Errorf("header: unknown format %d", h.Format)
	}
	return h, nil
}

// indexRun returns the id of the run that wrote an index.
func indexRun(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h, err := readHeader(f)
	return h.Run, err
}

// keepIndex makes next, an index of what has been released in this run, that of what was
// released last.
func keepIndex(index, next, run string) error {
	id, err := indexRun(next)
	if errors.Is(err, fs.ErrNotExist) {
		// Another such gate of the job may have been here.
		if id, err := indexRun(index); err == nil && id == run {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if id != run {
		return fmt.Errorf("%s is of run %s, not of %s", next, id, run)
	}
	return os.Rename(next, index)
}

// next returns the next entry, io.EOF after the last.
func (r *indexReader) next() (entry, error) {
	if r.left == 0 {
		return entry{}, io.EOF
	}
	var number [2]uint64
	for i := range number {
		n, err := binary.ReadUvarint(r.r)
		if err != nil {
			return entry{}, r.broken(err)
		}
		number[i] = n
	}
	keep, more := number[0], number[1]
	if keep > uint64(len(r.last)) || more > maxNameLen-keep {
		return entry{}, r.broken(errors.New("no such name"))
	}
	rest := make([]byte, more)
	if _, err := io.ReadFull(r.r, rest); err != nil {
		return entry{}, r.broken(err)
	}
	size, err := binary.ReadUvarint(r.r)
	if err == nil && size > math.MaxInt64 {
		err = errors.New("no such size")
	}
	if err != nil {
		return entry{}, r.broken(err)
	}
	e := entry{r.last[:keep] + string(rest), int64(size)}
	if compareNames(e.name, r.last) <= 0 {
		return entry{}, r.broken(errors.New("out of order"))
	}
	r.last = e.name
	r.left--
	return e, nil
}

func (r *indexReader) broken(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: %w", r.name, err)
}

func (r *indexReader) close() {
	r.z.Close()
	r.f.Close()
}

// compareNames is the order of a walk: a directory, what is in it, and then what
// comes after it.
func compareNames(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			switch {
			case a[i] == '/':
				return -1
			case b[i] == '/':
				return 1
			case a[i] < b[i]:
				return -1
			}
			return 1
		}
	}
	return strings.Compare(a[n:], b[n:])
}
