package freshness

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestVaryFields_RFC9110_12_5_5 is how Vary is read.
func TestVaryFields_RFC9110_12_5_5(t *testing.T) {
	for _, tc := range []struct {
		lines []string
		want  []string
		ok    bool
	}{
		{nil, nil, true},
		{[]string{""}, nil, true},
		{[]string{"Accept"}, []string{"accept"}, true},
		{[]string{"B, a", ",A ,, c,"}, []string{"a", "b", "c"}, true},
		{[]string{"*"}, nil, false},
		{[]string{"a", " * "}, nil, false},
		{[]string{"*, a"}, nil, false},
		{[]string{"", "*"}, nil, false},
		{[]string{"a b"}, nil, false},
		{[]string{"a;b"}, nil, false},
		{[]string{`"a"`}, nil, false},
	} {
		h := http.Header{}
		if tc.lines != nil {
			h["Vary"] = tc.lines
		}
		if got, ok := VaryFields(h); !reflect.DeepEqual(got, tc.want) || ok != tc.ok {
			t.Errorf("%q: %q %v, want %q %v", tc.lines, got, ok, tc.want, tc.ok)
		}
	}
}

// TestMatch_4_1 is when two requests match: RFC 9111 section 4.1.
func TestMatch_4_1(t *testing.T) {
	for _, tc := range []struct {
		name string
		vary string
		a, b []string
		want bool
	}{
		{"no Vary", "", []string{"Foo: 1"}, []string{"Foo: 2"}, true},
		{"same", "foo", []string{"Foo: 1"}, []string{"Foo: 1"}, true},
		{"another", "foo", []string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{"case of a value", "foo", []string{"Foo: a"}, []string{"Foo: A"}, false},
		{"absent", "foo", []string{"Foo: 1"}, nil, false},
		{"both absent", "foo", nil, nil, true},
		{"empty is not absent", "foo", []string{"Foo: "}, nil, false},
		{"not nominated", "foo", []string{"Foo: 1", "Bar: 1"}, []string{"Foo: 1", "Bar: 2"}, true},
		{"two, same", "foo, bar", []string{"Foo: 1", "Bar: 2"}, []string{"Bar: 2", "Foo: 1"}, true},
		{"two, one another", "foo, bar", []string{"Foo: 1", "Bar: 2"}, []string{"Foo: 1", "Bar: 3"}, false},
		{"two, exchanged", "foo, bar", []string{"Foo: 1", "Bar: 2"}, []string{"Foo: 2", "Bar: 1"}, false},
		{"two, one absent", "foo, bar", []string{"Foo: 1"}, []string{"Bar: 1"}, false},
		{"a value that looks like two fields", "foo, bar", []string{`Foo: 1";bar="2`}, []string{"Foo: 1", "Bar: 2"}, false},
		{"white space around", "foo", []string{"Foo:  1\t"}, []string{"Foo: 1"}, true},
		{"white space within what is not known to be a list", "foo", []string{"Foo: 1,2"}, []string{"Foo: 1, 2"}, false},
		{"lines combined", "foo", []string{"Foo: 1", "Foo: 2"}, []string{"Foo: 1, 2"}, true},
		{"order of lines", "foo", []string{"Foo: 1", "Foo: 2"}, []string{"Foo: 2", "Foo: 1"}, false},

		{"encodings: white space", "accept-encoding", []string{"Accept-Encoding: gzip,br"}, []string{"Accept-Encoding: gzip , br"}, true},
		{"encodings: order", "accept-encoding", []string{"Accept-Encoding: gzip, br"}, []string{"Accept-Encoding: br, gzip"}, true},
		{"encodings: case", "accept-encoding", []string{"Accept-Encoding: GZip"}, []string{"Accept-Encoding: gzip"}, true},
		{"encodings: lines", "accept-encoding", []string{"Accept-Encoding: gzip", "Accept-Encoding: br"}, []string{"Accept-Encoding: br,gzip"}, true},
		{"encodings: alias", "accept-encoding", []string{"Accept-Encoding: x-gzip, x-compress"}, []string{"Accept-Encoding: compress, gzip"}, true},
		{"encodings: weight of 1", "accept-encoding", []string{"Accept-Encoding: gzip;q=1.0, br; q=1"}, []string{"Accept-Encoding: gzip, br"}, true},
		{"encodings: form of a weight", "accept-encoding", []string{"Accept-Encoding: gzip;q=0.50"}, []string{"Accept-Encoding: gzip; Q=0.5"}, true},
		{"encodings: weights", "accept-encoding", []string{"Accept-Encoding: gzip;q=0.5, br"}, []string{"Accept-Encoding: gzip, br;q=0.5"}, false},
		{"encodings: none wanted", "accept-encoding", []string{"Accept-Encoding: gzip;q=0"}, []string{"Accept-Encoding: gzip"}, false},
		{"encodings: fewer", "accept-encoding", []string{"Accept-Encoding: gzip"}, []string{"Accept-Encoding: gzip, br"}, false},
		{"encodings: empty is not absent", "accept-encoding", []string{"Accept-Encoding: "}, nil, false},
		{"encodings: malformed keeps its order", "accept-encoding", []string{"Accept-Encoding: gzip;q=2, br"}, []string{"Accept-Encoding: br, gzip;q=2"}, false},
		{"encodings: weight of four digits", "accept-encoding", []string{"Accept-Encoding: gzip;q=0.1234"}, []string{"Accept-Encoding: gzip;q=0.123"}, false},
		{"encodings: weight without a whole", "accept-encoding", []string{"Accept-Encoding: gzip;q=.5"}, []string{"Accept-Encoding: gzip;q=0.5"}, false},
		{"encodings: weight of 1.001", "accept-encoding", []string{"Accept-Encoding: gzip;q=1.001, br"}, []string{"Accept-Encoding: br, gzip;q=1.001"}, false},
		{"encodings: other parameter", "accept-encoding", []string{"Accept-Encoding: gzip;x=1, br"}, []string{"Accept-Encoding: br, gzip;x=1"}, false},
		{"encodings: what is none keeps its order", "accept-encoding", []string{"Accept-Encoding: a b, gzip"}, []string{"Accept-Encoding: gzip, a b"}, false},
		{"encodings: 32 are put in order", "accept-encoding", []string{"Accept-Encoding: " + many(32, false)}, []string{"Accept-Encoding: " + many(32, true)}, true},
		{"encodings: 33 keep their order", "accept-encoding", []string{"Accept-Encoding: " + many(33, false)}, []string{"Accept-Encoding: " + many(33, true)}, false},
		{"encodings: twice keeps its order", "accept-encoding", []string{"Accept-Encoding: gzip;q=0, gzip"}, []string{"Accept-Encoding: gzip, gzip;q=0"}, false},

		{"languages: case and white space", "accept-language", []string{"Accept-Language: en-GB ,de; q=0.5"}, []string{"Accept-Language: en-gb, de;q=0.5"}, true},
		{"languages: order may matter", "accept-language", []string{"Accept-Language: en, de"}, []string{"Accept-Language: de, en"}, false},
		{"media types: white space", "accept", []string{"Accept: text/html ; q=0.5,a/b"}, []string{"Accept: text/html;q=0.5, a/b"}, true},
		{"media types: order", "accept", []string{"Accept: text/html, a/b"}, []string{"Accept: a/b, text/html"}, false},
		{"media types: quoted parameters", "accept", []string{`Accept: a/b;c="x, y"`}, []string{`Accept: a/b;c="x,y"`}, false},
		{"media types: case of parameters", "accept", []string{"Accept: a/b;c=X"}, []string{"Accept: a/b;c=x"}, false},
	} {
		names, _ := VaryFields(fields("Vary: " + tc.vary))
		a, b := VariantKey(names, fields(tc.a...)), VariantKey(names, fields(tc.b...))
		if (a == b) != tc.want {
			t.Errorf("%s: %q, %q", tc.name, a, b)
		}
	}
}

// many lists so many codings.
func many(n int, backwards bool) string {
	var names []string
	for i := range n {
		names = append(names, "c"+strconv.Itoa(i))
	}
	if backwards {
		slices.Reverse(names)
	}
	return strings.Join(names, ",")
}

// TestSelect_4_1 is which of several stored responses answers: RFC 9111 sections 4 and
// 4.1.
func TestSelect_4_1(t *testing.T) {
	variant := func(req Request, lines ...string) Variant {
		v, ok := NewVariant(req, reply(200, lines...))
		if !ok {
			t.Fatalf("%q is no variant", lines)
		}
		return v
	}
	stored := []Variant{
		variant(request("Accept-Encoding: gzip"), "Vary: Accept-Encoding", "Date: "+stamp(-50)),
		variant(request("Accept-Encoding: br"), "Vary: Accept-Encoding", "Date: "+stamp(-40)),
		variant(request("Foo: 1", "Accept-Encoding: gzip"), "Vary: Foo", "Date: "+stamp(-30)),
		variant(request(), "Date: "+stamp(-20)),
		variant(request(), "Date: "+stamp(-25)),
	}
	for _, tc := range []struct {
		name   string
		stored []Variant
		req    http.Header
		want   int
	}{
		{"nothing stored", nil, fields(), -1},
		{"the one that matches", stored[:2], fields("Accept-Encoding: br"), 1},
		{"none matches", stored[:2], fields("Accept-Encoding: zstd"), -1},
		{"absent", stored[:2], fields(), -1},
		{"the most recent that matches", stored[:3], fields("Accept-Encoding: gzip", "Foo: 1"), 2},
		{"each by its own Vary", stored[:3], fields("Accept-Encoding: gzip", "Foo: 2"), 0},
		{"with Vary goes before without", stored, fields("Accept-Encoding: gzip"), 0},
		{"without Vary, the most recent", stored, fields("Accept-Encoding: zstd"), 3},
		{"of the same age, the last", []Variant{stored[3], stored[3]}, fields(), 1},
	} {
		if got := Select(tc.stored, tc.req); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
	if _, ok := NewVariant(request(), reply(200, "Vary: *")); ok {
		t.Error("Vary: * matches something")
	}
}
