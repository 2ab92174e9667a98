package gate

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/repotest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/rpm"
)

// rpmRepo is a repository made by hand.
type rpmRepo struct {
	t        testing.TB
	dir      string // of the tree
	repo     string // in the tree
	packages []string
	count    int
	pack     func(testing.TB, string) string
	ext      string
}

func newRpmRepo(t testing.TB) *rpmRepo {
	r := &rpmRepo{t: t, dir: t.TempDir(), repo: "9/BaseOS", pack: repotest.Gzip, ext: ".gz"}
	for _, name := range []string{"a", "b", "c"} {
		r.add("Packages/"+name+"/"+name+"-1.rpm", "package "+name)
		put(t, r.dir, r.repo+"/Packages/"+name+"/"+name+"-1.rpm", "package "+name)
	}
	put(t, r.dir, r.repo+"/repodata/filelists.xml.gz", repotest.Gzip(t, "<filelists/>"))
	return r
}

func (r *rpmRepo) add(href, text string) {
	r.packages = append(r.packages, rpmPackage(href, len(text), sum256(text)))
}

func rpmPackage(href string, size int, sum string) string {
	return fmt.Sprintf(`<package type="rpm"><name>x</name><checksum type="sha256" pkgid="YES">%s</checksum><summary>a &amp; b</summary>`+
		`<size package="%d" installed="1" archive="1"/><location href="%s"/><format><rpm:license>MIT</rpm:license>`+
		`<rpm:provides><rpm:entry name="size"/></rpm:provides><file>/usr/bin/x</file></format></package>`+"\n", sum, size, href)
}

