package gate

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/repotest"
)

// TestAptListed checks that what was served and is still listed is there: clients that
// use it fail otherwise, whatever kind of index it is.
func TestAptListed(t *testing.T) {
	for _, index := range []string{
		"main/i18n/Translation-en.xz", "main/Contents-amd64.gz", "main/Contents-udeb-amd64.gz", "main/cnf/Commands-amd64.xz",
		"main/dep11/Components-amd64.yml.gz", "main/dep11/icons-64x64.tar.gz", "main/binary-amd64/Release", "main/source/Sources.gz",
	} {
		t.Run(path.Base(index), func(t *testing.T) {
			repo := newAptRepo(t)
			if _, ok := repo.index[index]; !ok {
				repo.list(index, "x")
			}
			plain := strings.TrimSuffix(index, path.Ext(index)) // listed in this form, too, and never there
			repo.list(plain+".bz2", "x")
			repo.skip[plain+".bz2"] = true
			repo.write()
			r := newRun(t, repo.dir)
			g := new(Apt)
			released(t, g, r)
			passes(t, g, r)

			rm(t, repo.dir, "dists/x/"+index)
			v := fails(t, g, r, "dists/x/"+strings.TrimSuffix(index, packed.Ending(index)), "is missing in all forms, dists/x/Release lists it")
			if v.Count != 1 {
				t.Error(v)
			}
			if !strings.Contains(index, "Sources") { // which is missed where its directory is
				if !strings.Contains(v.Reason, "it was there when last released (if this is as it should be, run `caddy mirror forget test apt`") {
					t.Error(v)
				}
				passes(t, g, newRun(t, repo.dir)) // a job that never had it
			}

			put(t, repo.dir, "dists/x/"+plain+".bz2", "x") // another form is there
			if !strings.Contains(index, "Sources") {
				passes(t, g, r)
			}
			rm(t, repo.dir, "dists/x/"+plain+".bz2")
			delete(repo.index, index)
			delete(repo.index, plain+".bz2")
			delete(repo.index, strings.TrimSuffix(index, packed.Ending(index)))
			repo.order = repo.order[:0]
			for name := range repo.index {
				repo.order = append(repo.order, name)
			}
			repo.write() // it is listed no more
			passes(t, g, r)
		})
	}

	// apt does without differences.
	repo := newAptRepo(t)
	repo.list("main/binary-amd64/Packages.diff/Index", "x")
	repo.write()
	r := newRun(t, repo.dir)
	g := new(Apt)
	released(t, g, r)
	rm(t, repo.dir, "dists/x/main/binary-amd64/Packages.diff")
	passes(t, g, r)
}

// flatRepo makes a flat repository in dir, with packages below base.
func flatRepo(t *testing.T, tree, dir, base, prefix string) {
	t.Helper()
	var text string
	for _, name := range []string{"a", "b"} {
		file := name + "_1_all.deb"
		put(t, tree, path.Join(dir, file), "package "+name)
		rel, err := filepath.Rel(base, path.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		text += stanza(name, prefix+rel, "package "+name)
	}
	put(t, tree, path.Join(dir, "Packages"), text)
	put(t, tree, path.Join(dir, "Packages.gz"), repotest.Gzip(t, text))
	put(t, tree, path.Join(dir, "Release"), fmt.Sprintf("Date: Tue, 03 Mar 2026 10:00:00 UTC\nSHA256:\n %s %d Packages\n %s %d Packages.gz\n",
		sum256(text), len(text), sum256(repotest.Gzip(t, text)), len(repotest.Gzip(t, text))))
}

// TestAptFlat checks flat repositories wherever they are, as clients have them in their
// sources.list: `deb URL/dir ./` and `deb URL dir/`.
func TestAptFlat(t *testing.T) {
	for _, test := range []struct{ name, dir, base, prefix string }{
		{"deb URL ./", ".", ".", ""},
		{"deb URL /", ".", ".", "./"},
		{"deb URL/cuda ./", "cuda", "cuda", "./"},
		{"deb URL/core/stable/deb /", "core:/stable:/v1.30/deb", "core:/stable:/v1.30/deb", ""},
		{"deb URL sub/", "sub", ".", ""},
		{"deb URL/a b/c/", "a/b/c", "a", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			flatRepo(t, dir, test.dir, test.base, test.prefix)
			r := newRun(t, dir)
			g := new(Apt)
			released(t, g, r)
			if !strings.Contains(get(t, r.State, "apt.released"), `"`+test.dir+`"`) {
				t.Errorf("not found: %s", get(t, r.State, "apt.released"))
			}
			named := &Apt{Dists: []string{test.dir + "/"}}
			passes(t, named, r)

			a, b := path.Join(test.dir, "a_1_all.deb"), path.Join(test.dir, "b_1_all.deb")
			put(t, dir, b, "package")
			fails(t, g, r, b, "its size is 7")
			fails(t, named, r, b, "its size is 7")
			rm(t, dir, b)
			fails(t, g, r, b, "is missing")
			put(t, dir, b, "package b")
			rm(t, dir, a) // the first, by which the gate knows what names are relative to
			fails(t, g, r, aptMissing(test.dir, test.base, "a_1_all.deb"), "is missing")
			put(t, dir, a, "package a")

			rm(t, dir, path.Join(test.dir, "Packages"))
			passes(t, g, r)
			rm(t, dir, path.Join(test.dir, "Packages.gz"))
			fails(t, g, r, path.Join(test.dir, "Packages"), "it was there when last released")
			fails(t, g, newRun(t, dir), path.Join(test.dir, "Release"), "lists no Packages")
			put(t, dir, path.Join(test.dir, "Packages.gz"), "x")
			put(t, dir, path.Join(test.dir, "Release"), "")
			fails(t, g, newRun(t, dir), path.Join(test.dir, "Release"), "is empty")
			rm(t, dir, path.Join(test.dir, "Release"))
			fails(t, g, r, test.dir, "has no InRelease and no Release any more")
		})
	}
}

