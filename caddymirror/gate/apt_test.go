package gate

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/repotest"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func sum256(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// aptRepo is a repository made by hand.
type aptRepo struct {
	t      testing.TB
	dir    string
	header string            // of the Release
	index  map[string]string // what it lists, with the text
	order  []string
	skip   map[string]bool // what is listed and not there
}

// stanza is a package whose file has text.
func stanza(name, file, text string) string {
	return fmt.Sprintf("Package: %s\nVersion: 1\nFilename: %s\nSize: %d\nSHA256: %s\nDescription: x\n more\n .\n more\n\n",
		name, file, len(text), sum256(text))
}

func newAptRepo(t testing.TB) *aptRepo {
	r := &aptRepo{
		t: t, dir: t.TempDir(), header: "Origin: Test\nSuite: x\nComponents: main\n",
		index: map[string]string{}, skip: map[string]bool{},
	}
	packages := ""
	for _, name := range []string{"a", "b", "c"} {
		file := fmt.Sprintf("pool/main/%s/%s_1_all.deb", name, name)
		text := "package " + name
		put(t, r.dir, file, text)
		packages += stanza(name, file, text)
	}
	put(t, r.dir, "pool/main/s/s_1.dsc", "dsc")
	put(t, r.dir, "pool/main/s/s_1.tar.gz", "tar")
	sources := fmt.Sprintf("Package: s\nDirectory: pool/main/s\nFiles:\n %032x 3 s_1.dsc\n %032x 3 s_1.tar.gz\nChecksums-Sha256:\n %s 3 s_1.dsc\n %s 3 s_1.tar.gz\n\n",
		0, 0, sum256("dsc"), sum256("tar"))
	r.list("main/binary-amd64/Packages", packages)
	r.list("main/binary-amd64/Packages.gz", repotest.Gzip(t, packages))
	r.list("main/binary-amd64/Release", "Archive: x\n")
	r.list("main/source/Sources", sources)
	r.skip["main/source/Sources"] = true
	r.list("main/source/Sources.gz", repotest.Gzip(t, sources))
	r.list("main/Contents-amd64.gz", repotest.Gzip(t, "usr/bin/a a\n"))
	// Not mirrored.
	for _, name := range []string{"main/binary-riscv64/Packages.gz", "main/i18n/Translation-de.xz", "main/binary-amd64/Packages.xz"} {
		r.list(name, "x")
		r.skip[name] = true
	}
	return r
}

func (r *aptRepo) list(name, text string) {
	if _, ok := r.index[name]; !ok {
		r.order = append(r.order, name)
	}
	r.index[name] = text
}

func (r *aptRepo) release() string {
	var b strings.Builder
	b.WriteString(r.header)
	b.WriteString("SHA256:\n")
	for _, name := range r.order {
		fmt.Fprintf(&b, " %s %16d %s\n", sum256(r.index[name]), len(r.index[name]), name)
	}
	return b.String()
}

// write writes the indexes and the Release.
func (r *aptRepo) write() {
	for _, name := range r.order {
		if !r.skip[name] {
			put(r.t, r.dir, "dists/x/"+name, r.index[name])
		}
	}
	put(r.t, r.dir, "dists/x/Release", r.release())
}

// repack replaces the packages, in the index and its compressed form.
func (r *aptRepo) repack(packages string) {
	r.list("main/binary-amd64/Packages", packages)
	r.list("main/binary-amd64/Packages.gz", repotest.Gzip(r.t, packages))
	r.write()
}

const (
	aptPackages = "dists/x/main/binary-amd64/Packages"
	aptSources  = "dists/x/main/source/Sources.gz"
)

