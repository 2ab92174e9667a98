package mirrorcache

import (
	"context"
	"errors"
	"io/fs"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// facts remember what an origin said of names that were not copied: that nothing
// is there, that it is forbidden, that it is a directory, or a file that nobody
// has asked for. They are held in memory, so many and no more.
type facts struct {
	names *lru.Cache[string, fact]
}

type fact struct {
	err     error
	at      time.Time
	release uint64
}

const maxFacts = 4 << 10

func newFacts() *facts {
	names, err := lru.New[string, fact](maxFacts)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &facts{names}
}

// learn notes an error of the origin, if it tells of the object and not of the
// origin, and will hold for a while.
func (f *facts) learn(name string, err error, release uint64) {
	if err == nil || errors.Is(err, origin.ErrNotYet) {
		return
	}
	for _, is := range []error{fs.ErrNotExist, fs.ErrPermission, origin.ErrIsDir, errIsFile} {
		if errors.Is(err, is) {
			// Not err itself: it may hold on to much.
			f.names.Add(name, fact{is, time.Now(), release})
			return
		}
	}
}

// errIsFile is the fact that a name is a file.
var errIsFile = errors.New("is a file")

func (f *facts) forget(name string) { f.names.Remove(name) }

func (f *facts) clear() { f.names.Purge() }

// known is why there is no file of this name to serve, if that is known.
func (m *Mount) known(ctx context.Context, name string) error {
	if err := m.fact(ctx, name); !errors.Is(err, errIsFile) {
		return err
	}
	return nil
}

// fact is what is known of a name, and still holds: as long as the release does
// or, without releases, for the TTL and a minute at most.
func (m *Mount) fact(ctx context.Context, name string) error {
	f, ok := m.facts.names.Get(name)
	if !ok {
		return nil
	}
	rel := m.state(ctx)
	if rel.hash != 0 && f.release == rel.hash {
		return f.err
	}
	if f.release == 0 && time.Since(f.at) < min(time.Duration(m.TTL), maxNegativeTTL) {
		return f.err
	}
	return nil
}

// hasFile reports whether there is a file of this name, as far as the origin
// can be asked.
func (m *Mount) hasFile(ctx context.Context, name string) bool {
	if c := m.cache.Open(); c != nil {
		if e, ok := c.Get(m.key(name)); ok {
			e.Close()
			return true
		}
	}
	err := m.fact(ctx, name)
	if err == nil {
		err = m.learnKind(ctx, name)
	}
	return err == nil || errors.Is(err, errIsFile) || errors.Is(err, origin.ErrAway)
}

// wasDir reports whether a name was a directory when the origin was last
// asked. It is for when the origin is away: to say so again does no harm,
// while an old "not there" would.
func (m *Mount) wasDir(name string) bool {
	f, _ := m.facts.names.Peek(name)
	return errors.Is(f.err, origin.ErrIsDir)
}
