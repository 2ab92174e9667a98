package afs_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// file is a file as it was written.
type file struct {
	name  string
	size  int
	mode  fs.FileMode
	mtime time.Time
}

// content is what a file holds, which its name and size determine.
func content(name string, size int) []byte {
	h := fnv.New64a()
	h.Write([]byte(name))
	var seed [32]byte
	h.Sum(seed[:0])
	b := make([]byte, size)
	rand.NewChaCha8(seed).Read(b) // never fails
	return b
}

func (f file) content() []byte { return content(f.name, f.size) }

const (
	files   = 20_000
	manyDir = 6_000 // in one directory
	deepest = 3     // mount points
)

// oddNames are names that something on the way may stumble over.
var oddNames = []string{
	"100%", "%41", "%2f", "%zz", "what?", "what?a=b&c", "a#b", "a b", " ", "  two  ", "a+b", "a;b", "a:b", "a,b",
	`back\slash`, `"quotes"'`, "<b>", "$HOME", "{http.request.uri}", "*", "[a-z]", "~", "...", "..a", ".hidden", "-rf",
	"käse", "日本語", "nfd-e\u0301", "nfc-\u00e9", "\U0001f4e6", "line-\u2028separator", "\ufffd",
	"latin1-\xe4\xf6", "\xff\xfe", "cut-\xe2\x82", "index.html", "core", "CON", "a.tar.gz", "__afs1234", "a@sysx",
	strings.Repeat("n", 250), strings.Repeat("ä", 125), strings.Repeat("%", 250), strings.Repeat("\xfc", 250),
}

// treeFiles are the files of the tree, in their directories.
func treeFiles() []file {
	times := []time.Time{
		time.Unix(2, 0), time.Unix(1<<31-1, 0), time.Unix(1<<31, 0), time.Unix(1<<32-1, 0),
		time.Date(2001, 9, 9, 1, 46, 40, 0, time.UTC), time.Date(2024, 2, 29, 23, 59, 59, 0, time.UTC),
	}
	// The sizes around those of packets and of what one call reads.
	sizes := []int{0, 1, 1411, 1412, 1413, 4096, 64<<10 - 1, 64 << 10, 64<<10 + 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 1, 3<<20 + 17}
	all := make([]file, 0, files)
	add := func(name string) {
		n := len(all)
		f := file{name: name, size: n % 2000, mode: 0o644, mtime: times[0].Add(time.Duration(n) * 12345 * time.Second)}
		if n < len(times) {
			f.mtime = times[n]
		}
		all = append(all, f)
	}
	for _, n := range oddNames {
		add("odd/" + n)
	}
	for _, n := range oddNames[:40] {
		add("odd dirs/" + n + "/file") // not the longest
	}
	for n, s := range sizes {
		add(fmt.Sprintf("sizes/%d", n))
		all[len(all)-1].size = s
	}
	for n, m := range []fs.FileMode{0o400, 0o600, 0o700, 0o100, 0o444, 0o777, 0o755} {
		add(fmt.Sprintf("modes/%d", n))
		all[len(all)-1].mode = m
	}
	for n := range manyDir {
		name := fmt.Sprintf("many/f%05d", n)
		if n%20 == 0 {
			name += strings.Repeat("x", 250-6)
		}
		add(name)
	}
	for n := len(all); n < files; n++ {
		add(fmt.Sprintf("d%02d/e%02d/f%05d", n%37, n/37%11, n))
	}
	return all
}

// writeFiles writes files, sixteen at a time.
func writeFiles(t *testing.T, v *cell.Volume, all []file) {
	t.Helper()
	dirs := map[string]bool{}
	for _, f := range all {
		if d := path.Dir(f.name); !dirs[d] {
			dirs[d] = true
			try(t, v.MkdirAll(t.Context(), d))
		}
	}
	atATime(t, 16, all, func(f file) error {
		return v.WriteFile(t.Context(), f.name, f.content(), cell.Attr{Mode: f.mode, ModTime: f.mtime})
	})
}

// atATime calls f for each of them, n at a time, and reports the first errors.
func atATime[E any](t *testing.T, n int, all []E, f func(E) error) {
	t.Helper()
	next := make(chan E)
	var mu sync.Mutex
	bad := 0
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for e := range next {
				if err := f(e); err != nil {
					mu.Lock()
					if bad++; bad <= 10 {
						t.Error(err)
					}
					mu.Unlock()
				}
			}
		})
	}
	for _, e := range all {
		next <- e
	}
	close(next)
	wg.Wait()
	if bad > 10 {
		t.Errorf("%d errors in all", bad)
	}
	if bad > 0 {
		t.FailNow()
	}
}

