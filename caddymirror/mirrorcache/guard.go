package mirrorcache

import (
	"context"
	"net/http"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
)

// An upstream with several servers, or caches of its own, may answer with an older version
// than it did before. Clients that have seen the newer one, an index above all, fail then.
// So an object that goes back is asked for once more, and kept for a while; not for ever,
// since going back may be on purpose.

// guards remember since when objects go back, so many of them.
type guards struct{ since *lru.Cache[string, time.Time] }

const maxGuards = 4 << 10

func newGuards() guards {
	since, err := lru.New[string, time.Time](maxGuards)
	if err != nil {
		panic(err) // the size is a constant
	}
	return guards{since}
}

// holds notes that an object goes back, and reports whether that has lasted for less than d.
func (g guards) holds(key string, d time.Duration) bool {
	now := time.Now()
	since, ok, _ := g.since.PeekOrAdd(key, now)
	return !ok || now.Sub(since) < d
}

// guard looks whether what an upstream has in place of an entry is older than that. It
// returns what is to be taken, nil if the entry is to stay. It closes what is not.
func (m *Mount) guard(ctx context.Context, e *diskcache.Entry, g *got) *got {
	if m.Guard < 0 || g.Response == nil || !goesBack(e.Meta(), g) {
		m.guards.since.Remove(e.Key().Name)
		return g
	}
	key := e.Key().Name
	m.metrics.wentBack.Inc()
	ask := again(key, e.Meta())
	ask.Refresh = true
	n := 1
	if s, ok := m.origins[0].upstream.(interface{ Servers() int }); ok {
		n = s.Servers()
	}
	for ask.Skip = 0; ask.Skip < n; ask.Skip++ {
		other, err := m.fetch(ctx, ask)
		if err == nil && other.Response.Status == http.StatusOK && !goesBack(e.Meta(), other) {
			g.Close()
			m.guards.since.Remove(key)
			return other
		}
		if err == nil {
			other.Close()
		}
	}
	if !m.guards.holds(key, time.Duration(m.Guard)) {
		m.guards.since.Remove(key)
		return g
	}
	if c := m.log.Check(zap.WarnLevel, "an object of the upstream goes back: the newer one is served"); c != nil {
		c.Write(zap.String("name", key))
	}
	g.Close()
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
