package mirrorcache

import (
	"errors"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// unstored remember what upstreams have answered with responses that are not to be stored:
// the next request goes there at once, and does not wait for another's answer first.
type unstored struct{ keys *lru.Cache[string, time.Time] }

const (
	maxUnstored = 4 << 10
	unstoredFor = 2 * time.Minute
)

func newUnstored() unstored {
	keys, err := lru.New[string, time.Time](maxUnstored)
	if err != nil {
		panic(err) // the size is a constant
	}
	return unstored{keys}
}

// add notes why an answer was not stored, if that holds for other requests, too.
func (u unstored) add(key string, why error) {
	if !errors.Is(why, errPassOnce) {
		u.keys.Add(key, time.Now())
	}
}

func (u unstored) has(key string) bool {
	if u.keys.Len() == 0 {
		return false
	}
	since, ok := u.keys.Get(key)
	return ok && time.Since(since) < unstoredFor
}

func (u unstored) forget(key string) { u.keys.Remove(key) }
