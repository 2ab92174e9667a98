package diskcache

import "time"

// Entries are in one of two segments, so that a client that fetches everything
// once does not evict what others use: a segmented LRU.
//
// A new entry is on probation. Its second use makes it a protected one. Entries
// on probation are evicted first, the least recently used one first; so the
// objects of a crawl evict each other. Protected entries may have four fifths of
// the cache; if they come to have more, the least recently used ones go back on
// probation. As long as the cache is not full nothing of this matters.
//
// A file's mode tells the segment of its entry to the next process.
type segment uint8

const (
	probation segment = iota
	protected
)

// protectable is how much of total bytes protected entries may have.
func protectable(total int64) int64 { return total / 5 * 4 }

// oneUse is how long after an entry has come its uses are taken for those of the
// client that it came for: it may ask for one range after the other, or ask
// whether it has changed. It is longer for a large object, by a second for each
// MiB, since that client may still be fetching it.
const oneUse = time.Minute

// again reports whether a use of the record now is more than its first.
func (x *index) again(r *record) bool {
	age := time.Duration(x.clock - int64(r.since)*int64(time.Second))
	return age >= x.oneUse+time.Duration(r.charge>>20)*time.Second
}

// touch notes a use of the record, which makes it the most recently used one.
// total is the size of the cache.
func (x *index) touch(s int32, total int64) {
	r := x.at(s)
	r.used = x.now()
	if r.segment == probation && x.again(r) {
		x.move(s, protected)
		x.demote(total, s)
		return
	}
	if x.segments[r.segment].head != s {
		x.move(s, r.segment)
	}
}

// demote puts protected entries back on probation until there are not too many
// of them, all but the one in slot keep.
func (x *index) demote(total int64, keep int32) {
	l := &x.segments[protected]
	for l.bytes > protectable(total) && l.tail != keep {
		s := l.tail
		// As if it had just come, since that is the order of the list; but the
		// next use is not its first.
		x.at(s).used = x.now()
		x.move(s, probation)
	}
}

// move puts a record at the front of a segment.
func (x *index) move(s int32, to segment) {
	x.unlink(s)
	x.at(s).segment = to
	x.link(s, none)
}

// oldest walks the index in the order of eviction.
type oldest struct {
	x    *index
	next [2]int32
}

func (x *index) oldest() oldest {
	return oldest{x, [2]int32{x.segments[probation].tail, x.segments[protected].tail}}
}

// take is the next slot to evict, if the cache is of total bytes now.
func (o *oldest) take(total int64) (int32, bool) {
	from := probation
	if o.next[probation] == none || o.next[protected] != none && o.x.segments[protected].bytes > protectable(total) {
		from = protected
	}
	s := o.next[from]
	if s == none {
		return none, false
	}
	o.next[from] = o.x.at(s).prev
	return s, true
}
