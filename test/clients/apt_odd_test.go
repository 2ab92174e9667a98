package clients

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/gate"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// oddRepo is a repository with the package a, to be made odd.
type oddRepo struct {
	dist     string                                             // as in sources.list: "x", "./", "sub/"
	header   string                                             // of the Release
	packages string                                             // the text of Packages
	ext      string                                             // how that is compressed: ".gz"
	pack     func(text string) string                           // compresses it
	listed   map[string]string                                  // further files that the Release lists
	release  func(text string) string                           // changes the Release
	signed   func(r *oddRepo, text string, key *openpgp.Entity) // has signed it; changes files
	files    map[string]string                                  // further files, by their names in the tree
	absent   map[string]bool                                    // what is listed and not there
}

const oddPackage = "package a"

var oddSum = fmt.Sprintf("%x", sha256.Sum256([]byte(oddPackage)))

func newOddRepo() *oddRepo {
	return &oddRepo{
		dist:   "x",
		header: "Origin: Test\nSuite: x\nCodename: x\nComponents: main\nArchitectures: all amd64 arm64\nDate: " + oddDate(-time.Hour) + "\n",
		packages: "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nFilename: pool/a_1_all.deb\n" +
			fmt.Sprintf("Size: %d\nSHA256: %s\nDescription: x\n more\n\n", len(oddPackage), oddSum),
		ext: ".gz", pack: gzipped, listed: map[string]string{}, absent: map[string]bool{},
		release: func(s string) string { return s },
		files:   map[string]string{"pool/a_1_all.deb": oddPackage},
	}
}

// oddDate is a date as a Release has it, so much from now.
func oddDate(in time.Duration) string { return oddTime(in) + " UTC" }

func oddTime(in time.Duration) string {
	return time.Now().Add(in).UTC().Format("Mon, 02 Jan 2006 15:04:05")
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, text)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return b.String()
}

// through is text after it went through a program.
func through(t *testing.T, text, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// replace replaces a part of Packages.
func (r *oddRepo) replace(from, to string) {
	if !strings.Contains(r.packages, from) {
		panic("there is no " + from)
	}
	r.packages = strings.Replace(r.packages, from, to, 1)
}

// dir is where the Release is.
func (r *oddRepo) dir() string {
	if flat, ok := strings.CutSuffix(r.dist, "/"); ok {
		return path.Clean(flat)
	}
	return path.Join("dists", r.dist)
}

// list has the Release list a file, which is there in this form only.
func (r *oddRepo) list(name, text string) {
	r.listed[name+".gz"] = gzipped(text)
	r.listed[name] = text
	r.absent[name] = true
}

// write writes the repository to the tree, with a signature.
func (r *oddRepo) write(t *testing.T, tree, arch string, key *openpgp.Entity) {
	t.Helper()
	index := "main/binary-" + arch + "/Packages"
	if strings.HasSuffix(r.dist, "/") {
		index = "Packages"
	}
	r.listed[index], r.listed[index+r.ext], r.absent[index] = r.packages, r.pack(r.packages), true
	text := r.header + "SHA256:\n"
	for _, name := range slices.Sorted(maps.Keys(r.listed)) {
		data := r.listed[name]
		text += fmt.Sprintf(" %x %d %s\n", sha256.Sum256([]byte(data)), len(data), name)
		if !r.absent[name] {
			r.files[path.Join(r.dir(), name)] = data
		}
	}
	text = r.release(text)
	r.files[path.Join(r.dir(), "Release")] = text
	var signature bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&signature, []*openpgp.Entity{key}, strings.NewReader(text), nil); err != nil {
		t.Fatal(err)
	}
	r.files[path.Join(r.dir(), "Release.gpg")] = signature.String()
	if r.signed != nil {
		r.signed(r, text, key)
	}
	for name, data := range r.files {
		file := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// oddKey is a key that signs, and the file of its public half.
func oddKey(t *testing.T) (*openpgp.Entity, string) {
	t.Helper()
	key, err := openpgp.NewEntity("Test", "", "test@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return time.Now().Add(-time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := key.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.gpg")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return key, file
}

// oddWorld serves trees, and asks apt-get and the gate about them.
type oddWorld struct {
	root, url, arch string
	key             *openpgp.Entity
	ring            string
}

func newOddWorld(t *testing.T) *oddWorld {
	t.Helper()
	testcaddy.Need(t, "apt-get", "dpkg", "xz", "bzip2", "zstd")
	t.Logf("%s", testclients.Command(t, t.TempDir(), nil, "apt-get", "--version"))
	w := &oddWorld{root: t.TempDir(), arch: testclients.Architecture(t)}
	w.key, w.ring = oddKey(t)
	srv := testcaddy.Start(t, fmt.Sprintf("http://{$ADDR} {\n\tbind 127.0.0.1\n\tmirror_cache {\n\t\tmount /odd %s {\n\t\t\tttl 1ms\n\t\t}\n\t}\n}\n", w.root))
	srv.WaitReady(t)
	w.url = srv.URL + "/odd/"
	return w
}

// apt asks an apt-get of its own to update its lists and to download the package. It
// returns what it complains of, if it does not.
func (w *oddWorld) apt(t *testing.T, tree string, r *oddRepo, options ...string) (complaint string) {
	t.Helper()
	line := fmt.Sprintf("deb [signed-by=%s] %s%s %s", w.ring, w.url, tree, r.dist)
	if !strings.HasSuffix(r.dist, "/") {
		line += " main"
	}
	a := testclients.NewApt(t, line)
	for _, args := range [][]string{append(options, "update", "-o", "APT::Update::Error-Mode=any"), {"download", "a"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Dir = a.Dir
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + a.Dir, "LC_ALL=C.UTF-8"}, a.Env...)
		out, err := cmd.CombinedOutput()
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			t.Fatalf("apt-get: %v\n%s", ctx.Err(), out)
		}
		for l := range strings.Lines(string(out)) {
			if strings.HasPrefix(l, "E:") {
				complaint += l
			}
		}
		if complaint == "" {
			t.Fatalf("apt-get: %v\n%s", err, out)
		}
		return complaint
	}
	return ""
}

