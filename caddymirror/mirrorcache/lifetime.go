package mirrorcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
)

// use tells how an entry may be used, and how long ago it was known to be current. All
// reasons for that are here: that the object never changes, that its origin is in the same
// release, the lifetime of a response, or the TTL.
func (m *Mount) use(ctx context.Context, e *diskcache.Entry, q *question) (freshness.Use, time.Duration) {
	if m.web {
		f := m.entryFields(e, representation{name: q.name}).life
		now := time.Now()
		return f.Use(now, m.client(q)), f.Age(now)
	}
	if age, fresh := m.fresh(ctx, e, m.format.Class(q.name)); fresh {
		return freshness.Serve, age
	}
	if age, ok := m.usable(ctx, e); ok {
		return freshness.AskOrServe, age
	}
	return freshness.MustAsk, 0
}

// usable reports whether an entry may be served while the origin is away, and how
// long ago it was known to be current.
func (m *Mount) usable(ctx context.Context, e *diskcache.Entry) (age time.Duration, ok bool) {
	if m.web {
		f := m.entryFields(e, representation{name: m.nameOf(e.Key().Name)}).life
		now := time.Now()
		return f.Age(now), now.Before(f.StaleUntil)
	}
	f := e.Fresh()
	age = max(0, time.Since(f.At))
	if f.Release != 0 {
		if rel := m.state(ctx); f.Release == rel.hash {
			age = min(age, max(0, time.Since(rel.Seen)))
		}
	}
	return age, m.MaxStale == 0 || age <= time.Duration(m.MaxStale)
}

// client is what a request asks of caches.
func (m *Mount) client(q *question) freshness.RequestDirectives {
	if len(q.cacheControl) == 0 && len(q.pragma) == 0 {
		return freshness.RequestDirectives{}
	}
	return freshness.Policy{IgnoreClients: m.lifetimes.mirror}.Request(q.rules().Header)
}

// Policies of a mount.
const (
	policyRFC    = "rfc"
	policyMirror = "mirror"
)

// lifetimes are how long what upstreams answer is fresh.
type lifetimes struct {
	mirror bool       // policy mirror
	ttl    []Lifetime // the mount's TTLs, and its TTL if that is configured
}

// provisionLifetimes checks what the mount says of lifetimes.
func (m *Mount) provisionLifetimes() error {
	switch m.Policy {
	case "":
		m.lifetimes.mirror = m.formatName != "plain"
	case policyMirror:
		m.lifetimes.mirror = true
	case policyRFC:
	default:
		return fmt.Errorf("policy %q is neither rfc nor mirror", m.Policy)
	}
	if m.Cooldown > 0 {
		var ok bool
		if m.dated, ok = m.format.(format.Dated); !ok {
			return fmt.Errorf("cooldown: the format %s does not know when versions were published", m.formatName)
		}
	}
	if err := m.checkMethods(); err != nil {
		return err
	}
	for _, l := range slices.Concat(m.TTLs, m.MaxStales) {
		if l.For < 0 {
			return errors.New("a duration is negative")
		}
		if err := checkPatterns("lifetime", l.Match); err != nil {
			return err
		}
	}
	return errors.Join(checkPatterns("pass", m.Pass), checkPatterns("ignore_query", m.IgnoreQuery))
}

// Lifetime is a duration for some paths.
type Lifetime struct {
	// Match are patterns, as those of `hide`. Default: all paths.
	Match []string `json:"match,omitempty"`

	// For is the duration.
	For caddy.Duration `json:"for,omitempty"`
}

// find is the first of the lifetimes that is for a name.
func find(all []Lifetime, name string) (time.Duration, bool) {
	for _, l := range all {
		if len(l.Match) == 0 || matchAny(l.Match, name) {
			return time.Duration(l.For), true
		}
	}
	return 0, false
}

// targets are the targeted fields that the cache obeys (RFC 9213).
var targets = []string{freshness.CDNCacheControl}

// policy is how responses of this name are cached.
func (m *Mount) policy(name string) freshness.Policy {
	p := freshness.Policy{IgnoreClients: m.lifetimes.mirror, Targets: targets, MaxStale: freshness.Forever}
	if d, ok := find(m.MaxStales, name); ok {
		p.MaxStale = d
	} else if m.MaxStale != 0 {
		p.MaxStale = time.Duration(m.MaxStale)
	}
	ttl, told := find(m.lifetimes.ttl, name)
	switch {
	case told:
		p.Rule = freshness.TTL(ttl)
	case !m.lifetimes.mirror:
		p.Rule = freshness.Rule{}
	case m.format.Class(name) == format.Immutable:
		p.Rule = freshness.Immutable
	default:
		p.Rule = freshness.TTL(time.Duration(m.TTL))
	}
	negative := min(cmp.Or(ttl, time.Duration(m.TTL)), maxNegativeTTL)
	if told || m.lifetimes.mirror {
		p.Negative = freshness.TTL(negative)
	}
	p.NegativeUnsaid = negative
	return p
}

// stored is the response that an entry has.
func stored(meta *diskcache.Meta, at time.Time) freshness.Response {
	return freshness.Response{
		Status: statusOf(meta), Header: fieldsIn(meta),
		RequestTime: at.Add(-delayOf(meta)), ResponseTime: at,
	}
}

// life is how long a response may be used. If it is not known when it was last confirmed,
// since its new fields did not fit into its file, it is not fresh, but better than nothing.
func (m *Mount) life(name string, resp freshness.Response) freshness.Freshness {
	known := !resp.ResponseTime.IsZero()
	if !known {
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			resp.RequestTime, resp.ResponseTime = date, date
		}
	}
	f := m.policy(name).Freshness(resp)
	if !known {
		f.FreshUntil, f.RevalidateUntil = time.Time{}, time.Time{}
	}
	return f
}
