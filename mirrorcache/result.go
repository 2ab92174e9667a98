package mirrorcache

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/unifiedmirrors/mirror/mirror"
	"github.com/unifiedmirrors/mirror/origin"
)

// result is what became of a request.
type result int

const (
	resultHit         result = iota // from the cache, the origin not asked
	resultStale                     // from the cache, the origin being away
	resultRevalidated               // from the cache, the origin asked
	resultMiss                      // from the origin, into the cache
	resultCollapsed                 // from a fill that another request began
	resultBypass                    // from the origin, past the cache
	resultNotFound                  // not there, forbidden, or nonsense
	resultRejected                  // neither GET nor HEAD, or control characters in the path
	resultRedirect
	resultListing
	resultError   // the origin is away and the cache has nothing
	resultAborted // begun and not ended; counted besides the others
	results
)

func (r result) String() string {
	return [results]string{
		"hit", "stale", "revalidated", "miss", "collapsed", "bypass",
		"not_found", "rejected", "redirect", "listing", "error", "aborted",
	}[r]
}

// Values of Cache-Status (RFC 9211).
var (
	statusHit         = "mirror; hit"
	statusRevalidated = "mirror; fwd=stale; fwd-status=304"
	statusChanged     = "mirror; fwd=stale; fwd-status=200; stored"
	statusGone        = "mirror; fwd=stale; fwd-status=404"
	statusMiss        = "mirror; fwd=uri-miss; fwd-status=200; stored"
	statusHead        = "mirror; fwd=uri-miss; fwd-status=200"
	statusNotFound    = "mirror; fwd=uri-miss; fwd-status=404"
	statusAway        = "mirror; fwd=uri-miss; fwd-status=503"
	statusCollapsed   = "mirror; fwd=uri-miss; collapsed"
	statusBypass      = "mirror; fwd=bypass" //nolint:gosec // no credentials
)

func statusFailed(err error) string {
	if errors.Is(err, origin.ErrAway) {
		return statusAway
	}
	return statusNotFound
}

// metrics are the counters of a mount, looked up once.
type metrics struct {
	requests                              [results]prometheus.Counter
	fromMemory, fromDisk, fromFill        prometheus.Counter
	fromOrigin                            prometheus.Counter
	fillStored, fillBypassed              prometheus.Counter
	fillNotFound, fillFailed              prometheus.Counter
	statSeconds, openSeconds, listSeconds prometheus.Observer
}

func newMetrics(mount string) metrics {
	m := metrics{
		fromMemory:   mirror.Bytes.WithLabelValues(mount, "memory"),
		fromDisk:     mirror.Bytes.WithLabelValues(mount, "disk"),
		fromFill:     mirror.Bytes.WithLabelValues(mount, "fill"),
		fromOrigin:   mirror.Bytes.WithLabelValues(mount, "origin"),
		fillStored:   mirror.Fills.WithLabelValues(mount, "stored"),
		fillBypassed: mirror.Fills.WithLabelValues(mount, "bypassed"),
		fillNotFound: mirror.Fills.WithLabelValues(mount, "not_found"),
		fillFailed:   mirror.Fills.WithLabelValues(mount, "failed"),
		statSeconds:  mirror.OriginSeconds.WithLabelValues(mount, "stat"),
		openSeconds:  mirror.OriginSeconds.WithLabelValues(mount, "open"),
		listSeconds:  mirror.OriginSeconds.WithLabelValues(mount, "list"),
	}
	for r := range results {
		m.requests[r] = mirror.Requests.WithLabelValues(mount, r.String())
	}
	return m
}

// bytes is the counter of what a body reads from. A body that had to change
// over counts for where it ended.
func (m *metrics) bytes(b *body) prometheus.Counter {
	switch {
	case b.remote != nil:
		return m.fromOrigin
	case b.fill != nil:
		return m.fromFill
	case b.entry != nil && b.entry.Bytes() != nil:
		return m.fromMemory
	case b.entry != nil:
		return m.fromDisk
	}
	return m.fromOrigin
}

func (m *metrics) origin(op string) prometheus.Observer {
	switch op {
	case "stat":
		return m.statSeconds
	case "open":
		return m.openSeconds
	}
	return m.listSeconds
}
