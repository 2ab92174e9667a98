package afs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// pathCell has a tree with links and mount points of all kinds.
func pathCell(t *testing.T) *fakeCell {
	c := newFakeCell(t, 1)
	root, sub, deep, rw := c.vols["root.cell"], c.volume("sub"), c.volume("deep"), c.volume("rwonly")
	c.volume("loop")
	root.write("index", "root")
	root.write("secret/index", "secret")
	root.write("pub/index", "pub")
	root.write("pub/d/index", "d")
	root.write("pub/d/e/index", "e")
	root.write("pub/\xff\xfe \n\"%", "odd")
	root.write("pub/"+strings.Repeat("n", 250), "long")
	root.write("pub/tool@sys", "sys")
	for name, to := range map[string]string{
		"rel": "d/index", "up": "../index", "updown": "../pub/d/index", "dots": "./d/./e/../index", "slash": "d/", "slashes": "d//index",
		"dir": "d", "dir2": "dir", "abs": "/afs/example.org/pub/d/index", "absroot": "/afs/example.org/index", "abssecret": "/afs/example.org/secret/index",
		"abssneaky": "/afs/example.org/pub/../secret/index", "absdots": "/afs/example.org/pub/d/../d/index",
		"etc": "/etc/passwd", "othercell": "/afs/other.example/pub", "afs": "/afs", "loop": "loop", "loop1": "loop2", "loop2": "loop1",
		"grow": "grow/grow", "far": "../../../../index", "dangling": "none", "throughfile": "index/x", "empty": "",
		"sys": "tool@sys", "many": strings.Repeat("d/../", 600) + "index", "viasub": "sub/x/index", "outsub": "sub/back",
	} {
		root.link("pub/"+name, to)
	}
	for name, text := range map[string]string{
		"sub": "#sub.", "pct": "%sub.", "pctro": "%sub.readonly.", "ro": "#sub.readonly.", "bk": "#sub.backup.", "cell": "#example.org:sub.",
		"num": fmt.Sprintf("#%d.", sub.ids[0]), "numro": fmt.Sprintf("#%d.", sub.ids[1]),
		"gone": "#gone.", "junk": "sub", "nodot": "#sub", "slash": "#a/b.", "rw": "#rwonly.", "self": "#root.cell.", "loop": "#loop.",
	} {
		root.mount("pub/m-"+name, text)
	}
	root.mount("pub/sub", "#sub.")
	root.mount("nocell", "#none.example:root.cell.")
	sub.write("index", "sub")
	sub.write("x/index", "x")
	sub.link("x/up", "../index")
	sub.link("back", "../d/index")
	sub.link("x/out", "../../pub/d/index")
	sub.link("root", "/afs/example.org/index")
	sub.mount("deep", "#deep.")
	deep.write("index", "deep")
	deep.link("up", "../../d/index")
	rw.write("index", "rw")
	c.vols["loop"].mount("loop", "#loop.")
	for _, v := range c.vols {
		v.release(firstDate + 100)
	}
	rw.flags = wire.ExistsRW
	for _, s := range rw.sites {
		s.flags = wire.SiteRW
	}
	return c
}

