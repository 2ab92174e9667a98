package upstream

import (
	"net/http"
	"net/url"
	"strings"
)

// maxSteps is how many redirects are followed.
const maxSteps = 10

// location is where a response redirects to, nil if it does not.
func location(resp *http.Response, at *url.URL) *url.URL {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil
	}
	lines := resp.Header["Location"]
	if len(lines) != 1 {
		return nil
	}
	to, err := at.Parse(lines[0])
	if err != nil || to.Host == "" {
		return nil
	}
	to.User, to.Fragment, to.RawFragment = nil, "", ""
	return to
}

// follows reports whether redirects to a URL are followed: to the upstream's own host, or
// one that is named.
func (u *Upstream) follows(to *url.URL) bool {
	if to.Scheme != "http" && to.Scheme != "https" {
		return false
	}
	host, port := strings.ToLower(to.Hostname()), portOf(to)
	usual := port == usualPort(to.Scheme)
	if host == strings.ToLower(u.base.Hostname()) && (usual || port == portOf(u.base)) {
		return true
	}
	for _, allowed := range u.follow {
		if matchHost(allowed.host, host) && (allowed.port == port || allowed.port == "" && usual) {
			return true
		}
	}
	return false
}

// matchHost compares host names, of which the first may begin with `*.`.
func matchHost(pattern, host string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	return pattern == host
}

func usualPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return usualPort(u.Scheme)
}

// sameOrigin reports whether two URLs have the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

// samePlace is [sameOrigin] and the same path. The query may differ: that of a signed URL
// does each time.
func samePlace(a, b *url.URL) bool {
	return sameOrigin(a, b) && a.EscapedPath() == b.EscapedPath() && a.Opaque == b.Opaque
}

// Below is the target ([Request]) that stands for a URL, if that is one of the upstream's.
func (u *Upstream) Below(at *url.URL) (target string, ok bool) {
	if !sameOrigin(at, u.base) || at.Opaque != "" {
		return "", false
	}
	target, ok = strings.CutPrefix(at.EscapedPath(), strings.TrimSuffix(u.base.EscapedPath(), "/"))
	if !ok || !strings.HasPrefix(target, "/") || climbs(target) {
		return "", false
	}
	if at.RawQuery != "" {
		target += "?" + at.RawQuery
	}
	return target, true
}

// Below is [Upstream.Below] of the first upstream that has a URL.
func (g *Group) Below(at *url.URL) (target string, ok bool) {
	for _, m := range g.members {
		if target, ok = m.Below(at); ok {
			return target, true
		}
	}
	return "", false
}
