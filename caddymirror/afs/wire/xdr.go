// Package wire is what is said over Rx and what is kept in AFS files: requests,
// replies, error codes, directories and mount points, byte for byte.
//
// It does no input or output. XxxRequest returns what is sent as a call,
// DecodeXxx reads the reply to it. Decoders trust nothing: whatever the bytes,
// they return a value or a [FormatError], and allocate no more than a small
// multiple of what they were given. Requests are not checked, the servers do so.
//
// XxxReplySize says how large the reply to Xxx is, or can get: a reply buffer of
// that size always suffices.
package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Services are numbers of Rx services, each with the UDP port it is found at.
// Callbacks come from the file server's port to wherever its client calls from.
const (
	ServiceCallback = 1
	ServiceFile     = 1
	ServiceVolume   = 4
	ServiceLocation = 52

	PortFile     = 7000
	PortLocation = 7003
	PortVolume   = 7005
)

// FormatError says that bytes are not what they should be. The peer is broken,
// or is no AFS server, or the bytes were damaged on their way.
type FormatError struct {
	What    string // e.g. "FetchStatus reply", "directory"
	Problem string // e.g. "cut short: 96 bytes, 24 missing"
}

func (e *FormatError) Error() string { return "malformed " + e.What + ": " + e.Problem }

// decoder reads XDR (RFC 4506) and remembers the first thing that was wrong;
// from then on it reads zeroes.
type decoder struct {
	what string
	b    []byte
	off  int
	err  *FormatError
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = &FormatError{What: d.what, Problem: fmt.Sprintf(format, args...)}
	}
}

// rest is how many bytes are left.
func (d *decoder) rest() int { return len(d.b) - d.off }

// take returns the next n bytes, or nil when there are fewer.
func (d *decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > d.rest() {
		d.fail("cut short: %d bytes, %d missing", len(d.b), n-d.rest())
		return nil
	}
	d.off += n
	return d.b[d.off-n : d.off : d.off]
}

func (d *decoder) skip(n int) { d.take(n) }

func (d *decoder) u32() uint32 {
	b := d.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (d *decoder) u64() uint64 {
	hi := d.u32()
	return uint64(hi)<<32 | uint64(d.u32())
}

// time reads seconds, as unsigned: that lasts until 2106.
func (d *decoder) time() time.Time { return time.Unix(int64(d.u32()), 0) }

// date is time where 0 means never.
func (d *decoder) date() time.Time { return date(d.u32()) }

// count reads the length of an array whose elements take size bytes each, and
// refuses more than limit or than can be there, so that it is safe to allocate.
func (d *decoder) count(limit uint32, size int) int {
	n := d.u32()
	switch {
	case n > limit:
		d.fail("array of %d elements, at most %d can be", n, limit)
	case int(n)*size > d.rest():
		d.fail("array of %d elements, %d bytes left", n, d.rest())
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

// opaque reads bytes preceded by their length and padded to words.
func (d *decoder) opaque(limit uint32) []byte {
	n := d.count(limit, 1)
	b := d.take(n)
	d.skip(-n & 3)
	return b
}

func (d *decoder) str(limit uint32) string { return string(d.opaque(limit)) }

// chars reads a char[n] with a word for each character, which ends with a NUL.
func (d *decoder) chars(n int) string {
	b := d.take(4 * n)
	if b == nil {
		return ""
	}
	s := make([]byte, 0, n)
	for ; len(b) > 0; b = b[4:] {
		if b[3] == 0 {
			return string(s)
		}
		s = append(s, b[3]) // the rest is a sign, or nothing
	}
	d.fail("name %q without an end", s)
	return ""
}

// end is the error of it all. What is left over is one, too.
func (d *decoder) end() error {
	if d.err == nil && d.rest() > 0 {
		d.fail("%d bytes more than the %d expected", d.rest(), d.off)
	}
	if d.err == nil {
		return nil // not a nil *FormatError
	}
	return d.err
}

// call starts a request: the opcode, and as many words as the arguments have.
func call(op uint32, args ...uint32) []byte {
	b := make([]byte, 0, 4+4*len(args))
	return appendWords(binary.BigEndian.AppendUint32(b, op), args...)
}

func appendWords(b []byte, words ...uint32) []byte {
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func appendInt64(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(v))
}

func appendString[S string | []byte](b []byte, s S) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	b = append(b, s...)
	return append(b, make([]byte, -len(s)&3)...)
}

func date(sec uint32) time.Time {
	if sec == 0 {
		return time.Time{}
	}
	return time.Unix(int64(sec), 0)
}