// TestTree compares trees with what was written: every file as package afs sees it,
// and many of them as clients of Caddy do.
func TestTree(t *testing.T) {
	c := sharedCell(t)
	ctx := t.Context()
	const name = "tree"
	inner := []string{"tree.one", "tree.two", "tree.three"}

	v := newVolume(t, c, name, c.FS1, c.FS2)
	all := treeFiles()
	start := time.Now()
	writeFiles(t, v, all)
	t.Logf("%d files written in %v", len(all), time.Since(start))

	// Links.
	for link, to := range map[string]string{
		"links/near":      "../sizes/5",
		"links/dir":       "../sizes",
		"links/absolute":  "/afs/" + c.Name + "/tree/sizes/6",
		"links/again":     "absolute",
		"links/through":   "dir/7",
		"links/dotted":    ".././links/../sizes/./8",
		"links/dangling":  "nowhere",
		"links/loop":      "loop",
		"links/loop1":     "loop2",
		"links/loop2":     "loop1",
		"links/out":       "../../../../etc/passwd",
		"links/etc":       "/etc/passwd",
		"links/othercell": "/afs/example.net/tree/sizes/5",
		"links/inner":     "/afs/" + c.Name + "/tree/one/dir/two/dir/three/file",
		"links/file":      "../sizes/5/x", // through a file
	} {
		try(t, v.MkdirAll(ctx, "links"))
		try(t, v.Symlink(ctx, to, link))
	}

	// Mount points three deep, in directories, and back.
	outer := v
	for n, i := range inner {
		in := newVolume(t, c, i, c.FS1)
		try(t, outer.Mount(ctx, []string{"one", "dir/two", "dir/three"}[n], i))
		try(t, in.MkdirAll(ctx, "dir"))
		try(t, in.WriteFile(ctx, "file", content(i, 5000+n), cell.Attr{}))
		try(t, in.WriteFile(ctx, "dir/file", content(i+"dir", 500+n), cell.Attr{}))
		try(t, in.Symlink(ctx, "../../sizes/5", "dir/up")) // leads to the mount's parent
		outer = in
	}
	try(t, v.Symlink(ctx, "one/dir/two/dir/three", "deep"))
	try(t, outer.Mount(ctx, "dir/back", name)) // a loop of mount points
	try(t, v.MountPoint(ctx, "missing", wire.Mount{Kind: '#', Volume: "tree.missing"}))

	// What is not for all.
	for _, d := range []string{"denied", "listed", "denied/below"} {
		try(t, v.MkdirAll(ctx, d))
		try(t, v.WriteFile(ctx, d+"/file", content(d, 100), cell.Attr{}))
	}
	try(t, v.Symlink(ctx, "../sizes/5", "listed/link"))
	try(t, v.SetACL(ctx, "denied", 0))
	try(t, v.SetACL(ctx, "listed", wire.AccessLookup))
	modes := newVolume(t, c, "tree.modes", c.FS1)
	for _, m := range []fs.FileMode{0, 0o200, 0o077, 0o400, 0o100} {
		f := fmt.Sprintf("%04o", m)
		try(t, modes.WriteFile(ctx, f, content(f, 100), cell.Attr{}))
		try(t, modes.Chmod(ctx, f, m))
	}
	chown(t, c, "tree.modes")
	try(t, v.Mount(ctx, "modes of others", "tree.modes"))

	// What is not read-only.
	rw := newVolume(t, c, "tree.rw")
	try(t, rw.WriteFile(ctx, "file", content("rw", 1000), cell.Attr{}))
	try(t, v.Mount(ctx, "rwonly", "tree.rw"))
	try(t, v.MountPoint(ctx, "percent", wire.Mount{Kind: '%', Volume: "tree.one"}))
	try(t, v.MountPoint(ctx, "readonly", wire.Mount{Kind: '%', Volume: "tree.one.readonly"}))

	start = time.Now()
	release(t, c, append(inner, name, "tree.modes")...)
	t.Logf("released in %v", time.Since(start))
	mounted(t, c, name)

	tree := newTree(t, c, newClient(t, c), afs.Root{Path: name})
	t.Run("every file", func(t *testing.T) { testEveryFile(t, tree, all) })
	t.Run("special", func(t *testing.T) { testSpecial(t, c, tree) })
	t.Run("Caddy", func(t *testing.T) { testTreeHTTP(t, c, all) })
}

