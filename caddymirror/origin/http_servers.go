package origin

import "net/url"

// Servers is an [Origin] of HTTP servers that tells which requests and URLs are theirs.
type Servers interface {
	// Servers is how many there are: so many may be passed over ([Request]).
	Servers() int

	// Below is the path and query, with a slash in front, by which the origin has a URL; ok
	// is false if the URL is of others.
	Below(u *url.URL) (target string, ok bool)

	// Looped reports whether a request with these lines of Via comes from the origin itself.
	Looped(via []string) bool
}

// Below implements [Servers].
func (h *HTTP) Below(u *url.URL) (target string, ok bool) { return h.group.Below(u) }

var _ Servers = (*HTTP)(nil)
