package httpcond

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// Range is a part of what is to be sent.
type Range struct {
	Start  int64 // offset of its first byte
	Length int64 // in bytes, 1 at least
}

// ContentRange is the value of Content-Range for a part of size bytes.
func (r Range) ContentRange(size int64) string {
	b := make([]byte, 0, 64)
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, r.Start, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, r.Start+r.Length-1, 10)
	b = append(b, '/')
	return string(strconv.AppendInt(b, size, 10))
}

// Unsatisfied is the value of Content-Range in a response with status 416.
func Unsatisfied(size int64) string { return "bytes */" + strconv.FormatInt(size, 10) }

// maxRanges is how many ranges a request may have: as many as dnf asks for at a
// time. Whoever wants more is sent the whole.
const maxRanges = 256

// parseRange tells how to answer a Range field for what has size bytes. It gives
// 200 as well where ranges would save nothing: when they are longer together than
// the whole.
func parseRange(lines []string, size int64) (status int, ranges []Range) {
	unit, set, ok := strings.Cut(trim(strings.Join(lines, ",")), "=")
	if !ok {
		return http.StatusRequestedRangeNotSatisfiable, nil
	}
	if !strings.EqualFold(unit, "bytes") {
		return http.StatusOK, nil // to be ignored (section 14.2)
	}
	var total int64
	var specs int
	for spec := range strings.SplitSeq(set, ",") {
		if spec = trim(spec); spec == "" {
			continue
		}
		r, err := parseSpec(spec, size)
		if err != nil {
			return http.StatusRequestedRangeNotSatisfiable, nil
		}
		specs++
		total += r.Length
		if specs > maxRanges || total > size {
			return http.StatusOK, nil
		}
		if r.Length > 0 {
			ranges = append(ranges, r)
		}
	}
	if len(ranges) == 0 {
		return http.StatusRequestedRangeNotSatisfiable, nil
	}
	return http.StatusPartialContent, ranges
}

var errSpec = errors.New("not a range")

// parseSpec parses a range of bytes (section 14.1.2), cut to size. Its length is
// 0 if nothing of it is there.
func parseSpec(spec string, size int64) (Range, error) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok || first == "" && last == "" {
		return Range{}, errSpec
	}
	if first == "" {
		n, err := position(last)
		n = min(n, size)
		return Range{size - n, n}, err
	}
	start, err := position(first)
	if err != nil {
		return Range{}, err
	}
	end := int64(math.MaxInt64)
	if last != "" {
		if end, err = position(last); err != nil {
			return Range{}, err
		}
		if end < start {
			return Range{}, errSpec
		}
	}
	if start >= size {
		return Range{}, nil
	}
	return Range{start, min(end, size-1) - start + 1}, nil
}

// position parses digits. What is larger than any file is as large as can be.
func position(s string) (int64, error) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, errSpec
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt64, nil
	}
	return n, err
}
