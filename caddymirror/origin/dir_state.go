package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
)

// dirStates holds what is behind each root, by its path, for as long as a
// config names it.
var dirStates = caddy.NewUsagePool()

// LookAt has the releases of all origins whose root is dir or lies below it looked at
// now.
func LookAt(dir string) {
	dirStates.Range(func(key, value any) bool {
		if root := key.(string); root == dir || strings.HasPrefix(root, dir+"/") {
			value.(*dirState).release.wake()
		}
		return true
	})
}

// dirCosts holds, by path, what must outlive every config: calls that are
// stuck in the kernel, which no reload ends, and counters. It forgets nothing;
// there are only so many roots.
var dirCosts sync.Map // of *dirCost

// A dirCost is what a root has cost the process so far.
type dirCost struct {
	pool  pool
	probe chan struct{} // the slot of the one probe under way
	count counters
}

// dirConf is what a Dir wants of its state.
type dirConf struct {
	serial  uint64 // configs are numbered in the order of their making
	timeout time.Duration
	check   time.Duration
	marker  string
	pool    int
	log     *zap.Logger

	adopted bool // they have been in force; guarded by the state's mu
}

var dirSerial atomic.Uint64

// A dirState is what all Dirs of one root share, in one config and in those
// before and after it. Nothing is opened and no goroutine started before the
// first call.
type dirState struct {
	*dirCost
	root    string
	breaker breaker.Breaker
	stop    chan struct{}

	mu    sync.Mutex
	confs []*dirConf              // of the configs that have it; guarded by mu
	conf  atomic.Pointer[dirConf] // in force; stored with mu held

	// tree is nil until it is opened. It is only ever replaced by one that was
	// opened after it was loaded, so it never goes back to an older release.
	tree atomic.Pointer[tree]

	release releaseWatch

	inject func(op, name string) error // for tests: fails or hangs a call
}

// newDirState returns the state of the tree at root.
func newDirState(root string, c *dirConf) *dirState {
	kept, _ := dirCosts.LoadOrStore(root, &dirCost{probe: make(chan struct{}, 1)})
	s := &dirState{dirCost: kept.(*dirCost), root: root, stop: make(chan struct{})}
	s.breaker = breaker.Breaker{
		Away: ErrAway, Probe: s.probeRoot, Stop: s.stop, Moved: s.moved,
		Log: func() *zap.Logger { return s.conf.Load().log },
	}
	s.release = newReleaseWatch()
	c.adopted = true
	s.conf.Store(c)
	s.pool.resize(c.pool)
	return s
}

// Destruct ends the goroutines of the state. Requests that outlive their
// config may still use it.
func (s *dirState) Destruct() error {
	close(s.stop)
	if t := s.tree.Swap(nil); t != nil {
		s.drop(t)
	}
	return nil
}

// join notes the settings of a config that has come.
func (s *dirState) join(c *dirConf) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.confs = append(s.confs, c)
}

// leave forgets the settings of a config that has gone. If they were in force, those
// that were before are again: the config may have failed after requests had come to it.
func (s *dirState) leave(c *dirConf) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.confs = slices.DeleteFunc(s.confs, func(o *dirConf) bool { return o == c })
	if s.conf.Load() != c || len(s.confs) == 0 {
		return
	}
	next := s.confs[0]
	for _, o := range s.confs {
		if o.adopted && (!next.adopted || o.serial > next.serial) {
			next = o
		}
	}
	s.use(next)
}