// TestPaths: where names lead from the root of the cell, and from a directory.
func TestPaths(t *testing.T) {
	t.Parallel()
	c := pathCell(t)
	client, _ := c.client()
	all := c.tree(client, Root{})
	pub := c.tree(client, Root{Path: "pub"})
	viaLink := c.tree(client, Root{Path: "pub/dir2"})
	inVolume := c.tree(client, Root{Volume: "sub"})
	byNumber := c.tree(client, Root{Volume: fmt.Sprint(c.vols["sub"].ids[1])})
	viaMount := c.tree(client, Root{Path: "pub/sub/x/"})
	missing, denied, invalid := fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid
	for _, test := range []struct {
		tree *Tree
		name string
		want any
	}{
		{all, "index", "root"},
		{all, "pub/d/e/index", "e"},
		{all, "pub/up", "root"},
		{all, "pub/abssecret", "secret"},
		{all, "pub/outsub", "d"}, // .. of a volume is where it is mounted
		{pub, "index", "pub"},
		{pub, "d/index", "d"},
		{pub, "rel", "d"},
		{pub, "updown", missing}, // it leaves the tree, if only to come back
		{pub, "dots", "d"},
		{pub, "slashes", "d"},
		{pub, "dir/index", "d"},
		{pub, "dir2/e/index", "e"},
		{pub, "slash/index", "d"},
		{pub, "abs", "d"},
		{pub, "absdots", "d"},
		{pub, "absroot", missing},
		{pub, "abssecret", missing},
		{pub, "abssneaky", missing},
		{pub, "up", missing},
		{pub, "far", missing},
		{pub, "etc", missing},
		{pub, "afs", missing},
		{pub, "othercell", missing},
		{pub, "loop", missing},
		{pub, "loop1", missing},
		{pub, "grow", missing},
		{pub, "many", missing},
		{pub, "dangling", missing},
		{pub, "throughfile", missing},
		{pub, "index/x", missing},
		{pub, "none", missing},
		{pub, "none/x", missing},
		{pub, "d", ErrIsDir},
		{pub, "dir", ErrIsDir},
		{pub, ".", ErrIsDir},
		{pub, "sys", missing},
		{pub, "tool@sys", missing},
		{pub, "\xff\xfe \n\"%", "odd"},
		{pub, strings.Repeat("n", 250), "long"},
		{pub, strings.Repeat("n", 300), missing},
		{pub, strings.Repeat("d/", 5000) + "index", missing},
		{pub, "", invalid},
		{pub, "/index", invalid},
		{pub, "index/", invalid},
		{pub, "d//index", invalid},
		{pub, "./index", invalid},
		{pub, "../index", invalid},
		{pub, "d/../index", invalid},
		{pub, "in\x00dex", invalid},
		{pub, "viasub", "x"},
		{pub, "sub/index", "sub"},
		{pub, "sub/x/up", "sub"},
		{pub, "sub/back", "d"},
		{pub, "sub/x/out", missing},
		{pub, "sub/deep/index", "deep"},
		{pub, "sub/deep/up", "d"},
		{pub, "sub/root", missing},
		{pub, "m-sub", ErrIsDir},
		{pub, "m-sub/index", "sub"},
		{pub, "m-ro/index", "sub"},
		{pub, "m-pctro/index", "sub"},
		{pub, "m-cell/index", "sub"},
		{pub, "m-num/index", "sub"},
		{pub, "m-numro/index", "sub"},
		{pub, "m-pct/index", denied},
		{pub, "m-bk/index", denied},
		{pub, "m-rw/index", denied},
		{pub, "m-gone/index", missing},
		{pub, "m-gone", missing},
		{all, "nocell/index", ErrUnavailable},
		{pub, "m-junk/index", missing},
		{pub, "m-nodot/index", missing},
		{pub, "m-slash/index", missing},
		{pub, "m-self/pub/m-self/pub/d/index", "d"},
		{pub, strings.Repeat("m-self/pub/", 40) + "index", missing},
		{pub, "m-loop/" + strings.Repeat("loop/", 40) + "x", missing},
		{viaLink, "index", "d"},
		{viaLink, "e/index", "e"},
		{viaMount, "index", "x"},
		{viaMount, "up", missing},
		{viaMount, "out", missing},
		{inVolume, "index", "sub"},
		{inVolume, "x/up", "sub"},
		{inVolume, "x/out", missing},
		{inVolume, "back", missing},
		{inVolume, "deep/index", "deep"},
		{byNumber, "x/index", "x"},
	} {
		got, _, err := contents(within(t, 8*time.Second), test.tree, test.name)
		switch want := test.want.(type) {
		case string:
			if err != nil || got != want {
				t.Errorf("%v: %.60q is %q, %v, want %q", test.tree, test.name, got, err, want)
			}
			continue
		case error:
			if !errors.Is(err, want) {
				t.Errorf("%v: %.60q is %q, %v, want %v", test.tree, test.name, got, err, want)
			}
			if want != ErrIsDir { // which only Open says
				_, err = test.tree.Stat(within(t, 8*time.Second), test.name)
				if !errors.Is(err, want) {
					t.Errorf("%v: stat %.60q: %v, want %v", test.tree, test.name, err, want)
				}
			}
		}
		var pe *fs.PathError
		if err != nil && (!errors.As(err, &pe) || pe.Path != test.name) {
			t.Errorf("%.60q: %v does not name it", test.name, err)
		}
	}
}

