package freshness

import (
	"net/http"
	"time"
)

// Freshness is how long a response may be used, worked out when it is stored or
// confirmed. A zero time is long past. The zero Freshness is of no use without asking.
type Freshness struct {
	// Born is when the response was made or last confirmed by its origin, as far as can
	// be known: its age counts from then (RFC 9111 section 4.2.3).
	Born time.Time

	// FreshUntil is when the lifetime ends: before, it is used without asking.
	FreshUntil time.Time

	// RevalidateUntil is until when it may be used while the upstream is being asked
	// (stale-while-revalidate).
	RevalidateUntil time.Time

	// StaleUntil is until when it may be used if the upstream is away or fails. It is
	// not before FreshUntil.
	StaleUntil time.Time

	// Strict says that clients cannot extend these (must-revalidate, proxy-revalidate,
	// s-maxage, no-cache).
	Strict bool

	// Immutable says that a client's max-age does not make a fresh response be confirmed
	// (RFC 8246 section 2).
	Immutable bool
}

// Freshness is how long a response may be used.
func (p Policy) Freshness(resp Response) Freshness {
	d := p.Directives(resp.Header)
	f := Freshness{Born: resp.ResponseTime.Add(-initialAge(resp)), Immutable: d.Immutable}
	if rule := p.rule(resp.Status); rule.lifetime.Set {
		f.Immutable = f.Immutable || rule == Immutable
		f.FreshUntil = resp.ResponseTime.Add(rule.lifetime.Value)
		f.extend(d.StaleWhileRevalidate, Delta{max(d.StaleIfError.Value, clamp(p.MaxStale)), true})
		return f
	}
	f.Strict = d.NoCache || d.MustRevalidate || d.ProxyRevalidate || d.SMaxAge.Set
	if d.NoCache { // whatever else it says, RFC 9111 section 4.2.1
		return f
	}
	f.FreshUntil = f.Born.Add(p.lifetime(resp, d))
	switch {
	case d.MustRevalidate || d.ProxyRevalidate:
		f.extend(Delta{}, Delta{})
	case d.SMaxAge.Set || d.StaleIfError.Set:
		// s-maxage forbids as proxy-revalidate does (section 5.2.2.10). Extensions are
		// there to change what stands beside them (section 5.2.3).
		f.extend(d.StaleWhileRevalidate, d.StaleIfError)
	default:
		f.extend(d.StaleWhileRevalidate, Delta{clamp(p.MaxStale), true})
	}
	return f
}

// extend sets how long after its lifetime a response may be used (RFC 5861).
func (f *Freshness) extend(whileRevalidate, ifError Delta) {
	f.RevalidateUntil = f.FreshUntil.Add(whileRevalidate.Value)
	f.StaleUntil = f.FreshUntil.Add(max(whileRevalidate.Value, ifError.Value))
}

// lifetime is freshness_lifetime (RFC 9111 section 4.2.1).
func (p Policy) lifetime(resp Response, d Directives) time.Duration {
	switch {
	case d.SMaxAge.Set:
		return d.SMaxAge.Value
	case d.MaxAge.Set:
		return d.MaxAge.Value
	case !d.Targeted && len(resp.Header["Expires"]) > 0:
		expires, ok := dateOf(resp.Header, "Expires")
		if !ok { // "0" above all, section 5.3
			return 0
		}
		return clamp(expires.Sub(resp.date()))
	case heuristic[resp.Status] || d.Public:
		return p.heuristicLifetime(resp)
	}
	return 0
}

// defaultMaxHeuristic is MaxHeuristic where it is not set.
const defaultMaxHeuristic = 24 * time.Hour

// heuristicLifetime is a tenth of the time since the last modification (RFC 9111 section
// 4.2.2).
func (p Policy) heuristicLifetime(resp Response) time.Duration {
	longest := p.MaxHeuristic
	if longest == 0 {
		longest = defaultMaxHeuristic
	}
	modified, ok := dateOf(resp.Header, "Last-Modified")
	switch {
	case ok:
	case resp.Status == http.StatusNotFound, resp.Status == http.StatusGone:
		return clamp(p.NegativeUnsaid)
	default:
		return 0
	}
	return clamp(min(resp.date().Sub(modified)/10, longest))
}

// initialAge is corrected_initial_age (RFC 9111 section 4.2.3), by the more careful of
// its two ways.
func initialAge(resp Response) time.Duration {
	var delay, apparent time.Duration
	if !resp.RequestTime.IsZero() {
		delay = clamp(resp.ResponseTime.Sub(resp.RequestTime))
	}
	if date, ok := dateOf(resp.Header, "Date"); ok {
		apparent = clamp(resp.ResponseTime.Sub(date))
	}
	return clamp(max(apparent, ageValue(resp.Header)+delay))
}

// date is the Date of a response, or when it came.
func (r Response) date() time.Time {
	if t, ok := dateOf(r.Header, "Date"); ok {
		return t
	}
	return r.ResponseTime
}

// Age is current_age (RFC 9111 section 4.2.3): the Age that a response is sent with.
func (f Freshness) Age(now time.Time) time.Duration { return clamp(now.Sub(f.Born)) }

// TTL is how long a response stays fresh, below zero if it no longer is: what Cache-Status
// says (RFC 9211 section 2.4).
func (f Freshness) TTL(now time.Time) time.Duration {
	return min(max(f.FreshUntil.Sub(now), -Forever), Forever)
}
