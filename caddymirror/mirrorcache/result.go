package mirrorcache

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
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
	resultRejected                  // neither GET nor HEAD, control characters in the path, or nothing acceptable
	resultRedirect
	resultListing
	resultError   // the origin is away and the cache has nothing
	resultBusy    // too much is under way, and the cache has nothing
	resultAborted // the client left before all was sent; if the answer was begun, counted besides the others
	results
)

func (r result) String() string {
	return [results]string{
		"hit", "stale", "revalidated", "miss", "collapsed", "bypass",
		"not_found", "rejected", "redirect", "listing", "error", "busy", "aborted",
	}[r]
}

// isBusy reports whether an object cannot be had because the mirror has too much to
// do with the origin: too many fills, or calls to it. It is counted apart from an
// origin that is away.
func isBusy(err error) bool {
	return errors.Is(err, diskcache.ErrBusy) || errors.Is(err, origin.ErrBusy)
}

// Values of Cache-Status (RFC 9211).
var (
	statusHit         = "mirror; hit"
	statusRevalidated = "mirror; fwd=stale; fwd-status=304"
	statusGuarded     = "mirror; fwd=stale; fwd-status=200; detail=guard"
	statusChanged     = "mirror; fwd=stale; fwd-status=200; stored"
	statusGone        = "mirror; fwd=stale; fwd-status=404"
	statusMiss        = "mirror; fwd=uri-miss; fwd-status=200; stored"
	statusHead        = "mirror; fwd=uri-miss; fwd-status=200"
	statusNotFound    = "mirror; fwd=uri-miss; fwd-status=404"
	statusAway        = "mirror; fwd=uri-miss; fwd-status=503"
	statusBusy        = "mirror; fwd=uri-miss; fwd-status=503; detail=busy"
	statusCollapsed   = "mirror; fwd=uri-miss; collapsed"
	statusPart        = "mirror; fwd=uri-miss; fwd-status=206"
	statusChangedPart = "mirror; fwd=stale; fwd-status=206"
	statusBypass      = "mirror; fwd=bypass" //nolint:gosec // no credentials
	statusUnfinished  = "mirror; fwd=bypass; detail=unfinished"
	statusHitStale    = "mirror; hit; detail=stale-while-revalidate"
	statusCooldown    = "mirror; hit; detail=cooldown"
	statusNoAnswer    = "mirror; fwd=uri-miss; detail=origin-away"
	statusOnlyCached  = "mirror; fwd=request; fwd-status=504"
)

// withStatus is a Cache-Status with the status that an upstream has answered with.
func withStatus(status string, meta *diskcache.Meta) string {
	n := statusOf(meta)
	if n == http.StatusOK {
		return status
	}
	return strings.Replace(status, "fwd-status=200", "fwd-status="+strconv.Itoa(n), 1)
}

func statusFailed(err error) string {
	switch {
	case isBusy(err):
		return statusBusy
	case origin.Class(err) == "away":
		return statusAway
	}
	return statusNotFound
}