// TestAptAlias checks that a symbolic link to a distribution, which clients may know it by,
// does not vanish unnoticed.
func TestAptAlias(t *testing.T) {
	repo := newAptRepo(t)
	repo.write()
	alias := filepath.Join(repo.dir, "dists/stable")
	link := func(to string) {
		t.Helper()
		_ = os.Remove(alias)
		if err := os.Symlink(to, alias); err != nil {
			t.Fatal(err)
		}
	}
	link("x")
	r := newRun(t, repo.dir)
	g := new(Apt)
	released(t, g, r)
	released(t, g, r)
	rm(t, repo.dir, "dists/stable")
	v := fails(t, g, r, "dists/stable", "has no InRelease and no Release any more (if this is as it should be, run `caddy mirror forget test apt`")
	if v.Count != 1 {
		t.Error(v)
	}
	passes(t, &Apt{Dists: []string{"x"}}, r)
	passes(t, g, newRun(t, repo.dir))
	link("y")
	fails(t, g, r, "dists/stable", "is missing")

	// It leads to another, or is the distribution now.
	copyTo(t, filepath.Join(repo.dir, "dists/y"), filepath.Join(repo.dir, "dists/x"))
	passes(t, g, r)
	rm(t, repo.dir, "dists/stable")
	copyTo(t, alias, filepath.Join(repo.dir, "dists/x"))
	passes(t, g, r)
}

// TestAptFlatNames checks that no name of a package keeps the gate from looking.
func TestAptFlatNames(t *testing.T) {
	for _, name := range []string{"a\x00b", "../../../x", "/..", strings.Repeat("x", 300), strings.Repeat("x/", 3000) + "x"} {
		dir := t.TempDir()
		text := stanza("a", name, "package a")
		put(t, dir, "sub/Packages", text)
		put(t, dir, "sub/Release", fmt.Sprintf("SHA256:\n %s %d Packages\n", sum256(text), len(text)))
		if err := new(Apt).Check(t.Context(), newRun(t, dir)); !errors.As(err, new(*Verdict)) {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}

// aptMissing is the name under which a package is missed: relative to the Release, as long
// as nothing tells that it is otherwise.
func aptMissing(dir, base, name string) string {
	rel, _ := filepath.Rel(base, path.Join(dir, name))
	return path.Join(dir, rel)
}

// TestAptSeveral checks a tree with several repositories, flat or not.
func TestAptSeveral(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ubuntu", "vendor/debian"} {
		repo := newAptRepo(t)
		repo.write()
		copyTo(t, filepath.Join(dir, name), repo.dir)
	}
	flatRepo(t, dir, "k8s/v1", "k8s/v1", "")
	flatRepo(t, dir, "k8s/v2", "k8s/v2", "")
	put(t, dir, "notes/Release", "not one of apt\n")
	put(t, dir, "k8s/v1/.~tmp~/InRelease", "half of one")
	put(t, dir, "ubuntu/dists/.~tmp~/InRelease", "half of one")
	put(t, dir, "ubuntu/pool/main/x/Release", "") // a package's
	put(t, dir, "web/dists/index.html", "")
	r := newRun(t, dir)
	g := new(Apt)
	released(t, g, r)
	text := get(t, r.State, "apt.released")
	for _, want := range []string{"ubuntu/dists/x", "vendor/debian/dists/x", "k8s/v1", "k8s/v2"} {
		if !strings.Contains(text, `"`+want+`":{`) {
			t.Errorf("%s is not found: %s", want, text)
		}
	}
	if n := strings.Count(text, `:{"`); n != 1+4 {
		t.Errorf("there are others: %s", text)
	}
	for _, name := range []string{"ubuntu/pool/main/a/a_1_all.deb", "vendor/debian/pool/main/a/a_1_all.deb", "k8s/v1/b_1_all.deb", "k8s/v2/b_1_all.deb"} {
		was := get(t, dir, name)
		rm(t, dir, name)
		if v := fails(t, g, r, name, "is missing"); v.Count != 1 {
			t.Error(v)
		}
		put(t, dir, name, was)
	}
	for _, name := range []string{"vendor", "k8s/v2"} {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, ".gone")); err != nil {
			t.Fatal(err)
		}
		if err := g.Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), "any more") {
			t.Errorf("%s is gone: %v", name, err)
		}
		if err := os.Rename(filepath.Join(dir, ".gone"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	passes(t, g, r)
	passes(t, &Apt{Root: "k8s"}, r)
}