// run is a run of a job with the tree.
func (w *oddWorld) run(t *testing.T, tree string) *step.Run {
	t.Helper()
	return &step.Run{
		Job: "x", ID: "1", Dir: filepath.Join(w.root, tree), State: t.TempDir(),
		Log: zap.NewNop(), Out: io.Discard, Report: func(step.Progress) {},
	}
}

// gate asks the gate, and returns its verdict if it does not let the tree pass, and what
// it notes in the log of the run.
func (w *oddWorld) gate(t *testing.T, g *gate.Apt, run *step.Run) (verdict, notes string) {
	t.Helper()
	var log bytes.Buffer
	run.Out = &log
	err := g.Check(t.Context(), run)
	if err == nil {
		return "", log.String()
	}
	if _, ok := errors.AsType[*gate.Verdict](err); !ok {
		t.Fatalf("gate: %v", err)
	}
	return err.Error(), log.String()
}

// TestAptOdd: what apt takes passes the gate, with a note in the log of the run where it
// is off the specification, and what apt refuses is held.
func TestAptOdd(t *testing.T) {
	w := newOddWorld(t)
	cases := oddCases(t)
	t.Run("ask", func(t *testing.T) {
		for i, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				tree := fmt.Sprint(i)
				r := newOddRepo()
				c.make(r)
				r.write(t, filepath.Join(w.root, tree), w.arch, w.key)
				complaint := w.apt(t, tree, r)
				verdict, notes := w.gate(t, &gate.Apt{Keyring: w.ring, Hash: true}, w.run(t, tree))
				t.Logf("apt: %s\ngate: %s\n%s", complaint, verdict, notes)
				if (complaint != "") != c.held {
					t.Errorf("apt is to hold it: %t; it says %q", c.held, complaint)
				}
				if agree := (complaint != "") == (verdict != ""); agree != (c.differs == "") {
					t.Errorf("apt says %q, the gate %q", complaint, verdict)
				}
				if noted := strings.Contains(notes, c.note); verdict == "" && (!noted || c.note == "" && notes != "") {
					t.Errorf("the log says %q, want %q", notes, c.note)
				}
			})
		}
	})
}

// TestAptListed: an index that was served and vanishes while it is listed breaks apt, and
// is held; that of another architecture, which was never there, is not missed.
func TestAptListed(t *testing.T) {
	w := newOddWorld(t)
	for i, index := range []string{
		"main/i18n/Translation-en", "main/Contents-" + w.arch, "main/dep11/Components-" + w.arch + ".yml",
		"main/dep11/icons-64x64.tar", "main/cnf/Commands-" + w.arch,
	} {
		t.Run(path.Base(index), func(t *testing.T) {
			options := []string{"-o", "Acquire::Languages=en"}
			target := "Acquire::IndexTargets::deb::x::" // as apt-file, appstream and command-not-found have them
			options = append(options, "-o", target+"MetaKey="+index, "-o", target+"ShortDescription=x", "-o", target+"Description=x")
			tree := fmt.Sprint(i)
			r := newOddRepo()
			r.list(index, "x")
			r.list(strings.Replace(index, w.arch, "s390x", 1)+"-s390x", "x")
			r.absent[strings.Replace(index, w.arch, "s390x", 1)+"-s390x.gz"] = true
			r.write(t, filepath.Join(w.root, tree), w.arch, w.key)
			run := w.run(t, tree)
			g := &gate.Apt{Keyring: w.ring}
			if complaint := w.apt(t, tree, r, options...); complaint != "" {
				t.Errorf("apt: %s", complaint)
			}
			if verdict, _ := w.gate(t, g, run); verdict != "" {
				t.Errorf("gate: %s", verdict)
			}
			if err := g.Released(run); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(w.root, tree, "dists/x", index+".gz")); err != nil {
				t.Fatal(err)
			}
			complaint := w.apt(t, tree, r, options...)
			verdict, _ := w.gate(t, g, run)
			if !strings.Contains(complaint, "404") || !strings.Contains(verdict, index+": is missing in all forms") {
				t.Errorf("apt says %q, the gate %q", complaint, verdict)
			}
		})
	}
}
