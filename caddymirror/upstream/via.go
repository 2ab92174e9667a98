package upstream

import "strings"

// Looped reports whether a request that was received has been here before: its Via (RFC
// 9110 section 7.6.3) names this pseudonym. The answer is status 508.
func Looped(via []string, pseudonym string) bool {
	for _, line := range via {
		for len(line) > 0 {
			var element string
			element, line = cutVia(line)
			// received-protocol, received-by, and comments.
			if fields := strings.Fields(element); len(fields) >= 2 && strings.EqualFold(fields[1], pseudonym) {
				return true
			}
		}
	}
	return false
}

// cutVia cuts off the first element of a list; commas within comments are none of the list's.
func cutVia(list string) (element, rest string) {
	depth := 0
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case '\\':
			if depth > 0 {
				i++
			}
		case '(':
			depth++
		case ')':
			depth = max(depth-1, 0)
		case ',':
			if depth == 0 {
				return list[:i], list[i+1:]
			}
		}
	}
	if depth > 0 { // a comment that does not end hides nothing
		element, rest, _ = strings.Cut(list, ",")
		return element, rest
	}
	return list, ""
}

// maxVia bounds what is passed on of a received Via, in bytes.
const maxVia = 4 << 10

// via is the field that goes out.
func via(received []string, pseudonym string) string {
	list := strings.Join(received, ", ")
	if list == "" || len(list) > maxVia {
		return "1.1 " + pseudonym
	}
	return list + ", 1.1 " + pseudonym
}
