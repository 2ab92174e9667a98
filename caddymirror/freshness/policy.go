package freshness

import (
	"net/http"
	"time"
)

// A Policy is how a mount's responses are cached. The zero Policy is that of RFC 9111.
type Policy struct {
	// Rule goes before what successful responses say of their lifetime: what the
	// format of a mount knows of a path. Zero: they say it themselves.
	Rule Rule

	// Negative is as Rule, of 404 and 410.
	Negative Rule

	// NegativeUnsaid is the lifetime of 404 and 410 that do not say any, and of which nothing
	// can be concluded. Zero: they are asked for again each time.
	NegativeUnsaid time.Duration

	// MaxStale is how long after its lifetime a response may be used while the upstream
	// is away or fails. What the response says of that (stale-if-error) goes before it,
	// unless there is a Rule: then the longer of both counts. Zero: not at all.
	MaxStale time.Duration

	// MaxHeuristic bounds the lifetime of responses that do not say any: they have a
	// tenth of the time since their last modification (RFC 9111 section 4.2.2), up to
	// this. Zero: a day.
	MaxHeuristic time.Duration

	// IgnoreClients says that requests cannot have the upstream asked more often: their
	// no-cache, no-store, max-age, min-fresh and Pragma are ignored. What spares the
	// upstream holds nevertheless: max-stale, only-if-cached, stale-if-error.
	IgnoreClients bool

	// Targets are the targeted fields that this cache obeys, the most specific first,
	// usually CDNCacheControl alone (RFC 9213 section 2.2). None: Cache-Control only.
	Targets []string
}

// A Rule is a lifetime that goes before that of a response. The zero Rule is none.
type Rule struct {
	lifetime Delta
}

// TTL is the rule that a response is asked for again after a while. It counts from when
// the response came, however old that was.
func TTL(d time.Duration) Rule { return Rule{Delta{clamp(d), true}} }

// Immutable is the rule that a response is never asked for again.
var Immutable = TTL(Forever)

// rule is the rule for a response of this status.
func (p Policy) rule(status int) Rule {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent, http.StatusPartialContent:
		return p.Rule
	case http.StatusNotFound, http.StatusGone:
		return p.Negative
	}
	return Rule{}
}

// Request is what a request asks of this cache.
func (p Policy) Request(h http.Header) RequestDirectives {
	r := ParseRequest(h)
	if p.IgnoreClients {
		r.NoCache, r.NoStore, r.MaxAge, r.MinFresh = false, false, Delta{}, Delta{}
	}
	return r
}
