// Package origintest checks that an origin keeps the contract of [origin.Tree].
package origintest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// Tree is an origin to be tested, and the tree that it reads.
type Tree struct {
	origin.Tree

	// Put makes files, or replaces them and changes nothing else; directories are
	// made on the way, and a name that ends in a slash is an empty one. It returns
	// when the origin gives the new files and has had time to find them at rest.
	Put func(t testing.TB, files map[string][]byte)

	// Twin replaces a file by one of the same size and, where the tree has such
	// times, the same mtime. It returns as Put does.
	Twin func(t testing.TB, name string, body []byte)

	// Releases tells that the tree has releases, and that Put makes one.
	Releases bool

	// Panic has calls of the origin for a name panic until mend is called. It may be
	// nil.
	Panic func(name string) (mend func())
}

// Run tests the origins that open makes, each with an empty tree of its own.
func Run(t *testing.T, open func(t *testing.T) *Tree) {
	for _, test := range []struct {
		name string
		f    func(*testing.T, *Tree)
	}{
		{"names", testNames},
		{"kinds", testKinds},
		{"agreement", testAgreement},
		{"listing", testListing},
		{"offsets", testOffsets},
		{"write to", testWriteTo},
		{"close", testClose},
		{"versions", testVersions},
		{"changed under a reader", testChanged},
		{"concurrency", testConcurrency},
		{"contexts", testContexts},
		{"release", testRelease},
		{"panics", testPanics},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := open(t)
			test.f(t, tree)
			// Nothing that is asked for makes an origin that is there an away one.
			if s := tree.Status(); s.State != "up" || s.Stuck != 0 || s.Origin != tree.String() {
				t.Errorf("status: %+v", s)
			}
		})
	}
}