// chown gives all files of a volume to somebody. Who writes them is nobody, and so is
// who reads them: that would make them the reader's own, who may read them all. Only
// an administrator could say so to a file server, so it is done in a dump.
func chown(t *testing.T, c *cell.Cell, volume string) {
	t.Helper()
	ctx := t.Context()
	const nobody, somebody = 32766, 1000
	owner := func(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{'o'}, id) }
	const inside = "/tmp/chown.dump"
	outside := filepath.Join(c.Dir, "hosts", c.DB.Name, inside)
	_, err := c.Vos(ctx, "dump", volume, "-file", inside)
	try(t, err)
	dump, err := os.ReadFile(outside)
	try(t, err)
	dump = bytes.ReplaceAll(dump, owner(nobody), owner(somebody))
	try(t, os.WriteFile(outside, dump, 0o600))
	_, err = c.Vos(ctx, "restore", c.FS1.Addr.String(), "a", volume, "-file", inside, "-overwrite", "full")
	try(t, err)
	try(t, os.Remove(outside))
}

// testEveryFile compares every file of a tree with what was written.
func testEveryFile(t *testing.T, tree *afs.Tree, all []file) {
	fsys := tree.FS(20 * time.Second)
	start := time.Now()
	dirs := map[string][]file{}
	for _, f := range all {
		dirs[path.Dir(f.name)] = append(dirs[path.Dir(f.name)], f)
	}
	for dir, want := range dirs {
		got, err := fs.ReadDir(fsys, dir)
		if err != nil {
			t.Error(err)
			continue
		}
		slices.SortFunc(want, func(a, b file) int { return strings.Compare(a.name, b.name) })
		if len(got) != len(want) {
			t.Errorf("%q lists %d files, want %d", dir, len(got), len(want))
			continue
		}
		for n, w := range want {
			info, err := got[n].Info()
			if err != nil || got[n].Name() != path.Base(w.name) {
				t.Errorf("%q lists %q, %v, want %q", dir, got[n].Name(), err, w.name)
				break
			}
			if err := w.compare(info); err != nil {
				t.Errorf("listed: %v", err)
			}
		}
	}
	t.Logf("%d directories listed in %v", len(dirs), time.Since(start))

	start = time.Now()
	atATime(t, 8, all, func(f file) error { return f.read(fsys) })
	t.Logf("%d files read in %v", len(all), time.Since(start))
}

// compare compares what is known of a file with what was written.
func (f file) compare(info fs.FileInfo) error {
	if info.Name() != path.Base(f.name) || info.Size() != int64(f.size) || info.Mode() != f.mode || !info.ModTime().Equal(f.mtime) {
		return fmt.Errorf("%q is %q, %d bytes, %v, %v, want %d bytes, %v, %v", f.name,
			info.Name(), info.Size(), info.Mode(), info.ModTime(), f.size, f.mode, f.mtime)
	}
	return nil
}

// read reads a file, and compares all of it with what was written.
func (f file) read(fsys fs.FS) error {
	info, err := fs.Stat(fsys, f.name)
	if err != nil {
		return err
	}
	if err := f.compare(info); err != nil {
		return err
	}
	r, err := fsys.Open(f.name)
	if err != nil {
		return err
	}
	defer r.Close()
	if info, err = r.Stat(); err != nil {
		return err
	}
	if err := f.compare(info); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if want := f.content(); !bytes.Equal(got, want) {
		return fmt.Errorf("%q holds %d bytes, want %d others", f.name, len(got), len(want))
	}
	return nil
}

