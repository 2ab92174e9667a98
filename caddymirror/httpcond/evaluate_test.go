package httpcond

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	modified = time.Date(1994, time.November, 15, 12, 45, 26, 500, time.UTC)
	same     = stamp(0)
	before   = stamp(-time.Second)
	after    = stamp(time.Second)
)

func stamp(d time.Duration) string { return modified.Add(d).Format(http.TimeFormat) }

// fields makes a header of lines "Name: value".
func fields(lines []string) http.Header {
	h := http.Header{}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		h.Add(name, value)
	}
	return h
}

// TestConditions is the table of RFC 9110 section 13: what each field means, and
// which goes before which.
func TestConditions(t *testing.T) {
	const (
		ok, part, unchanged, failed = 200, 206, 304, 412

		strong = `"v1"`
		weak   = `W/"v1"`
	)
	dated := Validators{ETag: strong, Modified: modified, DateStrong: true}
	undated := Validators{ETag: strong}
	shared := Validators{ETag: strong, Modified: modified}
	encoded := Validators{ETag: strong, Modified: modified, DateStrong: true, DateShared: true}
	weakly := Validators{ETag: weak, Modified: modified, DateStrong: true}
	untagged := Validators{Modified: modified, DateStrong: true}
	bare := Validators{}

	for _, tc := range []struct {
		name   string
		v      Validators
		status int
		lines  []string
	}{
		{"no condition", dated, ok, nil},

		// 13.1.1
		{"If-Match", dated, ok, []string{`If-Match: "v1"`}},
		{"If-Match, another", dated, failed, []string{`If-Match: "v2"`}},
		{"If-Match, list", dated, ok, []string{`If-Match: "v0", "v1" ,"v2"`}},
		{"If-Match, list without", dated, failed, []string{`If-Match: "v0", "v2"`}},
		{"If-Match, second line", dated, ok, []string{`If-Match: "v0"`, `If-Match: "v1"`}},
		{"If-Match, two lines without", dated, failed, []string{`If-Match: "v0"`, `If-Match: "v2"`}},
		{"If-Match, empty elements", dated, ok, []string{`If-Match: , ,"v1",`}},
		{"If-Match compares strongly", dated, failed, []string{`If-Match: W/"v1"`}},
		{"If-Match, both weak", weakly, failed, []string{`If-Match: W/"v1"`}},
		{"If-Match, weak here", weakly, failed, []string{`If-Match: "v1"`}},
		{"If-Match *", dated, ok, []string{`If-Match: *`}},
		{"If-Match *, no tag", bare, ok, []string{`If-Match:  * `}},
		{"If-Match, no tag", untagged, failed, []string{`If-Match: "v1"`}},
		{"If-Match, empty", dated, failed, []string{`If-Match: `}},
		{"If-Match, not a tag", dated, failed, []string{`If-Match: v1`}},
		{"If-Match, unclosed", dated, failed, []string{`If-Match: "v1`}},
		{"If-Match, comma inside", Validators{ETag: `"a,b"`}, ok, []string{`If-Match: "x","a,b"`}},
		{"If-Match, comma inside, another", Validators{ETag: `"b"`}, failed, []string{`If-Match: "a,"b""`}},
		{"If-Match, behind what is none", dated, ok, []string{`If-Match: v0, "v1"`}},
		{"If-Match, glued", dated, failed, []string{`If-Match: "v1""v2"`}},

		// 13.1.2
		{"If-None-Match", dated, unchanged, []string{`If-None-Match: "v1"`}},
		{"If-None-Match compares weakly", dated, unchanged, []string{`If-None-Match: W/"v1"`}},
		{"If-None-Match, weak here", weakly, unchanged, []string{`If-None-Match: "v1"`}},
		{"If-None-Match, both weak", weakly, unchanged, []string{`If-None-Match: W/"v1"`}},
		{"If-None-Match, mark in lower case", dated, ok, []string{`If-None-Match: w/"v1"`}},
		{"If-None-Match, another", dated, ok, []string{`If-None-Match: "v2"`}},
		{"If-None-Match, list", dated, unchanged, []string{`If-None-Match: "v0",W/"v1","v2"`}},
		{"If-None-Match, second line", dated, unchanged, []string{`If-None-Match: "v0"`, `If-None-Match: "v1"`}},
		{"If-None-Match *", dated, unchanged, []string{`If-None-Match: *`}},
		{"If-None-Match *, no tag", bare, unchanged, []string{`If-None-Match: *`}},
		{"If-None-Match, no tag", untagged, ok, []string{`If-None-Match: "v1"`}},
		{"If-None-Match, not a tag", dated, ok, []string{`If-None-Match: v1`}},

		// 13.1.3
		{"If-Modified-Since, same", dated, unchanged, []string{"If-Modified-Since: " + same}},
		{"If-Modified-Since, after", dated, unchanged, []string{"If-Modified-Since: " + after}},
		{"If-Modified-Since, before", dated, ok, []string{"If-Modified-Since: " + before}},
		{"If-Modified-Since, RFC 850", dated, unchanged, []string{"If-Modified-Since: Tuesday, 15-Nov-94 12:45:26 GMT"}},
		{"If-Modified-Since, asctime", dated, unchanged, []string{"If-Modified-Since: Tue Nov 15 12:45:26 1994"}},
		{"If-Modified-Since, no date", dated, ok, []string{"If-Modified-Since: yesterday"}},
		{"If-Modified-Since, empty", dated, ok, []string{"If-Modified-Since: "}},
		{"If-Modified-Since, two lines", dated, ok, []string{"If-Modified-Since: " + after, "If-Modified-Since: " + after}},
		{"If-Modified-Since, a list", dated, ok, []string{"If-Modified-Since: " + after + ", " + after}},
		{"If-Modified-Since, undated", undated, ok, []string{"If-Modified-Since: " + after}},
		{"If-Modified-Since, shared second", shared, ok, []string{"If-Modified-Since: " + same}},
		{"If-Modified-Since, after shared second", shared, unchanged, []string{"If-Modified-Since: " + after}},
		{"If-Modified-Since, date of several encodings", encoded, unchanged, []string{"If-Modified-Since: " + same}},

		// 13.1.4
		{"If-Unmodified-Since, same", dated, ok, []string{"If-Unmodified-Since: " + same}},
		{"If-Unmodified-Since, after", dated, ok, []string{"If-Unmodified-Since: " + after}},
		{"If-Unmodified-Since, before", dated, failed, []string{"If-Unmodified-Since: " + before}},
		{"If-Unmodified-Since, no date", dated, ok, []string{"If-Unmodified-Since: 0"}},
		{"If-Unmodified-Since, two lines", dated, ok, []string{"If-Unmodified-Since: " + before, "If-Unmodified-Since: " + before}},
		{"If-Unmodified-Since, undated", undated, ok, []string{"If-Unmodified-Since: " + before}},
		{"If-Unmodified-Since, shared second", shared, failed, []string{"If-Unmodified-Since: " + same}},
		{"If-Unmodified-Since, after shared second", shared, ok, []string{"If-Unmodified-Since: " + after}},

		// 13.1.5, with 14.2
		{"Range", dated, part, []string{"Range: bytes=0-0"}},
		{"If-Range", dated, part, []string{"Range: bytes=0-0", `If-Range: "v1"`}},
		{"If-Range, another", dated, ok, []string{"Range: bytes=0-0", `If-Range: "v2"`}},
		{"If-Range, weak", dated, ok, []string{"Range: bytes=0-0", `If-Range: W/"v1"`}},
		{"If-Range, weak here", weakly, ok, []string{"Range: bytes=0-0", `If-Range: "v1"`}},
		{"If-Range, both weak", weakly, ok, []string{"Range: bytes=0-0", `If-Range: W/"v1"`}},
		{"If-Range, no tag", untagged, ok, []string{"Range: bytes=0-0", `If-Range: "v1"`}},
		{"If-Range, a list", dated, ok, []string{"Range: bytes=0-0", `If-Range: "v1", "v1"`}},
		{"If-Range, two lines", dated, ok, []string{"Range: bytes=0-0", `If-Range: "v1"`, `If-Range: "v1"`}},
		{"If-Range *", dated, ok, []string{"Range: bytes=0-0", "If-Range: *"}},
		{"If-Range, date", dated, part, []string{"Range: bytes=0-0", "If-Range: " + same}},
		{"If-Range, date after", dated, ok, []string{"Range: bytes=0-0", "If-Range: " + after}},
		{"If-Range, date before", dated, ok, []string{"Range: bytes=0-0", "If-Range: " + before}},
		{"If-Range, date of a shared second", shared, ok, []string{"Range: bytes=0-0", "If-Range: " + same}},
		{"If-Range, date of several encodings", encoded, ok, []string{"Range: bytes=0-0", "If-Range: " + same}},
		{"If-Range, tag of one of several encodings", encoded, part, []string{"Range: bytes=0-0", `If-Range: "v1"`}},
		{"If-Range, undated", undated, ok, []string{"Range: bytes=0-0", "If-Range: " + same}},
		{"If-Range, nonsense", dated, ok, []string{"Range: bytes=0-0", "If-Range: nonsense"}},
		{"If-Range, empty", dated, ok, []string{"Range: bytes=0-0", "If-Range: "}},
		{"If-Range without Range", dated, ok, []string{`If-Range: "v2"`}},
		{"If-Range false, range unsatisfiable", dated, ok, []string{"Range: bytes=99-", `If-Range: "v2"`}},

		// 13.2.2
		{"If-Match before If-Unmodified-Since", dated, ok, []string{`If-Match: "v1"`, "If-Unmodified-Since: " + before}},
		{"If-Match before If-None-Match", dated, failed, []string{`If-Match: "v2"`, `If-None-Match: "v1"`}},
		{"If-Match true, then If-None-Match", dated, unchanged, []string{`If-Match: "v1"`, `If-None-Match: "v1"`}},
		{"If-Unmodified-Since before If-None-Match", dated, failed, []string{"If-Unmodified-Since: " + before, `If-None-Match: "v1"`}},
		{"If-Unmodified-Since true, then If-None-Match", dated, unchanged, []string{"If-Unmodified-Since: " + same, `If-None-Match: "v1"`}},
		{"If-None-Match before If-Modified-Since", dated, ok, []string{`If-None-Match: "v2"`, "If-Modified-Since: " + after}},
		{"If-None-Match before If-Modified-Since, true", dated, unchanged, []string{`If-None-Match: "v1"`, "If-Modified-Since: " + before}},
		{"If-Match true, then If-Modified-Since", dated, unchanged, []string{`If-Match: "v1"`, "If-Modified-Since: " + same}},
		{"If-Match before Range", dated, failed, []string{`If-Match: "v2"`, "Range: bytes=0-0"}},
		{"If-None-Match before Range", dated, unchanged, []string{`If-None-Match: "v1"`, "Range: bytes=0-0"}},
		{"If-Modified-Since before Range", dated, unchanged, []string{"If-Modified-Since: " + same, "Range: bytes=0-0"}},
		{"If-Match, then If-Range", dated, ok, []string{`If-Match: "v1"`, "Range: bytes=0-0", `If-Range: "v2"`}},
		{"all true", dated, part, []string{
			`If-Match: "v1"`, "If-Unmodified-Since: " + before, `If-None-Match: "v2"`,
			"If-Modified-Since: " + after, "Range: bytes=0-0", `If-Range: "v1"`,
		}},
	} {
		h := fields(tc.lines)
		status, ranges := Evaluate(http.MethodGet, h, tc.v, 10)
		if status != tc.status {
			t.Errorf("%s: status %d, want %d", tc.name, status, tc.status)
		}
		if got, want := len(ranges) > 0, tc.status == part; got != want {
			t.Errorf("%s: has ranges: %v, want %v", tc.name, got, want)
		}
		if tc.status != ok && !Conditional(h) {
			t.Errorf("%s: passes for a request without conditions", tc.name)
		}
		// HEAD has conditions, and no ranges.
		want := tc.status
		if want == part {
			want = ok
		}
		if status, ranges := Evaluate(http.MethodHead, h, tc.v, 10); status != want || ranges != nil {
			t.Errorf("%s: HEAD gives status %d and %v, want %d", tc.name, status, ranges, want)
		}
		// So has what is of unknown size.
		if status, ranges := Evaluate(http.MethodGet, h, tc.v, -1); status != want || ranges != nil {
			t.Errorf("%s: without a size: status %d and %v, want %d", tc.name, status, ranges, want)
		}
	}
}

