package freshness

import (
	"net/http"
	"time"
)

// A Request is what the rules need of a request: that which goes to the upstream.
type Request struct {
	Method string
	Header http.Header
}

// A Response is what the rules need of a response.
type Response struct {
	Status int
	Header http.Header

	// RequestTime is when the request was sent, ResponseTime when the header of the
	// response had come (RFC 9111 section 4.2.3).
	RequestTime, ResponseTime time.Time
}

// A Refusal is why a response may not be stored, in a few words; empty if it may be.
type Refusal string

// Why a response may not be stored (RFC 9111 section 3).
const (
	RefusedMethod        Refusal = "method"                  // only responses to GET are stored
	RefusedStatus        Refusal = "status"                  // not final, or never to be stored
	RefusedUnknown       Refusal = "must-understand"         // of a status that is not known here
	RefusedNoStore       Refusal = "no-store"                // the response says so
	RefusedRequest       Refusal = "no-store in the request" // the client does
	RefusedPrivate       Refusal = "private"
	RefusedAuthorization Refusal = "authorization" // section 3.5
	RefusedVary          Refusal = "vary: *"       // it would never be selected, section 4.1
	RefusedPartial       Refusal = "partial"       // a part that cannot be combined, section 3.4
	RefusedNotCacheable  Refusal = "not cacheable" // neither by its status nor by what it says
)

// Storable tells whether a response may be stored, or why not (RFC 9111 section 3).
//
// Its status may be any: whether a good entry gives way to an error is not decided
// here. A 304 is none to store, but updates one that is ([Policy.Update]).
func (p Policy) Storable(req Request, resp Response) Refusal {
	d := p.Directives(resp.Header)
	switch {
	case req.Method != http.MethodGet:
		return RefusedMethod
	case !final(resp.Status):
		return RefusedStatus
	case d.MustUnderstand && !understood[resp.Status]:
		return RefusedUnknown
	case d.NoStore && !d.MustUnderstand: // section 5.2.2.3
		return RefusedNoStore
	case p.Request(req.Header).NoStore:
		return RefusedRequest
	case d.Private:
		return RefusedPrivate
	case len(req.Header["Authorization"]) > 0 && !p.shareable(resp.Status, d):
		return RefusedAuthorization
	case !heuristic[resp.Status] && !d.Public && !d.MaxAge.Set && !d.SMaxAge.Set && (d.Targeted || len(resp.Header["Expires"]) == 0):
		return RefusedNotCacheable
	}
	if _, ok := VaryFields(resp.Header); !ok {
		return RefusedVary
	}
	if resp.Status == http.StatusPartialContent {
		if _, ok := ParsePart(resp.Status, resp.Header); !ok {
			return RefusedPartial
		}
	}
	return ""
}

// shareable reports whether a response to a request with Authorization may be used for
// others (RFC 9111 section 3.5).
func (p Policy) shareable(status int, d Directives) bool {
	// These two permit it only to whom asks again as they say; a rule does not.
	return d.Public || p.rule(status) == Rule{} && (d.MustRevalidate || d.SMaxAge.Set)
}

// final reports whether a status is one that a response can be stored with: final, not
// one that says something of another response, and not one of those that RFC 6585
// forbids to store.
func final(status int) bool {
	switch status {
	case http.StatusNotModified, http.StatusPreconditionRequired, http.StatusTooManyRequests,
		http.StatusRequestHeaderFieldsTooLarge, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return 200 <= status && status < 600
}

// heuristic are the statuses that are cacheable by default (RFC 9110 section 15.1, RFC
// 7725).
var heuristic = map[int]bool{
	200: true, 203: true, 204: true, 206: true, 300: true, 301: true, 308: true,
	404: true, 405: true, 410: true, 414: true, 451: true, 501: true,
}

// understood are the statuses of which all rules of caching are obeyed here: those of RFC
// 9110 section 15, and 451.
var understood = map[int]bool{
	200: true, 201: true, 202: true, 203: true, 204: true, 205: true, 206: true,
	300: true, 301: true, 302: true, 303: true, 307: true, 308: true,
	400: true, 401: true, 402: true, 403: true, 404: true, 405: true, 406: true, 407: true,
	408: true, 409: true, 410: true, 411: true, 412: true, 413: true, 414: true, 415: true,
	416: true, 417: true, 421: true, 422: true, 426: true, 451: true,
	500: true, 501: true, 502: true, 503: true, 504: true, 505: true,
}
