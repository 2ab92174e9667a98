//go:build race

package diskcache

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
)

// mutex knows which goroutine holds it, so that offLock can tell.
type mutex struct {
	mu     sync.Mutex
	holder string
}

// holders has the goroutines that hold a mutex, and held how many those are.
var (
	holders sync.Map
	held    atomic.Int64
)

func (m *mutex) Lock() {
	m.mu.Lock()
	m.holder = goroutine()
	holders.Store(m.holder, true)
	held.Add(1)
}

func (m *mutex) Unlock() {
	held.Add(-1)
	holders.Delete(m.holder)
	m.mu.Unlock()
}

// goroutine names the one that calls.
func goroutine() string {
	var buf [40]byte
	head := buf[:runtime.Stack(buf[:], false)] // goroutine 12 [running]:
	name, _, _ := bytes.Cut(head, []byte(" ["))
	return string(name)
}

// offLock panics if the caller holds a mutex: it is about to do what can take
// seconds, and all others would wait for it.
func offLock() {
	if held.Load() == 0 {
		return
	}
	if _, mine := holders.Load(goroutine()); mine {
		panic("diskcache: the file system is called, or a log written, with Cache.mu held")
	}
}
