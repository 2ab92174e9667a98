package afs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// statusAt is where the status lies in a reply.
func statusAt(op string, reply []byte) []byte {
	if op == "data" {
		return reply[len(reply)-120:]
	}
	return reply
}

func put(b []byte, word int, v uint32) { binary.BigEndian.PutUint32(b[4*word:], v) }

// TestHostile: whatever one server answers with, the error is of a kind that is
// announced and comes in time; beside one that is honest, there is none.
func TestHostile(t *testing.T) {
	t.Parallel()
	type mangle = func(op string, fid wire.FID, off int64, reply []byte) []byte
	onStatus := func(change func(st []byte)) mangle {
		return func(op string, _ wire.FID, _ int64, reply []byte) []byte {
			if op == "status" || op == "data" {
				change(statusAt(op, reply))
			}
			return reply
		}
	}
	onData := func(change func(reply []byte) []byte) mangle {
		return func(op string, _ wire.FID, _ int64, reply []byte) []byte {
			if op == "data" {
				return change(reply)
			}
			return reply
		}
	}
	for _, test := range []struct {
		name   string
		mangle mangle
	}{
		{"empty replies", func(op string, _ wire.FID, _ int64, reply []byte) []byte {
			if op == "hello" || op == "bye" {
				return reply
			}
			return nil
		}},
		{"nothing but noise", func(op string, _ wire.FID, _ int64, reply []byte) []byte {
			for i := range reply {
				reply[i] = byte(rand.Uint32())
			}
			return reply
		}},
		{"endless replies", func(op string, _ wire.FID, _ int64, reply []byte) []byte {
			if op == "hello" || op == "bye" {
				return reply
			}
			return append(reply, make([]byte, 600<<10)...)
		}},
		{"data cut short", onData(func(reply []byte) []byte { return reply[:len(reply)/2] })},
		{"fewer data than there are", onData(func(reply []byte) []byte {
			n := binary.BigEndian.Uint64(reply)
			if n == 0 {
				return reply
			}
			binary.BigEndian.PutUint64(reply, n-1)
			return append(reply[:8], reply[9:]...)
		})},
		{"more data than there are", onData(func(reply []byte) []byte {
			binary.BigEndian.PutUint64(reply, binary.BigEndian.Uint64(reply)+1)
			return append(reply[:8:8], append([]byte{0}, reply[8:]...)...)
		})},
		{"length of 2^63", onData(func(reply []byte) []byte { reply[0] = 0x80; return reply })},
		{"status with a length of 2^62", onStatus(func(st []byte) { put(st, 19, 1<<30) })},
		{"status with a length of 0", onStatus(func(st []byte) { put(st, 3, 0) })},
		{"all are files", onStatus(func(st []byte) { put(st, 1, 1) })},
		{"all are directories", onStatus(func(st []byte) { put(st, 1, 2) })},
		{"all are links", onStatus(func(st []byte) { put(st, 1, 3); put(st, 9, 0o755) })},
		{"all are mount points", onStatus(func(st []byte) { put(st, 1, 3); put(st, 9, 0o644) })},
		{"all are nothing", onStatus(func(st []byte) { put(st, 1, 0) })},
		{"each answer is of another version", onStatus(func(st []byte) { put(st, 4, rand.Uint32()) })},
		{"no release", onStatus(func(st []byte) { put(st, 24, 0) })},
		{"each answer is of a newer release", func() mangle {
			var n atomic.Uint32
			return onStatus(func(st []byte) { put(st, 24, firstDate+n.Add(1)) })
		}()},
		{"each answer is of another release", onStatus(func(st []byte) { put(st, 24, firstDate+rand.Uint32N(100)) })},
		{"directories of noise", onData(func(reply []byte) []byte {
			for i := 8; i < len(reply)-120; i++ {
				reply[i] = byte(rand.Uint32())
			}
			return reply
		})},
		{"directories of zeroes", onData(func(reply []byte) []byte { clear(reply[8 : len(reply)-120]); return reply })},
		{"all is the root", func(op string, fid wire.FID, _ int64, reply []byte) []byte {
			if op == "data" && fid.Vnode%2 == 1 {
				dir := fakeDir([]wire.DirEntry{{Name: ".", Vnode: 1, Unique: 1}, {Name: "..", Vnode: 1, Unique: 1}, {Name: "a", Vnode: 1, Unique: 1}, {Name: "index", Vnode: 0, Unique: 0}})
				copy(reply[8:], dir)
			}
			return reply
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, honest := range []bool{false, true} {
				c := newFakeCell(t, 2)
				v := c.vols["root.cell"]
				page(v, "one")
				v.release(firstDate + 100)
				if honest {
					// It was there first, so that the other cannot invent releases.
					if strings.Contains(test.name, "release") && test.name != "no release" || strings.HasPrefix(test.name, "all ") || strings.HasSuffix(test.name, "noise") {
						continue // what a server says of itself has to be believed
					}
				} else {
					v.sites = v.sites[:1]
				}
				c.files[0].mangle = test.mangle
				client, tree := c.start()
				for _, name := range []string{"index", "a/index", "a/b", "none"} {
					start := time.Now()
					ctx := within(t, map[bool]time.Duration{false: time.Second, true: 8 * time.Second}[honest])
					got, _, err := contents(ctx, tree, name)
					if !honest && err == nil && got != "one" && test.name != "nothing but noise" && test.name != "directories of noise" &&
						test.name != "directories of zeroes" && test.name != "status with a length of 0" {
						t.Errorf("%s is %q", name, got)
					}
					if honest && strings.HasSuffix(name, "index") && (err != nil || got != "one") &&
						!strings.HasPrefix(test.name, "directories") && !strings.HasPrefix(test.name, "status with") && !strings.HasPrefix(test.name, "each") {
						t.Errorf("%s is %q, %v, beside an honest server", name, got, err)
					}
					_, err2 := tree.Stat(ctx, name)
					_, err3 := tree.ReadDir(ctx, "a")
					for _, err := range []error{err, err2, err3} {
						wantKnown(t, err)
					}
					if d := time.Since(start); d > 10*time.Second {
						t.Errorf("took %v", d)
					}
				}
				client.Close()
			}
		})
	}
}

