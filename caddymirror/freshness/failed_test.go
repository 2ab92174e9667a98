package freshness

import (
	"testing"
	"time"
)

// TestFailed_4_3_3 is RFC 9111 section 4.3.3, with RFC 6585 section 4.
func TestFailed_4_3_3(t *testing.T) {
	for status, want := range map[int]bool{
		200: false, 206: false, 301: false, 304: false, 400: false, 403: false, 404: false, 410: false, 428: false, 430: false, 499: false,
		429: true, 500: true, 502: true, 503: true, 504: true, 521: true, 599: true,
	} {
		if Failed(status) != want {
			t.Errorf("%d: %v", status, !want)
		}
	}
}

// TestRetryAfter_RFC9110_10_2_3 is RFC 9110 section 10.2.3.
func TestRetryAfter_RFC9110_10_2_3(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lines []string
		want  time.Duration
		ok    bool
	}{
		{"nothing", nil, 0, false},
		{"seconds", []string{"Retry-After: 120"}, 2 * time.Minute, true},
		{"zero", []string{"Retry-After: 0"}, 0, true},
		{"white space", []string{"Retry-After:  5 "}, 5 * time.Second, true},
		{"date", []string{"Date: " + stamp(0), "Retry-After: " + stamp(30)}, 30 * time.Second, true},
		{"date, by another clock", []string{"Date: " + stamp(-3600), "Retry-After: " + stamp(-3590)}, 10 * time.Second, true},
		{"date without Date", []string{"Retry-After: " + stamp(30)}, 30 * time.Second, true},
		{"date in the past", []string{"Date: " + stamp(0), "Retry-After: " + stamp(-30)}, 0, true},
		{"too large", []string{"Retry-After: 99999999999999999999"}, Forever, true},
		{"date, decades off", []string{"Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"}, Forever, true},
		{"negative", []string{"Retry-After: -1"}, 0, false},
		{"words", []string{"Retry-After: soon"}, 0, false},
		{"the first of two", []string{"Retry-After: 5", "Retry-After: 50"}, 5 * time.Second, true},
	} {
		if got, ok := RetryAfter(reply(429, tc.lines...)); got != tc.want || ok != tc.ok {
			t.Errorf("%s: %v %v, want %v %v", tc.name, got, ok, tc.want, tc.ok)
		}
	}
}
