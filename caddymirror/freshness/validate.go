package freshness

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Conditions are the header fields of a request that asks whether stored responses are
// still right (RFC 9111 section 4.3.1): all their entity tags, and the date of a single
// one. Nil if they have no validators: then there is nothing to ask with. Responses of
// which only a part is stored are not to be asked about so (section 4.3.2).
func Conditions(stored ...http.Header) http.Header {
	var tags []string
	for _, h := range stored {
		if tag := entityTag(h); tag != "" && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	h := http.Header{}
	if len(tags) > 0 {
		h["If-None-Match"] = []string{strings.Join(tags, ", ")}
	}
	if len(stored) == 1 {
		if _, ok := dateOf(stored[0], "Last-Modified"); ok {
			// As it came: some servers compare the text.
			h["If-Modified-Since"] = []string{trim(stored[0]["Last-Modified"][0])}
		}
	}
	if len(h) == 0 {
		return nil
	}
	return h
}

// Freshened lists which of the stored responses that were asked about a 304 confirms
// (RFC 9111 section 4.3.4). None: it says something of another response, and the request
// is to be repeated without conditions.
//
// If only one was asked about, a 304 without any validator confirms it, also if it has
// validators itself: many servers leave them out, which RFC 9111 does not foresee.
func Freshened(stored []http.Header, notModified http.Header) []int {
	var found []int
	tag := entityTag(notModified)
	modified, dated := dateOf(notModified, "Last-Modified")
	switch {
	case tag != "" && !isWeak(tag):
		for i, h := range stored {
			if entityTag(h) == tag {
				found = append(found, i)
			}
		}
		return found
	case tag != "":
		return latest(stored, func(h http.Header) bool {
			other := entityTag(h)
			return other != "" && strings.TrimPrefix(other, "W/") == strings.TrimPrefix(tag, "W/")
		})
	case dated:
		return latest(stored, func(h http.Header) bool {
			t, ok := dateOf(h, "Last-Modified")
			return ok && t.Equal(modified)
		})
	case len(stored) == 1:
		return []int{0}
	}
	return nil
}

// latest is the most recent of the responses that match, if there is one.
func latest(stored []http.Header, match func(http.Header) bool) []int {
	best := -1
	var bestDate time.Time
	for i, h := range stored {
		if !match(h) {
			continue
		}
		if date, _ := dateOf(h, "Date"); best < 0 || !date.Before(bestDate) {
			best, bestDate = i, date
		}
	}
	if best < 0 {
		return nil
	}
	return []int{best}
}

// Confirms reports whether the 200 that answered a HEAD is about a stored response
// (RFC 9111 section 4.3.5), which it then updates ([Policy.Update]). If it is not, the
// stored response is stale: its Freshness is the zero one from then on.
func Confirms(stored, head http.Header) bool {
	for _, field := range [...]string{"Etag", "Last-Modified", "Content-Length"} {
		if lines := head[field]; len(lines) > 0 {
			if len(stored[field]) == 0 || trim(stored[field][0]) != trim(lines[0]) {
				return false
			}
		}
	}
	return true
}

// StrongValidator is what tells a stored response, byte for byte, from all others of its
// URI (RFC 9110 section 8.8.1), as If-Range has it: the entity tag if that is strong, or
// else Last-Modified if it is long enough before Date (section 8.8.2.2). Empty if there
// is none.
func StrongValidator(h http.Header) string {
	if tag := entityTag(h); tag != "" {
		if isWeak(tag) {
			return ""
		}
		return tag
	}
	modified, ok := dateOf(h, "Last-Modified")
	date, dated := dateOf(h, "Date")
	if !ok || !dated || date.Sub(modified) < strongAfter {
		return ""
	}
	return trim(h["Last-Modified"][0])
}

// strongAfter is how long after its last modification a response makes that a strong
// validator. A second would do if both times came from one clock, which is not known.
const strongAfter = time.Minute

// entityTag is the ETag of a response (RFC 9110 section 8.8.3), empty if it has none or
// several, or what is none.
func entityTag(h http.Header) string {
	if len(h["Etag"]) != 1 {
		return ""
	}
	tag := trim(h["Etag"][0])
	opaque := strings.TrimPrefix(tag, "W/")
	if len(opaque) < 2 || opaque[0] != '"' || strings.IndexByte(opaque[1:], '"') != len(opaque)-2 {
		return ""
	}
	for _, c := range []byte(opaque) {
		if c <= ' ' || c == 0x7f {
			return ""
		}
	}
	return tag
}

func isWeak(tag string) bool { return strings.HasPrefix(tag, "W/") }