// wantKnown checks that an error is of one of the kinds that doc.go names.
func wantKnown(t testing.TB, err error) {
	t.Helper()
	for _, known := range []error{nil, fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid, ErrChanged, ErrUnavailable, ErrIsDir} {
		if errors.Is(err, known) {
			return
		}
	}
	t.Errorf("error of no kind: %v", err)
}

// TestHostileTypes: a vnode number tells directories from all else, and so does
// the status: who says two things at once is not believed.
func TestHostileTypes(t *testing.T) {
	t.Parallel()
	for typ := range uint32(3) {
		c := newFakeCell(t, 1)
		v := c.vols["root.cell"]
		page(v, "one")
		v.release(firstDate + 100)
		_, tree := c.start()
		ctx := within(t, 10*time.Second)
		if _, err := tree.Stat(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		c.files[0].changing(func(op string, fid wire.FID, _ int64, reply []byte) []byte {
			if (op == "status" || op == "data") && fid.Vnode != 1 {
				put(statusAt(op, reply), 1, typ+1)
			}
			return reply
		})
		for _, name := range []string{"index", "a/b"} {
			f, err := tree.Open(ctx, name)
			if err == nil {
				if f.Info().Type != wire.File {
					t.Errorf("type %d: %s was opened as a %v", typ+1, name, f.Info().Type)
				}
				f.Close()
			}
			info, err := tree.Stat(ctx, name)
			if err == nil && (info.Type == wire.Symlink || info.Dir() != (info.FID.Vnode%2 == 1)) {
				t.Errorf("type %d: %s with vnode %d is a %v", typ+1, name, info.FID.Vnode, info.Type)
			}
		}
	}
}

// TestHostileLink: a link of a mebibyte is refused without being kept.
func TestHostileLink(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.link("link", strings.Repeat("d/", 1<<19))
	v.mount("mount", "#"+strings.Repeat("v", 1<<20)+".")
	v.mount("mount2", "#"+strings.Repeat("v", 2000)+".")
	v.link("zero", "a\x00b")
	v.write("index", "one")
	v.release(firstDate + 100)
	_, tree := c.start()
	for _, name := range []string{"link", "link/x", "mount/x", "mount2/x", "zero"} {
		start := time.Now()
		_, err := tree.Stat(within(t, 5*time.Second), name)
		_, err2 := tree.Open(within(t, 5*time.Second), name)
		if err == nil || err2 == nil || time.Since(start) > 2*time.Second {
			t.Errorf("%s: %v, %v after %v", name, err, err2, time.Since(start))
		}
		wantKnown(t, err)
		wantKnown(t, err2)
	}
	if _, err := tree.ReadDir(within(t, 5*time.Second), "."); err != nil {
		t.Errorf("the directory of such a link cannot be listed: %v", err)
	}
	wantFile(t, tree, "index", "one")
}

// TestHostileDirectory: one that changes all the time, and one that is too large.
func TestHostileDirectory(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	page(v, "one")
	v.mkdir("large")
	v.edit("large", func(f *fakeFile) { f.data = make([]byte, 1024<<11) })
	v.release(firstDate + 100)
	_, tree := c.start()
	ctx := within(t, 10*time.Second)
	if _, err := tree.ReadDir(ctx, "large"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("too large: %v", err)
	}
	a := v.find("a").fid.Vnode
	c.files[0].on(func(op string, fid wire.FID, _ int64) int32 {
		if fid.Vnode == a {
			c.do(func() { v.write(fmt.Sprint("a/x", rand.Uint32()), ""); v.release(firstDate + 100) })
		}
		return 0
	})
	before := c.total()
	start := time.Now()
	_, err := tree.ReadDir(ctx, "a")
	if err != nil && !errors.Is(err, ErrUnavailable) || time.Since(start) > 5*time.Second || c.total()-before > 200 {
		t.Errorf("%v after %v and %d calls", err, time.Since(start), c.total()-before)
	}
}

// TestHostileEntries: entries of the database that no one would make.
func TestHostileEntries(t *testing.T) {
	t.Parallel()
	const ids, flags, count, sites, siteFlags = 992 / 4, 1008 / 4, 260 / 4, 264 / 4, 940 / 4
	for _, test := range []struct {
		name  string
		err   error
		calls int // at most, of a file server
		edit  func(c *fakeCell, b []byte)
	}{
		{"13 sites at one address", nil, 80, func(_ *fakeCell, b []byte) {
			put(b, count, 13)
			for i := range 13 {
				copy(b[4*(sites+11*i):], b[4*sites:4*sites+4])
				put(b, siteFlags+i, uint32(wire.SiteRO))
			}
		}},
		{"13 sites at one address, most not to be used", nil, 80, func(_ *fakeCell, b []byte) {
			put(b, count, 13)
			for i := range 13 {
				copy(b[4*(sites+11*i):], b[4*sites:4*sites+4])
				put(b, siteFlags+i, uint32(wire.SiteRO|wire.SiteDontUse))
			}
			put(b, siteFlags+7, uint32(wire.SiteRO))
		}},
		{"14 sites", ErrUnavailable, 0, func(_ *fakeCell, b []byte) { put(b, count, 14) }},
		{"no sites", ErrUnavailable, 0, func(_ *fakeCell, b []byte) { put(b, count, 0) }},
		{"numbers of zero", fs.ErrPermission, 0, func(_ *fakeCell, b []byte) { clear(b[4*ids : 4*ids+12]) }},
		{"no flags", fs.ErrPermission, 0, func(_ *fakeCell, b []byte) { put(b, flags, 0) }},
		{"none to be used", ErrUnavailable, 0, func(_ *fakeCell, b []byte) { put(b, siteFlags, uint32(wire.SiteRO|wire.SiteDontUse)) }},
		{"address 0.0.0.0", ErrUnavailable, 0, func(_ *fakeCell, b []byte) { put(b, sites, 0) }},
		{"a broadcast address", ErrUnavailable, 0, func(_ *fakeCell, b []byte) { put(b, sites, 0xffffffff) }},
		{"a UUID that nobody knows", ErrUnavailable, 0, func(_ *fakeCell, b []byte) { put(b, siteFlags, uint32(wire.SiteRO|wire.SiteUUID)) }},
		{"noise", ErrUnavailable, 0, func(_ *fakeCell, b []byte) {
			for i := range b {
				b[i] = byte(i * 37)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newFakeCell(t, 1)
			v := c.vols["root.cell"]
			page(v, "one")
			v.release(firstDate + 100)
			c.dbs[0].mangle = func(_ string, reply []byte) []byte { test.edit(c, reply); return reply }
			_, tree := c.start()
			start := time.Now()
			got, _, err := contents(within(t, 4*time.Second), tree, "index")
			if !errors.Is(err, test.err) || err == nil && got != "one" || time.Since(start) > 5*time.Second {
				t.Errorf("%q, %v after %v, want %v", got, err, time.Since(start), test.err)
			}
			if n := c.total(); n > test.calls {
				t.Errorf("the server was asked %d times", n)
			}
		})
	}
}

// TestHostileMemory: servers that claim much are not given room for it.
func TestHostileMemory(t *testing.T) {
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.write("huge", "x")
	v.release(firstDate + 100)
	c.files[0].mangle = func(op string, fid wire.FID, _ int64, reply []byte) []byte {
		if (op == "status" || op == "data") && fid.Vnode != 1 {
			put(statusAt(op, reply), 19, 1<<20)
			put(statusAt(op, reply), 3, 0)
		}
		return reply
	}
	_, tree := c.start()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		if f, err := tree.Open(within(t, 3*time.Second), "huge"); err == nil {
			t.Error("opened what is not there")
			f.Close()
		}
		if i, err := tree.Stat(within(t, 3*time.Second), "huge"); err == nil && i.Size != 1<<52 {
			t.Errorf("size is %d", i.Size)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("allocated %d bytes", n)
	}
}