// special are names that lead to more than a file, or to none. By them, bytes are
// content(of, size).
var special = []struct {
	name string
	of   string // "": the error is err
	size int
	err  error
}{
	{"links/near", "sizes/5", 4096, nil},
	{"links/dir/5", "sizes/5", 4096, nil},
	{"links/absolute", "sizes/6", 64<<10 - 1, nil},
	{"links/again", "sizes/6", 64<<10 - 1, nil},
	{"links/through", "sizes/7", 64 << 10, nil},
	{"links/dotted", "sizes/8", 64<<10 + 1, nil},
	{"links/dangling", "", 0, fs.ErrNotExist},
	{"links/loop", "", 0, fs.ErrNotExist},
	{"links/loop1", "", 0, fs.ErrNotExist},
	{"links/out", "", 0, fs.ErrNotExist},
	{"links/etc", "", 0, fs.ErrNotExist},
	{"links/othercell", "", 0, fs.ErrNotExist},
	{"links/file", "", 0, fs.ErrNotExist},
	{"one/file", "tree.one", 5000, nil},
	{"one/dir/two/file", "tree.two", 5001, nil},
	{"one/dir/two/dir/three/file", "tree.three", 5002, nil},
	{"one/dir/two/dir/three/dir/file", "tree.threedir", 502, nil},
	{"deep/file", "tree.three", 5002, nil},
	{"one/dir/up", "sizes/5", 4096, nil},
	{"one/dir/two/dir/three/dir/back/sizes/5", "sizes/5", 4096, nil},
	{"one/dir/two/dir/three/dir/back/one/file", "tree.one", 5000, nil},
	{"readonly/file", "tree.one", 5000, nil},
	{"nothing", "", 0, fs.ErrNotExist},
	{"nothing/below", "", 0, fs.ErrNotExist},
	{"sizes/5/below", "", 0, fs.ErrNotExist},
	{"missing/file", "", 0, fs.ErrNotExist},
	{"denied/file", "", 0, fs.ErrPermission},
	{"denied/nothing", "", 0, fs.ErrPermission},
	{"denied/below/file", "", 0, fs.ErrPermission},
	{"listed/file", "", 0, fs.ErrPermission},
	{"listed/nothing", "", 0, fs.ErrNotExist},
	{"listed/link", "sizes/5", 4096, nil},
	{"modes of others/0000", "", 0, fs.ErrPermission},
	{"modes of others/0200", "", 0, fs.ErrPermission},
	{"modes of others/0077", "", 0, fs.ErrPermission},
	{"modes of others/0400", "0400", 100, nil},
	{"modes of others/0100", "0100", 100, nil}, // as file servers do
	{"rwonly/file", "", 0, fs.ErrPermission},
	{"percent/file", "", 0, fs.ErrPermission},
}

// writable are those of them that are to be had if read-write volumes are allowed.
var writable = map[string]string{"rwonly/file": "rw", "percent/file": "tree.one"}

