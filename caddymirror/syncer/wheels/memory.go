package wheels

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// memory is what is remembered from run to run.
type memory struct {
	mu    sync.Mutex
	file  string
	retry time.Duration

	// Work is the directory of builds of the run under way.
	Work string `json:"work,omitempty"`

	// Built are the wheels that were built here, by file name, with their sha256.
	Built map[string]string `json:"built,omitempty"`

	// From are the wheels that came of requirements that do not name a version: URLs.
	From map[string][]string `json:"from,omitempty"`

	// Upstream is when the index was last seen to have a wheel of something.
	Upstream map[string]time.Time `json:"upstream,omitempty"`

	// Pythons are what they have said of themselves, by path.
	Pythons map[string]*python `json:"pythons,omitempty"`

	// Failures are those that have not been built since.
	Failures map[string]failure `json:"failures,omitempty"`
}

// failure is a wheel that could not be built.
type failure struct {
	Times  int       `json:"times"`
	Last   time.Time `json:"last"`
	Next   time.Time `json:"next"` // when it is tried again
	Reason string    `json:"reason"`
	Log    string    `json:"log,omitempty"`
}

// longest is the longest time until a failure is tried again.
const longest = 30 * 24 * time.Hour

const memoryName = "wheels.json"

func loadMemory(dir string, retry time.Duration) (*memory, error) {
	m := &memory{file: filepath.Join(dir, memoryName), retry: retry}
	text, err := step.ReadFile(m.file, step.MaxState)
	if err == nil {
		err = json.Unmarshal(text, m)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading what is remembered of runs before: %s: %w", m.file, err)
	}
	if m.Built == nil {
		m.Built = map[string]string{}
	}
	if m.From == nil {
		m.From = map[string][]string{}
	}
	if m.Upstream == nil {
		m.Upstream = map[string]time.Time{}
	}
	if m.Pythons == nil {
		m.Pythons = map[string]*python{}
	}
	if m.Failures == nil {
		m.Failures = map[string]failure{}
	}
	return m, nil
}

// change changes the memory, also that on disk.
func (m *memory) change(f func(*memory)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return step.WriteFile(m.file, text)
}

// fail remembers a failure, and returns it.
func (m *memory) fail(key, reason, log string, now time.Time) (f failure, err error) {
	err = m.change(func(m *memory) {
		f = m.Failures[key]
		f.Times++
		wait := m.retry
		for range f.Times - 1 {
			wait = min(2*wait, longest)
		}
		f.Last, f.Next, f.Reason, f.Log = now, now.Add(wait), reason, log
		m.Failures[key] = f
	})
	return f, err
}

// upstreamFor is how long it is believed that the index has a wheel. It asks the index of a
// thousand packages now and then, and not every day.
const upstreamFor = 7 * 24 * time.Hour

// isUpstream reports whether the index had a wheel not long ago.
func (m *memory) isUpstream(key string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.Upstream[key]
	return ok && !at.After(now) && now.Sub(at) < upstreamFor
}

// sawUpstream notes that it has one. It is written to disk when the run ends.
func (m *memory) sawUpstream(key string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Upstream[key] = now
}

// tidy forgets what nobody has asked for in a long time, and removes logs of nothing that
// is remembered.
func (m *memory) tidy(logs string, now time.Time) error {
	const long = 90 * 24 * time.Hour
	kept := map[string]bool{}
	err := m.change(func(m *memory) {
		maps.DeleteFunc(m.Upstream, func(_ string, at time.Time) bool { return now.Sub(at) >= upstreamFor })
		maps.DeleteFunc(m.Failures, func(_ string, f failure) bool { return now.Sub(f.Next) >= long })
		for _, f := range m.Failures {
			kept[filepath.Base(f.Log)] = true
		}
	})
	if err != nil {
		return err
	}
	all, err := os.ReadDir(logs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, log := range all {
		if !kept[log.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(logs, log.Name())))
		}
	}
	return err
}

// waits says why something is not tried again yet; "" if it is to be tried.
func (m *memory) waits(key string, now time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.Failures[key]
	// A clock that was set back does not make it wait longer than it would have.
	if !ok || !now.Before(f.Next) || f.Last.After(now) {
		return ""
	}
	return fmt.Sprintf("%s (%d times; tried again %s)", f.Reason, f.Times, f.Next.UTC().Format(time.RFC3339))
}

// made reports whether a wheel that a Python can use has come of a requirement before.
func (m *memory) made(key string, tags map[string]bool, p *published) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, file := range m.From[key] {
		if n, err := wheel.ParseName(file); err == nil && compatible(n, tags) && p.hasFile(file) {
			return true
		}
	}
	return false
}
