package mirrorcache

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"
)

// listings are the directory listings of a mount that are in memory.
//
// Those that are current take at most max bytes: the least recently used go.
// Those that are not, and are still being sent, may take as much again; if they
// need more, the clients of the oldest are cut off. While more than largeListing is
// being read of one directory, no other gets so far.
type listings struct {
	max   int64
	reads singleflight.Group // by epoch, release and directory
	large chan struct{}      // holds a value while a large directory is read

	mu      sync.Mutex // guards all below, and the references to listings
	epoch   int        // grows when all is forgotten
	current *simplelru.LRU[string, kept]
	cost    int64      // of those that are current
	old     []*listing // no longer current, and still in use
}

// kept is a listing, and when it was last known to be right.
type kept struct {
	*listing
	at      time.Time
	release uint64
}

// largeListing is from which cost on directories are read one at a time.
const largeListing = 1 << 20

func newListings(limit int64) *listings {
	current, err := simplelru.NewLRU[string, kept](1<<31-1, nil)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &listings{max: limit, large: make(chan struct{}, 1), current: current}
}

// use returns the listing of a directory. The caller lets go of it with done.
func (s *listings) use(name string) (kept, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.current.Get(name)
	if ok {
		k.refs++
	}
	return k, ok
}

// share is use of what another has been given.
func (s *listings) share(k kept) kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.refs == 0 { // it was replaced, or did not fit, at once
		s.old = append(s.old, k.listing)
	}
	k.refs++
	s.shrink()
	return k
}

// done lets go of a listing.
func (s *listings) done(k kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(k.listing)
}

// drop gives up a reference to a listing.
func (s *listings) drop(l *listing) {
	if l.refs--; l.refs == 0 {
		s.old = slices.DeleteFunc(s.old, func(o *listing) bool { return o == l })
	}
}

// put makes what was read of a directory its listing, unless all was forgotten since
// epoch, or there is one of a release that is newer than k. If nothing has changed, the
// one that there was is kept.
func (s *listings) put(name string, epoch int, newer uint64, k kept) kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.since = k.at
	if epoch != s.epoch {
		return k
	}
	was, ok := s.current.Peek(name)
	if ok && newer != 0 && was.release == newer {
		return k
	}
	if ok && was.digest == k.digest {
		k.listing = was.listing
		s.current.Add(name, k)
		return k
	}
	s.remove(name)
	k.refs++
	s.cost += k.cost
	s.current.Add(name, k)
	s.shrink()
	return k
}

// forget drops the listing of a directory, unless it is of a release that is newer
// than the reason for that.
func (s *listings) forget(name string, newer uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, ok := s.current.Peek(name); ok && newer != 0 && was.release == newer {
		return
	}
	s.remove(name)
	s.shrink()
}

// forgetAll drops all listings, also those that are being read.
func (s *listings) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	for _, name := range s.current.Keys() {
		s.remove(name)
	}
	s.shrink()
}

// began is the epoch in which a reading begins.
func (s *listings) began() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// remove ends that a directory's listing is current.
func (s *listings) remove(name string) {
	k, ok := s.current.Peek(name)
	if !ok {
		return
	}
	s.current.Remove(name)
	s.cost -= k.cost
	if k.refs > 1 {
		s.old = append(s.old, k.listing)
	}
	s.drop(k.listing)
}

// shrink keeps listings within their bounds.
func (s *listings) shrink() {
	for s.cost > s.max {
		name, _, _ := s.current.GetOldest()
		s.remove(name)
	}
	var cost int64
	for _, l := range slices.Backward(s.old) {
		if cost += l.cost; cost > s.max {
			l.revoked.Store(true)
		}
	}
}
