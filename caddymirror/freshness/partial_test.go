package freshness

import (
	"reflect"
	"testing"
)

// TestParsePart_3_3 is which responses are parts: RFC 9111 section 3.3, RFC 9110 section
// 14.4.
func TestParsePart_3_3(t *testing.T) {
	const tag = `ETag: "a"`
	for _, tc := range []struct {
		name   string
		status int
		lines  []string
		want   Part
		ok     bool
	}{
		{"whole", 200, []string{tag, "Content-Length: 10"}, Part{`"a"`, 0, 10, 10}, true},
		{"whole, of unknown size", 200, []string{tag}, Part{`"a"`, 0, -1, -1}, true},
		{"whole, length is none", 200, []string{tag, "Content-Length: ten"}, Part{}, false},
		{"whole, negative length", 200, []string{tag, "Content-Length: -1"}, Part{}, false},
		{"whole, length too large", 200, []string{tag, "Content-Length: 9223372036854775807"}, Part{}, false},
		{"whole, length far too large", 200, []string{tag, "Content-Length: 18446744073709551617"}, Part{}, false},
		{"whole, two lengths", 200, []string{tag, "Content-Length: 1", "Content-Length: 2"}, Part{}, false},
		{"part", 206, []string{tag, "Content-Range: bytes 2-4/10"}, Part{`"a"`, 2, 5, 10}, true},
		{"part, unit in other case", 206, []string{tag, "Content-Range: Bytes 2-4/10"}, Part{`"a"`, 2, 5, 10}, true},
		{"part, of unknown size", 206, []string{tag, "Content-Range: bytes 2-4/*"}, Part{`"a"`, 2, 5, -1}, true},
		{"part, last byte", 206, []string{tag, "Content-Range: bytes 9-9/10", "Content-Length: 1"}, Part{`"a"`, 9, 10, 10}, true},
		{"part, lengths contradict", 206, []string{tag, "Content-Range: bytes 2-4/10", "Content-Length: 4"}, Part{}, false},
		{"part, beyond the end", 206, []string{tag, "Content-Range: bytes 2-10/10"}, Part{}, false},
		{"part, backwards", 206, []string{tag, "Content-Range: bytes 4-2/10"}, Part{}, false},
		{"part, no size", 206, []string{tag, "Content-Range: bytes 2-4"}, Part{}, false},
		{"part, no range", 206, []string{tag, "Content-Range: bytes */10"}, Part{}, false},
		{"part, other unit", 206, []string{tag, "Content-Range: lines 2-4/10"}, Part{}, false},
		{"part, two ranges", 206, []string{tag, "Content-Range: bytes 2-4/10", "Content-Range: bytes 2-4/10"}, Part{}, false},
		{"part, the size is none", 206, []string{tag, "Content-Range: bytes 2-4/x"}, Part{}, false},
		{"part, no length", 206, []string{tag, "Content-Range: bytes 2-4/10", "Content-Length: 0"}, Part{}, false},
		{"part, signs", 206, []string{tag, "Content-Range: bytes +2-4/10"}, Part{}, false},
		{"part, open", 206, []string{tag, "Content-Range: bytes 2-/10"}, Part{}, false},
		{"part, too large", 206, []string{tag, "Content-Range: bytes 2-9223372036854775807/*"}, Part{}, false},
		{"part without range", 206, []string{tag}, Part{}, false},
		{"several parts", 206, []string{tag, "Content-Range: bytes 2-4/10", "Content-Type: multipart/byteranges; boundary=x"}, Part{}, false},
		{"weak", 206, []string{`ETag: W/"a"`, "Content-Range: bytes 2-4/10"}, Part{}, false},
		{"no validator", 200, []string{"Content-Length: 10"}, Part{}, false},
		{"another status", 203, []string{tag, "Content-Length: 10"}, Part{}, false},
	} {
		got, ok := ParsePart(tc.status, fields(tc.lines...))
		if ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: %+v %v, want %+v %v", tc.name, got, ok, tc.want, tc.ok)
		}
	}
}

