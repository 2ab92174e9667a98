package wheels

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/syncer/wheels/wheelstest"
)

// TestBuild: what is wanted is built, once; a version that is bumped is one wheel more.
func TestBuild(t *testing.T) {
	x := newFixture(t)
	x.index.Sdist("pure", "1.0", nil)
	x.index.Sdist("Native.Ext", "2.0", map[string]string{"ext.c": wheelstest.Ext})
	x.wants("# constraints", "pure===1.0", "native-ext==2.0 ; python_version >= '3'", "windows==1; sys_platform=='win32'")
	x.good("2 built")
	names, _ := x.now.Changes.Names()
	if x.now.Changed == nil || !*x.now.Changed || !slices.Equal(names, []string{"native-ext", "pure"}) || x.now.Bytes == 0 {
		t.Errorf("changed %v, %q, %d bytes", x.now.Changed, names, x.now.Bytes)
	}
	native := "debian-12-x86_64/n/native-ext/Native_Ext-2.0-cp311-cp311-linux_x86_64.whl"
	pure := "debian-12-x86_64/p/pure/pure-1.0-py3-none-any.whl"
	x.has(native, pure)
	before, err := os.Stat(filepath.Join(x.dir, pure))
	if err != nil || before.Mode() != 0o644 {
		t.Errorf("%v, %v", before.Mode(), err)
	}
	for _, p := range x.progress {
		if p.Done > 1 {
			t.Errorf("progress %+v", p)
		}
	}
	if last := x.progress[len(x.progress)-1]; last.Done != 1 || last.Detail != "2/2, 2 built" {
		t.Errorf("in the end %+v", last)
	}

	x.good("2 published")
	if *x.now.Changed || x.now.Changes.Count() > 0 || x.index.Asked("pure") != 3 { // by us, pip, and to see whether the index is our own
		t.Errorf("changed, or its page was asked for %d times", x.index.Asked("pure"))
	}

	x.index.Sdist("pure", "1.1", nil)
	x.wants("pure===1.1", "native-ext==2.0")
	x.good("1 built, 1 published")
	x.has(native, pure, "debian-12-x86_64/p/pure/pure-1.1-py3-none-any.whl")
	after, err := os.Stat(filepath.Join(x.dir, pure))
	if err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Error("the old one was replaced")
	}
}

// TestFailure: a failure is told with its log.
func TestFailure(t *testing.T) {
	x := newFixture(t)
	x.index.Sdist("good", "1.0", nil)
	x.index.Sdist("bad", "1.0", map[string]string{"evil.py": "print('this is why'); raise Exception('error: no such header')"})
	x.wants("good==1.0", "bad==1.0", "==", "gone==3")
	err := x.sync(t.Context())
	if err == nil || !strings.Contains(err.Error(), "3 of 4 wheels cannot be built") || !strings.Contains(err.Error(), "bad==1.0 for /usr/bin/python3: ") ||
		!strings.Contains(err.Error(), "upper-constraints.txt:3: ") || !strings.Contains(err.Error(), "gone==3") {
		t.Fatalf("%v\n%s", err, x.printed())
	}
	x.counted("1 built, 2 failed, 1 lines_unreadable")
	x.has("debian-12-x86_64/g/good/good-1.0-py3-none-any.whl")
	log, err := os.ReadFile(filepath.Join(x.state, logsName, "bad==1.0-cp311.log"))
	if err != nil || !strings.Contains(string(log), "this is why") {
		t.Errorf("the log: %v, %s", err, log)
	}
	x.w.MaxFailures = "75%"
	x.good("1 lines_unreadable, 1 published, 2 waiting")
}

// TestSameWheel: one wheel that two requirements ask for is put into its place once, and
// what is remembered is of the one that is there.
func TestSameWheel(t *testing.T) {
	x := newFixture(t)
	x.index.Sdist("pure", "1.0", map[string]string{"backend.py": strings.NewReplacer("@NAME@", "pure", "@VERSION@", "1.0",
		`b"name = %r\n" % NAME.encode()`, "os.urandom(100)").Replace(wheelstest.Backend)})
	x.wants("pure==1.0", "pure @ "+x.index.URL+"/files/pure-1.0.tar.gz")
	x.good("1 built, 1 published")
	pure := "debian-12-x86_64/p/pure/pure-1.0-py3-none-any.whl"
	x.has(pure)
	m, err := loadMemory(x.state, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(x.dir, pure))
	if sum := sha256.Sum256(b); err != nil || m.Built[filepath.Base(pure)] != hex.EncodeToString(sum[:]) {
		t.Errorf("%v; remembered is %s, there is %x", err, m.Built, sum)
	}
	x.good("2 published")
}
