package freshness

import (
	"iter"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// elements yields the elements of a list, without white space around them (RFC 9110
// section 5.6.1). A comma within quotes does not end one; a quote that is not closed
// means nothing.
func elements(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		quotes := true
		for s != "" {
			var end int
			end, quotes = elementEnd(s, quotes)
			if e := trim(s[:end]); e != "" && !yield(e) {
				return
			}
			s = strings.TrimPrefix(s[end:], ",")
		}
	}
}

// elementEnd is where the first element of a list ends. Quotes are looked at only if they
// mean anything; if one is not closed, no later one is either, and none does any longer.
func elementEnd(s string, quotes bool) (end int, more bool) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == ',':
			return i, quotes
		case s[i] == '"' && quotes:
			n := quotedLen(s[i:])
			i += n
			quotes = n > 0
		}
	}
	return len(s), quotes
}

// quotedLen is where the quoted string ends that s begins with: the index of its last
// quote, 0 if it has none.
func quotedLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return 0
}

// unquote is what a quoted string says (RFC 9110 section 5.6.4).
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '"' || quotedLen(s) != len(s)-1 {
		return "", false
	}
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2), as names of fields are.
func isToken(s string) bool { return httpguts.ValidHeaderFieldName(s) }

func isTokenByte(c byte) bool { return httpguts.IsTokenRune(rune(c)) }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// trim removes white space around a value (OWS, RFC 9110 section 5.6.3).
func trim(s string) string { return strings.Trim(s, " \t") }