// TestReadWrite: volumes that are not read-only, where they are allowed.
func TestReadWrite(t *testing.T) {
	t.Parallel()
	c := pathCell(t)
	sub := c.vols["sub"]
	c.do(func() {
		sub.write("index", "sub, written")
		sub.sites = append(sub.sites, &fakeSite{srv: c.files[0], flags: wire.SiteRW, files: sub.head, date: firstDate})
		backup := *sub.sites[1]
		backup.flags = wire.SiteBackup
		sub.sites = append(sub.sites, &backup)
	})
	client, _ := c.client()
	tree := c.tree(client, Root{Path: "pub", ReadWrite: true})
	wantFile(t, tree, "m-sub/index", "sub")
	if r := tree.Release(within(t, 5*time.Second)); r.Token == "" {
		t.Error("no token where all volumes are read-only")
	}
	wantFile(t, tree, "m-rw/index", "rw")
	wantFile(t, tree, "m-pct/index", "sub, written")
	if r := tree.Last(); r.Token != "" {
		t.Errorf("token is %q where a volume has no releases", r.Token)
	}
	if _, err := tree.Stat(within(t, 5*time.Second), "m-bk"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("backup volume: %v", err)
	}
	for _, r := range []Root{{Volume: "sub.backup"}, {Volume: "a/b"}, {Path: "../x"}, {Path: "a\x00"}, {Cell: "../.."}, {Volume: ".readonly"}} {
		if r.Cell == "" {
			r.Cell = c.name
		}
		if _, err := client.Tree(r); err == nil {
			t.Errorf("%+v is good for a root", r)
		}
	}
	if tree, err := client.Tree(Root{Cell: c.name, Volume: "rwonly"}); err != nil {
		t.Error(err)
	} else if _, err := tree.Stat(within(t, 5*time.Second), "."); err == nil {
		t.Error("a read-write volume is the root of a tree that refuses them")
	}
}

// described is what a listing says of a file.
func described(i Info) string {
	s := i.Type.String()
	if i.Symlink {
		s += ", link"
	}
	if i.Denied {
		s += ", denied"
	}
	return s
}

