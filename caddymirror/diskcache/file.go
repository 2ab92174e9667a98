package diskcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An entry's file is
//
//	header   64 bytes, see below
//	meta     a line of JSON, so that a person can read it with head; it ends in
//	         spaces, which are room for it to grow
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
//	48  4  CRC-32C of bytes 0 to 27 and 32 to 47
//	52 12  reserved, 0
//
// The header is written last: a file without one is not an entry. Bytes 32 to
// 51 are written again when the object was validated; torn, they mean that it
// never was. Header and meta are written again when the metadata has changed, in
// as many bytes as before; torn, they mean that the file is not an entry any more.
// The CRC at 48 is over that of meta too: no metadata is taken for validated
// because other metadata was.
//
// Files of version 1 differ in their magic, in that a header field has one value
// in meta, a string, and in that the CRC at 48 is of bytes 32 to 47. They are read
// as they are, and become files of this version when their metadata changes.
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

func encodeHeader(meta []byte, size int64, fresh Freshness) []byte {
	h := make([]byte, headerLen)
	copy(h, magic)
	binary.BigEndian.PutUint32(h[8:], uint32(len(meta)))
	binary.BigEndian.PutUint32(h[12:], crc32.Checksum(meta, castagnoli))
	binary.BigEndian.PutUint64(h[16:], uint64(size))
	binary.BigEndian.PutUint32(h[28:], crc32.Checksum(h[:28], castagnoli))
	copy(h[freshOff:], encodeFreshness(h, fresh))
	return h
}

// encodeFreshness is bytes 32 to 51 of a header. They are 0 for a time that is.
func encodeFreshness(header []byte, f Freshness) []byte {
	b := make([]byte, freshLen)
	if f.At.IsZero() {
		return b
	}
	binary.BigEndian.PutUint64(b, uint64(f.At.UnixMilli()))
	binary.BigEndian.PutUint64(b[8:], f.Release)
	binary.BigEndian.PutUint32(b[16:], freshnessSum(header, b))
	return b
}

// freshnessSum is the checksum in bytes 32 to 51 of a header, which are b.
func freshnessSum(header, b []byte) uint32 {
	var sum uint32
	if string(header[:8]) != magicV1 {
		sum = crc32.Checksum(header[:28], castagnoli)
	}
	return crc32.Update(sum, castagnoli, b[:16])
}

func decodeFreshness(header []byte) Freshness {
	b := header[freshOff : freshOff+freshLen]
	if freshnessSum(header, b) != binary.BigEndian.Uint32(b[16:]) {
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
	buf := make([]byte, min(size, 2048))
	if _, err := f.ReadAt(buf, 0); err != nil && err != io.EOF {
		return nil, readError(err)
	}
	metaLen, body, err := readHeader(buf, size)
	if err != nil {
		return nil, err
	}
	c := &contents{fresh: decodeFreshness(buf), bodyOff: headerLen + metaLen}
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

// readHeader makes sure that b begins with the header of a file of size bytes, and
// reads the lengths of its metadata and body.
func readHeader(b []byte, size int64) (meta, body int64, err error) {
	if len(b) < headerLen || string(b[:8]) != magic && string(b[:8]) != magicV1 {
		return 0, 0, fmt.Errorf("%w: no header", errCorrupt)
	}
	if crc32.Checksum(b[:28], castagnoli) != binary.BigEndian.Uint32(b[28:]) {
		return 0, 0, fmt.Errorf("%w: header", errCorrupt)
	}
	meta, body = int64(binary.BigEndian.Uint32(b[8:])), int64(binary.BigEndian.Uint64(b[16:]))
	if meta > maxMeta || body < 0 || body > size || fileLen(meta, body) != size {
		return 0, 0, fmt.Errorf("%w: file of %d bytes for metadata of %d and body of %d", errCorrupt, size, meta, body)
	}
	return meta, body, nil
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

// openObject opens the file of an entry.
func openObject(path string, flag int) (*sysFile, fs.FileInfo, error) {
	// Not to hang in a FIFO, nor to leave the directory by a symlink.
	f, err := sysOpen(path, flag|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) {
		err = errNotFile
	}
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errNotFile
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// openFile opens and reads the file of an entry, and checks whose it is.
func openFile(path string, key *Key, wantID id) (*sysFile, *contents, fs.FileInfo, error) {
	f, fi, err := openObject(path, os.O_RDONLY)
	if err != nil {
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
