package freshness

import "time"

// Use is how an entry may be used for a request.
type Use int

const (
	// MustAsk: only with what the upstream says now. If it cannot be asked, the request
	// fails (504).
	MustAsk Use = iota

	// AskOrServe: the upstream is asked; if it is away or fails, the entry answers.
	AskOrServe

	// ServeAndAsk: the entry answers, and the upstream is asked behind it.
	ServeAndAsk

	// Serve: the entry answers.
	Serve

	// GatewayTimeout: 504. The client wants no more than what is stored, and cannot have
	// that.
	GatewayTimeout
)

// String is the use in a word or two, for logs.
func (u Use) String() string {
	switch u {
	case Serve:
		return "serve"
	case ServeAndAsk:
		return "serve and ask"
	case AskOrServe:
		return "ask or serve"
	case GatewayTimeout:
		return "gateway timeout"
	default:
		return "must ask"
	}
}

// Use tells how to use an entry for a request (RFC 9111 sections 4, 4.2 and 5.2.1). That
// of no entry is the zero Freshness.
func (f Freshness) Use(now time.Time, r RequestDirectives) Use {
	f.restrict(r)
	switch {
	case now.Before(f.FreshUntil):
		return Serve
	case now.Before(f.RevalidateUntil):
		return ServeAndAsk
	case r.OnlyIfCached:
		return GatewayTimeout
	case now.Before(f.StaleUntil):
		return AskOrServe
	default:
		return MustAsk
	}
}

// restrict changes the times to those that hold for one request.
func (f *Freshness) restrict(r RequestDirectives) {
	if r == (RequestDirectives{}) {
		return
	}
	if r.NoCache {
		f.FreshUntil, f.RevalidateUntil, f.StaleUntil = time.Time{}, time.Time{}, time.Time{}
		return
	}
	expires := f.FreshUntil
	if r.StaleIfError.Set && !f.Strict { // a limit, and a permission, RFC 5861 section 4
		f.StaleUntil = expires.Add(r.StaleIfError.Value)
	}
	switch {
	case r.MinFresh.Set:
		f.until(expires.Add(-r.MinFresh.Value))
	case r.MaxStale.Set && !f.Strict:
		f.FreshUntil = expires.Add(r.MaxStale.Value)
	}
	if r.MaxAge.Set && !r.MaxStale.Set { // section 5.2.1.1: nothing stale is wanted
		f.until(f.FreshUntil)
	}
	if r.MaxAge.Set && !f.Immutable {
		f.until(f.Born.Add(r.MaxAge.Value))
	}
}

// until makes the upstream be asked first from then on.
func (f *Freshness) until(t time.Time) {
	if t.Before(f.FreshUntil) {
		f.FreshUntil = t
	}
	if t.Before(f.RevalidateUntil) {
		f.RevalidateUntil = t
	}
}
