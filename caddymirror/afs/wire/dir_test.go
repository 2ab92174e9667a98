package wire

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// dirBuilder writes a directory as servers do: a new entry is the first of its
// chain, in the first page with room.
type dirBuilder struct {
	b    []byte
	free []int // slot of each page from which on it is free

	force bool // the last slot takes any name
}

func newDir() *dirBuilder {
	d := new(dirBuilder)
	d.add(".", 1, 1)
	d.add("..", 1, 1)
	return d
}

func (d *dirBuilder) addPage() {
	page := make([]byte, DirPage)
	binary.BigEndian.PutUint16(page[2:], 1234)
	first := 1
	if len(d.b) == 0 {
		first = 13
	}
	d.b = append(d.b, page...)
	d.free = append(d.free, first)
	binary.BigEndian.PutUint16(d.b, uint16(len(d.free)))
}

// add returns the slot.
func (d *dirBuilder) add(name string, vnode, unique uint32) int {
	n := 1 + (len(name)+1+15)>>5
	page := slices.IndexFunc(d.free, func(i int) bool { return i+n <= 64 || i == 63 && d.force })
	if page < 0 {
		d.addPage()
		page = len(d.free) - 1
	}
	slot := page*64 + d.free[page]
	d.free[page] += n
	e := d.b[slot*32:]
	e[0] = 1
	binary.BigEndian.PutUint32(e[4:], vnode)
	binary.BigEndian.PutUint32(e[8:], unique)
	copy(e[12:], name)
	head := d.b[160+2*DirHash(name):]
	copy(e[2:4], head)
	binary.BigEndian.PutUint16(head, uint16(slot))
	return slot
}

func (d *dirBuilder) setNext(slot, next int) {
	binary.BigEndian.PutUint16(d.b[slot*32+2:], uint16(next))
}

func (d *dirBuilder) setHead(hash, slot int) {
	binary.BigEndian.PutUint16(d.b[160+2*hash:], uint16(slot))
}