func TestApt(t *testing.T) {
	need(t, "xz", "bzip2")
	const p = "main/binary-amd64/Packages"
	for _, test := range []struct {
		name         string
		gate         *Apt
		harm         func(*aptRepo)
		file, reason string // empty: it passes
	}{
		{"whole", nil, nil, "", ""},
		{"hash", &Apt{Hash: true}, nil, "", ""},
		{"dist", &Apt{Dists: []string{"x"}}, nil, "", ""},
		{"no such dist", &Apt{Dists: []string{"x", "y"}}, nil, "dists/y", "has no InRelease and no Release"},
		{"alias", nil, func(r *aptRepo) { symlink(t, r.dir, "x", "dists/stable") }, "", ""},
		{"dangling alias", nil, func(r *aptRepo) { symlink(t, r.dir, "y", "dists/stable") }, "dists/stable", "is missing"},
		{"alias out", nil, func(r *aptRepo) { symlink(t, r.dir, "/etc", "dists/stable") }, "dists/stable", "leads out"},
		{"no dists", nil, func(r *aptRepo) { rm(t, r.dir, "dists") }, "", "there is no repository"},
		{"empty dists", nil, func(r *aptRepo) { rm(t, r.dir, "dists/x") }, "", "there is no repository"},

		{"package missing", nil, func(r *aptRepo) { rm(t, r.dir, "pool/main/b/b_1_all.deb") }, "pool/main/b/b_1_all.deb", "is missing, " + aptPackages + " lists it"},
		{"package short", nil, func(r *aptRepo) { put(t, r.dir, "pool/main/b/b_1_all.deb", "pack") }, "pool/main/b/b_1_all.deb", "its size is 4, " + aptPackages + " says 9"},
		{"package differs", nil, func(r *aptRepo) { put(t, r.dir, "pool/main/b/b_1_all.deb", "PACKAGE b") }, "", ""},
		{"package differs, hash", &Apt{Hash: true}, func(r *aptRepo) { put(t, r.dir, "pool/main/b/b_1_all.deb", "PACKAGE b") }, "pool/main/b/b_1_all.deb", "its sha256 is " + sum256("PACKAGE b")},
		{"package is a directory", nil, func(r *aptRepo) {
			rm(t, r.dir, "pool/main/b/b_1_all.deb")
			put(t, r.dir, "pool/main/b/b_1_all.deb/x", "x")
		}, "pool/main/b/b_1_all.deb", "is not a file"},
		{"package is a link", &Apt{Hash: true}, func(r *aptRepo) {
			rm(t, r.dir, "pool/main/b")
			put(t, r.dir, "other/b/b_1_all.deb", "package b")
			symlink(t, r.dir, "../../other/b", "pool/main/b")
		}, "", ""},
		{"package is a link out", nil, func(r *aptRepo) {
			rm(t, r.dir, "pool/main/b/b_1_all.deb")
			symlink(t, r.dir, "/etc/passwd", "pool/main/b/b_1_all.deb")
		}, "pool/main/b/b_1_all.deb", "leads out of the tree"},
		{"source missing", nil, func(r *aptRepo) { rm(t, r.dir, "pool/main/s/s_1.dsc") }, "pool/main/s/s_1.dsc", "is missing, " + aptSources},
		{"source differs", &Apt{Hash: true}, func(r *aptRepo) { put(t, r.dir, "pool/main/s/s_1.dsc", "csd") }, "pool/main/s/s_1.dsc", "its sha256"},

		{"index missing, another form there", nil, func(r *aptRepo) { rm(t, r.dir, aptPackages) }, "", ""},
		{"index missing in all forms", nil, func(r *aptRepo) { rm(t, r.dir, aptPackages); rm(t, r.dir, aptPackages+".gz") }, aptPackages, "is missing in all forms"},
		{"architecture missing", &Apt{Architectures: []string{"amd64", "riscv64"}}, nil, "dists/x/main/binary-riscv64/Packages", "is missing in all forms"},
		{"nothing listed is there", nil, func(r *aptRepo) { rm(t, r.dir, "dists/x/main") }, "dists/x/Release", "lists no Packages"},
		{"index short", nil, func(r *aptRepo) { put(t, r.dir, aptPackages+".gz", r.index[p+".gz"][:50]) }, aptPackages + ".gz", "its size is 50, dists/x/Release says"},
		{"index differs", nil, func(r *aptRepo) {
			put(t, r.dir, aptPackages+".gz", r.index[p+".gz"][:9]+"\x00"+r.index[p+".gz"][10:])
		}, aptPackages + ".gz", "its sha256 is"},
		{"parsed index differs", nil, func(r *aptRepo) {
			put(t, r.dir, aptPackages, strings.Replace(r.index[p], "Description", "description", 1))
		}, aptPackages, "its sha256 is"},
		{"other index differs", nil, func(r *aptRepo) { put(t, r.dir, "dists/x/main/binary-amd64/Release", "archive: x\n") }, "dists/x/main/binary-amd64/Release", "its sha256 is"},
		{"index is a FIFO", nil, func(r *aptRepo) {
			rm(t, r.dir, aptPackages)
			if err := syscall.Mkfifo(filepath.Join(r.dir, aptPackages), 0o600); err != nil {
				t.Fatal(err)
			}
		}, aptPackages, "is not a file"},
		{"gz cut off", nil, func(r *aptRepo) {
			r.skip[p] = true
			rm(t, r.dir, aptPackages)
			r.list(p+".gz", r.index[p+".gz"][:100])
			r.write()
		}, aptPackages + ".gz", "is cut off"},
		{"gz garbage", nil, func(r *aptRepo) {
			r.skip[p] = true
			rm(t, r.dir, aptPackages)
			r.list(p+".gz", "garbage, and more of it")
			r.write()
		}, aptPackages + ".gz", "can not be read"},

		{"listed twice", nil, func(r *aptRepo) { r.repack(r.index[p] + r.index[p]) }, "", ""},
		{"listed twice, differently", nil, func(r *aptRepo) {
			r.repack(r.index[p] + stanza("b", "pool/main/b/b_1_all.deb", "PACKAGE b"))
		}, "pool/main/b/b_1_all.deb", "is listed twice, with different checksums"},
		{"name escapes", nil, func(r *aptRepo) { r.repack(stanza("e", "pool/../../etc/passwd", "x")) }, aptPackages, "lists pool/../../etc/passwd, which leads out"},
		{"name absolute", nil, func(r *aptRepo) { r.repack(stanza("e", "/etc/passwd", "x")) }, "etc/passwd", "is missing, " + aptPackages + " lists it"},
		{"name absolute, as apt has it", nil, func(r *aptRepo) { r.repack(stanza("a", "/pool/main/a/a_1_all.deb", "package a")) }, "", ""},
		{"name up and down", nil, func(r *aptRepo) { r.repack(stanza("a", "pool/../pool/main/a/a_1_all.deb", "package a")) }, "", ""},
		{"name with a query", nil, func(r *aptRepo) { put(t, r.dir, "pool/a?b", "x"); r.repack(stanza("e", "pool/a?b", "x")) }, aptPackages, "asks for it with a query"},
		{"name of two lines", nil, func(r *aptRepo) { r.repack("Package: x\nFilename: x\n y\nSize: 1\nSHA256: " + sum256("x") + "\n") }, aptPackages, "which is not a name"},
		{"name with a NUL", nil, func(r *aptRepo) { r.repack(stanza("e", "pool/\x00", "x")) }, aptPackages, "which is not a name"},
		{"name with a dot", nil, func(r *aptRepo) { r.repack(stanza("a", "./pool//main/a/a_1_all.deb", "package a")) }, "", ""},
		{"no name", nil, func(r *aptRepo) { r.repack("Package: x\nSize: 1\n") }, aptPackages, "has no Filename for package x"},
		{"no size", nil, func(r *aptRepo) { r.repack("Package: x\nFilename: pool/x\n") }, aptPackages, "has no Size for pool/x"},
		{"second name", nil, func(r *aptRepo) {
			r.repack("Package: x\nFilename: pool/main/a/a_1_all.deb\nFilename: y\nSize: 1\nSHA256: " + sum256("x") + "\n")
		}, "y", "is missing"},
		{"no checksum", nil, func(r *aptRepo) { r.repack("Package: a\nFilename: pool/main/a/a_1_all.deb\nSize: 9\n") }, aptPackages, "has no SHA256 or SHA512"},
		{"no checksum, and allowed", &Apt{Hash: true, AllowExpired: true}, func(r *aptRepo) { r.repack("Package: a\nFilename: pool/main/a/a_1_all.deb\nSize: 9\n") }, "", ""},
		{"no package", nil, func(r *aptRepo) { r.repack("Filename: x\nSize: 1\n") }, aptPackages, "has a paragraph without a Package"},
		{"blank first", nil, func(r *aptRepo) { r.repack("\n" + r.index[p]) }, "", ""},
		{"blanks first", nil, func(r *aptRepo) { r.repack("\n\n" + r.index[p]) }, aptPackages, "begins with empty lines"},
		{"unpacked differs", nil, func(r *aptRepo) {
			r.list(p, r.index[p]+"\n")
			r.skip[p] = true
			rm(t, r.dir, aptPackages)
			r.write()
		}, aptPackages + ".gz", "unpacked, its sha256 is"},
		{"plain form not listed", nil, func(r *aptRepo) {
			rm(t, r.dir, aptPackages)
			r.order = slices.DeleteFunc(r.order, func(name string) bool { return packed.Ending(name) == "" })
			r.write()
		}, "dists/x/Release", "in compressed forms only"},
		{"bad checksum", nil, func(r *aptRepo) { r.repack("Package: a\nFilename: pool/main/a/a_1_all.deb\nSize: 9\nSHA256: 12\n") }, aptPackages, "has 12 for a checksum"},
		{"garbage", nil, func(r *aptRepo) { r.repack("<html>\n<body>503</body>\n") }, aptPackages, "line 1 is not a field"},
		{"no packages", nil, func(r *aptRepo) { r.repack("") }, "", ""},
		{"long line", nil, func(r *aptRepo) { r.repack("X: " + strings.Repeat("x", 1<<20-1000) + "\n" + r.index[p]) }, "", ""},
		{"endless line", nil, func(r *aptRepo) { r.repack("X: " + strings.Repeat("x", 1<<20) + "\n" + r.index[p]) }, aptPackages, "a paragraph of more than"},

		{"Release empty", nil, func(r *aptRepo) { put(t, r.dir, "dists/x/Release", "") }, "dists/x/Release", "is empty"},
		{"Release garbage", nil, func(r *aptRepo) { put(t, r.dir, "dists/x/Release", "<html>") }, "dists/x/Release", "line 1 is not a field"},
		{"Release lists nothing", nil, func(r *aptRepo) { put(t, r.dir, "dists/x/Release", r.header) }, "dists/x/Release", "lists no indexes"},
		{"Release name escapes", nil, func(r *aptRepo) { r.list("../../x", "x"); put(t, r.dir, "dists/x/Release", r.release()) }, "", ""},
		{"Release lists twice", nil, func(r *aptRepo) {
			put(t, r.dir, "dists/x/Release", r.release()+fmt.Sprintf(" %s 1 %s\n", sum256("x"), p))
		}, "", ""},
		{"Release lists the wrong first", nil, func(r *aptRepo) {
			put(t, r.dir, "dists/x/Release", strings.Replace(r.release(), "SHA256:\n", fmt.Sprintf("SHA256:\n %s 1 %s\n", sum256("x"), p), 1))
		}, aptPackages, "its size is"},
		{"Release lists what can not be", nil, func(r *aptRepo) { put(t, r.dir, "dists/x/Release", r.release()+" 12 x main/binary-s390x/Packages\n") }, "", ""},
		{"Release lists what can not be, and is here", nil, func(r *aptRepo) {
			put(t, r.dir, "dists/x/Release", strings.Replace(r.release(), sum256(r.index[p]), strings.ToUpper(sum256(r.index[p])), 1))
		}, aptPackages, "in upper case"},
		{"weak checksums", nil, func(r *aptRepo) {
			put(t, r.dir, "dists/x/Release", r.header+fmt.Sprintf("MD5Sum:\n %x %d %s\n", md5.Sum([]byte(r.index[p])), len(r.index[p]), p))
		}, "dists/x/Release", "lists no SHA256 or SHA512"},
		{"weak checksums, and allowed", &Apt{AllowExpired: true}, func(r *aptRepo) {
			put(t, r.dir, "dists/x/Release", r.header+fmt.Sprintf("MD5Sum:\n %x %d %s\n", md5.Sum([]byte(r.index[p])), len(r.index[p]), p))
		}, "", ""},
		{"two paragraphs", nil, func(r *aptRepo) { put(t, r.dir, "dists/x/Release", r.release()+"\nOrigin: x\n") }, "", ""},
		{"two paragraphs, the lists in the second", nil, func(r *aptRepo) {
			put(t, r.dir, "dists/x/Release", strings.Replace(r.release(), "SHA256:", "\nSHA256:", 1))
		}, "dists/x/Release", "lists no indexes"},
		{"expired", nil, func(r *aptRepo) { r.header += "Valid-Until: Sat, 1 Feb 2020 10:00:00 UTC\n"; r.write() }, "dists/x/Release", "valid until 2020-02-01 10:00:00 UTC"},
		{"expired and allowed", &Apt{AllowExpired: true}, func(r *aptRepo) { r.header += "Valid-Until: Sat, 01 Feb 2020 10:00:00 +0000\n"; r.write() }, "", ""},
		{"not expired", nil, func(r *aptRepo) {
			r.header += "Valid-Until: " + time.Now().Add(time.Hour).UTC().Format("Mon, 02 Jan 2006 15:04:05 MST") + "\n"
			r.write()
		}, "", ""},
		{"expires never", nil, func(r *aptRepo) { r.header += "Valid-Until: someday\n"; r.write() }, "dists/x/Release", "no date that apt can read"},
		{"InRelease of another release", nil, func(r *aptRepo) {
			put(t, r.dir, "dists/x/InRelease", signed(t, r.release()))
			r.repack(r.index[p] + "\n")
		}, aptPackages, "its size is"},

		{"xz", nil, func(r *aptRepo) {
			delete(r.skip, p+".xz")
			rm(t, r.dir, aptPackages)
			rm(t, r.dir, aptPackages+".gz")
			r.list(p+".xz", repotest.Pipe(t, r.index[p], "xz"))
			r.skip[p], r.skip[p+".gz"] = true, true
			r.write()
			rm(t, r.dir, "pool/main/c/c_1_all.deb")
		}, "pool/main/c/c_1_all.deb", "is missing, " + aptPackages + ".xz lists it"},
		{"bz2", nil, func(r *aptRepo) {
			rm(t, r.dir, aptPackages)
			rm(t, r.dir, aptPackages+".gz")
			r.list(p+".bz2", repotest.Pipe(t, r.index[p], "bzip2"))
			r.skip[p], r.skip[p+".gz"] = true, true
			r.write()
			rm(t, r.dir, "pool/main/c/c_1_all.deb")
		}, "pool/main/c/c_1_all.deb", "is missing, " + aptPackages + ".bz2 lists it"},
		{"zst", nil, func(r *aptRepo) {
			rm(t, r.dir, aptPackages)
			r.list(p+".zst", repotest.Zstd(t, r.index[p]))
			r.skip[p] = true
			r.write()
			rm(t, r.dir, "pool/main/c/c_1_all.deb")
		}, "pool/main/c/c_1_all.deb", "is missing, " + aptPackages + ".zst lists it"},

		{"by hash", nil, func(r *aptRepo) { byHash(r, p+".gz", r.index[p+".gz"]); byHash(r, p, r.index[p]) }, "", ""},
		{"by hash only", nil, func(r *aptRepo) {
			byHash(r, p+".gz", r.index[p+".gz"])
			rm(t, r.dir, aptPackages)
			rm(t, r.dir, aptPackages+".gz")
			rm(t, r.dir, "pool/main/c/c_1_all.deb")
		}, "pool/main/c/c_1_all.deb", "is missing, dists/x/main/binary-amd64/by-hash/SHA256/"},
		{"by hash missing", nil, func(r *aptRepo) { byHash(r, p, r.index[p]) }, "dists/x/main/binary-amd64/by-hash/SHA256/%p.gz", "there are others by hash"},
		{"by hash differs", nil, func(r *aptRepo) {
			byHash(r, p, r.index[p])
			byHash(r, p+".gz", strings.ToUpper(r.index[p+".gz"]))
		}, "dists/x/main/binary-amd64/by-hash/SHA256/%p.gz", ""},

		{"no repository in the root", &Apt{Root: "pool"}, nil, "pool", "there is no repository"},
		{"no root", &Apt{Root: "none"}, nil, "none", "is missing"},

		{"root", &Apt{Root: "sub/ubuntu", Hash: true}, func(r *aptRepo) {
			run(t, r.dir, nil, "mkdir", "sub", "sub/ubuntu")
			run(t, r.dir, nil, "mv", "dists", "pool", "sub/ubuntu")
			rm(t, r.dir, "sub/ubuntu/pool/main/a")
		}, "sub/ubuntu/pool/main/a/a_1_all.deb", "is missing"},
		{"nested", nil, func(r *aptRepo) {
			run(t, r.dir, nil, "mkdir", "dists/stable")
			run(t, r.dir, nil, "mv", "dists/x", "dists/stable/updates")
			rm(t, r.dir, "pool/main/a")
		}, "pool/main/a/a_1_all.deb", "is missing, dists/stable/updates/main/binary-amd64/Packages lists it"},
		{"flat", &Apt{Dists: []string{"./"}}, func(r *aptRepo) {
			rm(t, r.dir, "dists")
			text := r.index[p]
			put(t, r.dir, "Packages.gz", repotest.Gzip(t, text))
			put(t, r.dir, "Release", fmt.Sprintf("SHA256:\n %s %d Packages.gz\n %s 1 Sources.gz\n %s %d Packages\n",
				sum256(repotest.Gzip(t, text)), len(repotest.Gzip(t, text)), sum256("x"), sum256(text), len(text)))
			rm(t, r.dir, "pool/main/a")
		}, "pool/main/a/a_1_all.deb", "is missing, Packages.gz lists it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newAptRepo(t)
			r.write()
			if test.harm != nil {
				test.harm(r)
			}
			g := test.gate
			if g == nil {
				g = new(Apt)
			}
			provision(t, g)
			if test.reason == "" && test.file == "" {
				passes(t, g, newRun(t, r.dir))
				return
			}
			for name, text := range r.index {
				test.file = strings.ReplaceAll(test.file, "%"+strings.TrimPrefix(name, "main/binary-amd64/"), sum256(text))
			}
			test.file = strings.ReplaceAll(test.file, "%p.gz", sum256(r.index[p+".gz"]))
			fails(t, g, newRun(t, r.dir), test.file, test.reason)
		})
	}
}