// adopt makes c the settings of the state if they are newer than those it has.
// They are adopted when they are first used, not when they are provisioned:
// the config may fail yet, and must then have changed nothing.
func (s *dirState) adopt(c *dirConf) {
	if s.conf.Load().serial >= c.serial {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conf.Load().serial >= c.serial || !slices.Contains(s.confs, c) {
		return
	}
	s.use(c)
}

// use puts settings in force. Needs mu.
func (s *dirState) use(c *dirConf) {
	c.adopted = true
	s.conf.Store(c)
	s.pool.resize(c.pool)
	s.release.wake()
}

// moved logs that the breaker opened or closed.
func (s *dirState) moved(open bool, reason error) {
	if log := s.conf.Load().log; open {
		log.Error("origin is away", zap.String("root", s.root), zap.Error(reason))
	} else {
		log.Info("origin is back", zap.String("root", s.root))
	}
}

func (s *dirState) fault(op, name string) error {
	if s.inject == nil {
		return nil
	}
	return s.inject(op, name)
}

// failed counts and describes the error that a call ended in.
func (s *dirState) failed(op, name string, err error) error {
	err = fmt.Errorf("%s %q: %w", op, name, err)
	s.count.failed(err)
	return err
}

// open returns the tree, and opens it if need be. The caller drops it.
func (s *dirState) open() (*tree, error) {
	for {
		t := s.tree.Load()
		if t == nil {
			return s.renew()
		}
		if t.hold() {
			return t, nil
		}
	}
}

// drop lets go of t, which is closed when it has been replaced and nobody uses
// it any more.
func (s *dirState) drop(t *tree) {
	if t.users.Add(-1) == 0 {
		s.pool.close(t.root)
	}
}

// renew returns the tree that is at the root's path now, and opens it if it is
// not the one that is open. The caller drops it.
func (s *dirState) renew() (*tree, error) {
	for range 3 {
		old := s.tree.Load()
		if old != nil {
			if !old.hold() {
				continue
			}
			ok, err := old.isAt(s.root)
			if ok {
				return old, nil
			}
			s.drop(old)
			if err != nil {
				// Nobody is to take for the mirror's what is no longer there.
				if s.tree.CompareAndSwap(old, nil) {
					s.drop(old)
				}
				return nil, err
			}
		}
		if t, err := s.replace(old); t != nil || err != nil {
			return t, err
		}
	}
	return nil, fmt.Errorf("%w: %s changes again and again", ErrAway, s.root)
}

// replace puts the tree that is at the root's path in the place of old, which
// calls under way keep. It returns nil if somebody else has replaced old
// meanwhile. The caller drops the result.
func (s *dirState) replace(old *tree) (*tree, error) {
	t, err := openTree(s.root)
	if err != nil {
		return nil, err
	}
	t.users.Store(2) // s and the caller
	if !s.tree.CompareAndSwap(old, t) {
		s.pool.close(t.root)
		return nil, nil
	}
	if t.way.links != "" {
		s.see(Release{Token: t.way.links, Seen: t.opened})
	}
	if old != nil {
		s.drop(old)
	}
	return t, nil
}

// probeRoot asks whether the file system is back, for the breaker.
func (s *dirState) probeRoot() error {
	select {
	case s.probe <- struct{}{}:
		defer func() { <-s.probe }()
	case <-s.stop:
		return errors.New("stopped")
	}
	if err := s.fault("probe", "."); err != nil {
		return away(err)
	}
	// The path is asked, not the open tree: that may have been unmounted.
	t, err := s.replace(s.tree.Load())
	if t == nil && err == nil {
		t, err = s.open()
	}
	if err != nil {
		return err
	}
	defer s.drop(t)
	if err := t.checkMounted(); err != nil {
		return err
	}
	if !s.pool.usable() {
		return fmt.Errorf("%w: all %d calls that may be made at a time hang", ErrAway, s.conf.Load().pool)
	}
	return nil
}

// lookup calls f on the tree, in the pool. If f finds nothing, it makes sure
// that this speaks of the name and not of the tree.
func lookup[T any](ctx context.Context, s *dirState, op, name string, f func(*tree) (T, error), late func(T)) (T, error) {
	return do(ctx, &s.pool, &s.breaker, s.conf.Load().timeout, func() (v T, err error) {
		if err := s.fault(op, name); err != nil {
			return v, classify(err)
		}
		t, err := s.open()
		if err != nil {
			return v, err
		}
		defer func() { s.drop(t) }()
		for range 3 {
			v, err = f(t)
			if !errors.Is(err, fs.ErrNotExist) {
				return v, err
			}
			now, rerr := s.renew()
			if rerr != nil {
				return v, rerr
			}
			same := now.same(t)
			s.drop(t)
			t = now
			if same {
				if merr := t.checkMounted(); merr != nil {
					err = merr
				}
				return v, err
			}
		}
		return v, fmt.Errorf("%w: %s changes again and again", ErrAway, s.root)
	}, late)
}

// ask is lookup on behalf of a caller: it checks the name and counts.
func ask[T any](ctx context.Context, s *dirState, op, name string, n *atomic.Uint64, f func(*tree) (T, error), late func(T)) (T, error) {
	if !validName(name) {
		var none T
		return none, fmt.Errorf("%s %q: %w", op, name, fs.ErrInvalid)
	}
	var once sync.Once
	v, err := lookup(ctx, s, op, name, func(t *tree) (T, error) {
		once.Do(func() { n.Add(1) })
		return f(t)
	}, late)
	if err != nil {
		var none T
		return none, s.failed(op, name, err)
	}
	return v, nil
}
