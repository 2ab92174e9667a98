package mirrorcache

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// panicky is an origin with a bug that one object brings out.
type panicky struct {
	origin.Tree
	bad  string
	when string // stat, open, or read
}

func (p *panicky) Stat(ctx context.Context, name string) (origin.Info, error) {
	if name == p.bad && p.when == "stat" {
		panic("index out of range")
	}
	return p.Tree.Stat(ctx, name)
}

func (p *panicky) Open(ctx context.Context, name string, offset int64) (origin.Body, error) {
	if name == p.bad && p.when == "open" {
		panic(errors.New("nil map"))
	}
	b, err := p.Tree.Open(ctx, name, offset)
	if err != nil || name != p.bad || p.when != "read" {
		return b, err
	}
	return &brokenBody{b, func() error { panic("slice bounds out of range") }}, nil
}

// TestPanicsAreContained: an origin that panics fails one object, and leaves the
// others as they are.
func TestPanicsAreContained(t *testing.T) {
	for _, when := range []string{"stat", "open", "read"} {
		t.Run(when, func(t *testing.T) {
			tree := t.TempDir()
			write(t, tree, "bad", []byte("one"))
			write(t, tree, "good", []byte("good"))
			s := newSite(t, mount("/t", `, "ttl": "1ms"`, tree))
			m := s.h.Mounts[0]
			fine := m.origins[0].Tree
			ill := &panicky{fine, "bad", when}
			if when != "stat" { // GET does not look at it first
				m.origins[0].Tree = ill
				s.ask(t, "GET", "/t/bad").want(t, 503, nil, "fwd=uri-miss; fwd-status=503")
				m.origins[0].Tree = fine
			}
			if when == "stat" {
				m.origins[0].Tree = ill
				s.ask(t, "HEAD", "/t/bad").want(t, 503, nil, "fwd=uri-miss; fwd-status=503")
				m.origins[0].Tree = fine
			}
			s.ask(t, "GET", "/t/bad").want(t, 200, []byte("one"), "fwd=uri-miss")
			write(t, tree, "bad", []byte("another"))
			m.origins[0].Tree = ill
			time.Sleep(5 * time.Millisecond)
			for range 3 {
				s.ask(t, "GET", "/t/bad").want(t, 200, []byte("one"), "hit; ttl=-")
				s.ask(t, "GET", "/t/good").want(t, 200, []byte("good"), "")
			}
			m.origins[0].Tree = fine
			time.Sleep(5 * time.Millisecond)
			s.ask(t, "GET", "/t/bad").want(t, 200, []byte("another"), "fwd=stale; fwd-status=200")
		})
	}
}

// TestPanicInListing: a directory is read in a goroutine of its own, where a panic
// would end the process. This mount has none of what it needs.
func TestPanicInListing(t *testing.T) {
	if _, err := new(Mount).readListing("d", 0); !errors.Is(err, origin.ErrAway) {
		t.Errorf("got %v", err)
	}
}