// TestPermissions: what the server gives to nobody is forbidden, and listed.
func TestPermissions(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	v := c.vols["root.cell"]
	for _, name := range []string{"open", "unreadable", "nomode", "hidden", "dir/x", "nolookup/x", "denied/x"} {
		v.write(name, "text")
	}
	v.edit("unreadable", func(f *fakeFile) { f.access = wire.AccessLookup })
	v.edit("nomode", func(f *fakeFile) { f.mode = 0o044 })
	v.edit("hidden", func(f *fakeFile) { f.denied = true })
	v.edit("nolookup", func(f *fakeFile) { f.access = wire.AccessRead })
	v.edit("denied", func(f *fakeFile) { f.denied = true })
	v.link("tohidden", "hidden")
	v.link("todenied", "denied")
	v.release(firstDate + 100)
	_, tree := c.start()
	ctx := within(t, 10*time.Second)
	for name, want := range map[string]error{
		"open": nil, "unreadable": fs.ErrPermission, "nomode": fs.ErrPermission, "hidden": fs.ErrPermission, "dir": nil,
		"nolookup": fs.ErrPermission, "nolookup/x": fs.ErrPermission, "denied": fs.ErrPermission, "denied/x": fs.ErrPermission, "tohidden": fs.ErrPermission,
	} {
		if _, err := tree.Stat(ctx, name); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("stat %s: %v, want %v", name, err, want)
		}
		if _, err := tree.ReadDir(ctx, name); strings.HasPrefix(name, "n") && name != "nomode" && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("list %s: %v, want %v", name, err, want)
		}
	}
	if _, err := tree.Open(ctx, "unreadable"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("open: %v", err)
	}
	list, err := tree.ReadDir(ctx, ".")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, i := range list {
		got[i.Name] = described(i)
	}
	for name, want := range map[string]string{
		"open": "file", "hidden": "file, denied", "denied": "directory, denied", "dir": "directory",
		"tohidden": "file, link, denied", "todenied": "file, link, denied", // what it is cannot be known
	} {
		if got[name] != want {
			t.Errorf("%s is listed as %q, want %q", name, got[name], want)
		}
	}
	// Nobody else was asked after a refusal.
	c.do(func() { v.edit("open", func(f *fakeFile) { f.denied = true }); v.release(firstDate + 100) })
	before := c.total("data")
	if _, err := tree.Open(ctx, "open"); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
	if n := c.total("data") - before; n != 1 {
		t.Errorf("%d servers were asked for what the first refused", n)
	}
}

// TestReadDir: every name once, in order, whatever it is.
func TestReadDir(t *testing.T) {
	t.Parallel()
	c := pathCell(t)
	v := c.vols["root.cell"]
	var want []string
	c.do(func() {
		v.mkdir("large")
		v.mkdir("empty")
		var list []wire.DirEntry
		for i := range 5100 {
			name := fmt.Sprintf("%d-%s", i*7919%5100, strings.Repeat("n", i%200))
			want = append(want, name)
			f := &fakeFile{typ: wire.File, mode: 0o644, data: []byte(name), version: 1, fid: wire.FID{Vnode: uint32(100000 + 2*i), Unique: 7}}
			v.head[f.fid.Vnode] = f
			list = append(list, wire.DirEntry{Name: name, Vnode: f.fid.Vnode, Unique: 7})
		}
		v.relist(v.find("large").fid.Vnode, func([]wire.DirEntry) []wire.DirEntry { return list })
		v.release(firstDate + 200)
	})
	slices.Sort(want)
	_, tree := c.start()
	ctx := within(t, 20*time.Second)
	list, err := tree.ReadDir(ctx, "large")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(want) {
		t.Fatalf("%d names, want %d", len(list), len(want))
	}
	for i, info := range list {
		if info.Name != want[i] || info.Size != int64(len(want[i])) || info.Dir() || info.Denied {
			t.Fatalf("entry %d is %+v, want %q", i, info, want[i])
		}
	}
	if n := c.total("bulk"); n > 110 {
		t.Errorf("%d calls for %d names", n, len(want))
	}
	if list, err := tree.ReadDir(ctx, "empty"); err != nil || len(list) != 0 {
		t.Errorf("an empty directory has %v, %v", list, err)
	}
	for _, name := range []string{"index", "none", "pub/loop", "pub/rel"} {
		if _, err := tree.ReadDir(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("list %s: %v", name, err)
		}
	}
	list, err = c.tree(tree.c, Root{Path: "pub"}).ReadDir(ctx, ".")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, i := range list {
		got[i.Name] = described(i)
	}
	for name, want := range map[string]string{
		"rel": "file, link", "dir2": "directory, link", "m-sub": "directory", "m-pct": "directory, denied",
		"etc": "", "up": "", "loop": "", "m-gone": "", "dangling": "", "grow": "", "\xff\xfe \n\"%": "file",
	} {
		if got[name] != want {
			t.Errorf("%s is listed as %q, want %q", name, got[name], want)
		}
	}
}
