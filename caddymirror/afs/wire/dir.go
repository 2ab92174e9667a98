package wire

import (
	"fmt"
	"iter"
	"math/bits"
	"strings"
)

// A directory is a file of pages. A page is 64 slots of 32 bytes, numbered through
// the whole file; the first of each page is its header. Page 0 goes on with a map
// of the pages and the hash table: the slot of the first entry for each of 128
// values. An entry takes as many slots as its name needs, within one page, and
// names the slot of the next entry with that value.
const (
	// DirPage is the size of a page. The length of a directory is a multiple.
	DirPage = 2048

	// MaxDir is how long a directory can be.
	MaxDir = maxDirPages * DirPage

	maxDirPages   = 1023
	dirTag        = 1234
	slotSize      = 32
	pageSlots     = DirPage / slotSize
	headSlots     = 1  // of every page
	headSlotsZero = 13 // of page 0
	dirHashOff    = 160
	dirHashSize   = 128
	entryNameOff  = 12
	maxEntryName  = 255
)

// DirEntry is a name in a directory. The file is in the same volume.
type DirEntry struct {
	Name          string
	Vnode, Unique uint32
}

// Dir is a directory. It was checked as a whole when it was parsed: every name is
// found by [Dir.Lookup] and listed by [Dir.All], or neither.
//
// It may be used by several goroutines at once.
type Dir struct {
	s string // the pages; names are parts of it

	// live has a bit for each slot where an entry begins that can be looked up.
	live []uint64
}

// ParseDir reads a directory, the whole contents of a file of type [Directory]. It
// makes a copy, in which names stay alive for as long as any is held.
//
// A directory that servers would not have written is an error: chains that loop,
// entries that overlap or leave their page, names with the wrong hash. Names are
// what others chose, however: those that could not be named in a path, being empty
// or having a slash, are dropped, and of equal ones all but the first.
func ParseDir(b []byte) (*Dir, error) {
	d := &Dir{s: string(b)}
	if err := d.parse(); err != nil {
		return nil, &FormatError{What: "directory", Problem: err.Error()}
	}
	return d, nil
}

func (d *Dir) parse() error {
	pages := len(d.s) / DirPage
	if pages == 0 || pages > maxDirPages || len(d.s)%DirPage != 0 {
		return fmt.Errorf("%d bytes long", len(d.s))
	}
	switch n := d.u16(0); {
	case n == 0: // old: the length counts
	case n > pages:
		return fmt.Errorf("cut short: %d of %d pages", pages, n)
	default:
		pages = n
	}
	for p := range pages {
		if tag := d.u16(p*DirPage + 2); tag != dirTag {
			return fmt.Errorf("page %d has tag %d", p, tag)
		}
	}

	d.live = make([]uint64, pages)
	used := make([]uint64, pages)
	seen := make(map[string]struct{})
	for h := range uint32(dirHashSize) {
		if err := d.parseChain(h, used, seen); err != nil {
			return err
		}
		clear(seen)
	}
	return nil
}

// parseChain checks the entries with a hash, and marks the slots they use. No slot
// is used twice, so no chain comes to where one has been.
func (d *Dir) parseChain(hash uint32, used []uint64, seen map[string]struct{}) error {
	for slot := d.first(hash); slot != 0; slot = d.next(slot) {
		page, i := slot/pageSlots, slot%pageSlots
		head := headSlots
		if page == 0 {
			head = headSlotsZero
		}
		if page >= len(d.live) || i < head {
			return fmt.Errorf("hash %d leads to slot %d, where no entry can be", hash, slot)
		}
		name, ok := d.name(slot)
		if !ok {
			return fmt.Errorf("entry at slot %d has a name without an end", slot)
		}
		// Of the first slot, 16 bytes are the name's, though 20 could be.
		n := 1 + (len(name)+16)/slotSize
		if i+n > pageSlots {
			return fmt.Errorf("entry at slot %d leaves its page", slot)
		}
		bits := (uint64(1)<<n - 1) << i
		if used[page]&bits != 0 {
			return fmt.Errorf("entry at slot %d overlaps with another, or comes twice", slot)
		}
		used[page] |= bits
		if got := DirHash(name); got != hash {
			return fmt.Errorf("entry %q at slot %d has hash %d, and is found at %d", name, slot, got, hash)
		}
		if name == "" || strings.Contains(name, "/") {
			continue
		}
		if _, ok := seen[name]; ok {
			continue
		}
		seen[name] = struct{}{}
		d.live[page] |= 1 << i
	}
	return nil
}

// Lookup finds a name by its bytes, "." and ".." too, if it is there.
func (d *Dir) Lookup(name string) (vnode, unique uint32, ok bool) {
	for slot := d.first(DirHash(name)); slot != 0; slot = d.next(slot) {
		if s, _ := d.name(slot); s == name && d.isLive(slot) {
			e := d.entry(slot, name)
			return e.Vnode, e.Unique, true
		}
	}
	return 0, 0, false
}

// All yields the entries as they lie in the directory, without "." and "..".
func (d *Dir) All() iter.Seq[DirEntry] {
	return func(yield func(DirEntry) bool) {
		for page, live := range d.live {
			for ; live != 0; live &= live - 1 {
				slot := page*pageSlots + bits.TrailingZeros64(live)
				name, _ := d.name(slot)
				if name == "." || name == ".." {
					continue
				}
				if !yield(d.entry(slot, name)) {
					return
				}
			}
		}
	}
}

// Len is how many entries there are, "." and ".." too.
func (d *Dir) Len() int {
	n := 0
	for _, live := range d.live {
		n += bits.OnesCount64(live)
	}
	return n
}

// Parent is "..". The root of a volume is its own parent.
func (d *Dir) Parent() (vnode, unique uint32, ok bool) { return d.Lookup("..") }

// DirHash is the hash of a name in a directory, up to 127.
func DirHash(name string) uint32 {
	var h uint32
	for i := range len(name) {
		h = h*173 + uint32(name[i])
	}
	t := h % dirHashSize
	if t != 0 && h >= 1<<31 {
		t = dirHashSize - t
	}
	return t
}

func (d *Dir) first(hash uint32) int { return d.u16(dirHashOff + 2*int(hash)) }

func (d *Dir) next(slot int) int { return d.u16(slot*slotSize + 2) }

// name of the entry at a slot, and whether it ends within the page and is not too
// long.
func (d *Dir) name(slot int) (string, bool) {
	off := slot*slotSize + entryNameOff
	end := (slot/pageSlots + 1) * DirPage
	name, _, ok := strings.Cut(d.s[off:min(off+maxEntryName+1, end)], "\x00")
	return name, ok
}

func (d *Dir) entry(slot int, name string) DirEntry {
	off := slot * slotSize
	return DirEntry{Name: name, Vnode: d.u32(off + 4), Unique: d.u32(off + 8)}
}

func (d *Dir) isLive(slot int) bool { return d.live[slot/pageSlots]&(1<<(slot%pageSlots)) != 0 }

func (d *Dir) u16(off int) int { return int(d.s[off])<<8 | int(d.s[off+1]) }

func (d *Dir) u32(off int) uint32 { return uint32(d.u16(off))<<16 | uint32(d.u16(off+2)) }