// TestAptGone checks that what was released does not go away while it is listed.
func TestAptGone(t *testing.T) {
	repo := newAptRepo(t)
	put(t, repo.dir, "pool/x/d_1_all.deb", "package d")
	text := stanza("d", "pool/x/d_1_all.deb", "package d")
	repo.list("extra/binary-amd64/Packages.gz", repotest.Gzip(t, text))
	repo.write()
	r := newRun(t, repo.dir)
	g := new(Apt)
	released(t, g, r)
	passes(t, g, r) // as it was

	rm(t, repo.dir, aptPackages) // there is another form
	passes(t, g, r)
	rm(t, repo.dir, "dists/x/main/binary-amd64")
	v := fails(t, g, r, aptPackages, "is missing in all forms, dists/x/Release lists it and it was there when last released")
	if !strings.Contains(v.Reason, filepath.Join(r.State, "apt.released")) || v.Count != 2 || strings.Count(v.Error(), "caddy mirror forget") != 1 {
		t.Error(v) // there was a Release, too
	}
	rm(t, repo.dir, "dists/x/extra")
	if v := fails(t, g, r, "dists/x/extra/binary-amd64/Packages", "last released"); v.Count != 3 {
		t.Error(v)
	}
	passes(t, g, newRun(t, repo.dir)) // a job that never had it

	// The verdict says what to do if it is as it should be.
	saved := get(t, r.State, "apt.released")
	rm(t, r.State, "apt.released")
	released(t, g, r)
	passes(t, g, r)

	// What upstream no longer lists may go.
	put(t, r.State, "apt.released", saved)
	for name := range repo.index {
		repo.skip[name] = !strings.Contains(name, "source")
	}
	repo.order = []string{"main/source/Sources.gz", "main/source/Sources"}
	repo.write()
	passes(t, g, r)

	// Not even a repository without dists, in which sources are often listed in vain.
	flat := t.TempDir()
	put(t, flat, "Packages", "")
	put(t, flat, "Sources", "")
	put(t, flat, "Release", fmt.Sprintf("SHA256:\n %s 0 Packages\n %[1]s 0 Sources\n", sum256("")))
	r = newRun(t, flat)
	g = &Apt{Dists: []string{"./"}}
	released(t, g, r)
	rm(t, flat, "Sources")
	fails(t, g, r, "Sources", "is missing in all forms")
}