func testSpecial(t *testing.T, c *cell.Cell, tree *afs.Tree) {
	fsys := tree.FS(10 * time.Second)
	for _, s := range special {
		got, err := fs.ReadFile(fsys, s.name)
		_, serr := fs.Stat(fsys, s.name)
		if s.err != nil {
			if !errors.Is(err, s.err) || !errors.Is(serr, s.err) || errors.Is(err, afs.ErrUnavailable) {
				t.Errorf("%s: read: %v, stat: %v, want %v", s.name, err, serr, s.err)
			}
			continue
		}
		if err != nil || serr != nil || !bytes.Equal(got, content(s.of, s.size)) {
			t.Errorf("%s: %d bytes, read: %v, stat: %v, want %d bytes", s.name, len(got), err, serr, s.size)
		}
	}

	list := func(dir, want string) {
		t.Helper()
		entries, err := tree.ReadDir(t.Context(), dir)
		var got []string
		for _, e := range entries {
			n := e.Name
			if e.Dir() {
				n += "/"
			}
			if e.Symlink {
				n += "@"
			}
			if e.Denied {
				n += "!"
			}
			got = append(got, n)
		}
		if s := strings.Join(got, " "); err != nil || s != want {
			t.Errorf("%s lists %s, %v, want %s", dir, s, err, want)
		}
	}
	list("links", "absolute@ again@ dir/@ dotted@ inner@ near@ through@")
	list("one/dir", "file two/ up@")
	list("listed", "file! link@")
	list("modes of others", "0000 0077 0100 0200 0400")
	list(".", "d00/ d01/ d02/ d03/ d04/ d05/ d06/ d07/ d08/ d09/ d10/ d11/ d12/ d13/ d14/ d15/ d16/ d17/ d18/ d19/ "+
		"d20/ d21/ d22/ d23/ d24/ d25/ d26/ d27/ d28/ d29/ d30/ d31/ d32/ d33/ d34/ d35/ d36/ "+
		"deep/@ denied/ links/ listed/ many/ modes/ modes of others/ odd/ odd dirs/ one/ percent/! readonly/ rwonly/! sizes/")
	if _, err := tree.ReadDir(t.Context(), "denied"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("listing what may not be listed: %v", err)
	}
	if _, err := tree.ReadDir(t.Context(), "sizes/5"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("listing a file: %v", err)
	}

	// Only here are volumes read that are not read-only.
	rw := newTree(t, c, newClient(t, c), afs.Root{Path: "tree", ReadWrite: true}).FS(10 * time.Second)
	for name, of := range writable {
		want := content(of, 1000)
		if of != "rw" {
			want = content(of, 5000)
		}
		if got, err := fs.ReadFile(rw, name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s with read_write: %d bytes, %v", name, len(got), err)
		}
	}
	// By the name of a volume, without root.cell.
	byName := newTree(t, c, newClient(t, c), afs.Root{Volume: "tree.one", Path: "dir"}).FS(10 * time.Second)
	for name, size := range map[string]int{"file": 500, "two/file": 5001} {
		if got, err := fs.ReadFile(byName, name); err != nil || len(got) != size {
			t.Errorf("%s of a volume by name: %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := fs.ReadFile(byName, "up"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link out of the volume that a tree begins in: %v", err)
	}
	if _, err := fs.Stat(newTree(t, c, newClient(t, c), afs.Root{Volume: "tree.rw"}).FS(10*time.Second), "file"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a read-write volume by name: %v", err)
	}
}

// testTreeHTTP compares files of the tree as clients of Caddy get them.
func testTreeHTTP(t *testing.T, c *cell.Cell, all []file) {
	root := "afs://" + c.Name + "/tree"
	srv := startSite(t, site(t, c, "", "filesystem cell afs "+root, `
	mirror_cache {
		mount /cached `+root+` {
			browse
		}
		mount /rw `+root+` {
			read_write
		}
	}
	handle_path /fs/* {
		file_server browse {
			fs cell
			hide nothing_at_all
		}
	}
`))
	var odd, sample []file
	for n, f := range all {
		if !strings.HasPrefix(f.name, "many/") && !strings.HasPrefix(f.name, "d") {
			odd = append(odd, f)
		} else if n%20 == 0 {
			sample = append(sample, f)
		}
	}
	sample = append(sample, odd...)
	start := time.Now()
	atATime(t, 8, sample, func(f file) error { return f.get(srv, "/cached/", "miss") })
	t.Logf("%d files through mirror_cache in %v", len(sample), time.Since(start))
	atATime(t, 8, sample, func(f file) error { return f.get(srv, "/cached/", "hit") })

	start = time.Now()
	var served []file
	for n, f := range sample {
		// file_server has clients redirected from index.html.
		if (n >= len(sample)-len(odd) || n%8 == 0) && path.Base(f.name) != "index.html" {
			served = append(served, f)
		}
	}
	atATime(t, 4, served, func(f file) error { return f.get(srv, "/fs/", "") })
	t.Logf("%d files through file_server in %v", len(served), time.Since(start))

	for _, s := range special {
		want, status := content(s.of, s.size), http.StatusOK
		switch {
		case errors.Is(s.err, fs.ErrNotExist):
			status = http.StatusNotFound
		case s.err != nil:
			status = http.StatusForbidden
		}
		for _, prefix := range []string{"/cached/", "/fs/", "/rw/"} {
			want, status := want, status
			if of := writable[s.name]; of != "" && prefix == "/rw/" {
				status, want = http.StatusOK, content(of, map[string]int{"rw": 1000, "tree.one": 5000}[of])
			}
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				resp, body, err := srv.Do(method, prefix+(&url.URL{Path: s.name}).EscapedPath())
				if err != nil || resp.StatusCode != status {
					t.Errorf("%s %s%s: %v, %v, want %d", method, prefix, s.name, status0(resp), err, status)
					continue
				}
				if status == http.StatusOK && (method == http.MethodGet && !bytes.Equal(body, want) || resp.ContentLength != int64(len(want))) {
					t.Errorf("%s %s%s: %d bytes, want %d", method, prefix, s.name, len(body), len(want))
				}
			}
		}
	}
	for _, prefix := range []string{"/cached/", "/fs/"} {
		resp, body, err := srv.Get(prefix + "many/")
		if err != nil || resp.StatusCode != http.StatusOK || bytes.Count(body, []byte(`href="./f0`)) < manyDir {
			t.Errorf("%smany/: %v, %v, %d names", prefix, status0(resp), err, bytes.Count(body, []byte(`href="./f0`)))
		}
		if resp, _, err := srv.Get(prefix + "denied/"); err != nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%sdenied/: %v, %v, want 403", prefix, status0(resp), err)
		}
	}
}

