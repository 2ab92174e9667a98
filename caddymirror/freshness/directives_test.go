package freshness

import (
	"net/http"
	"reflect"
	"testing"
	"time"
)

// TestDeltaSeconds_1_2_2 is RFC 9111 section 1.2.2.
func TestDeltaSeconds_1_2_2(t *testing.T) {
	for _, tc := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"0", 0, true},
		{"60", time.Minute, true},
		{"003600", time.Hour, true},
		{"2147483647", Forever - time.Second, true},
		{"2147483648", Forever, true},
		{"2147483649", Forever, true},
		{"99999999999", Forever, true},
		{"9223372036854775807", Forever, true},
		{"18446744073709551617", Forever, true}, // 2^64 + 1
		{"100000000000000000000000000000000000000000000000000000000", Forever, true},
		{"", 0, false},
		{"-1", 0, false},
		{"+1", 0, false},
		{"1.0", 0, false},
		{"1e3", 0, false},
		{"0x10", 0, false},
		{"1 ", 0, false},
		{"١", 0, false},
	} {
		if got, ok := parseDelta(tc.text); got != tc.want || ok != tc.ok {
			t.Errorf("%q: %v %v, want %v %v", tc.text, got, ok, tc.want, tc.ok)
		}
	}
}

// TestResponseDirectives_5_2 is RFC 9111 sections 5.2 and 5.2.2, with the extensions of
// RFC 5861 and RFC 8246.
func TestResponseDirectives_5_2(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lines []string
		want  Directives
	}{
		{"nothing", nil, Directives{}},
		{"empty", []string{""}, Directives{}},
		{"empty elements", []string{" , ,\t,"}, Directives{}},

		{"5.2.2.1 max-age", []string{"max-age=60"}, Directives{MaxAge: seconds(60)}},
		{"5.2 case", []string{"MaX-aGe=60, NO-STORE"}, Directives{MaxAge: seconds(60), NoStore: true}},
		{"5.2 quoted form", []string{`max-age="60"`}, Directives{MaxAge: seconds(60)}},
		{"5.2 quoted pair", []string{`max-age="6\0"`}, Directives{MaxAge: seconds(60)}},
		{"5.2 no white space", []string{"public,max-age=60"}, Directives{MaxAge: seconds(60), Public: true}},
		{"5.2 several lines", []string{"public", "max-age=60"}, Directives{MaxAge: seconds(60), Public: true}},
		{"4.2.1 the first of two", []string{"max-age=60, max-age=30"}, Directives{MaxAge: seconds(60)}},
		{"4.2.1 the first of two lines", []string{"max-age=30", "max-age=60"}, Directives{MaxAge: seconds(30)}},
		{"4.2.1 the first, though it is none", []string{"max-age=x, max-age=60"}, Directives{MaxAge: seconds(0)}},
		{"4.2.1 negative", []string{"max-age=-60"}, Directives{MaxAge: seconds(0)}},
		{"4.2.1 fraction", []string{"max-age=3600.0"}, Directives{MaxAge: seconds(0)}},
		{"4.2.1 letters in front", []string{"max-age=a3600"}, Directives{MaxAge: seconds(0)}},
		{"4.2.1 letters behind", []string{"max-age=3600a"}, Directives{MaxAge: seconds(0)}},
		{"4.2.1 single quotes", []string{"max-age='3600'"}, Directives{MaxAge: seconds(0)}},
		{"4.2.1 without argument", []string{"max-age"}, Directives{MaxAge: seconds(0)}},
		{"4.2.1 empty argument", []string{"max-age="}, Directives{MaxAge: seconds(0)}},
		{"4.2.1 empty quotes", []string{`max-age=""`}, Directives{MaxAge: seconds(0)}},
		{"5.2 space before =", []string{"max-age =60"}, Directives{MaxAge: seconds(0)}},
		{"5.2 space after =", []string{"max-age= 60"}, Directives{MaxAge: seconds(0)}},
		{"5.2 semicolon", []string{"max-age=60; public"}, Directives{MaxAge: seconds(0)}},
		{"5.2 within quotes", []string{`extension="max-age=3600", max-age=1`}, Directives{MaxAge: seconds(1)}},
		{"5.2 within quotes, behind", []string{`max-age=1, extension="max-age=3600"`}, Directives{MaxAge: seconds(1)}},
		{"5.2 comma within quotes", []string{`extension="a, no-store", max-age=1`}, Directives{MaxAge: seconds(1)}},
		{"5.2 escaped quote", []string{`extension="a\", no-store", max-age=1`}, Directives{MaxAge: seconds(1)}},
		{"5.2 quote not closed", []string{`extension="a, no-store, max-age=1`}, Directives{MaxAge: seconds(1), NoStore: true}},
		{"5.2 quote not closed on its line", []string{`extension="a`, `no-store, e="b"`}, Directives{NoStore: true}},
		{"5.2.3 unknown", []string{"foobar, max-age=60, baz=1, q=\"x\""}, Directives{MaxAge: seconds(60)}},
		{"5.2.3 a name within another", []string{"x-no-store, no-storex, no-store-x"}, Directives{}},

		{"5.2.2.10 s-maxage", []string{"max-age=60, s-maxage=30"}, Directives{MaxAge: seconds(60), SMaxAge: seconds(30)}},
		{"5.2.2.10 s-maxage, no number", []string{"s-maxage=soon"}, Directives{SMaxAge: seconds(0)}},

		{"5.2.2.5 no-store", []string{"no-store"}, Directives{NoStore: true}},
		{"5.2.2.5 no-store with argument", []string{"no-store=1"}, Directives{NoStore: true}},
		{"5.2.2.5 no-store, junk behind", []string{"no-store; max-age=60"}, Directives{NoStore: true}},
		{"5.2.2.4 no-cache", []string{"no-cache"}, Directives{NoCache: true}},
		{"5.2.2.4 no-cache with fields", []string{`no-cache="set-cookie, X-Foo"`}, Directives{Withheld: []string{"Set-Cookie", "X-Foo"}}},
		{"5.2.2.4 no-cache with a token", []string{`no-cache=X-Foo`}, Directives{Withheld: []string{"X-Foo"}}},
		{"5.2.2.4 no-cache, no fields", []string{`no-cache=""`}, Directives{NoCache: true}},
		{"5.2.2.4 no-cache, no names", []string{`no-cache="a b"`}, Directives{NoCache: true}},
		{"5.2.2.4 no-cache, quote not closed", []string{`no-cache="a, public`}, Directives{NoCache: true, Public: true}},
		{"5.2.2.4 no-cache, both forms", []string{`no-cache="a", no-cache`}, Directives{NoCache: true, Withheld: []string{"A"}}},
		{"RFC 9110 5.6.2 names", []string{`no-cache="!#$%&'*+-.^_|~` + "`" + `09azAZ, X"`}, Directives{Withheld: []string{"!#$%&'*+-.^_|~`09azaz", "X"}}},
		{"RFC 9110 5.6.2 no names", []string{`no-cache="X:"`}, Directives{NoCache: true}},
		{"5.2.2.7 private", []string{"private"}, Directives{Private: true}},
		{"5.2.2.7 private with fields", []string{`private="x-user"`}, Directives{Withheld: []string{"X-User"}}},
		{"5.2.2.7 private, empty", []string{`private=`}, Directives{Private: true}},
		{"5.2.2.9 public", []string{"public"}, Directives{Public: true}},
		{"5.2.2.9 public with argument permits nothing", []string{"public=yes"}, Directives{}},
		{"5.2.2.2 must-revalidate", []string{"must-revalidate"}, Directives{MustRevalidate: true}},
		{"5.2.2.8 proxy-revalidate", []string{"proxy-revalidate"}, Directives{ProxyRevalidate: true}},
		{"5.2.2.3 must-understand", []string{"must-understand, no-store"}, Directives{MustUnderstand: true, NoStore: true}},
		{"5.2.2.3 must-understand with argument permits nothing", []string{"must-understand=1, no-store"}, Directives{NoStore: true}},
		{"5.2.2.6 no-transform", []string{"no-transform"}, Directives{NoTransform: true}},

		{"RFC 5861 3", []string{"stale-while-revalidate=60"}, Directives{StaleWhileRevalidate: seconds(60)}},
		{"RFC 5861 3 no number permits nothing", []string{"stale-while-revalidate=x, stale-while-revalidate"}, Directives{}},
		{"RFC 5861 4", []string{"stale-if-error=60, stale-if-error=90"}, Directives{StaleIfError: seconds(60)}},
		{"RFC 8246 2", []string{"immutable, immutable"}, Directives{Immutable: true}},
		{"RFC 8246 2 argument means nothing", []string{"immutable=0"}, Directives{Immutable: true}},
	} {
		if got := ParseDirectives(tc.lines); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %q\n got %+v\nwant %+v", tc.name, tc.lines, got, tc.want)
		}
	}
}