// TestAptVanished checks that a distribution does not go away unnoticed.
func TestAptVanished(t *testing.T) {
	repo := newAptRepo(t)
	repo.write()
	dists := filepath.Join(repo.dir, "dists")
	if err := os.CopyFS(filepath.Join(dists, "y/z"), os.DirFS(filepath.Join(dists, "x"))); err != nil {
		t.Fatal(err)
	}
	r := newRun(t, repo.dir)
	g := new(Apt)
	released(t, g, r)
	rm(t, repo.dir, "dists/y/z/Release")
	fails(t, g, r, "dists/y/z", "has no InRelease and no Release any more")
	rm(t, repo.dir, "dists/y")
	v := fails(t, &Apt{AllowOlder: true, AllowExpired: true}, r, "dists/y/z", "any more")
	if !strings.Contains(v.Reason, filepath.Join(r.State, "apt.released")) || v.Count != 1 {
		t.Error(v)
	}
	rm(t, repo.dir, "dists/x/Release")
	if v := fails(t, g, r, "dists/x", "any more"); v.More[0].File != "dists/y/z" {
		t.Error(v)
	}
	repo.write()
	passes(t, g, newRun(t, repo.dir)) // a job that never had it

	// It is no business of gates that do not look there.
	passes(t, &Apt{Dists: []string{"x"}}, r)
	if err := os.CopyFS(filepath.Join(repo.dir, "other/dists"), os.DirFS(dists)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(repo.dir, "other/pool"), os.DirFS(filepath.Join(repo.dir, "pool"))); err != nil {
		t.Fatal(err)
	}
	passes(t, &Apt{Root: "other"}, r)

	// It may be known by that name still.
	if err := os.CopyFS(filepath.Join(dists, "w/z"), os.DirFS(filepath.Join(dists, "x"))); err != nil {
		t.Fatal(err)
	}
	symlink(t, repo.dir, "w", "dists/y")
	released(t, g, r)
	rm(t, repo.dir, "dists/y")
	fails(t, g, r, "dists/y/z", "any more")

	// The verdict says what to do if it is as it should be.
	rm(t, r.State, "apt.released")
	passes(t, g, r)
}

