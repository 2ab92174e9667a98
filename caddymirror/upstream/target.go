package upstream

import (
	"net/url"
	"strings"
)

// resolve is the URL of a target as it was received: a path that begins with a slash, and
// perhaps a query. What stands in it in percent-encoding goes out as it came, since `%2F`
// is not `/` to a registry of npm packages.
func resolve(base *url.URL, target string) (*url.URL, bool) {
	path, query, hasQuery := strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") || !printable(target) || climbs(path) {
		return nil, false
	}
	raw := strings.TrimSuffix(base.EscapedPath(), "/") + path
	u := &url.URL{Scheme: base.Scheme, Host: base.Host, RawQuery: query, ForceQuery: hasQuery && query == ""}
	plain, err := url.PathUnescape(raw)
	if err != nil {
		return nil, false
	}
	u.Path, u.RawPath = plain, raw
	if u.EscapedPath() != raw && !strings.HasPrefix(raw, "//") {
		// What net/url would write in another way. Through a proxy of the network this
		// has no effect other than that its request line lacks the host.
		u.Opaque = raw
	}
	return u, true
}

// printable reports whether s can stand in a request line.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// climbs reports whether a path leads out of the directory it begins in, as some server
// may see it: the upstream's own path in front of it must hold.
func climbs(path string) bool {
	path, _ = url.PathUnescape(path)
	for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if name, _, _ := strings.Cut(segment, ";"); name == ".." {
			return true
		}
	}
	return false
}
