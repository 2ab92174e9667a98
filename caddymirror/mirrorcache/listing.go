package mirrorcache

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// listing is a directory as the origin had it. A large one has hundreds of
// thousands of entries, so they are packed. Nothing of it changes once it is
// there.
type listing struct {
	names   []byte  // of all entries, without anything between them
	entries []entry // directories first, and by name
	dirs    int     // how many of them are directories
	bytes   int64   // of all files together
	cut     bool    // there are more
	digest  [sha256.Size]byte
	cost    int64     // bytes of memory, at most
	since   time.Time // when it was first seen to be so

	orders [len(sortKeys)]struct {
		once  sync.Once
		index []uint32
	}

	refs    int         // guarded by listings.mu
	revoked atomic.Bool // what it is sent to gets no more of it
}

// entry is one of a listing.
type entry struct {
	size    int64
	modTime int64 // in seconds since 1970
	name    uint32
	length  uint16
	dir     bool
	symlink bool
}

const (
	listingCost = 1 << 10 // besides entries and names
	entryCost   = 24 + len(sortKeys)*4
)

// name is the name of an entry.
func (l *listing) name(e *entry) []byte { return l.names[e.name:][:e.length] }

// packer makes a listing of entries that come in no order.
type packer struct {
	l   listing
	max int64 // of cost
}

func newPacker(limit int64) *packer {
	return &packer{l: listing{cost: listingCost}, max: limit}
}

// add adds an entry, unless the listing would cost too much. Then it is cut.
func (p *packer) add(info origin.Info) bool {
	l := &p.l
	cost := l.cost + int64(entryCost+len(info.Name))
	if cost > p.max || len(l.names)+len(info.Name) > math.MaxUint32 || len(info.Name) > math.MaxUint16 {
		l.cut = true
		return false
	}
	l.cost = cost
	l.entries = append(l.entries, entry{
		size:    info.Size,
		modTime: info.ModTime.Unix(),
		name:    uint32(len(l.names)),
		length:  uint16(len(info.Name)),
		dir:     info.Dir,
		symlink: info.Symlink,
	})
	l.names = append(l.names, info.Name...)
	if info.Dir {
		l.dirs++
	} else {
		l.bytes += info.Size
	}
	return true
}

// listing ends the packing.
func (p *packer) listing() *listing {
	l := &p.l
	// What append has put aside is not accounted for.
	l.names = slices.Clone(l.names)
	l.entries = slices.Clone(l.entries)
	slices.SortFunc(l.entries, func(a, b entry) int { return l.compare(sortDirsFirst, &a, &b) })
	l.sum()
	return l
}

// sum makes the digest of all that is shown.
func (l *listing) sum() {
	h := sha256.New()
	var b []byte
	for i := range l.entries {
		e := &l.entries[i]
		b = append(b, l.name(e)...)
		b = append(b, 0, flag(e.dir), flag(e.symlink))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.size))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.modTime))
		if len(b) > 4<<10 {
			h.Write(b)
			b = b[:0]
		}
	}
	h.Write(append(b, flag(l.cut)))
	h.Sum(l.digest[:0])
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// sortKey is what a listing is sorted by, as file_server calls it.
type sortKey int

const (
	sortDirsFirst sortKey = iota
	sortName
	sortSize
	sortTime
)

var sortKeys = [...]string{"namedirfirst", "name", "size", "time"}

func (k sortKey) String() string { return sortKeys[k] }

// compare compares two entries by a key, and those that are equal by name.
func (l *listing) compare(key sortKey, a, b *entry) int {
	c := 0
	switch key {
	case sortName:
	case sortTime:
		c = cmp.Compare(a.modTime, b.modTime)
	case sortSize, sortDirsFirst:
		c = cmp.Compare(flag(b.dir), flag(a.dir))
		if c == 0 && key == sortSize && !a.dir {
			c = cmp.Compare(a.size, b.size)
		}
	}
	if c != 0 {
		return c
	}
	x, y := l.name(a), l.name(b)
	return cmp.Or(compareFold(x, y), bytes.Compare(x, y))
}

// compareFold compares names without regard to case, of ASCII alone.
func compareFold(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			if c := cmp.Compare(lower(a[i]), lower(b[i])); c != 0 {
				return c
			}
		}
	}
	return cmp.Compare(len(a), len(b))
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// sorted yields the entries from first on, count of them at most, in the order of
// a key.
func (l *listing) sorted(key sortKey, descending bool, first, count int) iter.Seq[*entry] {
	index := l.order(key)
	return func(yield func(*entry) bool) {
		n := len(l.entries)
		for i := first; i < n && i-first < count; i++ {
			at := i
			if descending {
				at = n - 1 - i
			}
			if index != nil {
				at = int(index[at])
			}
			if !yield(&l.entries[at]) {
				return
			}
		}
	}
}

// order is where the entries are, in the order of a key. It is nil for the order
// that they are in, and else made when it is first asked for.
func (l *listing) order(key sortKey) []uint32 {
	if key == sortDirsFirst {
		return nil
	}
	o := &l.orders[key]
	o.once.Do(func() {
		o.index = make([]uint32, len(l.entries))
		for i := range o.index {
			o.index[i] = uint32(i)
		}
		slices.SortFunc(o.index, func(a, b uint32) int { return l.compare(key, &l.entries[a], &l.entries[b]) })
	})
	return o.index
}