// TestRanges is the table of RFC 9110 section 14.
func TestRanges(t *testing.T) {
	const (
		ok, part, unsatisfiable = 200, 206, 416
		huge                    = "99999999999999999999999999"
	)
	one := func(start, length int64) []Range { return []Range{{start, length}} }
	for _, tc := range []struct {
		field  string
		size   int64
		status int
		ranges []Range
	}{
		// 14.1.2
		{"bytes=0-0", 10, part, one(0, 1)},
		{"bytes=0-4", 10, part, one(0, 5)},
		{"bytes=3-", 10, part, one(3, 7)},
		{"bytes=0-", 10, part, one(0, 10)},
		{"bytes=-3", 10, part, one(7, 3)},
		{"bytes=9-9", 10, part, one(9, 1)},
		{"bytes=0-9", 10, part, one(0, 10)},
		{"bytes=0-10", 10, part, one(0, 10)},
		{"bytes=5-" + huge, 10, part, one(5, 5)},
		{"bytes=-10", 10, part, one(0, 10)},
		{"bytes=-11", 10, part, one(0, 10)},
		{"bytes=-" + huge, 10, part, one(0, 10)},
		{"bytes=010-0011", 20, part, one(10, 2)},
		{"bytes=10-", 10, unsatisfiable, nil},
		{"bytes=10-10", 10, unsatisfiable, nil},
		{"bytes=" + huge + "-", 10, unsatisfiable, nil},
		{"bytes=" + huge + "-" + huge, 10, unsatisfiable, nil},
		{"bytes=-0", 10, unsatisfiable, nil},
		{"bytes=-000", 10, unsatisfiable, nil},

		// Units (14.1, 14.2).
		{"Bytes=0-0", 10, part, one(0, 1)},
		{"BYTES=-1", 10, part, one(9, 1)},
		{"items=0-5", 10, ok, nil},
		{"items=nonsense", 10, ok, nil},
		{"bytes2=0-5", 10, ok, nil},
		{"=0-5", 10, ok, nil},
		{"none=", 10, ok, nil},

		// White space and empty elements (5.6.1).
		{" bytes=0-0 ", 10, part, one(0, 1)},
		{"bytes= 0-0", 10, part, one(0, 1)},
		{"bytes=0-0\t", 10, part, one(0, 1)},
		{"bytes=,0-0,, ,", 10, part, one(0, 1)},
		{"bytes=0-0 ,\t2-3", 10, part, []Range{{0, 1}, {2, 2}}},

		// What is not a set of ranges.
		{"nonsense", 10, unsatisfiable, nil},
		{"", 10, unsatisfiable, nil},
		{"bytes", 10, unsatisfiable, nil},
		{"bytes=", 10, unsatisfiable, nil},
		{"bytes=,", 10, unsatisfiable, nil},
		{"bytes=-", 10, unsatisfiable, nil},
		{"bytes=5", 10, unsatisfiable, nil},
		{"bytes=5-4", 10, unsatisfiable, nil},
		{"bytes=50-40", 10, unsatisfiable, nil},
		{"bytes=a-b", 10, unsatisfiable, nil},
		{"bytes=0-b", 10, unsatisfiable, nil},
		{"bytes=+1-2", 10, unsatisfiable, nil},
		{"bytes=1-+2", 10, unsatisfiable, nil},
		{"bytes=--1", 10, unsatisfiable, nil},
		{"bytes=-1-2", 10, unsatisfiable, nil},
		{"bytes=0 - 1", 10, unsatisfiable, nil},
		{"bytes=0-1-2", 10, unsatisfiable, nil},
		{"bytes=0-1,x", 10, unsatisfiable, nil},
		{"bytes=0x0-0x1", 10, unsatisfiable, nil},
		{"bytes=0-0\nbytes=1-1", 10, unsatisfiable, nil}, // two lines

		// Several.
		{"bytes=0-1,4-5", 10, part, []Range{{0, 2}, {4, 2}}},
		{"bytes=4-5,0-1", 10, part, []Range{{4, 2}, {0, 2}}},
		{"bytes=-1,0-0", 10, part, []Range{{9, 1}, {0, 1}}},
		{"bytes=0-1,99-", 10, part, one(0, 2)},
		{"bytes=99-,0-1", 10, part, one(0, 2)},
		{"bytes=0-1,-0", 10, part, one(0, 2)},
		{"bytes=98-,99-", 10, unsatisfiable, nil},
		{"bytes=0-3,2-5", 10, part, []Range{{0, 4}, {2, 4}}},
		{"bytes=0-4,5-9", 10, part, []Range{{0, 5}, {5, 5}}},
		{"bytes=0-5,4-9", 10, ok, nil}, // longer than the whole
		{"bytes=0-,0-,0-", 10, ok, nil},
		{"bytes=0-" + huge + ",0-" + huge, 10, ok, nil},
		{"bytes=" + strings.Repeat("0-0,", maxRanges), 1 << 20, part, make256()},
		{"bytes=" + strings.Repeat("0-0,", maxRanges+1), 1 << 20, ok, nil},
		{"bytes=0-0," + strings.Repeat("2000000-,", maxRanges), 1 << 20, ok, nil},

		// Of nothing, there are no parts.
		{"bytes=0-", 0, ok, nil},
		{"bytes=0-0", 0, ok, nil},
		{"bytes=-5", 0, ok, nil},
		{"bytes=-0", 0, ok, nil},
		{"bytes=x", 0, ok, nil},
	} {
		h := http.Header{"Range": strings.Split(tc.field, "\n")}
		status, ranges := Evaluate(http.MethodGet, h, Validators{}, tc.size)
		if status != tc.status || !reflect.DeepEqual(ranges, tc.ranges) {
			t.Errorf("%q of %d bytes: %d %v, want %d %v", tc.field, tc.size, status, ranges, tc.status, tc.ranges)
		}
	}
}

func make256() []Range {
	ranges := make([]Range, maxRanges)
	for i := range ranges {
		ranges[i].Length = 1
	}
	return ranges
}

func FuzzEvaluate(f *testing.F) {
	f.Add("bytes=0-1,-5", `"v1"`, int64(10))
	f.Add("bytes=18446744073709551615-", `W/"v1", "`, int64(1)<<62)
	f.Fuzz(func(t *testing.T, ranges, tags string, size int64) {
		h := http.Header{"Range": {ranges}, "If-None-Match": {tags}, "If-Range": {tags}, "If-Match": {tags, "*"}}
		for range 2 {
			status, got := Evaluate(http.MethodGet, h, Validators{ETag: `"v1"`}, size)
			if (status == http.StatusPartialContent) != (len(got) > 0) {
				t.Fatalf("%d %v", status, got)
			}
			var total int64
			for _, r := range got {
				if r.Start < 0 || r.Length <= 0 || r.Start > size-r.Length {
					t.Fatalf("%v of %d bytes", r, size)
				}
				total += r.Length
			}
			if total > max(size, 0) {
				t.Fatalf("%d bytes of %d", total, size)
			}
			h = http.Header{"Range": {ranges}}
		}
	})
}
