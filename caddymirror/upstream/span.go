package upstream

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
)

// A span is which bytes of a representation a response has: from start up to but not
// including end, of size. -1: not known.
type span struct{ start, end, size int64 }

// spanOf reads a response to r. What was not asked for, and what contradicts itself, is an
// error: a part must never be taken for the whole.
func spanOf(r Request, resp *http.Response) (span, error) {
	h := resp.Header
	switch resp.StatusCode {
	case http.StatusPartialContent:
		return partSpan(r, resp)
	case http.StatusNotModified:
		if len(r.Conditions) == 0 {
			return span{}, errors.New("status 304, and no condition was sent")
		}
		return span{0, 0, -1}, nil
	case http.StatusRequestedRangeNotSatisfiable:
		return span{0, resp.ContentLength, unsatisfied(h)}, nil
	}
	if resp.StatusCode < http.StatusOK {
		return span{}, fmt.Errorf("status %d, which was not asked for", resp.StatusCode)
	}
	if lines := h["Content-Range"]; len(lines) > 0 && resp.StatusCode == http.StatusOK {
		start, end, size, ok := freshness.ParseContentRange(lines)
		if !ok || start != 0 || end != size || resp.ContentLength >= 0 && resp.ContentLength != size {
			return span{}, fmt.Errorf("status 200 with Content-Range %q", lines)
		}
	}
	return span{0, resp.ContentLength, resp.ContentLength}, nil
}

func partSpan(r Request, resp *http.Response) (span, error) {
	if !r.ranged() {
		return span{}, errors.New("status 206, and no range was asked for")
	}
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t == "multipart/byteranges" {
		return span{}, errors.New("status 206 with several ranges, and one was asked for")
	}
	lines := resp.Header["Content-Range"]
	start, end, size, ok := freshness.ParseContentRange(lines)
	if !ok {
		return span{}, fmt.Errorf("status 206 with Content-Range %q", lines)
	}
	s := span{start, end, size}
	switch {
	case resp.ContentLength >= 0 && resp.ContentLength != end-start && resp.Request.Method != http.MethodHead:
		return s, fmt.Errorf("Content-Range %q with Content-Length %d", lines, resp.ContentLength)
	case r.Offset >= 0 && (start != r.Offset || r.Length > 0 && end-start > r.Length),
		r.Offset < 0 && (end-start > -r.Offset || end != size):
		return s, fmt.Errorf("Content-Range %q, and %s was asked for", lines, r.rangeField())
	}
	if v := freshness.StrongValidator(resp.Header); r.Only != "" && v != r.Only {
		return s, fmt.Errorf("status 206 of version %q, and only %q was asked for", v, r.Only)
	}
	return s, nil
}

// unsatisfied is the size that a 416 tells (RFC 9110 section 15.5.17), or -1.
func unsatisfied(h http.Header) int64 {
	const prefix = "bytes */"
	value := h.Get("Content-Range")
	if len(value) <= len(prefix) || value[:len(prefix)] != prefix {
		return -1
	}
	n, err := strconv.ParseUint(value[len(prefix):], 10, 63)
	if err != nil {
		return -1
	}
	return int64(n)
}
