package afs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// fakeCell is a cell: its database and file servers, and its volumes.
type fakeCell struct {
	t     testing.TB
	name  string
	dbs   []*fakeDB
	files []*fakeServer

	mu   sync.Mutex // guards what follows, and all that volumes and servers have
	vols map[string]*fakeVolume
	ids  uint32
}

// fakeDB is a volume location server.
type fakeDB struct {
	*fakeNode
	cell  *fakeCell
	count int // of questions

	// hook is called before a question is answered. Its code, if not 0, is the
	// answer.
	hook func(op uint32, name string) int32
	// mangle changes an entry before it is sent.
	mangle func(name string, reply []byte) []byte
}

// fakeServer is a file server.
type fakeServer struct {
	*fakeNode
	cell  *fakeCell
	count map[string]int // calls, by kind
	known map[netip.AddrPort]chan struct{}
	early int // calls that came while the client's first call had not ended

	// hook is called before a call is looked at. Its code, if not 0, is the answer.
	hook func(op string, fid wire.FID, off int64) int32
	// mangle changes a reply before it is sent.
	mangle func(op string, fid wire.FID, off int64, reply []byte) []byte
	// mute has the client called by nobody.
	mute bool
}

// fakeVolume has one state that is worked on, head, and those of its sites.
type fakeVolume struct {
	cell  *fakeCell
	name  string
	ids   [3]uint32
	flags wire.EntryFlags
	sites []*fakeSite
	head  fakeFiles
	last  uint32 // vnode
	clock uint32 // of the last change
}

type fakeSite struct {
	srv   *fakeServer
	flags wire.SiteFlags
	fail  wire.Code // 0: online
	date  uint32
	files fakeFiles
}

// fakeFiles are files by vnode. A file is never changed, but replaced.
type fakeFiles map[uint32]*fakeFile

type fakeFile struct {
	fid     wire.FID // without volume
	typ     wire.FileType
	mode    uint32
	access  wire.Access
	denied  bool // even its status
	data    []byte
	version uint64
	mtime   uint32
	entries []wire.DirEntry
}

const firstDate = 1_700_000_000

// newFakeCell starts a cell of so many file servers, and a database server. It has
// the volume root.cell at all of them.
func newFakeCell(t testing.TB, servers int) *fakeCell {
	t.Helper()
	c := &fakeCell{t: t, name: "example.org", vols: map[string]*fakeVolume{}, ids: 536870912}
	c.addDB()
	for range servers {
		c.addServer()
	}
	c.volume("root.cell")
	return c
}

func (c *fakeCell) addDB() *fakeDB {
	db := &fakeDB{cell: c}
	db.fakeNode = newFakeNode(c.t, 7003, db.answer)
	c.dbs = append(c.dbs, db)
	return db
}

func (c *fakeCell) addServer() *fakeServer {
	s := &fakeServer{cell: c, count: map[string]int{}, known: map[netip.AddrPort]chan struct{}{}}
	s.fakeNode = newFakeNode(c.t, wire.PortFile, s.answer)
	c.files = append(c.files, s)
	return s
}

// volume makes a volume with a read-write copy, which is not served, and
// read-only ones at some servers, or all. It is empty, and not released yet.
func (c *fakeCell) volume(name string, at ...*fakeServer) *fakeVolume {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at == nil {
		at = c.files
	}
	v := &fakeVolume{
		cell: c, name: name, ids: [3]uint32{c.ids, c.ids + 1, c.ids + 2},
		flags: wire.ExistsRW | wire.ExistsRO, head: fakeFiles{}, last: 10, clock: firstDate,
	}
	c.ids += 3
	v.head[1] = (&fakeFile{fid: wire.FID{Vnode: 1, Unique: 1}, typ: wire.Directory, mode: 0o755, version: 1, mtime: v.clock}).list(nil)
	for _, s := range at {
		v.sites = append(v.sites, &fakeSite{srv: s, flags: wire.SiteRO, fail: wire.VNoVol})
	}
	c.vols[name] = v
	return v
}

// client returns a client of the cell, and what it logs.
func (c *fakeCell) client() (*Client, *observer.ObservedLogs) {
	c.t.Helper()
	c.do(func() {}) // what was done to the cell without its lock comes before
	core, logs := observer.New(zapcore.DebugLevel)
	cells := map[string][]netip.AddrPort{}
	for _, db := range c.dbs {
		cells[c.name] = append(cells[c.name], db.addr)
	}
	client, err := New(Config{
		Address: "127.0.0.1:0", Cells: cells, Log: zap.New(core),
		CellServDB: "testdata/none-such", // never the DNS
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := client.Close(); err != nil {
			c.t.Errorf("closing the client: %v", err)
		}
	})
	return client, logs
}

