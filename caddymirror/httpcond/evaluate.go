package httpcond

import (
	"net/http"
	"time"
)

// Validators are what a response says of its version (RFC 9110 section 8.8).
type Validators struct {
	// ETag is the entity tag: quotes included, W/ in front if it is weak. Empty:
	// there is none.
	ETag string

	// Modified is Last-Modified. Zero: there is none.
	Modified time.Time

	// DateStrong says that no other version has Modified within the same second,
	// as far as can be known (section 8.8.2.2). If it is false, a client that sends
	// this very second may have other bytes: then it is sent the whole, and not
	// told that nothing has changed.
	DateStrong bool

	// DateShared says that Modified is also the date of other encodings of the same
	// version. That is no matter for whoever has the whole, but a part of one
	// encoding cannot be completed by another: If-Range then needs an ETag.
	DateShared bool
}

// Conditional reports whether a request asks for something else than the whole
// under some conditions, so that it is worth a call to Evaluate.
func Conditional(h http.Header) bool {
	for _, field := range [...]string{"Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		if len(h[field]) > 0 {
			return true
		}
	}
	return false // If-Range means nothing without Range
}

// Evaluate tells how to answer a GET or HEAD of what has these validators and
// this size, -1 if that is not known:
//
//   - 200: with the whole
//   - 206: with these ranges, one at least
//   - 304: the client has it
//   - 412: a precondition failed
//   - 416: no range lies within size, or the field cannot be understood
//
// Fields are looked at in the order of RFC 9110 section 13.2.2.
func Evaluate(method string, h http.Header, v Validators, size int64) (status int, ranges []Range) {
	if failed(h, v) {
		return http.StatusPreconditionFailed, nil
	}
	if unchanged(h, v) {
		return http.StatusNotModified, nil
	}
	// No other method knows ranges (section 14.2), and nothing has no parts.
	if method != http.MethodGet || size <= 0 || len(h["Range"]) == 0 || !inRange(h["If-Range"], v) {
		return http.StatusOK, nil
	}
	return parseRange(h["Range"], size)
}

// failed reports whether If-Match or, without it, If-Unmodified-Since is false.
func failed(h http.Header, v Validators) bool {
	if lines := h["If-Match"]; len(lines) > 0 {
		return !isStar(lines) && !matches(lines, v.ETag, strongMatch)
	}
	t, ok := date(h["If-Unmodified-Since"])
	if !ok || v.Modified.IsZero() {
		return false
	}
	since := v.Modified.Unix() - t.Unix()
	return since > 0 || since == 0 && !v.DateStrong
}

// unchanged reports whether If-None-Match or, without it, If-Modified-Since is
// false: the client has this version.
func unchanged(h http.Header, v Validators) bool {
	if lines := h["If-None-Match"]; len(lines) > 0 {
		return isStar(lines) || matches(lines, v.ETag, weakMatch)
	}
	t, ok := date(h["If-Modified-Since"])
	if !ok || v.Modified.IsZero() {
		return false
	}
	since := v.Modified.Unix() - t.Unix()
	return since < 0 || since == 0 && v.DateStrong
}

// inRange reports whether If-Range, if there is one, is true: the client has a
// part of the very bytes that it would get another part of.
func inRange(lines []string, v Validators) bool {
	switch {
	case len(lines) == 0:
		return true
	case len(lines) > 1:
		return false
	}
	value := trim(lines[0])
	if tag, rest, ok := cutTag(value); ok {
		return rest == "" && v.ETag != "" && strongMatch(tag, v.ETag)
	}
	t, ok := date(lines)
	return ok && v.DateStrong && !v.DateShared && !v.Modified.IsZero() && v.Modified.Unix() == t.Unix()
}

// date is the value of a field with a date. What is no date, or more than one,
// is no condition (sections 13.1.3, 13.1.4).
func date(lines []string) (t time.Time, ok bool) {
	if len(lines) != 1 {
		return t, false
	}
	t, err := http.ParseTime(trim(lines[0]))
	return t, err == nil
}
