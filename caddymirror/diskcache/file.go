package diskcache

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// An entry's file is
//
//	header   64 bytes, see below
//	meta     JSON, so that a person can read it with head
//	body     the object's bytes
//	sums     CRC-32C of each block of the body, 4 bytes each
//	sum      CRC-32C of sums
//
// and the header, all integers big-endian,
//
//	 0  8  magic
//	 8  4  length of meta
//	12  4  CRC-32C of meta
//	16  8  length of body
//	24  4  reserved, 0
//	28  4  CRC-32C of bytes 0 to 27
//	32  8  when the object was last validated, Unix milliseconds
//	40  8  release token (hashed) that it was valid in
//	48  4  CRC-32C of bytes 32 to 47
//	52 12  reserved, 0
//
// Files of version 1 differ in their magic, and in that a header field has one
// value in meta, a string. They are read as they are.
//
// The header is written last: a file without one is not an entry. Bytes 32 to
// 51 are written again when the object was validated; torn, they mean that it
// never was.
const (
	magic     = "cmirror2"
	magicV1   = "cmirror1"
	headerLen = 64
	freshOff  = 32
	freshLen  = 20

	// blockSize is how much is verified at a time: the first byte of a large
	// object waits for this much, and not for all of it.
	blockSize = 1 << 20

	maxMeta = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errCorrupt says that a file is not the entry that it was written as.
var errCorrupt = errors.New("corrupt cache file")

var errNotFile = fmt.Errorf("%w: not a file", errCorrupt)

// Meta is what is stored with an object's bytes.
type Meta struct {
	// Size of the body in bytes; in Fill.Start, -1 if it is not known yet.
	Size int64 `json:"-"` // the file's header has it

	// ModTime is when the object last changed.
	ModTime time.Time `json:"mod_time,omitzero"`

	// DateWeak says that another version has, or may have, a ModTime within the
	// same second, which is all that HTTP tells of it.
	DateWeak bool `json:"date_weak,omitempty"`

	// Validator tells two versions of the object apart; empty if nothing can.
	Validator string `json:"validator,omitempty"`

	// Header holds fields to be served with the object, by canonical name: the
	// values of each field's lines, in order.
	Header map[string][]string `json:"header,omitempty"`
}

// Get is the value of a field's first line, or empty. The name is canonical.
func (m *Meta) Get(name string) string {
	if lines := m.Header[name]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

type fileMeta struct {
	Key Key `json:"key"`
	Meta
}

// eachText replaces all strings that may be other than UTF-8.
func (m *fileMeta) eachText(f func(string) string) {
	for _, s := range []*string{&m.Key.Group, &m.Key.Name, &m.Validator} {
		*s = f(*s)
	}
	if m.Header == nil {
		return
	}
	header := make(map[string][]string, len(m.Header))
	for name, lines := range m.Header {
		lines = slices.Clone(lines)
		for n, line := range lines {
			lines[n] = f(line)
		}
		header[f(name)] = lines
	}
	m.Header = header
}

// decodeMeta reads metadata of the version that a file's magic tells.
func decodeMeta(magic string, b []byte) (m fileMeta, err error) {
	if magic == magicV1 {
		return decodeMetaV1(b)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, err
	}
	m.eachText(fromUTF8)
	return m, nil
}

// decodeMetaV1 reads metadata whose fields have one line each.
func decodeMetaV1(b []byte) (m fileMeta, err error) {
	v1 := struct {
		*fileMeta
		Header map[string]string `json:"header"`
	}{fileMeta: &m}
	if err := json.Unmarshal(b, &v1); err != nil {
		return m, err
	}
	m.eachText(fromUTF8)
	for name, value := range v1.Header {
		if m.Header == nil {
			m.Header = make(map[string][]string, len(v1.Header))
		}
		m.Header[name] = []string{fromUTF8(value)}
	}
	return m, nil
}

// JSON has no strings but UTF-8. Others are stored as Go writes them in
// programs, behind a mark.
const quoteMark = "\uFFFD"

func toUTF8(s string) string {
	if utf8.ValidString(s) && !strings.HasPrefix(s, quoteMark) {
		return s
	}
	return quoteMark + strconv.Quote(s)
}

func fromUTF8(s string) string {
	quoted, ok := strings.CutPrefix(s, quoteMark)
	if !ok {
		return s
	}
	s, _ = strconv.Unquote(quoted) // toUTF8 has written it
	return s
}

// Freshness is when, and in which release of its origin, an object was last
// known to be current.
type Freshness struct {
	At      time.Time
	Release uint64 // hashed token; 0 for none
}

func blocks(size int64) int64 { return (size + blockSize - 1) / blockSize }

func trailerLen(size int64) int64 { return 4*blocks(size) + 4 }

// fileLen is the length of the file of a body of size bytes.
func fileLen(metaLen, size int64) int64 {
	return headerLen + metaLen + size + trailerLen(size)
}

func encodeMeta(key Key, m Meta) ([]byte, error) {
	fm := fileMeta{key, m}
	fm.eachText(toUTF8)
	b, err := json.Marshal(fm)
	if err != nil {
		return nil, err
	}
	if len(b) > maxMeta {
		return nil, fmt.Errorf("metadata of %d bytes", len(b))
	}
	return append(b, '\n'), nil
}

func encodeHeader(meta []byte, size int64, fresh Freshness) []byte {
	h := make([]byte, headerLen)
	copy(h, magic)
	binary.BigEndian.PutUint32(h[8:], uint32(len(meta)))
	binary.BigEndian.PutUint32(h[12:], crc32.Checksum(meta, castagnoli))
	binary.BigEndian.PutUint64(h[16:], uint64(size))
	binary.BigEndian.PutUint32(h[28:], crc32.Checksum(h[:28], castagnoli))
	copy(h[freshOff:], encodeFreshness(fresh))
	return h
}

func encodeFreshness(f Freshness) []byte {
	b := make([]byte, freshLen)
	binary.BigEndian.PutUint64(b, uint64(f.At.UnixMilli()))
	binary.BigEndian.PutUint64(b[8:], f.Release)
	binary.BigEndian.PutUint32(b[16:], crc32.Checksum(b[:16], castagnoli))
	return b
}

func decodeFreshness(b []byte) Freshness {
	if crc32.Checksum(b[:16], castagnoli) != binary.BigEndian.Uint32(b[16:]) {
		return Freshness{}
	}
	return Freshness{
		At:      time.UnixMilli(int64(binary.BigEndian.Uint64(b))),
		Release: binary.BigEndian.Uint64(b[8:]),
	}
}

func encodeSums(sums []uint32) []byte {
	b := make([]byte, 0, 4*len(sums)+4)
	for _, s := range sums {
		b = binary.BigEndian.AppendUint32(b, s)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// contents is an entry's file, read but for its body.
type contents struct {
	meta    fileMeta
	fresh   Freshness
	bodyOff int64
	sums    []uint32
}

// readContents reads all but the body, and trusts nothing. size is the file's.
func readContents(f io.ReaderAt, size int64) (*contents, error) {
	// The first read gets header and meta of nearly every entry.
	buf := make([]byte, min(size, 1024))
	if _, err := f.ReadAt(buf, 0); err != nil && err != io.EOF {
		return nil, readError(err)
	}
	if len(buf) < headerLen || string(buf[:8]) != magic && string(buf[:8]) != magicV1 {
		return nil, fmt.Errorf("%w: no header", errCorrupt)
	}
	if crc32.Checksum(buf[:28], castagnoli) != binary.BigEndian.Uint32(buf[28:]) {
		return nil, fmt.Errorf("%w: header", errCorrupt)
	}
	metaLen := int64(binary.BigEndian.Uint32(buf[8:]))
	body := int64(binary.BigEndian.Uint64(buf[16:]))
	if metaLen > maxMeta || body < 0 || body > size || fileLen(metaLen, body) != size {
		return nil, fmt.Errorf("%w: file of %d bytes for metadata of %d and body of %d", errCorrupt, size, metaLen, body)
	}
	c := &contents{fresh: decodeFreshness(buf[freshOff:]), bodyOff: headerLen + metaLen}
	meta, err := section(f, buf, headerLen, metaLen)
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(meta, castagnoli) != binary.BigEndian.Uint32(buf[12:]) {
		return nil, fmt.Errorf("%w: metadata", errCorrupt)
	}
	if c.meta, err = decodeMeta(string(buf[:8]), meta); err != nil {
		return nil, fmt.Errorf("%w: metadata: %w", errCorrupt, err)
	}
	c.meta.Size = body
	trailer, err := section(f, buf, c.bodyOff+body, trailerLen(body))
	if err != nil {
		return nil, err
	}
	n := len(trailer) - 4
	if crc32.Checksum(trailer[:n], castagnoli) != binary.BigEndian.Uint32(trailer[n:]) {
		return nil, fmt.Errorf("%w: checksums", errCorrupt)
	}
	c.sums = make([]uint32, n/4)
	for i := range c.sums {
		c.sums[i] = binary.BigEndian.Uint32(trailer[4*i:])
	}
	return c, nil
}

// section is n bytes of f at off, out of buf if it has them.
func section(f io.ReaderAt, buf []byte, off, n int64) ([]byte, error) {
	if off+n <= int64(len(buf)) {
		return buf[off : off+n], nil
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		return nil, readError(err)
	}
	return b, nil
}

// readError judges an error of reading an entry's file: one that can be a
// matter of this file alone makes it corrupt.
func readError(err error) error {
	for _, e := range []error{io.EOF, unix.EIO, unix.EUCLEAN, unix.EBADMSG} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", errCorrupt, err)
		}
	}
	return err
}

// A file's permissions tell the segment of its entry: there is no file of mode
// 0700 but for protected entries. Nobody else comes to see them.
const (
	modeFile      fs.FileMode = 0o600
	modeProtected fs.FileMode = 0o700
)

// markOf is the segment that a file's mode tells of.
func markOf(mode fs.FileMode) segment {
	if mode.Perm()&0o100 != 0 {
		return protected
	}
	return probation
}

func modeOf(s segment) fs.FileMode {
	if s == protected {
		return modeProtected
	}
	return modeFile
}

// openFile opens and reads the file of an entry, and checks whose it is.
func openFile(path string, key *Key, wantID id) (*sysFile, *contents, fs.FileInfo, error) {
	// Not to hang in a FIFO, nor to leave the directory by a symlink.
	f, err := sysOpen(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, nil, nil, errNotFile
	}
	if err != nil {
		return nil, nil, nil, readError(err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errNotFile
	}
	if err != nil {
		f.Close()
		return nil, nil, nil, readError(err)
	}
	c, err := readContents(f, fi.Size())
	if err == nil && (key != nil && c.meta.Key != *key || c.meta.Key.id() != wantID) {
		err = fmt.Errorf("%w: it holds another key", errCorrupt)
	}
	if err != nil {
		f.Close()
		return nil, nil, nil, err
	}
	return f, c, fi, nil
}