// TestCombine_3_4 is RFC 9111 section 3.4, with what came of a body that broke off
// (section 3.3).
func TestCombine_3_4(t *testing.T) {
	part := func(start, end, size int64) Part { return Part{`"a"`, start, end, size} }
	for _, tc := range []struct {
		name string
		a, b Part
		want Part
		ok   bool
	}{
		{"they touch", part(0, 5, 10), part(5, 10, 10), part(0, 10, 10), true},
		{"they overlap", part(0, 7, 10), part(5, 10, 10), part(0, 10, 10), true},
		{"one in the other", part(0, 10, 10), part(2, 3, 10), part(0, 10, 10), true},
		{"the same", part(2, 3, 10), part(2, 3, 10), part(2, 3, 10), true},
		{"a hole", part(0, 4, 10), part(5, 10, 10), Part{}, false},
		{"size known by one", part(0, 5, -1), part(5, 10, 12), part(0, 10, 12), true},
		{"size not known", part(0, 5, -1), part(5, 10, -1), part(0, 10, -1), true},
		{"sizes differ", part(0, 5, 10), part(5, 10, 11), Part{}, false},
		{"more than the size", part(0, 5, 7), part(5, 10, -1), Part{}, false},
		{"end not known", part(0, -1, -1), part(5, 10, 10), Part{}, false},
		{"other version", part(0, 5, 10), Part{`"b"`, 5, 10, 10}, Part{}, false},
		{"no validator", Part{"", 0, 5, 10}, Part{"", 5, 10, 10}, Part{}, false},
	} {
		for _, swap := range []bool{false, true} {
			a, b := tc.a, tc.b
			if swap {
				a, b = b, a
			}
			if got, ok := a.Combine(b); ok != tc.ok || ok && got != tc.want {
				t.Errorf("%s: %+v %v, want %+v %v", tc.name, got, ok, tc.want, tc.ok)
			}
		}
	}

	for _, tc := range []struct {
		announced Part
		n         int64
		want      Part
		ok        bool
	}{
		{part(0, 10, 10), 4, part(0, 4, 10), true},
		{part(0, 10, 10), 10, part(0, 10, 10), true},
		{part(0, 10, 10), 11, Part{}, false},
		{part(0, 10, 10), 0, Part{}, false},
		{part(0, 10, 10), -1, Part{}, false},
		{part(3, 6, 10), 2, part(3, 5, 10), true},
		{part(0, -1, -1), 5, part(0, 5, -1), true},
	} {
		if got, ok := tc.announced.Received(tc.n); ok != tc.ok || ok && got != tc.want {
			t.Errorf("%d of %+v: %+v %v, want %+v %v", tc.n, tc.announced, got, ok, tc.want, tc.ok)
		}
	}

	for p, want := range map[Part]bool{part(0, 10, 10): true, part(0, 9, 10): false, part(1, 10, 10): false, part(0, 10, -1): false, part(0, -1, -1): false} {
		if p.Complete() != want {
			t.Errorf("%+v: complete: %v", p, !want)
		}
	}
	for span, want := range map[[2]int64]bool{{2, 5}: true, {3, 4}: true, {1, 5}: false, {2, 6}: false, {3, 3}: false, {4, 3}: false} {
		if part(2, 5, 10).Covers(span[0], span[1]) != want {
			t.Errorf("%v is covered: %v", span, !want)
		}
	}
}

// TestWholeHeader_3_4 is the header of what was combined, RFC 9110 section 15.3.7.3.
func TestWholeHeader_3_4(t *testing.T) {
	stored := reply(206, `ETag: "a"`, "Content-Range: bytes 0-4/10", "Content-Length: 5", "X: 1", "Date: "+stamp(-5))
	updated := Policy{}.Update(stored, reply(206, `ETag: "a"`, "Content-Range: bytes 5-9/10", "Content-Length: 5", "X: 2", "Date: "+stamp(0)))
	want := fields(`ETag: "a"`, "Content-Length: 10", "X: 2", "Date: "+stamp(0))
	if got := WholeHeader(updated.Header, 10); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if updated.Header.Get("Content-Range") != "bytes 0-4/10" {
		t.Errorf("the range of the stored part has changed: %v", updated.Header)
	}
}
