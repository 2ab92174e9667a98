package freshness

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// A Part is a piece of a body, of which all bytes are those of one version (RFC 9111
// sections 3.3, 3.4).
type Part struct {
	Validator  string // strong, as StrongValidator has it: for If-Range
	Start, End int64  // the bytes from Start on, up to but not including End; -1: to the end of a body of unknown size
	Size       int64  // of the whole body, -1 if that is not known
}

// ParsePart is the part that a 200 or 206 announces. It is none without a strong
// validator, since what other part belongs to it could not be told; nor are several
// ranges in one response, or lengths that contradict each other.
func ParsePart(status int, h http.Header) (Part, bool) {
	p := Part{Validator: StrongValidator(h), End: -1, Size: -1}
	if p.Validator == "" {
		return Part{}, false
	}
	length, ok := contentLength(h)
	if !ok {
		return Part{}, false
	}
	switch status {
	case http.StatusOK:
		p.End, p.Size = length, length
		return p, true
	case http.StatusPartialContent:
		if t, _, _ := mime.ParseMediaType(h.Get("Content-Type")); t == "multipart/byteranges" {
			return Part{}, false
		}
		p.Start, p.End, p.Size, ok = ParseContentRange(h["Content-Range"])
		return p, ok && (length < 0 || length == p.End-p.Start)
	}
	return Part{}, false
}

// contentLength is -1 if there is none; what is no length is not ok.
func contentLength(h http.Header) (n int64, ok bool) {
	switch lines := h["Content-Length"]; len(lines) {
	case 0:
		return -1, true
	case 1:
		return parseSize(trim(lines[0]))
	}
	return 0, false
}

// ParseContentRange reads the lines of Content-Range of a 206 (RFC 9110 section 14.4): the
// bytes from start up to but not including end, of size bytes, -1 if that is not known.
func ParseContentRange(lines []string) (start, end, size int64, ok bool) {
	if len(lines) != 1 {
		return 0, 0, 0, false
	}
	unit, rest, _ := strings.Cut(trim(lines[0]), " ")
	span, total, ok := strings.Cut(trim(rest), "/")
	first, last, dash := strings.Cut(span, "-")
	if !ok || !dash || !strings.EqualFold(unit, "bytes") {
		return 0, 0, 0, false
	}
	size = -1
	if total != "*" {
		if size, ok = parseSize(total); !ok {
			return 0, 0, 0, false
		}
	}
	start, ok1 := parseSize(first)
	end, ok2 := parseSize(last)
	end++
	return start, end, size, ok1 && ok2 && start < end && (size < 0 || end <= size)
}

// parseSize reads a number of bytes: digits, of which one more can be counted.
func parseSize(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n+1 > 0
}

// Received is the part of which n bytes came (RFC 9111 section 3.3). It is none if these
// are no bytes at all, or more than were announced.
func (p Part) Received(n int64) (Part, bool) {
	if n <= 0 || p.End >= 0 && n > p.End-p.Start {
		return Part{}, false
	}
	p.End = p.Start + n
	return p, true
}

// Complete reports whether the part is the whole body.
func (p Part) Complete() bool { return p.Start == 0 && p.End >= 0 && p.End == p.Size }

// Covers reports whether the bytes from start up to but not including end lie within the
// part.
func (p Part) Covers(start, end int64) bool {
	return p.Start <= start && start < end && end <= p.End
}

// Combine joins two parts of one version that overlap or touch (RFC 9111 section 3.4).
func (p Part) Combine(q Part) (Part, bool) {
	known := p.End >= 0 && q.End >= 0
	sameSize := p.Size < 0 || q.Size < 0 || p.Size == q.Size
	if p.Validator == "" || p.Validator != q.Validator || !known || !sameSize || p.Start > q.End || q.Start > p.End {
		return Part{}, false
	}
	joined := Part{p.Validator, min(p.Start, q.Start), max(p.End, q.End), max(p.Size, q.Size)}
	return joined, joined.Size < 0 || joined.End <= joined.Size
}

// WholeHeader is the header of a body that was put together, from that of one of its
// parts, as updated by the others ([Policy.Update]). It goes with status 200 (RFC 9110
// section 15.3.7.3).
func WholeHeader(part http.Header, size int64) http.Header {
	h := part.Clone()
	delete(h, "Content-Range")
	h["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	return h
}
