package freshness

import (
	"net/http"
	"time"
)

// Failed reports whether a status says no more than that the upstream could not answer,
// so that an entry may answer in its place if it may be used stale: any 5xx (RFC 9111
// section 4.3.3), and 429, which is about who asks and not about what is asked for (RFC
// 6585 section 4).
func Failed(status int) bool { return status >= 500 || status == http.StatusTooManyRequests }

// RetryAfter is how long an upstream asks not to be asked again (RFC 9110 section
// 10.2.3), counted from when its response came. Not ok: it does not say so, or not in a
// way that can be read.
func RetryAfter(resp Response) (d time.Duration, ok bool) {
	lines := resp.Header["Retry-After"]
	if len(lines) == 0 {
		return 0, false
	}
	if d, ok = parseDelta(trim(lines[0])); ok {
		return d, true
	}
	t, ok := parseDate(lines[0])
	if !ok {
		return 0, false
	}
	return clamp(t.Sub(resp.date())), true // by the clock of the upstream
}
