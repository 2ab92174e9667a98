package httpcond

import "strings"

// matches reports whether a list of entity tags has one that is the same as
// etag. What is not an entity tag in it is passed over.
func matches(lines []string, etag string, same func(a, b string) bool) bool {
	if etag == "" {
		return false
	}
	for _, rest := range lines {
		for rest = trim(rest); rest != ""; rest = trim(rest) {
			var tag string
			var ok bool
			if tag, rest, ok = cutTag(rest); ok && same(tag, etag) && (trim(rest) == "" || trim(rest)[0] == ',') {
				return true
			}
			_, rest, _ = strings.Cut(rest, ",")
		}
	}
	return false
}

// isStar reports whether a field is `*`.
func isStar(lines []string) bool { return len(lines) == 1 && trim(lines[0]) == "*" }

// strongMatch and weakMatch compare entity tags (RFC 9110 section 8.8.3.2).
func strongMatch(a, b string) bool { return a == b && a[0] == '"' }

func weakMatch(a, b string) bool { return strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/") }

// cutTag cuts off the entity tag that s begins with. If there is none, all of s
// is left.
func cutTag(s string) (tag, rest string, ok bool) {
	opaque, weak := strings.CutPrefix(s, "W/")
	if opaque == "" || opaque[0] != '"' {
		return "", s, false
	}
	for i := 1; i < len(opaque); i++ {
		switch c := opaque[i]; {
		case c == '"':
			end := i + 1
			if weak {
				end += len("W/")
			}
			return s[:end], s[end:], true
		case c <= ' ', c == 0x7f:
			return "", s, false
		}
	}
	return "", s, false
}

// trim removes white space around a value.
func trim(s string) string { return strings.Trim(s, " \t") }