func (r *rpmRepo) primary() string {
	n := r.count
	if n == 0 {
		n = len(r.packages)
	}
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="%d">
%s</metadata>`, n, strings.Join(r.packages, ""))
}

func rpmData(kind, href, text string) string {
	return fmt.Sprintf(`<data type="%s"><checksum type="sha256">%s</checksum><location href="%s"/><size>%d</size></data>`,
		kind, sum256(text), href, len(text))
}

// write writes the metadata with this primary.xml, compressed, and more data.
func (r *rpmRepo) write(packed string, more ...string) {
	name := "repodata/primary.xml" + r.ext
	put(r.t, r.dir, r.repo+"/"+name, packed)
	put(r.t, r.dir, r.repo+"/repodata/repomd.xml", fmt.Sprintf(`<?xml version="1.0"?><repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>%s%s%s</repomd>`,
		rpmData("primary", name, packed), rpmData("filelists", "repodata/filelists.xml.gz", repotest.Gzip(r.t, "<filelists/>")), strings.Join(more, "")))
}

func (r *rpmRepo) whole() string { return r.pack(r.t, r.primary()) }

func TestRpm(t *testing.T) {
	need(t, "xz")
	const base = "9/BaseOS/"
	const repomd, prim = base + "repodata/repomd.xml", base + "repodata/primary.xml.gz"
	for _, test := range []struct {
		name         string
		gate         *Rpm
		harm         func(*rpmRepo)
		file, reason string // empty: it passes
	}{
		{"whole", nil, nil, "", ""},
		{"hash", &Rpm{Hash: true}, nil, "", ""},
		{"dir", &Rpm{Dirs: []string{"9/BaseOS/"}}, nil, "", ""},
		{"no such dir", &Rpm{Dirs: []string{"9/BaseOS", "8"}}, nil, "8/repodata/repomd.xml", "is missing"},
		{"no repository", nil, func(r *rpmRepo) { rm(t, r.dir, base+"repodata") }, "", "there is no repository"},
		{"no repomd", nil, func(r *rpmRepo) { rm(t, r.dir, repomd) }, repomd, "is missing"},
		{"second repository", nil, func(r *rpmRepo) { put(t, r.dir, "8/repodata/x", "x") }, "8/repodata/repomd.xml", "is missing"},
		{"repodata is a link", nil, func(r *rpmRepo) {
			run(t, r.dir, nil, "mv", base+"repodata", base+"repodata-1")
			symlink(t, r.dir, "repodata-1", base+"repodata")
		}, "", ""},
		{"repodata is a link, package missing", nil, func(r *rpmRepo) {
			run(t, r.dir, nil, "mv", base+"repodata", "meta")
			symlink(t, r.dir, "../../meta", base+"repodata")
			rm(t, r.dir, base+"Packages/b")
		}, base + "Packages/b/b-1.rpm", "is missing, " + prim + " lists it"},
		{"repodata is a dangling link", nil, func(r *rpmRepo) { symlink(t, r.dir, "none", "repodata") }, "repodata/repomd.xml", "is missing"},
		{"repodata is a link out", nil, func(r *rpmRepo) { symlink(t, r.dir, "/etc", "repodata") }, "repodata/repomd.xml", "leads out"},
		{"repodata is a file", nil, func(r *rpmRepo) { put(t, r.dir, "doc/repodata", "x") }, "", ""},
		{"package missing", nil, func(r *rpmRepo) { rm(t, r.dir, base+"Packages/b") }, base + "Packages/b/b-1.rpm", "is missing, " + prim + " lists it"},
		{"package short", nil, func(r *rpmRepo) { put(t, r.dir, base+"Packages/b/b-1.rpm", "x") }, base + "Packages/b/b-1.rpm", "its size is 1, " + prim + " says 9"},
		{"package differs", nil, func(r *rpmRepo) { put(t, r.dir, base+"Packages/b/b-1.rpm", "PACKAGE b") }, "", ""},
		{"package differs, hash", &Rpm{Hash: true}, func(r *rpmRepo) { put(t, r.dir, base+"Packages/b/b-1.rpm", "PACKAGE b") }, base + "Packages/b/b-1.rpm", "its sha256 is"},
		{"package is a link out", nil, func(r *rpmRepo) {
			rm(t, r.dir, base+"Packages/b/b-1.rpm")
			symlink(t, r.dir, "/etc/passwd", base+"Packages/b/b-1.rpm")
		}, base + "Packages/b/b-1.rpm", "leads out of the tree"},
		{"name escapes", nil, func(r *rpmRepo) { r.add("../../../x", "x"); r.write(r.whole()) }, prim, "lists ../../../x, which leads out"},
		{"name absolute", nil, func(r *rpmRepo) { r.add("/etc/passwd", "x"); r.write(r.whole()) }, base + "etc/passwd", "is missing"},
		{"no name", nil, func(r *rpmRepo) { r.add("", "x"); r.write(r.whole()) }, prim, "has no location"},
		{"no size", nil, func(r *rpmRepo) {
			r.packages = []string{strings.Replace(r.packages[0], `package="9"`, "", 1)}
			r.write(r.whole())
		}, "", ""},
		{"negative size", nil, func(r *rpmRepo) {
			r.packages = []string{strings.Replace(r.packages[0], `package="9"`, `package="-9"`, 1)}
			r.write(r.whole())
		}, prim, "has a size of -9"},
		{"unknown checksum", nil, func(r *rpmRepo) {
			r.packages[0] = strings.Replace(r.packages[0], "sha256", "crc", 1)
			r.write(r.whole())
		}, prim, "unknown kind, crc"},
		{"away", nil, func(r *rpmRepo) {
			r.packages[0] = strings.Replace(r.packages[0], `<location href="`, `<location xml:base="https://example.org/" href="none/`, 1)
			r.write(r.whole())
		}, "", ""},
		{"listed twice", nil, func(r *rpmRepo) { r.packages = append(r.packages, r.packages[0]); r.write(r.whole()) }, "", ""},
		{"listed twice, differently", nil, func(r *rpmRepo) { r.add("Packages/a/a-1.rpm", "PACKAGE a"); r.write(r.whole()) }, base + "Packages/a/a-1.rpm", "is listed twice"},
		{"too few", nil, func(r *rpmRepo) { r.count = 4; r.write(r.whole()) }, "", ""},

		{"filelists missing", nil, func(r *rpmRepo) { rm(t, r.dir, base+"repodata/filelists.xml.gz") }, base + "repodata/filelists.xml.gz", "is missing, " + repomd},
		{"filelists differ", nil, func(r *rpmRepo) {
			put(t, r.dir, base+"repodata/filelists.xml.gz", strings.Repeat("x", len(repotest.Gzip(t, "<filelists/>"))))
		}, base + "repodata/filelists.xml.gz", "its sha256"},
		{"primary missing", nil, func(r *rpmRepo) { rm(t, r.dir, prim) }, prim, "is missing, " + repomd},
		{"primary short", nil, func(r *rpmRepo) { put(t, r.dir, prim, "x") }, prim, "its size is 1, " + repomd + " says"},
		{"primary differs", nil, func(r *rpmRepo) { put(t, r.dir, prim, r.whole()[:30]+"x"+r.whole()[31:]) }, prim, "its sha256 is"},
		{"gz cut off", nil, func(r *rpmRepo) { r.write(r.whole()[:100]) }, prim, "is cut off"},
		{"gz garbage", nil, func(r *rpmRepo) { r.write("garbage, and more of it") }, prim, "can not be read"},
		{"empty", nil, func(r *rpmRepo) { r.write("") }, prim, "is cut off"},
		{"xml cut off", nil, func(r *rpmRepo) { r.write(repotest.Gzip(t, strings.TrimSuffix(r.primary(), "</metadata>"))) }, prim, "is cut off"},
		{"no xml", nil, func(r *rpmRepo) { r.write(repotest.Gzip(t, "<html><body>503</body></html>")) }, prim, "is not a list of packages, but html"},
		{"repomd garbage", nil, func(r *rpmRepo) { put(t, r.dir, repomd, "garbage") }, repomd, "can not be read"},
		{"repomd cut off", nil, func(r *rpmRepo) { put(t, r.dir, repomd, get(t, r.dir, repomd)[:200]) }, repomd, "is cut off"},
		{"repomd empty", nil, func(r *rpmRepo) { put(t, r.dir, repomd, "<repomd/>") }, repomd, "lists no metadata"},
		{"repomd name escapes", nil, func(r *rpmRepo) { r.write(r.whole(), rpmData("x", "../../../x", "x")) }, repomd, "lists ../../../x, which leads out"},
		{"no primary", nil, func(r *rpmRepo) {
			put(t, r.dir, repomd, "<repomd>"+rpmData("filelists", "repodata/filelists.xml.gz", repotest.Gzip(t, "<filelists/>"))+"</repomd>")
		}, repomd, "lists no primary metadata"},

		{"zst", nil, func(r *rpmRepo) {
			r.ext = ".zst"
			r.write(repotest.Zstd(t, r.primary()))
			rm(t, r.dir, base+"Packages/c")
		}, base + "Packages/c/c-1.rpm", "primary.xml.zst lists it"},
		{"xz", nil, func(r *rpmRepo) {
			r.ext = ".xz"
			r.write(repotest.Pipe(t, r.primary(), "xz"))
			rm(t, r.dir, base+"Packages/c")
		}, base + "Packages/c/c-1.rpm", "primary.xml.xz lists it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRpmRepo(t)
			r.write(r.whole())
			if test.harm != nil {
				test.harm(r)
			}
			g := test.gate
			if g == nil {
				g = new(Rpm)
			}
			if test.file == "" && test.reason == "" {
				passes(t, g, newRun(t, r.dir))
			} else {
				fails(t, g, newRun(t, r.dir), test.file, test.reason)
			}
		})
	}
}