// list is what ReadDir yields, sorted by name.
func list(ctx context.Context, o origin.Tree, name string) ([]origin.Info, error) {
	var infos []origin.Info
	for i, err := range o.ReadDir(ctx, name) {
		if err != nil {
			return infos, err
		}
		infos = append(infos, i)
	}
	slices.SortFunc(infos, func(a, b origin.Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

// read reads a file from an offset to its end.
func read(ctx context.Context, o origin.Tree, name string, off int64) ([]byte, origin.Info, error) {
	b, err := o.Open(ctx, name, off)
	if err != nil {
		return nil, origin.Info{}, err
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	return all, b.Info(), err
}

// everywhere asks for a name in every way, and wants an error of this class from
// all of them.
func everywhere(t *testing.T, o origin.Tree, name string, want error) {
	t.Helper()
	_, serr := o.Stat(t.Context(), name)
	_, oerr := o.Open(t.Context(), name, 0)
	_, lerr := list(t.Context(), o, name)
	for call, err := range map[string]error{"Stat": serr, "Open": oerr, "ReadDir": lerr} {
		if !errors.Is(err, want) {
			t.Errorf("%s of %.80q: %v, want %v", call, name, err, want)
			continue
		}
		onlyOne(t, err)
	}
}

// onlyOne checks that an error is of one class: who asks takes the first that fits.
func onlyOne(t *testing.T, err error) {
	t.Helper()
	var classes []error
	for _, c := range []error{fs.ErrInvalid, fs.ErrNotExist, fs.ErrPermission, origin.ErrIsDir, origin.ErrAway} {
		if errors.Is(err, c) {
			classes = append(classes, c)
		}
	}
	if len(classes) != 1 {
		t.Errorf("%v is of the classes %v", err, classes)
	}
}

// pattern is the contents of a file: each version differs from the others everywhere.
func pattern(version, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i/7) ^ byte(i>>11) ^ byte(version)
	}
	return b
}

func testNames(t *testing.T, tree *Tree) {
	odd := []string{
		"with space", "per%cent%2f", "new\nline", "tab\t", "caf\xe9", "\xff\xfe", "ünï", "-x", "...", "..a", "a..", ".hidden",
		"a;b", "a?b#c", `back\slash`, "quote\"", "*", "d/\xff/deep", strings.Repeat("n", 255),
	}
	files := map[string][]byte{}
	for _, name := range odd {
		files[name] = []byte(name)
	}
	tree.Put(t, files)
	for _, name := range odd {
		got, info, err := read(t.Context(), tree, name, 0)
		if err != nil || string(got) != name || info.Name != name[strings.LastIndexByte(name, '/')+1:] {
			t.Errorf("%.80q: %q, %+v, %v", name, got, info, err)
		}
	}
	infos, err := list(t.Context(), tree, ".")
	if err != nil || len(infos) != len(odd) {
		t.Errorf("%d names are listed, want %d; %v", len(infos), len(odd), err)
	}

	for _, name := range []string{
		"", "/", "/with space", "with space/", "d//deep", "./with space", "d/./x", "..", "../x", "d/../with space", "nul\x00", "d/nul\x00/x",
	} {
		everywhere(t, tree, name, fs.ErrInvalid)
	}
	for _, name := range []string{
		"none", "d/none", "none/none", "with space/none", "With Space", strings.Repeat("n", 256), strings.Repeat("n", 5000),
		strings.Repeat("d/", 3000) + "x",
	} {
		everywhere(t, tree, name, fs.ErrNotExist)
	}
	if s := tree.Status(); s.Errors != 0 {
		t.Errorf("names that are not there are errors: %+v", s)
	}
}

func testKinds(t *testing.T, tree *Tree) {
	tree.Put(t, map[string][]byte{"f": []byte("bytes"), "d/f": nil, "empty/": nil})
	for _, name := range []string{".", "d", "empty"} {
		if i, err := tree.Stat(t.Context(), name); err != nil || !i.Dir || i.Validator != "" {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
		_, err := tree.Open(t.Context(), name, 0)
		if !errors.Is(err, origin.ErrIsDir) {
			t.Errorf("Open of %s: %v", name, err)
		}
		onlyOne(t, err)
	}
	for _, name := range []string{"f", "d/f"} {
		if i, err := tree.Stat(t.Context(), name); err != nil || i.Dir {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
		if _, err := list(t.Context(), tree, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadDir of %s: %v", name, err)
		}
	}
	if infos, err := list(t.Context(), tree, "empty"); err != nil || len(infos) != 0 {
		t.Errorf("an empty directory: %v, %v", infos, err)
	}
	if _, err := tree.Open(t.Context(), "f", -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Open at -1: %v", err)
	}
}

func testAgreement(t *testing.T, tree *Tree) {
	files := map[string][]byte{}
	for n, size := range []int{0, 1, 4096, 1 << 16, 1<<20 + 1} {
		files["d/"+string(rune('a'+n))] = pattern(n, size)
	}
	files["d/sub/x"] = nil
	tree.Put(t, files)
	infos, err := list(t.Context(), tree, "d")
	if err != nil || len(infos) != 6 {
		t.Fatalf("%+v, %v", infos, err)
	}
	for _, listed := range infos {
		name := "d/" + listed.Name
		stat, err := tree.Stat(t.Context(), name)
		if err != nil || !same(stat, listed) {
			t.Errorf("%s is listed as %+v, Stat says %+v, %v", name, listed, stat, err)
		}
		if listed.Dir {
			continue
		}
		body, info, err := read(t.Context(), tree, name, 0)
		if err != nil || !same(info, stat) || info.ETag != stat.ETag || string(body) != string(files[name]) {
			t.Errorf("Stat of %s says %+v, Open %+v with %d bytes, %v", name, stat, info, len(body), err)
		}
		if stat.Size != int64(len(files[name])) || stat.Validator == "" || !stat.Same(info) || stat.ModTime.IsZero() {
			t.Errorf("%s: %+v", name, stat)
		}
	}
}

// same compares what all calls say of an object. A listing need not know its ETag.
func same(a, b origin.Info) bool {
	return a.Name == b.Name && a.Dir == b.Dir && a.Validator == b.Validator && a.ModTime.Equal(b.ModTime) &&
		(a.Dir || a.Size == b.Size)
}

func testListing(t *testing.T, tree *Tree) {
	files := map[string][]byte{}
	for n := range 1200 {
		files["d/"+strings.Repeat(string(rune('a'+n%26)), 1+n/26)] = nil
	}
	tree.Put(t, files)
	infos, err := list(t.Context(), tree, "d")
	if err != nil || len(infos) != len(files) {
		t.Fatalf("%d of %d entries, %v", len(infos), len(files), err)
	}
	for n := range infos[1:] {
		if infos[n].Name == infos[n+1].Name {
			t.Errorf("%s is listed twice", infos[n].Name)
		}
	}
	// Who stops early, or panics, takes nothing with him.
	for range 100 {
		for _, err := range tree.ReadDir(t.Context(), "d") {
			if err != nil {
				t.Error(err)
			}
			break
		}
		func() {
			defer func() { _ = recover() }()
			for _, err := range tree.ReadDir(t.Context(), "d") {
				panic(err)
			}
		}()
	}
	// A listing can be iterated again.
	seq := tree.ReadDir(t.Context(), "d")
	for range 2 {
		n := 0
		for _, err := range seq {
			if err != nil {
				t.Error(err)
			}
			n++
		}
		if n != len(files) {
			t.Errorf("%d of %d entries", n, len(files))
		}
	}
}
