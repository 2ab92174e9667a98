// Package accept reads the Accept field of a request: which media types it accepts,
// and which it prefers (RFC 9110 section 12.5.1). It consists of pure functions.
package accept

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// List is what an Accept field says. An empty one accepts everything, as a request
// without the field does.
type List []mediaRange

// A mediaRange is a set of media types, and how much they are wanted.
type mediaRange struct {
	MediaType
	weight int // in thousandths
}

// MediaType is a media type (RFC 9110 section 8.3.1), in lower case.
type MediaType struct {
	typ, subtype string
	params       []param
}

type param struct{ name, value string }

// Parse reads an Accept field; several lines of it are joined with commas.
//
// It is lenient where the meaning is clear: a lone `*` stands for `*/*`, and `.2`
// for 0.2. An element that is no media range is ignored; a field with no other
// elements counts as absent (RFC 9110 section 12.1). What a field has beyond 16 KiB
// is ignored.
func Parse(field string) List {
	const maxField = 16 << 10
	if len(field) > maxField {
		field = field[:maxField]
	}
	var l List
	for element := range split(field, ',') {
		if r, ok := parseRange(element); ok {
			l = append(l, r)
		}
	}
	return l
}

// ParseType reads a media type, without ranges and weights.
func ParseType(s string) (MediaType, bool) {
	r, ok := parseRange(s)
	if !ok || r.typ == "*" || r.subtype == "*" || r.weight != full {
		return MediaType{}, false
	}
	return r.MediaType, true
}

// full is the weight of what has none.
const full = 1000

func parseRange(s string) (mediaRange, bool) {
	r := mediaRange{weight: full}
	first := true
	for part := range split(s, ';') {
		if first {
			first = false
			if part == "*" {
				part = "*/*"
			}
			typ, subtype, ok := strings.Cut(strings.ToLower(part), "/")
			if !ok || !isToken(typ) || !isToken(subtype) || typ == "*" && subtype != "*" {
				return r, false
			}
			r.typ, r.subtype = typ, subtype
			continue
		}
		if part == "" {
			continue // RFC 9110 section 5.6.6 allows it
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.ToLower(name)
		if !ok || !isToken(name) {
			return r, false
		}
		if name == "q" { // wherever it stands
			if r.weight, ok = parseWeight(value); !ok {
				return r, false
			}
			continue
		}
		r.params = append(r.params, param{name, strings.ToLower(unquote(value))})
	}
	return r, !first
}

// parseWeight reads a qvalue (RFC 9110 section 12.4.2), in thousandths.
func parseWeight(s string) (int, bool) {
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		return 0, false // what else ParseFloat takes: signs, exponents, NaN
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f > 1 {
		return 0, false
	}
	if w := int(math.Round(f * full)); w > 0 || f == 0 {
		return w, true
	}
	return 1, true // less than a thousandth is still more than none
}

// Weight is how much a media type is wanted, in thousandths: 0 if it is not
// acceptable. The most specific range that contains it decides; specific is how
// specific that is: 0 for none, 1 for `*/*`, 2 for `type/*`, and more for the type
// by name.
func (l List) Weight(t MediaType) (weight, specific int) {
	if len(l) == 0 {
		return full, 1
	}
	for i := range l {
		s := l[i].matches(t)
		if s > specific || s == specific && s > 0 && l[i].weight > weight {
			weight, specific = l[i].weight, s
		}
	}
	return weight, specific
}

// matches is how specifically the range has a media type in it, 0 if it has not.
func (r *mediaRange) matches(t MediaType) int {
	var s int
	switch {
	case r.typ == "*":
		s = 1
	case r.typ != t.typ:
		return 0
	case r.subtype == "*":
		s = 2
	case r.subtype != t.subtype:
		return 0
	default:
		s = 3
	}
	for _, p := range r.params {
		if !slices.Contains(t.params, p) {
			return 0
		}
	}
	return s + len(r.params)
}

// Is reports whether two media types are the same, whatever their parameters.
func (t MediaType) Is(other MediaType) bool {
	return t.typ == other.typ && t.subtype == other.subtype
}

// split are the parts of s between separators that are not in quoted strings,
// without white space around them.
func split(s string, sep byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		begin, quoted := 0, false
		for i := 0; i < len(s); i++ {
			switch c := s[i]; {
			case c == '"':
				quoted = !quoted
			case quoted && c == '\\':
				i++
			case c == sep && !quoted:
				if !yield(strings.Trim(s[begin:i], " \t")) {
					return
				}
				begin = i + 1
			}
		}
		yield(strings.Trim(s[begin:], " \t"))
	}
}

// unquote is the value of a token or a quoted string (RFC 9110 section 5.6.4).
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2), as names of fields are.
func isToken(s string) bool { return httpguts.ValidHeaderFieldName(s) }
