package origin

import "net/url"

// Below is the path and query, with a slash in front, by which a mount of these upstreams
// has a URL; ok is false if the URL is of others.
func (h *HTTP) Below(u *url.URL) (target string, ok bool) { return h.group.Below(u) }