// TestRpmVanished checks that a repository does not go away unnoticed.
func TestRpmVanished(t *testing.T) {
	repo := newRpmRepo(t)
	repo.write(repo.whole())
	nine := filepath.Join(repo.dir, "9")
	if err := os.CopyFS(filepath.Join(repo.dir, "8"), os.DirFS(nine)); err != nil {
		t.Fatal(err)
	}
	r := newRun(t, repo.dir)
	g := new(Rpm)
	released(t, g, r)
	rm(t, repo.dir, "9")
	v := fails(t, g, r, "9/BaseOS", "has no repodata/repomd.xml any more")
	if !strings.Contains(v.Reason, filepath.Join(r.State, "rpm.released")) || v.Count != 1 {
		t.Error(v)
	}
	passes(t, g, newRun(t, repo.dir))              // another job
	passes(t, &Rpm{Dirs: []string{"8/BaseOS"}}, r) // the operator knows
	fails(t, &Rpm{Dirs: []string{"9/BaseOS"}}, r, "9/BaseOS/repodata/repomd.xml", "is missing")

	// It may be known by that name still.
	symlink(t, repo.dir, "8", "9")
	released(t, g, r)
	rm(t, repo.dir, "9")
	fails(t, g, r, "9/BaseOS", "any more")
	rm(t, repo.dir, "8")
	if v := fails(t, g, r, "8/BaseOS", "any more"); v.Count != 2 {
		t.Error(v)
	}
	if err := os.CopyFS(filepath.Join(repo.dir, "8"), os.DirFS(t.TempDir())); err != nil {
		t.Fatal(err)
	}
	rm(t, r.State, "rpm.released")
	fails(t, g, r, "", "there is no repository")
}