// TestRequestDirectives_5_2_1 is RFC 9111 sections 5.2.1 and 5.4, and RFC 5861.
func TestRequestDirectives_5_2_1(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lines []string
		want  RequestDirectives
	}{
		{"nothing", nil, RequestDirectives{}},
		{"5.2.1.1 max-age", []string{"Cache-Control: max-age=0"}, RequestDirectives{MaxAge: seconds(0)}},
		{"5.2.1.1 no number is ignored", []string{"Cache-Control: max-age=x"}, RequestDirectives{}},
		{"5.2.1.1 the first that is one", []string{"Cache-Control: max-age=x, max-age=5, max-age=6"}, RequestDirectives{MaxAge: seconds(5)}},
		{"5.2.1.2 max-stale", []string{"Cache-Control: max-stale=5"}, RequestDirectives{MaxStale: seconds(5)}},
		{"5.2.1.2 max-stale without number", []string{"Cache-Control: max-stale"}, RequestDirectives{MaxStale: Delta{Forever, true}}},
		{"5.2.1.2 max-stale, no number", []string{"Cache-Control: max-stale=x"}, RequestDirectives{}},
		{"5.2.1.3 min-fresh", []string{"Cache-Control: min-fresh=5"}, RequestDirectives{MinFresh: seconds(5)}},
		{"5.2.1.4 no-cache", []string{"Cache-Control: no-cache"}, RequestDirectives{NoCache: true}},
		{"5.2.1.5 no-store", []string{"Cache-Control: no-store"}, RequestDirectives{NoStore: true}},
		{"5.2.1.6 no-transform", []string{"Cache-Control: no-transform"}, RequestDirectives{NoTransform: true}},
		{"5.2.1.7 only-if-cached", []string{"Cache-Control: only-if-cached"}, RequestDirectives{OnlyIfCached: true}},
		{"RFC 5861 4", []string{"Cache-Control: stale-if-error=5"}, RequestDirectives{StaleIfError: seconds(5)}},
		{"several lines", []string{"Cache-Control: max-age=1", "Cache-Control: no-cache"}, RequestDirectives{MaxAge: seconds(1), NoCache: true}},
		{"directives of responses", []string{"Cache-Control: public, s-maxage=1, must-revalidate"}, RequestDirectives{}},
		{"5.4 Pragma", []string{"Pragma: no-cache"}, RequestDirectives{NoCache: true}},
		{"5.4 Pragma, case", []string{"Pragma: foo=bar, No-Cache"}, RequestDirectives{NoCache: true}},
		{"5.4 Pragma, another", []string{"Pragma: foo"}, RequestDirectives{}},
		{"5.4 Cache-Control goes before Pragma", []string{"Pragma: no-cache", "Cache-Control: max-age=9"}, RequestDirectives{MaxAge: seconds(9)}},
	} {
		if got := ParseRequest(fields(tc.lines...)); got != tc.want {
			t.Errorf("%s: %q\n got %+v\nwant %+v", tc.name, tc.lines, got, tc.want)
		}
	}
}