func parse(t testing.TB, b []byte) *Dir {
	t.Helper()
	d, err := ParseDir(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// entries of a directory by name, found by both Lookup and All.
func entries(t testing.TB, d *Dir) map[string]FID {
	t.Helper()
	m := make(map[string]FID)
	for e := range d.All() {
		vnode, unique, ok := d.Lookup(e.Name)
		if !ok || vnode != e.Vnode || unique != e.Unique {
			t.Errorf("%q is listed as %d.%d, and found as %d.%d, %v", e.Name, e.Vnode, e.Unique, vnode, unique, ok)
		}
		if _, ok := m[e.Name]; ok {
			t.Errorf("%q comes twice", e.Name)
		}
		m[e.Name] = FID{0, e.Vnode, e.Unique}
	}
	return m
}

func TestDirHash(t *testing.T) {
	for name, want := range map[string]uint32{"": 0, ".": 46, "..": 68, "index.html": 53, "mnt": 127} {
		if got := DirHash(name); got != want {
			t.Errorf("hash of %q is %d, want %d", name, got, want)
		}
	}
}

// TestDirRoot reads the directory of a new volume as a server wrote it.
func TestDirRoot(t *testing.T) {
	b := make([]byte, 2048)
	copy(b, unhex(t, "0001 04d2 33 ff7f"))
	copy(b[32:], unhex(t, "31"+strings.Repeat("40", 127)))
	copy(b[160+2*46:], unhex(t, "000d"))
	copy(b[160+2*68:], unhex(t, "000e"))
	copy(b[13*32:], unhex(t, "01 00 0000 00000001 00000001 2e"))
	copy(b[14*32:], unhex(t, "01 00 0000 00000001 00000001 2e2e"))
	d := parse(t, b)
	if got := entries(t, d); len(got) != 0 || d.Len() != 2 {
		t.Errorf("entries are %v, %d in all", got, d.Len())
	}
	vnode, unique, ok := d.Parent()
	if vnode != 1 || unique != 1 || !ok {
		t.Errorf("parent is %d.%d, %v", vnode, unique, ok)
	}
	if vnode, unique, ok = d.Lookup("."); vnode != 1 || unique != 1 || !ok {
		t.Errorf("directory is %d.%d, %v", vnode, unique, ok)
	}
	for _, name := range []string{"", "...", "index.html", ".\x00"} {
		if _, _, ok := d.Lookup(name); ok {
			t.Errorf("%q is there", name)
		}
	}
}

func TestDirMany(t *testing.T) {
	want := make(map[string]FID)
	dir := newDir()
	for i := range 1500 {
		name := fmt.Sprintf("datei-%d-ä-%s", i, strings.Repeat("x", i%240))
		want[name] = FID{0, uint32(2 * i), uint32(i)}
		dir.add(name, uint32(2*i), uint32(i))
	}
	for _, n := range []int{1, 15, 16, 17, 47, 48, 49, 254, 255} { // where slots begin
		name := strings.Repeat("n", n)
		want[name] = FID{0, uint32(n), 7}
		dir.add(name, uint32(n), 7)
	}
	d := parse(t, dir.b)
	if pages := len(dir.b) / DirPage; pages < 50 {
		t.Errorf("%d pages are not many", pages)
	}
	if got := entries(t, d); !maps.Equal(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	if d.Len() != len(want)+2 {
		t.Errorf("%d entries in all, want %d", d.Len(), len(want)+2)
	}
	for e := range d.All() {
		if e.Name == "" {
			t.Error("an entry has no name")
		}
		break
	}
	if _, _, ok := d.Lookup("datei-1500"); ok {
		t.Error("finds what is not there")
	}

	// What it was read from may be used again.
	clear(dir.b)
	if got := entries(t, d); !maps.Equal(got, want) {
		t.Error("the directory changed with its source")
	}
}

func TestDirLargest(t *testing.T) {
	dir := newDir()
	n := 0
	for len(dir.free) < maxDirPages || dir.free[maxDirPages-1]+2 <= 64 {
		dir.add(fmt.Sprintf("a-name-for-two-slots-%d", n), 2, 3)
		n++
	}
	d := parse(t, dir.b)
	if got := len(entries(t, d)); got != n {
		t.Errorf("%d entries, want %d", got, n)
	}
	_, err := ParseDir(append(dir.b, make([]byte, DirPage)...))
	malformed(t, err, "2097152 bytes")
}

func TestDirOldStyle(t *testing.T) {
	dir := newDir()
	for i := range 100 {
		dir.add(fmt.Sprint("file", i), 2, 3)
	}
	for _, n := range []byte{0, 2} {
		dir.b[1] = n
		if got := len(entries(t, parse(t, dir.b))); got != 100 {
			t.Errorf("%d entries with a count of %d pages", got, n)
		}
	}
	dir.b[1] = 3
	_, err := ParseDir(dir.b)
	malformed(t, err, "directory", "2 of 3 pages")

	// What is behind the last page does not count.
	dir.b[1] = 2
	if got := len(entries(t, parse(t, append(dir.b, make([]byte, DirPage)...)))); got != 100 {
		t.Errorf("%d entries with a page too many", got)
	}
}

func TestDirNames(t *testing.T) {
	dir := newDir()
	for i, name := range []string{"a/b", "/", "", "../x", "\xff\xfe", "a b", "-n", "ok", "new\nline"} {
		dir.add(name, uint32(i+2), 1)
	}
	got := slices.Sorted(maps.Keys(entries(t, parse(t, dir.b))))
	if want := []string{"-n", "a b", "new\nline", "ok", "\xff\xfe"}; !slices.Equal(got, want) {
		t.Errorf("names are %q, want %q", got, want)
	}
	if d := parse(t, dir.b); d.Len() != 7 {
		t.Errorf("%d names in all, want 7", d.Len())
	}
	for _, name := range []string{"a/b", "/", "", "../x"} {
		if _, _, ok := parse(t, dir.b).Lookup(name); ok {
			t.Errorf("%q is found", name)
		}
	}
}

func TestDirDuplicates(t *testing.T) {
	dir := newDir()
	for i := range uint32(4) {
		dir.add("same", i+2, 1)
		dir.add("..", i+7, 1)
	}
	d := parse(t, dir.b)
	if got := entries(t, d); len(got) != 1 || got["same"] != (FID{0, 5, 1}) {
		t.Errorf("entries are %v, want the first of the chain", got)
	}
	if vnode, _, _ := d.Parent(); vnode != 10 {
		t.Errorf("parent is %d", vnode)
	}
}

func TestDirDamaged(t *testing.T) {
	for _, c := range []struct {
		says   string
		damage func(d *dirBuilder)
	}{
		{"0 bytes", func(d *dirBuilder) { d.b = nil }},
		{"2047 bytes", func(d *dirBuilder) { d.b = d.b[:2047] }},
		{"6143 bytes", func(d *dirBuilder) { d.b = d.b[:6143] }},
		{"2 of 3 pages", func(d *dirBuilder) { d.b = d.b[:4096] }},
		{"page 0 has tag 1235", func(d *dirBuilder) { d.b[3]++ }},
		{"page 2 has tag 0", func(d *dirBuilder) { clear(d.b[4096:]) }},
		{"slot 1,", func(d *dirBuilder) { d.setHead(5, 1) }},
		{"slot 12,", func(d *dirBuilder) { d.setHead(5, 12) }},
		{"slot 64,", func(d *dirBuilder) { d.setHead(5, 64) }},
		{"slot 192,", func(d *dirBuilder) { d.setHead(5, 192) }},
		{"slot 65535,", func(d *dirBuilder) { d.setHead(127, 65535) }},
		{"slot 65535,", func(d *dirBuilder) { d.setNext(13, 65535) }},
		{"comes twice", func(d *dirBuilder) { d.setNext(13, 13) }},
		{"comes twice", func(d *dirBuilder) {
			a, b := d.add("loop", 2, 2), d.add("loop", 2, 2)
			d.setNext(a, b)
		}},
		{"is found at 46", func(d *dirBuilder) { d.setNext(13, d.add("stray", 2, 2)) }},
		{`"/" at slot 13 has hash 47, and is found at 46`, func(d *dirBuilder) { d.b[13*32+12] = '/' }},
		{"leaves its page", func(d *dirBuilder) {
			d.free[0], d.force = 63, true
			d.add("sixteen-letters!", 2, 2) // fits, but needs a slot more
		}},
		{"overlaps", func(d *dirBuilder) {
			// A name within a name.
			at := d.add(strings.Repeat("x", 32)+"inner\x00", 2, 2)
			d.setHead(int(DirHash("inner")), at+1)
			copy(d.b[(at+1)*32:], append(make([]byte, 12), "inner\x00"...))
		}},
		{"without an end", func(d *dirBuilder) {
			d.free[0], d.force = 63, true
			slot := d.add("endless", 2, 2)
			copy(d.b[slot*32+12:DirPage], strings.Repeat("x", 20))
		}},
		{"without an end", func(d *dirBuilder) { d.add(strings.Repeat("x", 256), 2, 2) }},
	} {
		d := newDir()
		d.addPage()
		d.addPage()
		c.damage(d)
		_, err := ParseDir(d.b)
		malformed(t, err, "directory", c.says)
	}
}

// TestDirHostile is a directory of the largest size with all names in one chain:
// one loops at its end, and one is all of one name.
func TestDirHostile(t *testing.T) {
	var dir dirBuilder
	last := 0
	names := sameHash(3000)
	for i := 0; len(dir.free) < maxDirPages || dir.free[maxDirPages-1] < 64; i++ {
		slot := dir.add(names[i%len(names)], 2, 2)
		if last == 0 {
			last = slot
		}
	}
	start := time.Now()
	d := parse(t, dir.b)
	if got := d.Len(); got != len(names) {
		t.Errorf("%d names, want %d", got, len(names))
	}
	dir.setNext(last, 100)
	_, err := ParseDir(dir.b)
	malformed(t, err, "comes twice")
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// sameHash returns short names with one hash.
func sameHash(n int) []string {
	var names []string
	for i := 0; len(names) < n; i++ {
		if s := fmt.Sprint(i); DirHash(s) == 5 {
			names = append(names, s)
		}
	}
	return names
}

func FuzzDir(f *testing.F) {
	f.Add(newDir().b, ".")
	many := newDir()
	for i := range 200 {
		many.add(fmt.Sprint("name", i, strings.Repeat("y", i)), uint32(i), uint32(i))
	}
	f.Add(many.b, "name7yyyyyyy")
	hostile := newDir()
	for _, name := range []string{"a/b", "", "same", "same"} {
		hostile.add(name, 2, 2)
	}
	f.Add(hostile.b, "same")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		d, err := ParseDir(b)
		if err != nil {
			return
		}
		got := entries(t, d)
		for name := range got {
			if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
				t.Errorf("name %q", name)
			}
		}
		vnode, unique, ok := d.Lookup(name)
		fid, listed := got[name]
		if name != "." && name != ".." && (ok != listed || ok && fid != (FID{0, vnode, unique})) {
			t.Errorf("%q is found as %d.%d, %v, and listed as %v, %v", name, vnode, unique, ok, fid, listed)
		}
		if n := d.Len() - len(got); n < 0 || n > 2 {
			t.Errorf("%d entries, %d in all", len(got), d.Len())
		}
	})
}

func BenchmarkParseDir(b *testing.B) {
	dir := newDir()
	for i := range 10000 {
		dir.add(fmt.Sprintf("package_%d_amd64.deb", i), 2, 3)
	}
	b.SetBytes(int64(len(dir.b)))
	for b.Loop() {
		if _, err := ParseDir(dir.b); err != nil {
			b.Fatal(err)
		}
	}
}