func status0(resp *http.Response) int {
	if resp == nil {
		return 0
	}
	return resp.StatusCode
}

// get fetches a file over HTTP, and compares it with what was written. The cache is
// to say that it is a hit or a miss.
func (f file) get(srv *testcaddy.Server, prefix, cached string) error {
	resp, body, err := srv.Get(prefix + (&url.URL{Path: f.name}).EscapedPath())
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%q: %s, %s", prefix, f.name, resp.Status, resp.Header.Get("Cache-Status"))
	}
	if !bytes.Equal(body, f.content()) {
		return fmt.Errorf("%s%q: %d bytes, want %d others", prefix, f.name, len(body), f.size)
	}
	h := resp.Header
	want := f.mtime.UTC().Format(http.TimeFormat)
	got := h.Get("Last-Modified")
	if f.mtime.After(time.Now()) && got == h.Get("Date") {
		want = got // RFC 9110 section 8.8.2.1; file_server does not know it
	}
	if got != want || h.Get("Content-Length") != strconv.Itoa(f.size) {
		return fmt.Errorf("%s%q: Last-Modified %s, Content-Length %s, want %v and %d", prefix, f.name, got, h.Get("Content-Length"), f.mtime, f.size)
	}
	if status := h.Get("Cache-Status"); cached != "" && (cached == "hit") != strings.Contains(status, "hit") {
		return fmt.Errorf("%s%q: %s, want a %s", prefix, f.name, status, cached)
	}
	return nil
}

// TestDenied asks over and over for what is not to be had. File servers answer that
// ever more slowly (Rx aborts are delayed by 3 s after ten of them), which must not be
// taken for their being down.
func TestDenied(t *testing.T) {
	c := sharedCell(t)
	ctx := t.Context()
	const name, count = "denied", 40
	var all []string
	for n := range 10 * count {
		all = append(all, fmt.Sprint(n))
	}
	v := newVolume(t, c, name, c.FS1)
	try(t, v.WriteFile(ctx, "open", content("open", 100), cell.Attr{}))
	for _, d := range []string{"listed", "modes"} {
		try(t, v.MkdirAll(ctx, d))
		atATime(t, 16, all, func(f string) error {
			return errors.Join(v.WriteFile(ctx, d+"/"+f, nil, cell.Attr{}), v.Chmod(ctx, d+"/"+f, 0o200))
		})
	}
	try(t, v.SetACL(ctx, "listed", wire.AccessLookup))
	chown(t, c, name)
	release(t, c, name)
	root := "afs://" + c.Name + ":" + name
	for _, dir := range []string{"listed", "modes"} {
		t.Run(dir, func(t *testing.T) {
			srv := startSite(t, site(t, c, "", "filesystem cell afs "+root,
				"mirror_cache {\nmount /x "+root+"\n}\nhandle_path /fs/* {\nfile_server {\nfs cell\n}\n}"))
			for _, f := range all[:count] {
				for _, prefix := range []string{"/x/", "/fs/"} {
					start := time.Now()
					resp, _, err := srv.Get(prefix + dir + "/" + f)
					if took := time.Since(start); err != nil || resp.StatusCode != http.StatusForbidden || took > time.Second {
						t.Fatalf("%s%s/%s: %v, %d after %v, want 403 at once", prefix, dir, f, err, status0(resp), took)
					}
				}
			}
			atATime(t, 16, all[count:], func(f string) error {
				start := time.Now()
				resp, _, err := srv.Get("/x/" + dir + "/" + f)
				if took := time.Since(start); err == nil && (resp.StatusCode != http.StatusForbidden || took > 2*time.Second) {
					err = fmt.Errorf("%s/%s, many at a time: %s after %v, want 403 at once", dir, f, resp.Status, took)
				}
				return err
			})
			if resp, _, err := srv.Get("/x/open"); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("what may be read, after that: %v, %d", err, status0(resp))
			}
			if strings.Contains(srv.Logs(), "does not answer") {
				t.Errorf("the file server was taken to be down")
			}
		})
	}
}

