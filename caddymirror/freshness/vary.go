package freshness

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Variant is one of several responses that are stored for one URI: that to requests
// which have the same values in some fields (RFC 9111 section 4.1).
type Variant struct {
	Fields []string  // what the response depends on, as VaryFields has it
	Key    string    // the values of the request, as VariantKey has it
	Date   time.Time // of the response: of several that match, the last is chosen
}

// NewVariant tells which requests a stored response answers. It answers none with
// `Vary: *`.
func NewVariant(req Request, resp Response) (Variant, bool) {
	fields, ok := VaryFields(resp.Header)
	if !ok {
		return Variant{}, false
	}
	return Variant{Fields: fields, Key: VariantKey(fields, req.Header), Date: resp.date()}, true
}

// Select is the variant that answers a request, -1 if there is none (RFC 9111 section
// 4.1). One that depends on something is preferred to one that was sent without Vary, and
// then the most recent.
func Select(variants []Variant, req http.Header) int {
	found := -1
	var best Variant
	for i, v := range variants {
		if v.Key == VariantKey(v.Fields, req) && (found < 0 || compareVariants(v, best) >= 0) {
			found, best = i, v
		}
	}
	return found
}

func compareVariants(a, b Variant) int {
	return cmp.Or(cmp.Compare(min(len(a.Fields), 1), min(len(b.Fields), 1)), a.Date.Compare(b.Date))
}

// VaryFields are the fields of requests that a response depends on, in lower case and
// in order (RFC 9110 section 12.5.5). If there is a `*` among them, or what is no name,
// no request can be said to match: ok is false.
func VaryFields(h http.Header) (fields []string, ok bool) {
	for _, line := range h["Vary"] {
		for name := range elements(line) {
			if name == "*" || !isToken(name) {
				return nil, false
			}
			fields = append(fields, strings.ToLower(name))
		}
	}
	slices.Sort(fields)
	return slices.Compact(fields), true
}

// VariantKey is what a request says in some fields. Two requests match if their keys are
// the same (RFC 9111 section 4.1): what means the same is written in the same way, as
// far as a field is known, and a field that is not there is told from an empty one.
func VariantKey(fields []string, req http.Header) string {
	if len(fields) == 0 {
		return ""
	}
	var b strings.Builder
	for _, name := range fields {
		b.WriteString(name)
		if lines := req[http.CanonicalHeaderKey(name)]; len(lines) > 0 {
			b.WriteByte('=')
			b.WriteString(strconv.Quote(normalize(name, lines)))
		}
		b.WriteByte(';')
	}
	return b.String()
}
