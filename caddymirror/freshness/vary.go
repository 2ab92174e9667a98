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

// normalize writes what means the same in the same way. Of the fields that it does not
// know it only combines the lines.
func normalize(name string, lines []string) string {
	trimmed := make([]string, len(lines))
	for i, line := range lines {
		trimmed[i] = trim(line)
	}
	value := strings.Join(trimmed, ", ")
	switch name {
	case "accept-encoding":
		return normalizeEncodings(value)
	case "accept-language", "accept-charset": // some take the order for a preference
		return strings.ToLower(compact(value))
	case "accept": // parameters of media types may be case-sensitive
		return compact(value)
	}
	return value
}

// compact removes white space around commas and semicolons, and empty elements.
func compact(value string) string {
	var b strings.Builder
	for element := range elements(value) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if strings.Contains(element, `"`) {
			b.WriteString(element)
			continue
		}
		for i, part := range strings.Split(element, ";") {
			if i > 0 {
				b.WriteByte(';')
			}
			b.WriteString(trim(part))
		}
	}
	return b.String()
}

// maxCodings is how many codings of one request are put in order.
const maxCodings = 32

// normalizeEncodings writes Accept-Encoding (RFC 9110 section 12.5.3) with weights of one
// form, the most wanted coding first; the order of equally wanted ones means nothing.
func normalizeEncodings(value string) string {
	type coding struct {
		name   string
		weight int // in thousandths
	}
	var codings []coding
	value = strings.ToLower(compact(value))
	for element := range elements(value) {
		name, param, weighted := strings.Cut(element, ";")
		c := coding{name, 1000}
		if weighted {
			var ok bool
			if c.weight, ok = parseWeight(param); !ok {
				return value
			}
		}
		switch name { // section 8.4.1
		case "x-gzip":
			c.name = "gzip"
		case "x-compress":
			c.name = "compress"
		}
		same := func(other coding) bool { return other.name == c.name }
		if len(codings) == maxCodings || !isToken(name) || slices.ContainsFunc(codings, same) {
			return value
		}
		codings = append(codings, c)
	}
	slices.SortFunc(codings, func(a, b coding) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.name, b.name))
	})
	var b strings.Builder
	for i, c := range codings {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(c.name)
		if c.weight != 1000 {
			b.WriteString(";q=" + strconv.FormatFloat(float64(c.weight)/1000, 'f', -1, 64))
		}
	}
	return b.String()
}

// parseWeight reads `q=` and a qvalue (RFC 9110 section 12.4.2), in thousandths.
func parseWeight(param string) (int, bool) {
	value, ok := strings.CutPrefix(param, "q=")
	if !ok {
		return 0, false
	}
	whole, fraction, _ := strings.Cut(value, ".")
	if whole != "0" && whole != "1" || len(fraction) > 3 {
		return 0, false
	}
	w, err := strconv.ParseUint(whole+(fraction + "000")[:3], 10, 16)
	return int(w), err == nil && w <= 1000
}
