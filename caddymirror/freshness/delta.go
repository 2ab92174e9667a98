package freshness

import (
	"net/http"
	"strings"
	"time"
)

// Forever is the longest lifetime, 2^31 seconds or 68 years: what is longer, or does
// not fit a number, counts as that (RFC 9111 section 1.2.2).
const Forever = forever * time.Second

const forever = 1 << 31 // seconds

// A Delta is the argument of a directive in seconds, if there is one.
type Delta struct {
	Value time.Duration // from 0 to Forever
	Set   bool
}

// parseDelta reads delta-seconds (RFC 9111 section 1.2.2): digits, and nothing else.
func parseDelta(s string) (d time.Duration, ok bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), forever) // no step can overflow
	}
	return time.Duration(n) * time.Second, true
}

// ageValue is the Age of a response: the first of several, and 0 if that is no number
// (RFC 9111 section 5.1).
func ageValue(h http.Header) time.Duration {
	lines := h["Age"]
	if len(lines) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(lines[0], ",")
	d, _ := parseDelta(trim(first))
	return d
}

// dateOf is the value of a field with a date (RFC 9110 section 5.6.7): of several lines
// that of the first.
func dateOf(h http.Header, field string) (t time.Time, ok bool) {
	lines := h[field]
	if len(lines) == 0 {
		return t, false
	}
	return parseDate(lines[0])
}

// parseDate reads an HTTP-date. Another zone than GMT makes it invalid, and case
// does not matter (RFC 9111 section 4.2).
func parseDate(s string) (t time.Time, ok bool) {
	s = trim(s)
	for _, layout := range [...]string{http.TimeFormat, time.RFC850, time.ANSIC} {
		if layout != time.ANSIC {
			if i := len(s) - len("GMT"); i < 0 || !strings.EqualFold(s[i:], "GMT") {
				continue
			} else if s[i:] != "GMT" {
				s = s[:i] + "GMT"
			}
		}
		if t, err := time.ParseInLocation(layout, s, time.UTC); err == nil {
			return t.UTC(), true
		}
	}
	return t, false
}

// clamp keeps a duration between 0 and Forever.
func clamp(d time.Duration) time.Duration { return min(max(d, 0), Forever) }