// TestIgnoreClients is a policy for which requests cannot cost the upstream anything.
func TestIgnoreClients(t *testing.T) {
	h := fields("Cache-Control: no-cache, no-store, max-age=0, min-fresh=9, max-stale=5, only-if-cached, stale-if-error=7, no-transform")
	want := RequestDirectives{MaxStale: seconds(5), OnlyIfCached: true, StaleIfError: seconds(7), NoTransform: true}
	if got := (Policy{IgnoreClients: true}).Request(h); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got := (Policy{IgnoreClients: true}).Request(fields("Pragma: no-cache")); got != (RequestDirectives{}) {
		t.Errorf("Pragma: %+v", got)
	}
	if got := (Policy{}).Request(h); got != ParseRequest(h) {
		t.Errorf("without it: %+v", got)
	}
}

// TestTargeted_RFC9213 is RFC 9213 sections 2.1 and 2.2.
func TestTargeted_RFC9213(t *testing.T) {
	p := Policy{Targets: []string{"ExampleCDN-Cache-Control", CDNCacheControl}}
	const cc = "Cache-Control: max-age=1"
	plain := Directives{MaxAge: seconds(1)}
	for _, tc := range []struct {
		name  string
		lines []string
		want  Directives
	}{
		{"2.2 goes before Cache-Control", []string{cc, "CDN-Cache-Control: max-age=60"}, Directives{MaxAge: seconds(60), Targeted: true}},
		{"2.2 the first of the list", []string{"CDN-Cache-Control: max-age=60", "ExampleCDN-Cache-Control: max-age=90"}, Directives{MaxAge: seconds(90), Targeted: true}},
		{"2.2 the first that can be read", []string{"CDN-Cache-Control: max-age=60", "ExampleCDN-Cache-Control: &"}, Directives{MaxAge: seconds(60), Targeted: true}},
		{"2.2 not on the list", []string{cc, "Other-Cache-Control: max-age=60"}, plain},
		{"2.1 empty", []string{cc, "CDN-Cache-Control: "}, plain},
		{"2.1 no dictionary", []string{cc, "CDN-Cache-Control: max-age=60, &&&"}, plain},
		{"2.1 a string for a number", []string{cc, `CDN-Cache-Control: max-age="60"`}, plain},
		{"2.1 a fraction", []string{cc, "CDN-Cache-Control: max-age=60.0"}, plain},
		{"2.1 negative", []string{cc, "CDN-Cache-Control: max-age=-60"}, plain},
		{"2.1 no number at all", []string{cc, "CDN-Cache-Control: max-age"}, plain},
		{"2.1 a list", []string{cc, "CDN-Cache-Control: max-age=(60)"}, plain},
		{"2.1 upper case is no key", []string{cc, "CDN-Cache-Control: MaX-aGe=60"}, plain},
		{"2.1 space before =", []string{cc, "CDN-Cache-Control: max-age =60"}, plain},
		{"2.1 parameters", []string{cc, "CDN-Cache-Control: max-age=60;x=1, no-store;y"}, Directives{MaxAge: seconds(60), NoStore: true, Targeted: true}},
		{"2.1 the last of two", []string{cc, "CDN-Cache-Control: max-age=60, max-age=90"}, Directives{MaxAge: seconds(90), Targeted: true}},
		{"2.1 several lines", []string{cc, "CDN-Cache-Control: max-age=60", "CDN-Cache-Control: private"}, Directives{MaxAge: seconds(60), Private: true, Targeted: true}},
		{"2.1 unknown", []string{cc, "CDN-Cache-Control: none"}, Directives{Targeted: true}},
		{"2.1 fields", []string{cc, `CDN-Cache-Control: no-cache="X-A, X-B", private=x-c`}, Directives{Withheld: []string{"X-A", "X-B", "X-C"}, Targeted: true}},
		{"2.1 zero", []string{cc, "CDN-Cache-Control: max-age=0"}, Directives{MaxAge: seconds(0), Targeted: true}},
		{"2.1 false", []string{cc, "CDN-Cache-Control: no-store=?0"}, Directives{Targeted: true}},
		{"2.1 a number for none", []string{cc, "CDN-Cache-Control: no-store=1, public=1"}, Directives{NoStore: true, Targeted: true}},
		{"2.1 large", []string{cc, "CDN-Cache-Control: max-age=99999999999"}, Directives{MaxAge: Delta{Forever, true}, Targeted: true}},
		{"2.2 all directives", []string{"CDN-Cache-Control: must-revalidate, s-maxage=2, stale-while-revalidate=3, stale-if-error=4, immutable"}, Directives{
			MustRevalidate: true, SMaxAge: seconds(2), StaleWhileRevalidate: seconds(3), StaleIfError: seconds(4), Immutable: true, Targeted: true,
		}},
	} {
		if got := p.Directives(fields(tc.lines...)); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %q\n got %+v\nwant %+v", tc.name, tc.lines, got, tc.want)
		}
	}
	if got := (Policy{}).Directives(fields(cc, "CDN-Cache-Control: max-age=60")); !reflect.DeepEqual(got, plain) {
		t.Errorf("without targets: %+v", got)
	}
	if http.CanonicalHeaderKey(CDNCacheControl) != CDNCacheControl {
		t.Errorf("%s is not how net/http writes it", CDNCacheControl)
	}
}
