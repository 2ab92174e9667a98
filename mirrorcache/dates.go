package mirrorcache

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/unifiedmirrors/mirror/diskcache"
	"github.com/unifiedmirrors/mirror/origin"
)

// dates remember the second in which each object last changed, as Last-Modified
// tells it. Where two versions have the same, a client that sends it may have
// either: RFC 9110 section 8.8.2.2 calls such a date weak.
//
// A file has no validator until it has been at rest for two seconds, so what has
// one cannot change again within its second. But tools set times back: only those
// who have seen both versions know. These are held in memory, so many and no more;
// what was learned is kept with the entry.
type dates struct {
	names *lru.Cache[string, dated]
}

type dated struct {
	second  int64
	version string
	shared  bool
}

const maxDates = 4 << 10

func newDates() *dates {
	names, err := lru.New[string, dated](maxDates)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &dates{names}
}

// note remembers a version of an object, and reports whether another one had the
// same second.
func (d *dates) note(name string, meta *diskcache.Meta) bool {
	now := dated{meta.ModTime.Unix(), versionOf(meta), meta.DateShared}
	if old, ok := d.names.Get(name); ok && old.second == now.second {
		now.shared = now.shared || old.shared || old.version != now.version || now.version == ""
	}
	d.names.Add(name, now)
	return now.shared
}

// versionOf is what tells a version from all others, if anything does.
func versionOf(meta *diskcache.Meta) string {
	if etag := meta.Header["Etag"]; etag != "" {
		return etag
	}
	return meta.Validator
}

// describe is what the cache is to keep of an object that src has shown, besides
// its bytes.
func (m *Mount) describe(name string, src source, info origin.Info) diskcache.Meta {
	meta := src.meta(info)
	meta.DateShared = m.dates.note(name, &meta)
	return meta
}
