package freshness

import (
	"net/http"
	"slices"
)

// dropped are fields that are never stored: those of one connection (RFC 9110 section
// 7.6.1), of the proxy in between (RFC 9111 section 3.1), and cookies, which were meant
// for one client, while requests that go out have none.
var dropped = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
	"Set-Cookie", "Set-Cookie2",
}

// ruling are fields that say how the others may be used. They are kept, whatever
// Connection, no-cache or private name: without them a response would be used for
// longer (RFC 9110 section 7.6.1 forbids to name them in Connection).
var ruling = []string{"Cache-Control", "Expires", "Age", "Date", "Vary"}

// StoredHeader is the header that is stored of a response, a new one (RFC 9111 section
// 3.1). It has a valid Date: that of the response, or when it came (RFC 9110 section
// 6.6.1).
func (p Policy) StoredHeader(resp Response) http.Header {
	h := resp.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	for _, line := range resp.Header["Connection"] {
		for name := range elements(line) {
			p.withhold(h, name)
		}
	}
	for _, name := range p.Directives(resp.Header).Withheld {
		p.withhold(h, name)
	}
	for _, name := range dropped {
		delete(h, name)
	}
	if _, ok := dateOf(h, "Date"); !ok || len(h["Date"]) > 1 {
		h["Date"] = []string{resp.date().UTC().Format(http.TimeFormat)}
	}
	return h
}

// withhold deletes a field, unless it is a ruling one.
func (p Policy) withhold(h http.Header, name string) {
	name = http.CanonicalHeaderKey(name)
	isTarget := func(target string) bool { return http.CanonicalHeaderKey(target) == name }
	if !slices.Contains(ruling, name) && !slices.ContainsFunc(p.Targets, isTarget) {
		delete(h, name)
	}
}

// kept are fields of a stored response that no later one changes, since they say how the
// stored body is made (RFC 9111 section 3.2).
var kept = []string{"Content-Length", "Content-Encoding", "Content-Range"}

// Update is the stored response with the header fields of a newer one that confirms it: a
// 304 (RFC 9111 section 4.3.4), the response to a HEAD (section 4.3.5) or a part of
// the same body (section 3.4). The fields are replaced as section 3.2 says, and the
// times are those of the newer one.
//
// It may have become one that must not be stored ([Policy.Storable]), and answer other
// requests than before ([NewVariant]).
func (p Policy) Update(stored, newer Response) Response {
	h := stored.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	delete(h, "Age") // of a response that was not confirmed
	for name, lines := range p.StoredHeader(newer) {
		if !slices.Contains(kept, name) {
			h[name] = lines
		}
	}
	stored.Header, stored.RequestTime, stored.ResponseTime = h, newer.RequestTime, newer.ResponseTime
	stored.Header = p.StoredHeader(stored)
	return stored
}