// TestNoVolume asks for what is in a volume that does not exist, which is more likely
// an accident than meant.
func TestNoVolume(t *testing.T) {
	c := sharedCell(t)
	root := "afs://" + c.Name + ":no.such.volume"
	srv := startSite(t, site(t, c, "", "filesystem cell afs "+root,
		"mirror_cache {\nmount /x "+root+"\n}\nhandle_path /fs/* {\nfile_server {\nfs cell\n}\n}"))
	for _, path := range []string{"/x/file", "/fs/file", "/fs/dir/file"} {
		resp, _, err := srv.Get(path)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %v, %d, want 503", path, err, status0(resp))
		}
		if err == nil && path == "/x/file" && resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After: %v", path, resp.Header)
		}
	}
}

// TestLargeFile reads a file of 2 GiB and a byte, in parts.
func TestLargeFile(t *testing.T) {
	c := sharedCell(t)
	ctx := t.Context()
	const name, size, half = "large", 2<<30 + 1, 1 << 30
	v := newVolume(t, c, name, c.FS1)
	parts := map[int64][]byte{0: content("head", 1<<20), half - 5000: content("middle", 10_000), size - 4000: content("tail", 4000)}
	for off, p := range parts {
		try(t, v.WriteAt(ctx, "file", p, off))
	}
	release(t, c, name)
	tree := newTree(t, c, newClient(t, c), afs.Root{Volume: name})
	f, err := tree.Open(ctx, "file")
	try(t, err)
	defer f.Close()
	if got := f.Info().Size; got != size {
		t.Fatalf("%d bytes, want %d", got, int64(size))
	}

	want := func(b []byte, off int64) {
		for at, p := range parts {
			if lo, hi := max(at, off), min(at+int64(len(p)), off+int64(len(b))); lo < hi {
				copy(b[lo-off:hi-off], p[lo-at:])
			}
		}
	}
	same := func(got []byte, off int64) bool {
		b := make([]byte, len(got))
		want(b, off)
		return bytes.Equal(got, b)
	}
	for _, off := range []int64{0, 1 << 20, half - 6000, half, 1<<31 - 6000, size - 1} {
		b := make([]byte, 12_000)
		n, err := f.ReadAt(ctx, b, off)
		if short := off+int64(len(b)) > size; n != int(min(int64(len(b)), size-off)) || short && err != io.EOF || !short && err != nil || !same(b[:n], off) {
			t.Errorf("%d bytes at %d are not what was written, %v", n, off, err)
		}
	}

	// Too large for the cache, and through file_server.
	root := "afs://" + c.Name + ":large"
	srv := startSite(t, site(t, c, "max_object 1GiB", "filesystem cell afs "+root,
		"mirror_cache {\nmount /x "+root+"\n}\nhandle_path /fs/* {\nfile_server {\nfs cell\n}\n}"))
	for _, prefix := range []string{"/x/", "/fs/"} {
		for _, off := range []int64{0, half - 6000, 1<<31 - 6000, size - 1} {
			end := min(off+12_000, size)
			resp, body, err := srv.Get(prefix+"file", fmt.Sprintf("Range: bytes=%d-%d", off, end-1))
			if err != nil || resp.StatusCode != http.StatusPartialContent || int64(len(body)) != end-off || !same(body, off) {
				t.Errorf("%sfile from %d on: %v, %d, %d bytes", prefix, off, err, status0(resp), len(body))
			}
		}
		resp, err := srv.Client.Head(srv.URL + prefix + "file")
		if err != nil || resp.ContentLength != size {
			t.Errorf("%sfile: %v, %d bytes", prefix, err, resp.ContentLength)
		}
	}
	// In one go over where 32 bits end.
	var off int64 = size - 300<<20
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/x/file", http.NoBody)
	try(t, err)
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", off))
	resp, err := srv.Client.Do(req)
	try(t, err)
	defer resp.Body.Close()
	begin := off
	start := time.Now()
	b := make([]byte, 1<<20)
	for err == nil {
		var n int
		n, err = io.ReadFull(resp.Body, b)
		if !same(b[:n], off) {
			t.Fatalf("the bytes from %d on are not what was written", off)
		}
		off += int64(n)
	}
	if off != size {
		t.Errorf("it ended after %d bytes: %v", off, err)
	}
	t.Logf("%d bytes in %v", off-begin, time.Since(start))
}
