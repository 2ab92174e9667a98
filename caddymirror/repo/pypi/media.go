package pypi

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/accept"
)

// MediaType is what a page of the simple repository API may be served as (PEP 691).
type MediaType string

const (
	JSON MediaType = "application/vnd.pypi.simple.v1+json"
	HTML MediaType = "application/vnd.pypi.simple.v1+html"

	// TextHTML is the same page as HTML, for clients that know no other name for it.
	TextHTML MediaType = "text/html"
)

// A representation is a media type, with what is asked for to get it.
type representation struct {
	MediaType
	exact  accept.MediaType
	latest *accept.MediaType // its alias, if it has one
}

// representations are all that there are, in the order of PEP 691: the most
// expressive first, text/html as the last resort. The pages are in UTF-8, and who asks
// for that gets it.
var representations = []representation{
	{JSON, *parsed(JSON), parsed("application/vnd.pypi.simple.latest+json")},
	{HTML, *parsed(HTML), parsed("application/vnd.pypi.simple.latest+html")},
	{TextHTML, *parsed(TextHTML), nil},
}

func parsed(t MediaType) *accept.MediaType {
	m, ok := accept.ParseType(string(t) + ";charset=utf-8")
	if !ok {
		panic("no media type: " + t)
	}
	return &m
}

// How specific a range of an Accept field is, as accept.List has it.
const (
	anything = 1
	byType   = 2
	byName   = 3
)

// Negotiate returns the media types that an Accept field accepts, the preferred one
// first (RFC 9110 section 12.5.1, PEP 691). Of those with equal weights, types that
// the field names come before those that a range includes, and then the order above
// counts. A client that accepts anything gets text/html.
func Negotiate(field string) []MediaType {
	type offer struct {
		MediaType
		weight, specific, rank int
	}
	l := accept.Parse(field)
	offers := make([]offer, 0, len(representations))
	for i, r := range representations {
		weight, specific := l.Weight(r.exact)
		if r.latest != nil {
			// By another name, unless its own is told, too.
			if w, s := l.Weight(*r.latest); s > byType && specific <= byType {
				weight, specific = w, s
			}
		}
		if specific <= anything {
			i = len(representations) - i
		}
		if weight > 0 {
			offers = append(offers, offer{r.MediaType, weight, min(specific, byName), i})
		}
	}
	slices.SortFunc(offers, func(a, b offer) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(b.specific, a.specific), cmp.Compare(a.rank, b.rank))
	})
	types := make([]MediaType, 0, len(offers))
	for _, o := range offers {
		types = append(types, o.MediaType)
	}
	return types
}

// Requested returns the media type that the parameter `format` of a query asks for
// (PEP 691): told is false if there is no such parameter; t is empty if it names an
// unknown type.
func Requested(query string) (t MediaType, told bool) {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name != "format" {
			continue
		}
		// Not as a form: the plus of a media type stands for itself, and few quote it.
		value, err := url.PathUnescape(value)
		if err != nil {
			return "", true
		}
		asked, ok := accept.ParseType(value)
		if !ok {
			return "", true
		}
		for _, r := range representations {
			if asked.Is(r.exact) || r.latest != nil && asked.Is(*r.latest) {
				return r.MediaType, true
			}
		}
		return "", true
	}
	return "", false
}