// TestAptOlder checks that a Release does not go back to what it was.
func TestAptOlder(t *testing.T) {
	const inline, plain = "dists/x/InRelease", "dists/x/Release"
	repo := newAptRepo(t)
	header := repo.header
	of := func(date string) string {
		repo.header = header
		if date != "" {
			repo.header += "Date: " + date + "\n"
		}
		repo.write()
		return repo.release()
	}
	const monday, tuesday, wednesday = "Mon, 02 Mar 2026 10:00:00 UTC", "Tue, 03 Mar 2026 10:00:00 UTC", "Wed, 04 Mar 2026 12:00:00 +0200"
	r := newRun(t, repo.dir)
	g := new(Apt)
	of(tuesday)
	released(t, g, r)
	passes(t, g, r)
	of(monday)
	v := fails(t, g, r, plain, "is of 2026-03-02 10:00:00 UTC, what was released last of 2026-03-03 10:00:00 UTC")
	if !strings.Contains(v.Reason, filepath.Join(r.State, "apt.released")) || !strings.Contains(v.Reason, "allow_older") || v.Count != 1 {
		t.Error(v)
	}
	fails(t, new(Apt), r, plain, "is of") // as after a restart
	passes(t, g, newRun(t, repo.dir))
	of("")
	released(t, g, r)
	of(monday)
	fails(t, g, r, plain, "released last of 2026-03-03") // of when it is now is not known; that it was is

	// What clients read counts: InRelease, if there is one.
	put(t, repo.dir, inline, signed(t, of(tuesday)))
	of(monday)
	passes(t, g, r)
	put(t, repo.dir, inline, signed(t, of(monday)))
	of(tuesday)
	fails(t, g, r, inline, "is of")
	put(t, repo.dir, inline, signed(t, of(wednesday)))
	of(tuesday)
	released(t, g, r)
	passes(t, g, r)
	rm(t, repo.dir, inline)
	fails(t, g, r, plain, "released last of 2026-03-04 10:00:00 UTC")

	of(monday)
	allowed := &Apt{AllowOlder: true}
	released(t, allowed, r)
	passes(t, g, r)
}

