package freshness

import (
	"net/http"
	"time"

	"github.com/dunglas/httpsfv"
)

// CDNCacheControl is the targeted field of caches that work for a site (RFC 9213
// section 3).
const CDNCacheControl = "Cdn-Cache-Control"

// parseTargeted reads a targeted field, a dictionary (RFC 9213 section 2.1). One that
// is empty, is no dictionary, or gives a lifetime that is no number, counts as absent.
//
// A directive without argument holds in any form, but for false: most of them forbid.
func parseTargeted(lines []string) (d Directives, ok bool) {
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return d, false
	}
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		item, _ := member.(httpsfv.Item)
		arg := argument{form: malformed}
		switch v := item.Value.(type) {
		case bool:
			if !v {
				continue
			}
			arg.form = none
		case string:
			arg = argument{v, quoted}
		case httpsfv.Token:
			arg = argument{string(v), token}
		}
		delta := map[string]*Delta{
			"max-age": &d.MaxAge, "s-maxage": &d.SMaxAge,
			"stale-while-revalidate": &d.StaleWhileRevalidate, "stale-if-error": &d.StaleIfError,
		}[name]
		if delta == nil {
			d.add(name, arg)
			continue
		}
		seconds, ok := item.Value.(int64)
		if !ok || seconds < 0 {
			return Directives{}, false
		}
		*delta = Delta{time.Duration(min(seconds, forever)) * time.Second, true}
	}
	d.Targeted = true
	return d, true
}

// Directives is what a response says to this cache: in the first of the policy's
// targeted fields that can be read, or else in Cache-Control (RFC 9213 section 2.2).
func (p Policy) Directives(h http.Header) Directives {
	for _, field := range p.Targets {
		if lines := h[http.CanonicalHeaderKey(field)]; len(lines) > 0 {
			if d, ok := parseTargeted(lines); ok {
				return d
			}
		}
	}
	return ParseDirectives(h["Cache-Control"])
}