// tree returns the tree at a root, which is that of the cell if it is zero. It
// looks for releases only when told to.
func (c *fakeCell) tree(client *Client, r Root) *Tree {
	c.t.Helper()
	r.Cell = cmp.Or(r.Cell, c.name)
	r.Check = cmp.Or(r.Check, time.Hour)
	tree, err := client.Tree(r)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { tree.Close() })
	return tree
}

// start is a client and a tree at the root of the cell.
func (c *fakeCell) start() (*Client, *Tree) {
	client, _ := c.client()
	return client, c.tree(client, Root{})
}

// do changes the cell.
func (c *fakeCell) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *fakeCell) total(ops ...string) (n int) {
	for _, s := range c.files {
		n += s.calls(ops...)
	}
	return n
}

// calls counts the calls of some kinds, or all but the first.
func (s *fakeServer) calls(ops ...string) (n int) {
	s.cell.mu.Lock()
	defer s.cell.mu.Unlock()
	for op, i := range s.count {
		if slices.Contains(ops, op) || ops == nil && op != "hello" {
			n += i
		}
	}
	return n
}

// on sets the hook of a file server.
func (s *fakeServer) on(f func(op string, fid wire.FID, off int64) int32) {
	s.cell.do(func() { s.hook = f })
}

// changing sets what changes its replies.
func (s *fakeServer) changing(f func(op string, fid wire.FID, off int64, reply []byte) []byte) {
	s.cell.do(func() { s.mangle = f })
}

func (d *fakeDB) asked() int {
	d.cell.mu.Lock()
	defer d.cell.mu.Unlock()
	return d.count
}

// Changing volumes.

// set puts a file at a path, and makes directories on the way.
func (v *fakeVolume) set(name string, f *fakeFile) {
	v.clock++
	dir, base := uint32(1), path.Base(name)
	if d := path.Dir(name); d != "." {
		if v.find(d) == nil {
			v.set(d, &fakeFile{typ: wire.Directory, mode: 0o755})
		}
		dir = v.find(d).fid.Vnode
	}
	f.mtime, f.version = v.clock, 1
	if f.typ == wire.Directory {
		f.list(f.entries)
	}
	if old := v.find(name); old != nil && old.typ == f.typ {
		f.fid, f.version = old.fid, old.version+1
		v.head[f.fid.Vnode] = f
		return
	}
	v.last += 2
	f.fid = wire.FID{Vnode: v.last, Unique: v.last}
	if f.typ == wire.Directory {
		f.fid.Vnode++
	}
	v.head[f.fid.Vnode] = f
	v.relist(dir, func(list []wire.DirEntry) []wire.DirEntry {
		list = slices.DeleteFunc(list, func(e wire.DirEntry) bool { return e.Name == base })
		return append(list, wire.DirEntry{Name: base, Vnode: f.fid.Vnode, Unique: f.fid.Unique})
	})
}

func (v *fakeVolume) write(name, data string) {
	v.set(name, &fakeFile{typ: wire.File, mode: 0o644, data: []byte(data)})
}

func (v *fakeVolume) mkdir(name string) {
	v.set(name, &fakeFile{typ: wire.Directory, mode: 0o755})
}

func (v *fakeVolume) link(name, to string) {
	v.set(name, &fakeFile{typ: wire.Symlink, mode: 0o755, data: []byte(to)})
}

func (v *fakeVolume) mount(name, text string) {
	v.set(name, &fakeFile{typ: wire.Symlink, mode: 0o644, data: []byte(text)})
}

func (v *fakeVolume) remove(name string) {
	v.clock++
	f := v.find(name)
	delete(v.head, f.fid.Vnode)
	v.relist(v.parent(name).fid.Vnode, func(list []wire.DirEntry) []wire.DirEntry {
		return slices.DeleteFunc(list, func(e wire.DirEntry) bool { return e.Vnode == f.fid.Vnode })
	})
}

// edit changes a file in other ways than its contents.
func (v *fakeVolume) edit(name string, f func(*fakeFile)) {
	changed := *v.find(name)
	f(&changed)
	v.head[changed.fid.Vnode] = &changed
}

