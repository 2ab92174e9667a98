//go:build !race

package diskcache

import "sync"

// mutex is the type of Cache.mu.
type mutex = sync.Mutex

// offLock panics in tests if the caller holds a mutex, see lock_race.go.
func offLock() {}
