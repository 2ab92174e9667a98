package accept

import (
	"strings"
	"testing"
)

func TestWeight(t *testing.T) {
	for _, tc := range []struct {
		field, typ       string
		weight, specific int
	}{
		{"", "text/html", 1000, 1},
		// The example of RFC 9110 section 12.5.1.
		{rfcExample, "text/plain;format=flowed", 1000, 4},
		{rfcExample, "text/plain", 700, 3},
		{rfcExample, "text/html", 300, 2},
		{rfcExample, "image/jpeg", 500, 1},
		{rfcExample, "text/plain;format=fixed", 400, 4},
		{"text/html;q=0.0004", "text/html", 1, 3},
		{"text/html;q=0.1, text/html;q=0.5", "text/html", 500, 3},
		{`text/plain;a="x\"y"`, `text/plain;a="x\"y"`, 1000, 4},
		{"text/html", "image/png", 0, 0},
		{"text/html" + strings.Repeat(", a/b", 10_000) + ", image/png", "text/html", 1000, 3},
		{"text/html" + strings.Repeat(", a/b", 10_000) + ", image/png", "image/png", 0, 0},
	} {
		typ, ok := ParseType(tc.typ)
		if !ok {
			t.Fatalf("%s is no media type", tc.typ)
		}
		if weight, specific := Parse(tc.field).Weight(typ); weight != tc.weight || specific != tc.specific {
			t.Errorf("Accept: %s: %s has %d, %d, want %d, %d", tc.field, tc.typ, weight, specific, tc.weight, tc.specific)
		}
	}
}

const rfcExample = "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5"

func TestParseType(t *testing.T) {
	for _, s := range []string{"", "text", "text/", "/html", "*/*", "text/*", "text/html;q=0.5", "text/html;x", "te xt/html", "text/html, text/plain"} {
		if typ, ok := ParseType(s); ok {
			t.Errorf("%q is taken for %v", s, typ)
		}
	}
}

// BenchmarkParse is the longest field that a server takes.
func BenchmarkParse(b *testing.B) {
	field := strings.Repeat("a/b;q=0.1,", 100_000)
	for b.Loop() {
		Parse(field)
	}
}
