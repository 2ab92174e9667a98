package diskcache

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// Key names an object. Group is what is counted and purged together, such as
// a mount; Name is the object's name in it.
type Key struct {
	Group string `json:"group"`
	Name  string `json:"name"`
}

// id identifies a key on disk and in the index. 128 bits of SHA-256 do not
// collide; the key in the file is compared all the same.
type id [16]byte

func (k Key) id() id {
	h := sha256.New()
	h.Write([]byte(k.Group))
	h.Write([]byte{0})
	h.Write([]byte(k.Name))
	var sum [sha256.Size]byte
	return id(h.Sum(sum[:0])[:16])
}

// groupID shortens a group's name. Two groups of one cache that share it are
// counted and purged as one, which is as unlikely as it is harmless.
func groupID(group string) uint32 {
	sum := sha256.Sum256([]byte(group))
	return binary.BigEndian.Uint32(sum[:])
}

// shards is the number of directories under objects/: a million entries are a
// thousand files in each.
const shards = 32 * 32

const letters = "0123456789abcdefghijklmnopqrstuv"

var nameEncoding = base32.NewEncoding(letters).WithPadding(base32.NoPadding)

const idLen, nameLen = 26, 26 + 1 + 8

// fileName is the entry's file, relative to objects/.
func fileName(i id, group uint32) string {
	name := nameEncoding.EncodeToString(i[:])
	g := binary.BigEndian.AppendUint32(nil, group)
	return name[:2] + "/" + name + "." + hex.EncodeToString(g)
}

// parseName is the reverse of fileName, without the shard. It takes no other
// spelling of a name than fileName's.
func parseName(name string) (i id, group uint32, ok bool) {
	if len(name) != nameLen || name[idLen] != '.' {
		return i, 0, false
	}
	if _, err := nameEncoding.Decode(i[:], []byte(name[:idLen])); err != nil {
		return i, 0, false
	}
	var g [4]byte
	if _, err := hex.Decode(g[:], []byte(name[idLen+1:])); err != nil {
		return i, 0, false
	}
	group = binary.BigEndian.Uint32(g[:])
	return i, group, fileName(i, group)[len("XX/"):] == name
}

// shardOf numbers the directory of an id: its first ten bits, as the two
// letters of its name have them.
func shardOf(i id) int {
	return int(binary.BigEndian.Uint16(i[:2]) >> 6)
}

func shardName(n int) string {
	return string([]byte{letters[n>>5], letters[n&31]})
}

// record is what is known of an entry without opening it. It holds no
// pointers, so that the garbage collector has nothing to look at in a million
// of them.
type record struct {
	id         id
	group      uint32
	gen        uint32 // tells the files apart that the id has had; never 0
	prev, next int32  // in the list of its segment; next links free records too
	used       int64  // last use, Unix nanoseconds; later uses have greater ones
	charge     int64  // bytes on disk
	since      uint32 // when it came, Unix seconds
	segment    segment
	marked     segment // that its file tells of
	live       bool
}

// index finds records by id and keeps them in order of use: the order of each
// segment's list is the order of record.used, the newest at the front.
//
// It is not safe for concurrent use: Cache.mu guards it.
type index struct {
	slots    map[id]int32
	slab     [][]record
	size     int32 // records ever handed out of slab
	free     int32 // head of the free list
	segments [2]list
	group    map[uint32]*usage
	bytes    int64         // sum of record.charge
	gens     uint32        // record.gen ever given
	clock    int64         // no record.used is greater
	saved    int64         // uses up to this time are in the files
	oneUse   time.Duration // see again
}

// list is the records of a segment.
type list struct {
	head, tail int32
	bytes      int64 // sum of their charge
}

// usage is what a group has in the cache.
type usage struct {
	entries int
	bytes   int64
}

const none = int32(-1)

const slabLen = 8192

func newIndex() *index {
	empty := list{head: none, tail: none}
	return &index{
		slots: map[id]int32{}, free: none, segments: [2]list{empty, empty},
		group: map[uint32]*usage{}, oneUse: oneUse,
	}
}

func (x *index) len() int { return len(x.slots) }

func (x *index) at(s int32) *record { return &x.slab[s/slabLen][s%slabLen] }

func (x *index) find(i id) (int32, bool) {
	s, ok := x.slots[i]
	return s, ok
}

// insert adds a record in order of its last use; that is now if it has none.
func (x *index) insert(r record) int32 {
	s := x.free
	if s != none {
		x.free = x.at(s).next
	} else {
		s = x.size
		if int(s/slabLen) == len(x.slab) {
			x.slab = append(x.slab, make([]record, slabLen))
		}
		x.size++
	}
	x.gens++
	r.gen, r.live = max(x.gens, 1), true
	after := x.segments[r.segment].tail
	if r.used == 0 {
		r.used, after = x.now(), none
	}
	if r.since == 0 {
		r.since = uint32(r.used / int64(time.Second))
	}
	x.clock = max(x.clock, r.used)
	for after != none && x.at(after).used < r.used {
		after = x.at(after).prev
	}
	*x.at(s) = r
	x.slots[r.id] = s
	x.link(s, after)
	x.count(r.group, 1, r.charge)
	return s
}

// now is the time, but never the same twice, nor earlier than it was.
func (x *index) now() int64 {
	x.clock = max(x.clock+1, time.Now().UnixNano())
	return x.clock
}

func (x *index) remove(s int32) {
	r := x.at(s)
	x.unlink(s)
	delete(x.slots, r.id)
	x.count(r.group, -1, -r.charge)
	*r = record{next: x.free}
	x.free = s
}

func (x *index) setCharge(s int32, charge int64) {
	r := x.at(s)
	x.count(r.group, 0, charge-r.charge)
	x.segments[r.segment].bytes += charge - r.charge
	r.charge = charge
}

func (x *index) count(group uint32, entries int, bytes int64) {
	u := x.group[group]
	if u == nil {
		u = new(usage)
		x.group[group] = u
	}
	u.entries += entries
	u.bytes += bytes
	x.bytes += bytes
	if u.entries == 0 {
		delete(x.group, group)
	}
}

// unsaved appends to part the records among step slots, from that one on, whose
// last use is not in their files, and reports whether there are more slots.
func (x *index) unsaved(part []record, from int32) (_ []record, more bool) {
	end := min(from+step, x.size)
	for s := from; s < end; s++ {
		if r := x.at(s); r.live && r.used > x.saved {
			part = append(part, *r)
		}
	}
	return part, end < x.size
}

// step is how many records are looked at while all others wait.
const step = 10_000

// link puts a record into the list of its segment behind another, or at the
// front.
func (x *index) link(s, after int32) {
	r := x.at(s)
	l := &x.segments[r.segment]
	l.bytes += r.charge
	r.prev, r.next = after, l.head
	if after != none {
		r.next = x.at(after).next
		x.at(after).next = s
	} else {
		l.head = s
	}
	if r.next != none {
		x.at(r.next).prev = s
	} else {
		l.tail = s
	}
}

func (x *index) unlink(s int32) {
	r := x.at(s)
	l := &x.segments[r.segment]
	l.bytes -= r.charge
	if r.prev != none {
		x.at(r.prev).next = r.next
	} else {
		l.head = r.next
	}
	if r.next != none {
		x.at(r.next).prev = r.prev
	} else {
		l.tail = r.prev
	}
}