func (v *fakeVolume) relist(dir uint32, f func([]wire.DirEntry) []wire.DirEntry) {
	d := *v.head[dir]
	d.version++
	d.mtime = v.clock
	v.head[dir] = d.list(f(slices.Clone(d.entries)))
}

func (v *fakeVolume) parent(name string) *fakeFile {
	if d := path.Dir(name); d != "." {
		return v.find(d)
	}
	return v.head[1]
}

func (v *fakeVolume) find(name string) *fakeFile {
	f := v.head[1]
	for e := range strings.SplitSeq(name, "/") {
		i := slices.IndexFunc(f.entries, func(d wire.DirEntry) bool { return d.Name == e })
		if i < 0 {
			return nil
		}
		f = v.head[f.entries[i].Vnode]
	}
	return f
}

// release brings sites to the present state, as the release of a date. They are
// all if none are given.
func (v *fakeVolume) release(date uint32, at ...int) {
	for i, s := range v.sites {
		if at == nil || slices.Contains(at, i) {
			s.files, s.date, s.fail = maps.Clone(v.head), date, 0
		}
	}
}

// list makes a directory of entries.
func (f *fakeFile) list(entries []wire.DirEntry) *fakeFile {
	f.entries = entries
	f.data = fakeDir(append([]wire.DirEntry{
		{Name: ".", Vnode: f.fid.Vnode, Unique: f.fid.Unique},
		{Name: "..", Vnode: 1, Unique: 1},
	}, entries...))
	return f
}

// fakeDir writes a directory as servers do.
func fakeDir(entries []wire.DirEntry) []byte {
	var b []byte
	var free int // in the last page
	for _, e := range entries {
		n := 1 + (len(e.Name)+16)/32
		if len(b) == 0 || free+n > 64 {
			free = 1
			if len(b) == 0 {
				free = 13
			}
			b = append(b, make([]byte, wire.DirPage)...)
			binary.BigEndian.PutUint16(b[len(b)-wire.DirPage+2:], 1234)
		}
		slot := (len(b)/wire.DirPage-1)*64 + free
		free += n
		at := b[slot*32:]
		at[0] = 1
		binary.BigEndian.PutUint32(at[4:], e.Vnode)
		binary.BigEndian.PutUint32(at[8:], e.Unique)
		copy(at[12:], e.Name)
		head := b[160+2*wire.DirHash(e.Name):]
		copy(at[2:4], head)
		binary.BigEndian.PutUint16(head, uint16(slot))
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)/wire.DirPage))
	return b
}

// The database.

func (d *fakeDB) answer(_ netip.AddrPort, request []byte) ([]byte, int32) {
	op, name := binary.BigEndian.Uint32(request), ""
	if op == 527 || op == 519 {
		name = string(request[8 : 8+binary.BigEndian.Uint32(request[4:])])
	}
	d.cell.mu.Lock()
	d.count++
	hook, mangle := d.hook, d.mangle
	d.cell.mu.Unlock()
	if hook != nil {
		if code := hook(op, name); code != 0 {
			return nil, code
		}
	}
	if op != 527 && op != 519 {
		return nil, int32(wire.RXGENOpcode)
	}
	d.cell.mu.Lock()
	defer d.cell.mu.Unlock()
	base, _ := wire.SplitVolumeName(name)
	for _, v := range d.cell.vols {
		if v.name != base && !slices.ContainsFunc(v.ids[:], func(id uint32) bool { return fmt.Sprint(id) == base }) {
			continue
		}
		reply := v.entry(op == 527)
		if mangle != nil {
			reply = mangle(name, reply)
		}
		return reply, 0
	}
	return nil, int32(wire.VLNoEnt)
}

func (v *fakeVolume) entry(withUUIDs bool) []byte {
	var b []byte
	for i := range 65 {
		c := byte(0)
		if i < len(v.name) {
			c = v.name[i]
		}
		b = append(b, 0, 0, 0, c)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(v.sites)))
	column := func(words int, f func(*fakeSite) uint32) {
		for i := range 13 {
			var n uint32
			if i < len(v.sites) {
				n = f(v.sites[i])
			}
			b = append(binary.BigEndian.AppendUint32(b, n), make([]byte, 4*(words-1))...)
		}
	}
	addr := func(s *fakeSite) uint32 { a := s.srv.addr.Addr().As4(); return binary.BigEndian.Uint32(a[:]) }
	none := func(*fakeSite) uint32 { return 0 }
	if withUUIDs {
		column(11, addr)
		column(1, none)
	} else {
		column(1, addr)
	}
	column(1, none)
	column(1, func(s *fakeSite) uint32 { return uint32(s.flags) })
	for _, n := range []uint32{v.ids[0], v.ids[1], v.ids[2], 0, uint32(v.flags)} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return append(b, make([]byte, 36)...)
}