// TestRpmOlder checks that metadata do not go back to what they were.
func TestRpmOlder(t *testing.T) {
	const repomd = "9/BaseOS/repodata/repomd.xml"
	repo := newRpmRepo(t)
	of := func(times ...string) {
		var more []string
		for i, at := range times {
			text := fmt.Sprint("more ", i)
			put(t, repo.dir, fmt.Sprintf("%s/repodata/%d", repo.repo, i), text)
			more = append(more, strings.Replace(rpmData("x", fmt.Sprint("repodata/", i), text), "</data>", "<timestamp>"+at+"</timestamp></data>", 1))
		}
		repo.write(repo.whole(), more...)
	}
	r := newRun(t, repo.dir)
	g := new(Rpm)
	of("1700000000", "1700000100.5")
	released(t, g, r)
	passes(t, new(Rpm), r) // it is the same
	of("1700000099", "1700000098")
	v := fails(t, g, r, repomd, "is of 2023-11-14 22:14:59 UTC, what was released last of 2023-11-14 22:15:00 UTC")
	if !strings.Contains(v.Reason, filepath.Join(r.State, "rpm.released")) || !strings.Contains(v.Reason, "allow_older") {
		t.Error(v)
	}
	passes(t, new(Rpm), newRun(t, repo.dir)) // another job
	of()
	released(t, g, r) // it does not say
	of("1700000099")
	fails(t, g, r, repomd, "is of")
	of("1700000200")
	passes(t, g, r)
	of("1700000099")
	fails(t, g, r, repomd, "is of") // that newer one was not released

	allowed := &Rpm{AllowOlder: true}
	released(t, allowed, r)
	passes(t, g, r) // now it is the last

	// One that is yet to come would make all that follow older.
	ahead := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	of(ahead)
	fails(t, g, r, repomd, "ahead of this host's clock")
	of("1700000200", ahead)
	fails(t, allowed, r, repomd, "ahead of this host's clock")
	of("1700000200")
	released(t, g, r)
	put(t, r.State, "rpm.released", strings.Replace(get(t, r.State, "rpm.released"), "2023-", "2123-", 1)) // what wrote it did not know
	passes(t, g, r)
}

func TestRpmSignatures(t *testing.T) {
	now := time.Now()
	key, ring := newKey(t, now.Add(-time.Hour), 0)
	other, _ := newKey(t, now.Add(-time.Hour), 0)
	r := newRpmRepo(t)
	r.write(r.whole())
	const repomd = "9/BaseOS/repodata/repomd.xml"
	g := &Rpm{Keyring: ring}
	fails(t, g, newRun(t, r.dir), repomd+".asc", "is missing")
	put(t, r.dir, repomd+".asc", sign(t, other, get(t, r.dir, repomd), now))
	fails(t, g, newRun(t, r.dir), repomd+".asc", "no key of")
	put(t, r.dir, repomd+".asc", sign(t, key, get(t, r.dir, repomd)+"\n", now))
	fails(t, g, newRun(t, r.dir), repomd+".asc", "no good signature")
	put(t, r.dir, repomd+".asc", sign(t, key, get(t, r.dir, repomd), now))
	passes(t, g, newRun(t, r.dir))
}

// TestRpmCreaterepo checks a repository that createrepo_c has made, in all the ways
// that it compresses.
func TestRpmCreaterepo(t *testing.T) {
	need(t, "createrepo_c", "rpmbuild")
	home := t.TempDir()
	for _, name := range []string{"one", "two"} {
		put(t, home, name+".spec", fmt.Sprintf("Name: %s\nVersion: 1\nRelease: 1\nSummary: x & y\nLicense: MIT\nBuildArch: noarch\n%%description\nx\n%%files\n", name))
		run(t, home, nil, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+home, "--define", "_rpmdir "+filepath.Join(home, "tree/sub"), name+".spec")
	}
	repo := filepath.Join(home, "tree/sub")
	for _, args := range [][]string{{}, {"--xz"}, {"--general-compress-type", "bz2"}, {"--checksum", "sha512"}, {"--simple-md-filenames"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			if err := os.RemoveAll(filepath.Join(repo, "repodata")); err != nil {
				t.Fatal(err)
			}
			run(t, repo, nil, "createrepo_c", append(args, "--quiet", ".")...)
			r := newRun(t, filepath.Dir(repo))
			passes(t, &Rpm{Hash: true}, r)
			if time.Since(r.Upstream) > time.Minute || time.Until(r.Upstream) > 0 {
				t.Errorf("upstream is of %v", r.Upstream)
			}
			const name = "noarch/two-1-1.noarch.rpm"
			if err := os.Rename(filepath.Join(repo, name), filepath.Join(home, "kept")); err != nil {
				t.Fatal(err)
			}
			fails(t, new(Rpm), r, "sub/"+name, "is missing")
			if err := os.Rename(filepath.Join(home, "kept"), filepath.Join(repo, name)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func BenchmarkPrimary(b *testing.B) {
	r := &rpmRepo{t: b}
	more := strings.Repeat(`<rpm:entry name="libsomething.so.1()(64bit)" flags="EQ" epoch="0" ver="1"/>`, 20)
	for i := range 1000 {
		p := rpmPackage(fmt.Sprintf("Packages/p/p%d.rpm", i), i, sum256("x"))
		r.packages = append(r.packages, strings.Replace(p, `<rpm:entry name="size"/>`, more, 1))
	}
	text := r.primary()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := rpm.ReadPrimary(strings.NewReader(text), func(string) {}, func(rpm.File) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