// TestAptRecords checks that the gates of a job keep what each of them saw, of the last
// run only.
func TestAptRecords(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		repo := newAptRepo(t)
		repo.header += "Date: Tue, 03 Mar 2026 10:00:00 UTC\n"
		repo.write()
		if err := os.Rename(repo.dir, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	one, two := &Apt{Root: "one"}, &Apt{Root: "two"}
	r := newRun(t, dir)
	if err := one.Released(r); err == nil {
		t.Error("what was never checked is released")
	}
	passes(t, one, r)
	passes(t, two, r)
	for _, g := range []*Apt{one, two} {
		if err := g.Released(r); err != nil {
			t.Fatal(err)
		}
	}
	rm(t, dir, "one/"+path.Dir(aptPackages))
	rm(t, dir, "two/"+path.Dir(aptPackages))
	fails(t, one, r, "one/"+aptPackages, "last released")
	fails(t, two, r, "two/"+aptPackages, "last released")

	later := newRun(t, r.Dir)
	later.ID, later.State = "run-2", r.State
	if err := one.Released(later); err == nil || !strings.Contains(err.Error(), "run-1") {
		t.Errorf("what another run checked is released: %v", err)
	}
	rm(t, r.State, "apt.released")
	released(t, two, later)
	if text := get(t, r.State, "apt.released"); strings.Contains(text, "one/") || !strings.Contains(text, "two/dists/x") {
		t.Error(text)
	}
	later.ID = "run-3"
	released(t, one, later) // the other gate was taken out
	if text := get(t, r.State, "apt.released"); strings.Contains(text, "two/") || !strings.Contains(text, "one/dists/x") {
		t.Error(text)
	}
	left, _ := filepath.Glob(filepath.Join(r.State, "*"))
	if len(left) != 1 {
		t.Errorf("in the state: %v", left)
	}

	put(t, r.State, "apt.released", "{")
	blind(t, one, r, filepath.Join(r.State, "apt.released"))
	if err := os.RemoveAll(r.State); err != nil {
		t.Fatal(err)
	}
	passes(t, one, r)
	if err := one.Released(r); err == nil {
		t.Error("what cannot be kept is kept")
	}
}

// byHash puts text where clients look for the listed index by its checksum.
func byHash(r *aptRepo, name, text string) {
	if !strings.Contains(r.header, "Acquire-By-Hash") {
		r.header += "Acquire-By-Hash: yes\n"
		r.write()
	}
	put(r.t, r.dir, path.Join("dists/x", path.Dir(name), "by-hash/SHA256", sum256(r.index[name])), text)
}

// newKey returns a key that signs, and a keyring of it.
func newKey(t testing.TB, at time.Time, lifetime time.Duration) (*openpgp.Entity, string) {
	t.Helper()
	config := &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(lifetime.Seconds()),
		Time: func() time.Time { return at },
	}
	key, err := openpgp.NewEntity("Test", "", "test@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.gpg")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := key.Serialize(f); err != nil {
		t.Fatal(err)
	}
	return key, file
}

