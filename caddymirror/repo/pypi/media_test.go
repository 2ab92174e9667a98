package pypi

import (
	"slices"
	"strings"
	"testing"
)

// TestNegotiate holds the choice of a page against the text of RFC 9110 and PEP 691.
// In wants, j stands for JSON, h for HTML, t for text/html.
func TestNegotiate(t *testing.T) {
	const (
		json       = "application/vnd.pypi.simple.v1+json"
		html       = "application/vnd.pypi.simple.v1+html"
		latestJSON = "application/vnd.pypi.simple.latest+json"
		latestHTML = "application/vnd.pypi.simple.latest+html"
	)
	for _, tc := range []struct {
		clause, accept, want string
	}{
		// What clients send.
		{"pip 22.2 and later", json + ", " + html + "; q=0.1, text/html; q=0.01", "jht"},
		{"uv", json + ", " + html + ";q=0.2, text/html;q=0.01", "jht"},
		{"poetry", json + ", " + html + ";q=0.2, text/html;q=0.01", "jht"},
		{"pip before 22.2", "text/html", "t"},
		{"curl, requests, twine", "*/*", "thj"},
		{"Python's urllib, easy_install: no field is */* (PEP 691, Version + Format Selection, 2)", "", "thj"},
		{"setuptools' package_index", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "thj"},
		{"Firefox", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "thj"},
		{"bandersnatch's simple client", json, "j"},
		{"the example of PEP 691", json + ", " + html + ";q=0.2, text/html;q=0.01", "jht"},

		// PEP 691: names.
		{"PEP 691, Content-Types: v1+html", html, "h"},
		{"PEP 691, Content-Types: latest is answered with what it stands for", latestJSON, "j"},
		{"PEP 691, Content-Types: latest", latestHTML, "h"},
		{"PEP 691, Content-Types: latest of both", latestJSON + ", " + latestHTML + ";q=0.5", "jh"},
		{"PEP 691: there is no v2 yet", "application/vnd.pypi.simple.v2+json", ""},
		{"PEP 691: v2 is wanted, v1 is there", "application/vnd.pypi.simple.v2+json, " + json + ";q=0.5", "j"},
		{"PEP 691: application/json is no name of it", "application/json", ""},
		{"PEP 691, Recommendations: the most expressive of equals", "text/html, " + html + ", " + json, "jht"},
		{"PEP 691, Recommendations: text/html is the last resort", "text/html, " + html, "ht"},
		{"PEP 691: the order in the field means nothing", html + ", " + json, "jh"},
		{"the name says more than its alias", json + ";q=0.2, " + latestJSON + ", text/html;q=0.5", "tj"},
		{"what latest stands for is not wanted", json + ";q=0, " + latestJSON, ""},
		{"latest says more than a range that it is in", latestJSON + ", application/*;q=0.1, text/html;q=0.5", "jth"},

		// RFC 9110 section 12.4.2: weights.
		{"12.4.2: JSON less than HTML", json + ";q=0.5, " + html, "hj"},
		{"12.4.2: no weight is 1", json + ";q=0.999, text/html", "tj"},
		{"12.4.2: 0 is not acceptable", json + ";q=0", ""},
		{"12.4.2: 0.0 and 0.000, too", json + ";q=0.000, text/html;q=0.0, " + html, "h"},
		{"12.4.2: three digits count", json + ";q=0.001, text/html;q=0.002", "tj"},
		{"12.4.2: 1.000", "text/html;q=1.000, " + json + ";q=0.9", "tj"},
		{"12.4.2: a dot without digits", "text/html;q=1., " + json + ";q=0.", "t"},
		{"12.4.2: white space around the semicolon", json + " ; q=0.1 , text/html ; q=0.2", "tj"},
		{"12.4.2: q is not case-sensitive", json + ";Q=0.1, text/html;Q=0.2", "tj"},

		// Section 12.5.1: ranges.
		{"12.5.1: application/* has two of them", "application/*", "jh"},
		{"12.5.1: text/* has text/html", "text/*", "t"},
		{"12.5.1: a type by name says more than its range", "application/*;q=0.9, " + json + ";q=0.1", "hj"},
		{"12.5.1: a range says more than */*", "*/*;q=0.1, text/*;q=0.9", "thj"},
		{"12.5.1: all but one", "*/*, text/html;q=0", "hj"},
		{"12.5.1: all but two", "*/*;q=0.5, application/*;q=0", "t"},
		{"12.5.1: nothing at all", "*/*;q=0", ""},
		{"12.5.1: by name before as any, at the same weight", json + ";q=0.5, */*;q=0.5", "jth"},
		{"12.5.1: other types only", "image/png, application/xml;q=0.9", ""},
		{"12.5.1: a parameter that it has not", "text/html;level=1", ""},
		{"12.5.1: the parameter says more", "text/html;level=1, text/html;q=0.3, " + json + ";q=0.2", "tj"},
		{"12.5.1: the charset that it has", "text/html;charset=UTF-8", "t"},
		{"12.5.1: the charset that it has, quoted", `application/vnd.pypi.simple.v1+json; charset="utf-8"`, "j"},
		{"12.5.1: another charset", "text/html;charset=iso-8859-1", ""},
		{"12.5.1: weight before a parameter (recipients process any q as weight)", "text/html;q=0.1;charset=utf-8, " + json + ";q=0.2", "jt"},

		// Sections 8.3.1, 5.6: syntax.
		{"8.3.1: types are not case-sensitive", "TEXT/HTML, Application/Vnd.PyPI.Simple.V1+JSON;q=0.5", "tj"},
		{"5.6.1.2: empty elements are ignored", ", ,text/html,, ", "t"},
		{"5.6.6: empty parameters are ignored", "text/html;;q=0.5;", "t"},
		{"5.6.4: a comma in a quoted string", `text/plain;a="x, ` + json + `", text/html;q=0.1`, "t"},
		{"5.6.4: a quotation mark in a quoted string", `text/plain;a="\", ` + json + `", text/html`, "t"},

		// Section 12.1: what makes no sense may be disregarded.
		{"12.1: a weight over 1", json + ";q=2, text/html;q=0.1", "t"},
		{"12.1: a weight below 0", json + ";q=-1, text/html;q=0.1", "t"},
		{"12.1: a weight that is no number", json + ";q=NaN, " + html + ";q=1e0, text/html;q=0.1", "t"},
		{"12.1: no media range at all", "json", "thj"},
		{"12.1: a range of no type", "*/json, text/html", "t"},
		{"12.5.1: an empty field is no field", "  ", "thj"},
	} {
		var got strings.Builder
		for _, m := range Negotiate(tc.accept) {
			got.WriteByte(map[MediaType]byte{JSON: 'j', HTML: 'h', TextHTML: 't'}[m])
		}
		if got.String() != tc.want {
			t.Errorf("%s: Accept: %s: got %q, want %q", tc.clause, tc.accept, got.String(), tc.want)
		}
	}
}

