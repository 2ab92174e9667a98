package freshness

import (
	"net/http"
	"net/url"
	"strings"
)

// Unsafe reports whether a method may change something at the upstream, so that its
// requests go there always, and its responses invalidate others: all but those that are
// known not to (RFC 9110 section 9.2.1).
func Unsafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return true
}

// Invalidated lists the URIs of which nothing that is stored may be used any longer
// without asking, since a request may have changed it (RFC 9111 section 4.4): the target,
// and what Location and Content-Location name at the same origin. The Freshness of their
// entries is the zero one from then on. None if the method is safe or the response is an
// error.
func Invalidated(method string, target *url.URL, resp Response) []*url.URL {
	if !Unsafe(method) || resp.Status < 200 || resp.Status >= 400 {
		return nil
	}
	uris := []*url.URL{withoutFragment(target)}
	for _, field := range [...]string{"Location", "Content-Location"} {
		if len(resp.Header[field]) == 0 {
			continue
		}
		uri, err := target.Parse(trim(resp.Header[field][0]))
		if err != nil || !sameOrigin(uri, target) {
			continue
		}
		if uri = withoutFragment(uri); !has(uris, uri) {
			uris = append(uris, uri)
		}
	}
	return uris
}

func has(uris []*url.URL, uri *url.URL) bool {
	for _, u := range uris {
		if u.String() == uri.String() {
			return true
		}
	}
	return false
}

func withoutFragment(u *url.URL) *url.URL {
	c := *u
	c.Fragment, c.RawFragment = "", ""
	return &c
}

// sameOrigin compares scheme, host and port (RFC 9110 section 4.3.1).
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	switch strings.ToLower(u.Scheme) {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}
