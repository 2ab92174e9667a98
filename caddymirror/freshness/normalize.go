package freshness

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

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
