package mirrorcache

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
)

// dates remember the second in which each object last changed, as Last-Modified
// tells it. A client that sends one may have any version of that second. RFC 9110
// section 8.8.2.2 calls a date weak that had not been over for a second when the
// version was seen: there may have been another.
//
// That goes by the clock, while tools set times back: two versions of one second
// may be far apart, and only those know who have seen both. They are held in
// memory, so many and no more; what was learned is kept with the entry.
type dates struct {
	names *lru.Cache[string, dated]
}

type dated struct {
	second  int64
	version string // empty if nothing tells it from others
	weak    bool
}

const maxDates = 4 << 10

func newDates() *dates {
	names, err := lru.New[string, dated](maxDates)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &dates{names}
}

// note remembers a version of an object that was seen at a moment, and reports
// whether its date is weak.
func (d *dates) note(name string, meta *diskcache.Meta, seen time.Time) bool {
	now := dated{meta.ModTime.Unix(), versionOf(meta), meta.DateWeak}
	now.weak = now.weak || seen.Unix() <= now.second
	if old, ok := d.names.Get(name); ok && old.second == now.second {
		other := old.version != "" && now.version != "" && old.version != now.version
		now.weak = now.weak || old.weak || other
	}
	d.names.Add(name, now)
	return now.weak
}

// versionOf is what tells a version from all others, if anything does.
func versionOf(meta *diskcache.Meta) string {
	if etag := meta.Get("Etag"); etag != "" {
		return etag
	}
	return meta.Validator
}