// File servers.

func (s *fakeServer) answer(from netip.AddrPort, request []byte) ([]byte, int32) {
	op, fid, off := map[uint32]string{
		132: "status", 65536: "bulk", 65537: "data", 65539: "bye", 65540: "hello",
	}[binary.BigEndian.Uint32(request)], wire.FID{}, int64(0)
	word := func(i int) uint32 { return binary.BigEndian.Uint32(request[4*i:]) }
	switch op {
	case "status", "data":
		fid = wire.FID{Volume: word(1), Vnode: word(2), Unique: word(3)}
	case "bulk":
		fid.Volume = word(2)
	}
	if op == "data" {
		off = int64(binary.BigEndian.Uint64(request[16:]))
	}
	s.meet(from, op)
	s.cell.mu.Lock()
	s.count[op]++
	hook, mangle := s.hook, s.mangle
	s.cell.mu.Unlock()
	if hook != nil {
		if code := hook(op, fid, off); code != 0 {
			return nil, code
		}
	}
	s.cell.mu.Lock()
	reply, code := s.reply(op, fid, request)
	s.cell.mu.Unlock()
	if mangle != nil && code == 0 {
		reply = mangle(op, fid, off, reply)
	}
	return reply, int32(code)
}

// meet asks a client that it does not know who that is, like a real one, before
// the client's call is run.
func (s *fakeServer) meet(from netip.AddrPort, op string) {
	s.cell.mu.Lock()
	met, ok := s.known[from]
	if !ok {
		met = make(chan struct{})
		s.known[from] = met
		defer close(met)
	}
	mute := s.mute
	select {
	case <-met:
	default:
		if ok && op != "hello" {
			s.early++
		}
	}
	s.cell.mu.Unlock()
	if ok || mute {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := s.call(ctx, from, binary.BigEndian.AppendUint32(nil, 65538))
	over := s.cell.t.Context() // the test has ended, and both sides are being closed
	if (err != nil || len(reply) != 440) && over.Err() == nil {
		s.cell.t.Errorf("TellMeAboutYourself: %d bytes, %v", len(reply), err)
	}
	if _, err := s.call(ctx, from, append([]byte{0, 0, 0, 213}, make([]byte, 44)...)); err != nil && over.Err() == nil {
		s.cell.t.Errorf("InitCallBackState3: %v", err)
	}
}

func (s *fakeServer) reply(op string, fid wire.FID, request []byte) ([]byte, wire.Code) {
	switch op {
	case "hello":
		return []byte{0, 0, 0, 1, 0, 0, 0, 7}, 0
	case "bye":
		return nil, 0
	case "":
		return nil, wire.RXGENOpcode
	}
	site, code := s.site(fid.Volume)
	if code != 0 && op != "bulk" {
		return nil, code
	}
	if op == "bulk" {
		return s.bulk(site, code, request)
	}
	f, code := site.file(fid)
	if code != 0 {
		return nil, code
	}
	if op == "status" {
		return trailer(f.status(nil), site.date), 0
	}
	if f.typ == wire.File && f.access&wire.AccessRead == 0 && f.access != 0 {
		return nil, eaccess
	}
	off, n := binary.BigEndian.Uint64(request[16:]), binary.BigEndian.Uint64(request[24:])
	size := uint64(len(f.data))
	off = min(off, size)
	n = min(n, size-off)
	b := binary.BigEndian.AppendUint64(nil, n)
	return trailer(f.status(append(b, f.data[off:off+n]...)), site.date), 0
}

const eaccess wire.Code = 49733388

func (s *fakeServer) bulk(site *fakeSite, code wire.Code, request []byte) ([]byte, wire.Code) {
	if code != 0 {
		return nil, code
	}
	n := int(binary.BigEndian.Uint32(request[4:]))
	if n > 50 {
		return nil, wire.RXGENSSUnmarshal
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(n))
	date := uint32(0)
	for i := range n {
		at := request[8+12*i:]
		f, code := site.file(wire.FID{Vnode: binary.BigEndian.Uint32(at[4:]), Unique: binary.BigEndian.Uint32(at[8:])})
		if code != 0 {
			b = failedStatus(b, code)
			continue
		}
		b, date = f.status(b), site.date
	}
	b = append(binary.BigEndian.AppendUint32(b, uint32(n)), make([]byte, 12*n)...)
	return append(binary.BigEndian.AppendUint32(b, date), make([]byte, 20)...), 0
}

func failedStatus(b []byte, code wire.Code) []byte {
	b = append(binary.BigEndian.AppendUint32(b, 1), make([]byte, 19*4)...)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// site finds the copy of a volume that the server has.
func (s *fakeServer) site(id uint32) (*fakeSite, wire.Code) {
	for _, v := range s.cell.vols {
		typ := slices.Index(v.ids[:], id)
		if typ < 0 || id == 0 {
			continue
		}
		for _, at := range v.sites {
			if at.srv == s && at.flags.Has(wire.VolumeType(typ)) {
				return at, at.fail
			}
		}
	}
	return nil, wire.VNoVol
}

func (s *fakeSite) file(fid wire.FID) (*fakeFile, wire.Code) {
	f := s.files[fid.Vnode]
	switch {
	case f == nil || f.fid.Unique != fid.Unique:
		return nil, wire.VNoVnode
	case f.denied:
		return nil, eaccess
	}
	return f, 0
}

func (f *fakeFile) status(b []byte) []byte {
	access := uint32(f.access)
	if access == 0 {
		access = uint32(wire.AccessRead | wire.AccessLookup)
	}
	for _, n := range [21]uint32{
		1, uint32(f.typ), 1, uint32(len(f.data)), uint32(f.version), 0, 0, access, access,
		f.mode, 1, 1, 1, f.mtime, f.mtime, 0, 0, uint32(f.version >> 32), 0, 0, 0,
	} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// trailer is the callback and the VolSync after a status.
func trailer(b []byte, date uint32) []byte {
	for _, n := range [9]uint32{1, 7200, 2, date} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// callback tells clients that a volume has changed.
func (s *fakeServer) callback(to netip.AddrPort, volume uint32) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var b []byte
	for _, n := range []uint32{204, 1, volume, 0, 0, 0} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	_, err := s.call(ctx, to, b)
	return err
}

// Helpers of tests.

// TestMain has tests run beside each other however few processors there are: most
// of the time they wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if n, err := strconv.Atoi(flag.Lookup("test.parallel").Value.String()); err == nil && n < 8 {
		_ = flag.Set("test.parallel", "8")
	}
	os.Exit(m.Run())
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// soon waits until f is true.
func soon(t testing.TB, d time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// contents reads a file to its end.
func contents(ctx context.Context, tree *Tree, name string) (string, Info, error) {
	f, err := tree.Open(ctx, name)
	if err != nil {
		return "", Info{}, err
	}
	defer f.Close()
	r := f.Reader(0)
	defer r.Close()
	var b bytes.Buffer
	buf := make([]byte, 32<<10)
	for {
		n, err := r.ReadContext(ctx, buf)
		b.Write(buf[:n])
		if err == io.EOF {
			return b.String(), f.Info(), nil
		}
		if err != nil {
			return b.String(), f.Info(), err
		}
	}
}

func wantFile(t testing.TB, tree *Tree, name, want string) Info {
	t.Helper()
	got, info, err := contents(within(t, 8*time.Second), tree, name)
	if err != nil || got != want {
		t.Fatalf("%s is %.40q (%d bytes), %v, want %.40q (%d bytes)", name, got, len(got), err, want, len(want))
	}
	return info
}

// looked has all volumes looked at.
func looked(t testing.TB, tree *Tree) {
	t.Helper()
	tree.check()
}

// expire makes the client look at the database before it next asks for anything.
func expire(client *Client) {
	client.eachVolume(func(v *volume) {
		v.mu.Lock()
		v.began = v.began.Add(-time.Hour)
		for _, s := range v.sites {
			s.suspect = s.suspect.Add(-2 * time.Hour)
		}
		v.mu.Unlock()
	})
}

// pattern is the contents of a large file; each version differs everywhere.
func pattern(version byte, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i/7) ^ byte(i>>11) ^ version
	}
	return string(b)
}