func TestRequested(t *testing.T) {
	for _, tc := range []struct {
		query string
		want  MediaType
		told  bool
	}{
		{"", "", false},
		{"x=1&formats=text/html", "", false},
		{"format=application/vnd.pypi.simple.v1+json", JSON, true},
		{"format=application/vnd.pypi.simple.v1%2Bjson", JSON, true},
		{"a=b&format=application%2Fvnd.pypi.simple.latest%2Bhtml&c", HTML, true},
		{"format=TEXT/html", TextHTML, true},
		{"format=application/vnd.pypi.simple.v2+json", "", true},
		{"format=json", "", true},
		{"format=", "", true},
		{"format=%zz", "", true},
		{"format=*/*", "", true},
		{"format=text/html;q=0.5", "", true}, // weights are not supported
		{"format=text/html,application/vnd.pypi.simple.v1%2Bjson", "", true},
	} {
		if got, told := Requested(tc.query); got != tc.want || told != tc.told {
			t.Errorf("%q: got %q, %t, want %q, %t", tc.query, got, told, tc.want, tc.told)
		}
	}
}

// FuzzNegotiate: whatever a client sends, each type comes once at most, and an element
// that refuses all is obeyed.
func FuzzNegotiate(f *testing.F) {
	f.Add(`text/html;q=0.1, */*;q="0\`)
	f.Add(",;=/*\",")
	f.Fuzz(func(t *testing.T, field string) {
		got := Negotiate(field)
		sorted := slices.Clone(got)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(got) {
			t.Errorf("%q: got %v", field, got)
		}
	})
}