func sign(t testing.TB, key *openpgp.Entity, text string, at time.Time) string {
	t.Helper()
	var b bytes.Buffer
	err := openpgp.ArmoredDetachSign(&b, []*openpgp.Entity{key}, strings.NewReader(text), &openpgp.SignParams{
		Config: &packet.Config{Time: func() time.Time { return at }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func clearSign(t testing.TB, key *openpgp.Entity, text string) string {
	t.Helper()
	signer, ok := key.SigningKey(time.Now(), nil)
	if !ok {
		t.Fatal("no signing key")
	}
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, signer.PrivateKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}

// signed is a message with a good signature of nobody in particular.
func signed(t testing.TB, text string) string {
	t.Helper()
	key, _ := newKey(t, time.Now().Add(-time.Hour), 0)
	return clearSign(t, key, text)
}

func TestAptSignatures(t *testing.T) {
	now := time.Now()
	key, ring := newKey(t, now.Add(-time.Hour), 0)
	other, _ := newKey(t, now.Add(-time.Hour), 0)
	old, oldRing := newKey(t, now.AddDate(-2, 0, 0), 24*time.Hour)
	const inline, plain, detached = "dists/x/InRelease", "dists/x/Release", "dists/x/Release.gpg"
	for _, test := range []struct {
		name         string
		ring         string
		do           func(*aptRepo)
		file, reason string
	}{
		{"inline", ring, func(r *aptRepo) { put(t, r.dir, inline, clearSign(t, key, r.release())); rm(t, r.dir, plain) }, "", ""},
		{"detached", ring, func(r *aptRepo) { put(t, r.dir, detached, sign(t, key, r.release(), now)) }, "", ""},
		{"both", ring, func(r *aptRepo) {
			put(t, r.dir, inline, clearSign(t, key, r.release()))
			put(t, r.dir, detached, sign(t, key, r.release(), now))
		}, "", ""},
		{"inline, and Release without", ring, func(r *aptRepo) { put(t, r.dir, inline, clearSign(t, key, r.release())) }, "", ""},
		{"no keyring", "", func(r *aptRepo) { put(t, r.dir, inline, clearSign(t, other, r.release())); rm(t, r.dir, plain) }, "", ""},
		{"unsigned", ring, func(*aptRepo) {}, detached, "is missing"},
		{"unsigned InRelease", ring, func(r *aptRepo) { put(t, r.dir, inline, r.release()); rm(t, r.dir, plain) }, inline, "is not signed"},
		{"unsigned InRelease, no keyring", "", func(r *aptRepo) { put(t, r.dir, inline, r.release()) }, inline, "is not signed"},
		{"wrong key", ring, func(r *aptRepo) { put(t, r.dir, detached, sign(t, other, r.release(), now)) }, detached, "no key of " + ring + " has signed it"},
		{"wrong key, inline", ring, func(r *aptRepo) { put(t, r.dir, inline, clearSign(t, other, r.release())); rm(t, r.dir, plain) }, inline, "no key of"},
		{"expired key", oldRing, func(r *aptRepo) { put(t, r.dir, detached, sign(t, old, r.release(), now.AddDate(-2, 0, 0))) }, detached, "expired"},
		{"changed", ring, func(r *aptRepo) {
			put(t, r.dir, detached, sign(t, key, r.release(), now))
			put(t, r.dir, plain, r.release()+"X: y\n")
		}, detached, "has no good signature"},
		{"changed inline", ring, func(r *aptRepo) {
			put(t, r.dir, inline, strings.Replace(clearSign(t, key, r.release()), "Origin", "origin", 1))
			rm(t, r.dir, plain)
		}, inline, "has no good signature"},
		{"more than signed", ring, func(r *aptRepo) {
			put(t, r.dir, inline, clearSign(t, key, r.release())+"SHA256:\n")
			rm(t, r.dir, plain)
		}, inline, "has more in it than signatures"},
		{"cut off", ring, func(r *aptRepo) {
			text := clearSign(t, key, r.release())
			put(t, r.dir, inline, text[:len(text)-60])
			rm(t, r.dir, plain)
		}, inline, ""},
		{"cut off, no keyring", "", func(r *aptRepo) {
			put(t, r.dir, inline, clearSign(t, key, r.release())[:300])
			rm(t, r.dir, plain)
		}, inline, "not a signed message as a whole"},
		{"garbage", ring, func(r *aptRepo) { put(t, r.dir, detached, "garbage") }, detached, ""},
		{"armored garbage", ring, func(r *aptRepo) { put(t, r.dir, detached, "-----BEGIN PGP SIGNATURE-----\n\nxxxx\n") }, detached, ""},
		{"empty", ring, func(r *aptRepo) { put(t, r.dir, detached, "") }, detached, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newAptRepo(t)
			r.write()
			test.do(r)
			g := &Apt{Keyring: test.ring}
			if test.file == "" {
				passes(t, g, newRun(t, r.dir))
			} else {
				fails(t, g, newRun(t, r.dir), test.file, test.reason)
			}
		})
	}
	r := newAptRepo(t)
	r.write()
	dir := t.TempDir()
	put(t, dir, "garbage", "garbage")
	put(t, dir, "empty", "")
	for _, g := range []*Apt{{}, {Keyring: ring}} {
		if err := g.Ready(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"garbage", "empty", "none", ""} { // the last is a directory
		g := &Apt{Keyring: filepath.Join(dir, name)}
		blind(t, g, newRun(t, r.dir), "keyring")
		if err := g.Ready(); err == nil || !strings.Contains(err.Error(), g.Keyring) {
			t.Errorf("%s: %v", name, err)
		}
		if err := (&Rpm{Keyring: g.Keyring}).Ready(); err == nil {
			t.Errorf("%s is taken by rpm", name)
		}
	}
}

// TestAptReprepro checks a repository that reprepro has made and gpg has signed.
func TestAptReprepro(t *testing.T) {
	need(t, "reprepro", "gpg", "gpgconf", "dpkg-deb")
	home := t.TempDir()
	gnupg := filepath.Join(home, "gnupg")
	if err := os.Mkdir(gnupg, 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{"GNUPGHOME=" + gnupg}
	defer run(t, home, env, "gpgconf", "--kill", "all")
	run(t, home, env, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Test <test@example.org>", "rsa3072", "sign", "never")
	run(t, home, env, "gpg", "--batch", "--armor", "--output", "key.asc", "--export", "test@example.org")
	put(t, home, "reprepro/conf/distributions", "Suite: test\nCodename: test\nArchitectures: amd64 source\nComponents: main extra\nDescription: x\nSignWith: test@example.org\n")
	repo := filepath.Join(home, "repo")
	for i, component := range []string{"main", "main", "extra"} {
		put(t, home, fmt.Sprintf("p%d/DEBIAN/control", i), fmt.Sprintf("Package: p%d\nVersion: 1\nArchitecture: all\nSection: misc\nPriority: optional\nMaintainer: x <x@example.org>\nDescription: x\n", i))
		deb := fmt.Sprintf("p%d_1_all.deb", i)
		run(t, home, nil, "dpkg-deb", "--build", fmt.Sprintf("p%d", i), deb)
		run(t, home, env, "reprepro", "--silent", "--basedir", "reprepro", "--outdir", repo, "-C", component, "includedeb", "test", deb)
	}

	g := &Apt{Hash: true, Keyring: filepath.Join(home, "key.asc")}
	r := newRun(t, repo)
	passes(t, g, r)
	if time.Since(r.Upstream) > time.Minute || time.Until(r.Upstream) > 0 {
		t.Errorf("upstream is of %v", r.Upstream)
	}
	known := time.Unix(1, 0)
	r.Upstream = known // to somebody who knows better
	if passes(t, g, r); !r.Upstream.Equal(known) {
		t.Errorf("upstream is of %v", r.Upstream)
	}
	deb := "pool/main/p/p1/p1_1_all.deb"
	text := get(t, repo, deb)
	put(t, repo, deb, text[:len(text)-1]+"?")
	fails(t, g, newRun(t, repo), deb, "its sha256 is")
	put(t, repo, deb, text)
	rm(t, repo, "pool/extra")
	fails(t, g, newRun(t, repo), "pool/extra/p/p2/p2_1_all.deb", "is missing, dists/test/extra/binary-amd64/Packages lists it")
}

// largeApt makes a repository of n packages. Its index has what those of Debian have, and is about as large.
func largeApt(t testing.TB, n int) string {
	t.Helper()
	r := &aptRepo{t: t, dir: t.TempDir(), header: "Suite: x\n", index: map[string]string{}, skip: map[string]bool{}}
	var b strings.Builder
	for i := range n {
		source := fmt.Sprintf("source%05d", i/2)
		dir := fmt.Sprintf("pool/main/%c/%s", 'a'+i%26, source)
		if err := os.MkdirAll(filepath.Join(r.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		file := fmt.Sprintf("%s/package%05d_1.2-3_amd64.deb", dir, i)
		// Links are made faster than files, and cost as much to look at.
		size := 1000 + i/1000
		if i%1000 == 0 {
			put(t, r.dir, fmt.Sprint(size), strings.Repeat("x", size))
		}
		if err := os.Link(filepath.Join(r.dir, fmt.Sprint(size)), filepath.Join(r.dir, file)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "Package: package%05d\nSource: %s\nVersion: 1.2-3\nInstalled-Size: %d\nMaintainer: Some One <one@example.org>\nArchitecture: amd64\n"+
			"Depends: %s\nDescription: a package\nHomepage: https://example.org/\nDescription-md5: %032x\nTag: %s\nSection: misc\nPriority: optional\n"+
			"Filename: %s\nSize: %d\nMD5sum: %032x\nSHA256: %064x\n\n",
			i, source, i, strings.Repeat("libsomething (>= 1.0), ", 12), i, strings.Repeat("role::program, ", 8), file, size, i, i)
	}
	r.list("main/binary-amd64/Packages", b.String())
	r.list("main/binary-amd64/Packages.gz", repotest.Gzip(t, b.String()))
	r.skip["main/binary-amd64/Packages"] = true
	r.write()
	return r.dir
}

// TestAptLarge checks what a tree with 60,000 packages may cost.
func TestAptLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes 60,000 files")
	}
	n := 60_000
	if raceEnabled {
		n = 10_000 // it takes its time
	}
	dir := largeApt(t, n)
	r := newRun(t, dir)
	var reports atomic.Int64
	r.Report = func(p step.Progress) {
		if p.Stage != "apt" || p.Done < -1 || p.Done > 1 || p.Detail == "" {
			t.Errorf("%+v", p)
		}
		reports.Add(1)
	}
	runtime.GC()
	cpu, peak := usage(t, func() { passes(t, new(Apt), r) })
	t.Logf("%v of CPU, %d MB of memory, %d reports", cpu, peak>>20, reports.Load())
	if reports.Load() == 0 {
		t.Error("nothing was reported")
	}
	if cpu > 5*time.Second {
		t.Errorf("it takes %v of CPU", cpu)
	}
	if peak > 200<<20 {
		t.Errorf("it takes %d MB of memory", peak>>20)
	}

	r = newRun(t, dir)
	g := provision(t, &Shrink{Deletions: "1%"})
	released(t, g, r)
	rm(t, dir, "pool/main/b")
	cpu, peak = usage(t, func() { fails(t, g, r, "", "entries are gone") })
	t.Logf("shrink: %v of CPU, %d MB of memory, an index of %d KB", cpu, peak>>20, len(get(t, r.State, shrinkIndex))>>10)
	if peak > 200<<20 {
		t.Errorf("shrink takes %d MB of memory", peak>>20)
	}
}

// TestCancel checks that a check ends with its job, in the middle of a file.
func TestCancel(t *testing.T) {
	r := newAptRepo(t)
	const size = 1 << 40
	file := "pool/main/a/huge.deb"
	put(t, r.dir, file, "")
	if err := os.Truncate(filepath.Join(r.dir, file), size); err != nil {
		t.Skip(err)
	}
	r.repack(fmt.Sprintf("Package: huge\nFilename: %s\nSize: %d\nSHA256: %s\n", file, size, sum256("x")))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := (&Apt{Hash: true}).Check(ctx, newRun(t, r.dir)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if took := time.Since(start); took > patience {
		t.Errorf("it took %v", took)
	}
}

// usage returns the CPU time that f takes, and the most memory that the heap takes
// meanwhile.
func usage(t testing.TB, f func()) (cpu time.Duration, peak uint64) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse+m.StackInuse)
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	before := cpuTime(t)
	f()
	cpu = cpuTime(t) - before
	close(stop)
	<-done
	return cpu, peak
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
