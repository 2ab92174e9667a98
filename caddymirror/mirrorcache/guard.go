package mirrorcache

import (
	"context"
	"net/http"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// An upstream with several servers, or caches of its own, may answer with an older version
// than it did before. Clients that have seen the newer one, an index above all, fail then.
// So an object that goes back is asked for once more, and kept for a while; not for ever,
// since going back may be on purpose.

// guards remember which objects go back, so many of them.
type guards struct{ objects *lru.Cache[string, goingBack] }

type goingBack struct {
	since time.Time
	asked time.Time // the last time that it was looked for past the upstream's caches
}

const (
	maxGuards = 4 << 10

	// guardEvery is how often an object that goes back is looked for past the caches.
	guardEvery = 10 * time.Second
)

func newGuards() guards {
	objects, err := lru.New[string, goingBack](maxGuards)
	if err != nil {
		panic(err) // the size is a constant
	}
	return guards{objects}
}

// note notes that an object goes back. It tells since when, and whether to look for it past
// the caches: the entry may be one that is asked for at each request.
func (g guards) note(key string) (since time.Time, look bool) {
	now := time.Now()
	o, ok := g.objects.Get(key)
	if !ok {
		o.since = now
	}
	look = now.Sub(o.asked) >= guardEvery
	if look {
		o.asked = now
		g.objects.Add(key, o)
	}
	return o.since, look
}

func (g guards) forget(key string) { g.objects.Remove(key) }

// guard looks whether what an upstream has in place of an entry is older than that. It
// returns what is to be taken, nil if the entry is to stay. It closes what is not.
func (m *Mount) guard(ctx context.Context, e *diskcache.Entry, g *got) *got {
	key := e.Key().Name
	if m.Guard < 0 || g.Response == nil || !goesBack(e.Meta(), g) {
		m.guards.forget(key)
		return g
	}
	m.metrics.wentBack.Inc()
	since, look := m.guards.note(key)
	if look {
		// There may be a limit of requests at once, of which its body is one.
		g.Close()
		g.Body = nil
		if newer := m.lookFurther(ctx, e, g.ask.Authorization); newer != nil {
			m.guards.forget(key)
			return newer
		}
	}
	if time.Since(since) >= time.Duration(m.Guard) {
		m.guards.forget(key)
		return g
	}
	if c := m.log.Check(zap.WarnLevel, "an object of the upstream goes back: the newer one is served"); c != nil {
		c.Write(zap.String("name", key))
	}
	g.Close()
	return nil
}

// lookFurther asks for an object past the caches of the upstream, and of the next ones. It
// is nil if none has one that is not older than an entry.
func (m *Mount) lookFurther(ctx context.Context, e *diskcache.Entry, authorization string) *got {
	ask := m.again(e.Key().Name, e.Meta(), authorization)
	ask.Refresh = true
	n := 1
	if s, ok := m.origins[0].upstream.(origin.Servers); ok {
		n = s.Servers()
	}
	for ; ask.Skip < n; ask.Skip++ {
		g, err := m.fetch(ctx, ask)
		if err != nil {
			continue
		}
		if g.Response.Status == http.StatusOK && !goesBack(e.Meta(), g) {
			return g
		}
		g.Close()
	}
	return nil
}

// goesBack reports whether an answer is of an older version than an entry. A field that is
// not there says nothing.
func goesBack(meta *diskcache.Meta, g *got) bool {
	if g.Response.Status != http.StatusOK || statusOf(meta) != http.StatusOK {
		return false
	}
	const serial = "X-Pypi-Last-Serial"
	was, err1 := strconv.ParseUint(meta.Get(serial), 10, 64)
	is, err2 := strconv.ParseUint(g.Response.Header.Get(serial), 10, 64)
	if err1 == nil && err2 == nil {
		return is < was
	}
	return !meta.ModTime.IsZero() && !g.ModTime.IsZero() && g.ModTime.Before(meta.ModTime)
}

// keepGuarded makes an entry that is guarded fresh for as long as it would be.
func (m *Mount) keepGuarded(e *diskcache.Entry) {
	e.Refresh(diskcache.Freshness{At: time.Now()})
}
