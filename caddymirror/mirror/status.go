package mirror

import (
	"maps"
	"slices"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

// Status is what `GET /mirror/status` answers.
type Status struct {
	Caches []CacheStatus `json:"caches"`
	Mounts []MountStatus `json:"mounts"`
	Jobs   []job.Status  `json:"jobs"`

	// Panics counts panics that ended one fill, call or packet and not the
	// process, by where they were. Each is a bug, and is in the log.
	Panics map[string]uint64 `json:"panics,omitempty"`
}

// CacheStatus is the state of a cache.
type CacheStatus struct {
	Name string `json:"name"`
	diskcache.Stats
}

// MountStatus is the state of a mount.
type MountStatus struct {
	Prefix  string          `json:"prefix"`
	Format  string          `json:"format"`
	Cache   string          `json:"cache"`
	Entries int             `json:"entries"`
	Bytes   int64           `json:"bytes"`   // on disk
	Filling int             `json:"filling"` // fills that run now
	Waiting int             `json:"waiting"` // fills that wait for their turn
	Origins []origin.Status `json:"origins"`
}

// Status is the state of the caches, mounts and jobs now.
func (a *App) Status() Status {
	s := Status{Caches: []CacheStatus{}, Mounts: []MountStatus{}, Jobs: a.jobs(), Panics: panics.Counts()}
	for _, name := range slices.Sorted(maps.Keys(a.Caches)) {
		s.Caches = append(s.Caches, a.Caches[name].status(name))
	}
	for _, m := range a.allMounts() {
		s.Mounts = append(s.Mounts, m.Status())
	}
	return s
}

func (c *Cache) status(name string) CacheStatus {
	if open := c.Open(); open != nil {
		return CacheStatus{Name: name, Stats: open.Stats()}
	}
	return CacheStatus{Name: name, Stats: diskcache.Stats{
		Path: c.Path, State: diskcache.Bypass, Why: "not open", MaxSize: c.MaxSize, MaxMemory: c.Memory,
	}}
}
