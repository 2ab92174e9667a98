package freshness

import (
	"fmt"
	"testing"
	"time"
)

// TestLifetime_4_2_1 is RFC 9111 sections 4.2.1, 4.2.2 and 5.3.
func TestLifetime_4_2_1(t *testing.T) {
	const hour = 3600
	date := "Date: " + stamp(0)
	cdn := Policy{Targets: []string{CDNCacheControl}}
	for _, tc := range []struct {
		name   string
		policy Policy
		status int
		lines  []string
		want   time.Duration
	}{
		{"nothing", Policy{}, 200, []string{date}, 0},
		{"s-maxage goes first", Policy{}, 200, []string{date, "Cache-Control: max-age=60, s-maxage=90", "Expires: " + stamp(30)}, 90 * time.Second},
		{"s-maxage goes first, shorter", Policy{}, 200, []string{date, "Cache-Control: max-age=60, s-maxage=0"}, 0},
		{"max-age goes before Expires", Policy{}, 200, []string{date, "Cache-Control: max-age=60", "Expires: " + stamp(hour)}, time.Minute},
		{"max-age=0 goes before Expires", Policy{}, 200, []string{date, "Cache-Control: max-age=0", "Expires: " + stamp(hour)}, 0},
		{"max-age goes before Expires that is none", Policy{}, 200, []string{date, "Cache-Control: max-age=60", "Expires: 0"}, time.Minute},
		{"max-age that is none is over", Policy{}, 200, []string{date, "Cache-Control: max-age=1h", "Expires: " + stamp(hour)}, 0},
		{"max-age, the largest", Policy{}, 200, []string{date, "Cache-Control: max-age=4294967296"}, Forever},

		{"Expires", Policy{}, 200, []string{date, "Expires: " + stamp(hour)}, time.Hour},
		{"Expires, of any status", Policy{}, 503, []string{date, "Expires: " + stamp(hour)}, time.Hour},
		{"Expires counts from Date", Policy{}, 200, []string{"Date: " + stamp(-hour), "Expires: " + stamp(0)}, time.Hour},
		{"Expires counts from Date, future", Policy{}, 200, []string{"Date: " + stamp(hour), "Expires: " + stamp(hour)}, 0},
		{"Expires without Date", Policy{}, 200, []string{"Expires: " + stamp(hour)}, time.Hour},
		{"Expires, Date is none", Policy{}, 200, []string{"Date: 0", "Expires: " + stamp(hour)}, time.Hour},
		{"Expires in the past", Policy{}, 200, []string{date, "Expires: " + stamp(-1)}, 0},
		{"Expires 0", Policy{}, 200, []string{date, "Expires: 0"}, 0},
		{"Expires -1", Policy{}, 200, []string{date, "Expires: -1"}, 0},
		{"Expires, empty", Policy{}, 200, []string{date, "Expires: "}, 0},
		{"Expires, a number", Policy{}, 200, []string{date, "Expires: 1795831200"}, 0},
		{"Expires, the first of two", Policy{}, 200, []string{date, "Expires: " + stamp(60), "Expires: " + stamp(hour)}, time.Minute},
		{"Expires, the first of two, none", Policy{}, 200, []string{date, "Expires: 0", "Expires: " + stamp(hour)}, 0},
		{"Expires, a list", Policy{}, 200, []string{date, "Expires: " + stamp(60) + ", " + stamp(60)}, 0},
		{"Expires forbids heuristics", Policy{}, 200, []string{date, "Expires: 0", "Last-Modified: " + stamp(-100*hour)}, 0},
		{"Expires, decades off", Policy{}, 200, []string{date, "Expires: Fri, 31 Dec 9999 23:59:59 GMT"}, Forever},
		{"Expires, decades ago", Policy{}, 200, []string{date, "Expires: Thu, 01 Jan 1970 00:00:00 GMT"}, 0},

		// 4.2: how dates are read
		{"date in other case", Policy{}, 200, []string{"Date: SAT, 28 NOV 2026 02:00:00 gmt", "Expires: sat, 28 nov 2026 03:00:00 gMT"}, time.Hour},
		{"date of RFC 850", Policy{}, 200, []string{date, "Expires: Saturday, 28-Nov-26 03:00:00 GMT"}, time.Hour},
		{"date of RFC 850, last century", Policy{}, 200, []string{date, "Expires: Saturday, 28-Nov-98 03:00:00 GMT"}, 0},
		{"date of asctime", Policy{}, 200, []string{date, "Expires: Sat Nov 28 03:00:00 2026"}, time.Hour},
		{"date in UTC", Policy{}, 200, []string{date, "Expires: Sat, 28 Nov 2026 03:00:00 UTC"}, 0},
		{"date of RFC 850 elsewhere", Policy{}, 200, []string{date, "Expires: Saturday, 28-Nov-26 03:00:00 EST"}, 0},
		{"date with offset", Policy{}, 200, []string{date, "Expires: Sat, 28 Nov 2026 03:00:00 +0000"}, 0},
		{"date with GMT and offset", Policy{}, 200, []string{date, "Expires: Saturday, 28-Nov-26 03:00:00 GMT+9"}, 0},
		{"date with dashes", Policy{}, 200, []string{date, "Expires: Sat, 28-Nov-2026 03:00:00 GMT"}, 0},
		{"date with dots", Policy{}, 200, []string{date, "Expires: Sat, 28 Nov 2026 03.00.00 GMT"}, 0},
		{"date with two digits of a year", Policy{}, 200, []string{date, "Expires: Sat, 28 Nov 26 03:00:00 GMT"}, 0},

		// 4.2.2
		{"heuristic", Policy{}, 200, []string{date, "Last-Modified: " + stamp(-10*hour)}, time.Hour},
		{"heuristic, no more than a day", Policy{}, 200, []string{date, "Last-Modified: " + stamp(-10000*hour)}, 24 * time.Hour},
		{"heuristic, since 1970", Policy{}, 200, []string{date, "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT"}, 24 * time.Hour},
		{"heuristic, since year 1", Policy{}, 200, []string{date, "Last-Modified: Mon, 01 Jan 0001 00:00:00 GMT"}, 24 * time.Hour},
		{"heuristic, bounded by the policy", Policy{MaxHeuristic: time.Minute}, 200, []string{date, "Last-Modified: " + stamp(-10*hour)}, time.Minute},
		{"heuristic, none by the policy", Policy{MaxHeuristic: -1}, 200, []string{date, "Last-Modified: " + stamp(-10*hour)}, 0},
		{"heuristic counts from Date", Policy{}, 200, []string{"Date: " + stamp(-5*hour), "Last-Modified: " + stamp(-10*hour)}, time.Hour / 2},
		{"heuristic without Date", Policy{}, 200, []string{"Last-Modified: " + stamp(-10*hour)}, time.Hour},
		{"heuristic, modified later", Policy{}, 200, []string{date, "Last-Modified: " + stamp(hour)}, 0},
		{"heuristic, no date", Policy{}, 200, []string{date, "Last-Modified: yesterday"}, 0},
		{"heuristic, 404", Policy{}, 404, []string{date, "Last-Modified: " + stamp(-10*hour)}, time.Hour},
		{"heuristic, not of 302", Policy{}, 302, []string{date, "Last-Modified: " + stamp(-10*hour)}, 0},
		{"heuristic, of 302 that is public", Policy{}, 302, []string{date, "Cache-Control: public", "Last-Modified: " + stamp(-10*hour)}, time.Hour},

		{"RFC 9213 2.2", cdn, 200, []string{date, "Cache-Control: max-age=1", "CDN-Cache-Control: max-age=60"}, time.Minute},
		{"RFC 9213 2.2 Expires means nothing", cdn, 200, []string{date, "Expires: " + stamp(60), "CDN-Cache-Control: none"}, 0},
		{"RFC 9213 2.1 malformed", cdn, 200, []string{date, "Expires: " + stamp(60), "CDN-Cache-Control: ,"}, time.Minute},
	} {
		resp := reply(tc.status, tc.lines...)
		if got := tc.policy.lifetime(resp, tc.policy.Directives(resp.Header)); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestAge_4_2_3 is RFC 9111 sections 4.2.3 and 5.1.
func TestAge_4_2_3(t *testing.T) {
	for _, tc := range []struct {
		name  string
		delay int // from the request to the response, in seconds
		lines []string
		want  int // initial age, in seconds
	}{
		{"nothing", 0, nil, 0},
		{"Date", 0, []string{"Date: " + stamp(-10)}, 10},
		{"Date in the future", 0, []string{"Date: " + stamp(1000)}, 0},
		{"Date that is none", 0, []string{"Date: now"}, 0},
		{"Date, the first of two", 0, []string{"Date: " + stamp(-5), "Date: " + stamp(-50)}, 5},
		{"Date, decades off", 0, []string{"Date: Thu, 01 Jan 1970 00:00:00 GMT"}, int(now.Unix())},
		{"Date, centuries off", 0, []string{"Date: Mon, 01 Jan 0001 00:00:00 GMT"}, int(Forever / time.Second)},
		{"Age", 0, []string{"Date: " + stamp(0), "Age: 7200"}, 7200},
		{"the larger of Age and Date", 0, []string{"Date: " + stamp(-30), "Age: 20"}, 30},
		{"Age counts from the request", 5, []string{"Date: " + stamp(0), "Age: 20"}, 25},
		{"without Age too", 5, []string{"Date: " + stamp(0)}, 5},
		{"Date does not", 5, []string{"Date: " + stamp(-20)}, 20},
		{"a clock that was set back", -5, []string{"Age: 20"}, 20},
		{"5.1 no number", 0, []string{"Age: abc"}, 0},
		{"5.1 negative", 0, []string{"Age: -7200"}, 0},
		{"5.1 fraction", 0, []string{"Age: 7200.0"}, 0},
		{"5.1 list", 0, []string{"Age: 7200,0"}, 7200},
		{"5.1 list, none in front", 0, []string{"Age: x, 7200"}, 0},
		{"5.1 list, zero in front", 0, []string{"Age: 0, 7200"}, 0},
		{"5.1 two lines", 0, []string{"Age: 7200", "Age: 0"}, 7200},
		{"5.1 two lines, zero in front", 0, []string{"Age: 0", "Age: 7200"}, 0},
		{"5.1 white space", 0, []string{"Age:  20\t"}, 20},
		{"1.2.2 too large", 5, []string{"Age: 99999999999999999999"}, int(Forever / time.Second)},
	} {
		resp := reply(200, tc.lines...)
		resp.RequestTime = at(-tc.delay)
		f := Policy{}.Freshness(resp)
		if got := f.Age(now); got != time.Duration(tc.want)*time.Second {
			t.Errorf("%s: %v, want %ds", tc.name, got, tc.want)
		}
		if want := min(time.Duration(tc.want+100)*time.Second, Forever); f.Age(at(100)) != want {
			t.Errorf("%s: after 100s %v, want %v", tc.name, f.Age(at(100)), want)
		}
	}
	unsent := reply(200, "Age: 5")
	unsent.RequestTime = time.Time{}
	f := Policy{}.Freshness(unsent)
	if got := f.Age(now); got != 5*time.Second {
		t.Errorf("time of the request not known: %v", got)
	}
	if got := f.Age(at(-100)); got != 0 {
		t.Errorf("before it was made: %v", got)
	}
}

// TestFreshness_4_2 is until when a response may be used: RFC 9111 sections 4.2.4 and
// 5.2.2, RFC 5861 sections 3 and 4.
func TestFreshness_4_2(t *testing.T) {
	const never = -1 << 31
	stale := Policy{MaxStale: 1000 * time.Second}
	ruled := Policy{Rule: TTL(10 * time.Second), MaxStale: 1000 * time.Second}
	for _, tc := range []struct {
		name   string
		policy Policy
		status int
		lines  []string

		fresh, revalidate, stale int // seconds after now, never
		strict                   bool
	}{
		{"lifetime", Policy{}, 200, []string{"Cache-Control: max-age=60"}, 60, 60, 60, false},
		{"lifetime less age", Policy{}, 200, []string{"Cache-Control: max-age=60", "Age: 20"}, 40, 40, 40, false},
		{"none", Policy{}, 200, nil, 0, 0, 0, false},
		{"5861 3", Policy{}, 200, []string{"Cache-Control: max-age=60, stale-while-revalidate=5"}, 60, 65, 65, false},
		{"5861 4", Policy{}, 200, []string{"Cache-Control: max-age=60, stale-if-error=5"}, 60, 60, 65, false},
		{"5861 both", Policy{}, 200, []string{"Cache-Control: max-age=60, stale-while-revalidate=9, stale-if-error=5"}, 60, 69, 69, false},
		{"4.2.4 the policy permits", stale, 200, []string{"Cache-Control: max-age=60"}, 60, 60, 1060, false},
		{"5861 4 limits the policy", stale, 200, []string{"Cache-Control: max-age=60, stale-if-error=5"}, 60, 60, 65, false},
		{"5861 4 forbids", stale, 200, []string{"Cache-Control: max-age=60, stale-if-error=0"}, 60, 60, 60, false},
		{"4.2.4 must-revalidate", stale, 200, []string{"Cache-Control: max-age=60, must-revalidate, stale-if-error=5, stale-while-revalidate=5"}, 60, 60, 60, true},
		{"4.2.4 proxy-revalidate", stale, 200, []string{"Cache-Control: max-age=60, proxy-revalidate, stale-while-revalidate=5"}, 60, 60, 60, true},
		{"4.2.4 s-maxage", stale, 200, []string{"Cache-Control: s-maxage=60"}, 60, 60, 60, true},
		{"5.2.3 s-maxage with extensions", stale, 200, []string{"Cache-Control: s-maxage=60, stale-while-revalidate=5, stale-if-error=7"}, 60, 65, 67, true},
		{"5.2.2.4 no-cache", stale, 200, []string{"Cache-Control: max-age=60, no-cache, stale-if-error=5"}, never, never, never, true},
		{"5.2.2.4 no-cache with fields", stale, 200, []string{`Cache-Control: max-age=60, no-cache="x"`}, 60, 60, 1060, false},
		{"negative MaxStale", Policy{MaxStale: -1}, 200, []string{"Cache-Control: max-age=60"}, 60, 60, 60, false},

		{"a rule goes before the lifetime", ruled, 200, []string{"Cache-Control: max-age=60"}, 10, 10, 1010, false},
		{"a rule goes before what forbids", ruled, 200, []string{"Cache-Control: max-age=60, no-cache, must-revalidate"}, 10, 10, 1010, false},
		{"a rule counts from the response", ruled, 200, []string{"Age: 500", "Date: Thu, 01 Jan 1970 00:00:00 GMT"}, 10, 10, 1010, false},
		{"a rule, stale-while-revalidate", ruled, 200, []string{"Cache-Control: stale-while-revalidate=5"}, 10, 15, 1010, false},
		{"a rule, the longer of stale-if-error", ruled, 200, []string{"Cache-Control: stale-if-error=2000"}, 10, 10, 2010, false},
		{"a rule, the longer of MaxStale", ruled, 200, []string{"Cache-Control: stale-if-error=0"}, 10, 10, 1010, false},
		{"a rule is about what is there", ruled, 404, []string{"Cache-Control: max-age=60"}, 60, 60, 1060, false},
		{"a rule is not about redirects", ruled, 302, []string{"Cache-Control: max-age=60"}, 60, 60, 1060, false},
		{"a rule for what is not there", Policy{Negative: TTL(7 * time.Second)}, 404, []string{"Cache-Control: max-age=60"}, 7, 7, 7, false},
		{"a rule for what is gone", Policy{Negative: TTL(7 * time.Second)}, 410, nil, 7, 7, 7, false},
		{"a rule for what is not there, 200", Policy{Negative: TTL(7 * time.Second)}, 200, nil, 0, 0, 0, false},
		{"a rule of nothing", Policy{Rule: TTL(0)}, 200, []string{"Cache-Control: max-age=60"}, 0, 0, 0, false},
		{"a rule below nothing", Policy{Rule: TTL(-5 * time.Second)}, 200, []string{"Cache-Control: max-age=60"}, 0, 0, 0, false},
		{"immutable", Policy{Rule: Immutable}, 200, []string{"Cache-Control: no-cache"}, 1 << 31, 1 << 31, 1 << 31, false},
	} {
		f := tc.policy.Freshness(reply(tc.status, tc.lines...))
		got := []int{since(f.FreshUntil), since(f.RevalidateUntil), since(f.StaleUntil)}
		if want := []int{tc.fresh, tc.revalidate, tc.stale}; fmt.Sprint(got) != fmt.Sprint(want) || f.Strict != tc.strict {
			t.Errorf("%s: %v strict=%v, want %v strict=%v", tc.name, got, f.Strict, want, tc.strict)
		}
	}
}

// since is a time in seconds after now, or -2^31 if it is zero.
func since(t time.Time) int {
	if t.IsZero() {
		return -1 << 31
	}
	return int(t.Sub(now) / time.Second)
}
