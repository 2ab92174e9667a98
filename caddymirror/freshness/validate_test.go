package freshness

import (
	"net/http"
	"reflect"
	"slices"
	"testing"
)

// TestConditions_4_3_1 is RFC 9111 section 4.3.1.
func TestConditions_4_3_1(t *testing.T) {
	modified := "Last-Modified: " + stamp(-1000)
	for _, tc := range []struct {
		name   string
		stored []http.Header
		want   http.Header
	}{
		{"nothing", nil, nil},
		{"no validators", []http.Header{fields("Date: " + stamp(0))}, nil},
		{"tag", []http.Header{fields(`ETag: "a"`)}, fields(`If-None-Match: "a"`)},
		{"weak tag", []http.Header{fields(`ETag: W/"a"`)}, fields(`If-None-Match: W/"a"`)},
		{"white space around a tag", []http.Header{fields("ETag:  \"a\"\t")}, fields(`If-None-Match: "a"`)},
		{"date", []http.Header{fields(modified)}, fields("If-Modified-Since: " + stamp(-1000))},
		{"both", []http.Header{fields(`ETag: "a"`, modified)}, fields(`If-None-Match: "a"`, "If-Modified-Since: "+stamp(-1000))},
		{"several", []http.Header{fields(`ETag: "a"`, modified), fields(`ETag: W/"b"`), fields(modified), fields(`ETag: "a"`)}, fields(`If-None-Match: "a", W/"b"`)},
		{"date as it came", []http.Header{fields("Last-Modified:  Sunday, 06-Nov-94 08:49:37 GMT")}, fields("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT")},
		{"no date", []http.Header{fields("Last-Modified: yesterday")}, nil},
		{"RFC 9110 8.8.3 not quoted", []http.Header{fields("ETag: a")}, nil},
		{"RFC 9110 8.8.3 lower case", []http.Header{fields(`ETag: w/"a"`)}, nil},
		{"RFC 9110 8.8.3 not closed", []http.Header{fields(`ETag: "a`)}, nil},
		{"RFC 9110 8.8.3 one quote", []http.Header{fields(`ETag: "`)}, nil},
		{"RFC 9110 8.8.3 white space", []http.Header{fields(`ETag: "a b"`)}, nil},
		{"RFC 9110 8.8.3 several", []http.Header{fields(`ETag: "a", "b"`)}, nil},
		{"RFC 9110 8.8.3 two lines", []http.Header{fields(`ETag: "a"`, `ETag: "b"`)}, nil},
		{"RFC 9110 8.8.3 a line break cannot get out", []http.Header{fields("ETag: \"a\r\nX: 1\"")}, nil},
		{"RFC 9110 8.8.3 empty, comma, other bytes", []http.Header{fields(`ETag: ""`), fields(`ETag: "a,b"`), fields("ETag: \"\xfc\"")}, fields("If-None-Match: \"\", \"a,b\", \"\xfc\"")},
	} {
		if got := Conditions(tc.stored...); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestFreshened_4_3_4 is RFC 9111 section 4.3.4.
func TestFreshened_4_3_4(t *testing.T) {
	var (
		old, young    = "Date: " + stamp(-500), "Date: " + stamp(-100)
		modified      = "Last-Modified: " + stamp(-1000)
		modifiedLater = "Last-Modified: " + stamp(-900)
	)
	for _, tc := range []struct {
		name        string
		stored      []http.Header
		notModified http.Header
		want        []int
	}{
		{"strong", []http.Header{fields(`ETag: "a"`)}, fields(`ETag: "a"`), []int{0}},
		{"strong, another", []http.Header{fields(`ETag: "a"`)}, fields(`ETag: "b"`), nil},
		{"strong, all of them", []http.Header{fields(`ETag: "a"`, old), fields(`ETag: "b"`), fields(`ETag: "a"`, young)}, fields(`ETag: "a"`), []int{0, 2}},
		{"strong does not confirm weak", []http.Header{fields(`ETag: W/"a"`)}, fields(`ETag: "a"`), nil},
		{"strong does not confirm by date", []http.Header{fields(modified)}, fields(`ETag: "a"`, modified), nil},
		{"weak", []http.Header{fields(`ETag: W/"a"`)}, fields(`ETag: W/"a"`), []int{0}},
		{"weak confirms strong", []http.Header{fields(`ETag: "a"`)}, fields(`ETag: W/"a"`), []int{0}},
		{"weak, the most recent", []http.Header{fields(`ETag: W/"a"`, old), fields(`ETag: W/"a"`, young), fields(`ETag: W/"b"`)}, fields(`ETag: W/"a"`), []int{1}},
		{"weak, the most recent in front", []http.Header{fields(`ETag: W/"a"`, young), fields(`ETag: W/"a"`, old)}, fields(`ETag: W/"a"`), []int{0}},
		{"weak, another", []http.Header{fields(`ETag: W/"a"`)}, fields(`ETag: W/"b"`), nil},
		{"date", []http.Header{fields(modifiedLater), fields(modified)}, fields(modified), []int{1}},
		{"date, another", []http.Header{fields(modified)}, fields(modifiedLater), nil},
		{"date of another form", []http.Header{fields("Last-Modified: Sunday, 06-Nov-94 08:49:37 GMT")}, fields("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"), []int{0}},
		{"date, of one with a tag", []http.Header{fields(`ETag: "a"`, modified)}, fields(modified), []int{0}},
		{"nothing, of one that has nothing", []http.Header{fields()}, fields(), []int{0}},
		{"nothing, of one", []http.Header{fields(`ETag: "a"`)}, fields(), []int{0}},
		{"nothing, of two", []http.Header{fields(), fields()}, fields(), nil},
		{"nothing stored", nil, fields(`ETag: "a"`), nil},
		{"nothing at all", nil, fields(), nil},
	} {
		if got := Freshened(tc.stored, tc.notModified); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestUpdate_3_2 is RFC 9111 section 3.2.
func TestUpdate_3_2(t *testing.T) {
	then := Response{Status: 200, RequestTime: at(-1000), ResponseTime: at(-999), Header: fields(
		"Date: "+stamp(-1000), "Age: 500", `ETag: "a"`, "Cache-Control: max-age=60", "Content-Type: text/plain",
		"Content-Length: 5", "Content-Encoding: gzip", "X-Kept: 1", "X-Two: 1", "X-Two: 2", "Expires: "+stamp(-900),
	)}
	before := then.Header.Clone()
	got := Policy{}.Update(then, reply(304,
		"Date: "+stamp(-3), `ETag: W/"a"`, "Cache-Control: max-age=90", "Content-Type: text/html", "Content-Length: 0",
		"Content-Encoding: identity", "Content-Range: bytes 0-1/2", "X-Two: 3", "X-New: 1", "Connection: x-hop", "X-Hop: 1", "Set-Cookie: a=b",
		"Transfer-Encoding: chunked", "Content-Foo: 1", "Content-Location: /b",
	))
	want := Response{Status: 200, RequestTime: now, ResponseTime: now, Header: fields(
		"Date: "+stamp(-3), `ETag: W/"a"`, "Cache-Control: max-age=90", "Content-Type: text/html",
		"Content-Length: 5", "Content-Encoding: gzip", "X-Kept: 1", "X-Two: 3", "X-New: 1", "Expires: "+stamp(-900),
		"Content-Foo: 1", "Content-Location: /b",
	)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if !reflect.DeepEqual(then.Header, before) {
		t.Error("the stored header was changed")
	}

	// It is fresh from now on, and no older than the 304.
	f := Policy{}.Freshness(got)
	if f.Age(now) != 3e9 || since(f.FreshUntil) != 87 {
		t.Errorf("age %v, fresh until %d", f.Age(now), since(f.FreshUntil))
	}

	// A 304 without Date was made when it came (RFC 9110 section 6.6.1), one with Age
	// before.
	f = Policy{}.Freshness(Policy{}.Update(then, reply(304, "Age: 20")))
	if f.Age(now) != 20e9 || since(f.FreshUntil) != 40 {
		t.Errorf("without Date: age %v, fresh until %d", f.Age(now), since(f.FreshUntil))
	}

	// What a 304 says of storing holds (section 5.2.2).
	for cc, want := range map[string]Refusal{"no-store": RefusedNoStore, "private": RefusedPrivate, "max-age=5": ""} {
		if got := (Policy{}).Storable(request(), Policy{}.Update(then, reply(304, "Cache-Control: "+cc))); got != want {
			t.Errorf("304 with %s: %q", cc, got)
		}
	}
	got = Policy{}.Update(then, reply(304, `Cache-Control: max-age=60, private="x-kept, x-new"`, "X-New: 1"))
	if got.Header.Get("X-Kept") != "" || got.Header.Get("X-New") != "" {
		t.Errorf("what a 304 withholds is kept: %v", got.Header)
	}
	if got := (Policy{}).Update(Response{Status: 200}, Response{Status: 304, ResponseTime: now}); len(got.Header) != 1 {
		t.Errorf("without headers: %v", got.Header)
	}
}

// TestConfirms_4_3_5 is RFC 9111 section 4.3.5.
func TestConfirms_4_3_5(t *testing.T) {
	stored := fields(`ETag: "a"`, "Last-Modified: "+stamp(-10), "Content-Length: 5")
	for _, tc := range []struct {
		name         string
		stored, head http.Header
		want         bool
	}{
		{"all the same", stored, fields(`ETag: "a"`, "Last-Modified: "+stamp(-10), "Content-Length:  5"), true},
		{"nothing said", stored, fields("Date: " + stamp(0)), true},
		{"tag", stored, fields(`ETag: "b"`), false},
		{"weak tag", stored, fields(`ETag: W/"a"`), false},
		{"date", stored, fields(`ETag: "a"`, "Last-Modified: "+stamp(-9)), false},
		{"length", stored, fields(`ETag: "a"`, "Content-Length: 6"), false},
		{"stored without", fields(), fields(`ETag: "a"`), false},
		{"both without", fields(), fields(), true},
	} {
		if got := Confirms(tc.stored, tc.head); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// TestStrongValidator_RFC9110_8_8 is RFC 9110 sections 8.8.1 and 8.8.2.2.
func TestStrongValidator_RFC9110_8_8(t *testing.T) {
	date := "Date: " + stamp(0)
	for _, tc := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"nothing", nil, ""},
		{"strong tag", []string{`ETag: "a"`, date, "Last-Modified: " + stamp(-1000)}, `"a"`},
		{"weak tag goes before a date", []string{`ETag: W/"a"`, date, "Last-Modified: " + stamp(-1000)}, ""},
		{"date", []string{date, "Last-Modified: " + stamp(-60)}, stamp(-60)},
		{"date too near", []string{date, "Last-Modified: " + stamp(-59)}, ""},
		{"date later", []string{date, "Last-Modified: " + stamp(1)}, ""},
		{"date alone", []string{"Last-Modified: " + stamp(-60)}, ""},
		{"no date", []string{date, "Last-Modified: x"}, ""},
		{"malformed tag", []string{"ETag: a", date, "Last-Modified: " + stamp(-60)}, stamp(-60)},
	} {
		if got := StrongValidator(fields(tc.lines...)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
