package wheels

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
	"github.com/unifiedmirrors/mirror/caddymirror/syncer/wheels/wheelstest"
)

// TestIndex: wheels that the index has are left out, unless all are to be kept; a version
// that is not named is the newest; hashes are compared; URLs are built.
func TestIndex(t *testing.T) {
	x := newFixture(t)
	maker := newFixture(t) // makes wheels for the index
	maker.index.Sdist("has", "1.0", nil)
	maker.index.Sdist("free", "2.0a1", nil)
	maker.wants("has==1.0", "free==2.0a1")
	maker.good("2 built")
	for _, name := range maker.tree() {
		body, err := os.ReadFile(filepath.Join(maker.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		x.index.Add(filepath.Base(name), body)
	}
	x.index.Sdist("has", "1.0", nil)
	x.index.Sdist("free", "1.0", nil)
	x.index.Sdist("free", "1.1", nil)
	x.index.Sdist("free", "2.0a1", nil)
	x.index.Sdist("at", "3.0", nil)
	x.index.Sdist("hashed", "1.0", nil)
	x.index.Sdist("denied-x", "1.0", nil)
	x.index.Add("windows-1.0-cp311-cp311-win_amd64.whl", []byte("x"))
	x.index.Sdist("windows", "1.0", nil)
	x.index.HTML.Store(true)
	sum := sha256.Sum256(x.index.File("hashed-1.0.tar.gz"))
	x.w.Deny = []string{"Denied_*"}
	x.w.MaxFailures = "1"
	x.wants("has==1.0", "free", "at @ "+x.index.URL+"/files/at-3.0.tar.gz", "denied-x==1.0", "windows==1.0",
		"hashed==1.0 --hash=sha256:"+hex.EncodeToString(sum[:]), "wrong==1.0 --hash=sha256:"+strings.Repeat("0", 64))
	x.index.Sdist("wrong", "1.0", nil)
	x.good("4 built, 1 denied, 1 failed, 1 upstream")
	all := []string{
		"debian-12-x86_64/a/at/at-3.0-py3-none-any.whl",
		"debian-12-x86_64/f/free/free-1.1-py3-none-any.whl",
		"debian-12-x86_64/h/hashed/hashed-1.0-py3-none-any.whl",
		"debian-12-x86_64/w/windows/windows-1.0-py3-none-any.whl",
	}
	x.has(all...)
	if !strings.Contains(x.logs(), "THESE PACKAGES DO NOT MATCH THE HASHES") {
		t.Error("the hash was not compared")
	}
	x.good("1 denied, 4 published, 1 upstream, 1 waiting")

	x.w.KeepAll = true
	x.good("1 built, 1 denied, 4 published, 1 waiting")
	x.has(slices.Insert(all, 2, "debian-12-x86_64/h/has/has-1.0-py3-none-any.whl")...)
}

// TestPythons: what one Python's build does for others is built once.
func TestPythons(t *testing.T) {
	x := newFixture(t)
	second := filepath.Join(t.TempDir(), "venv")
	if out, err := exec.CommandContext(t.Context(), python3, "-m", "venv", second).CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	x.w.Pythons = append(x.w.Pythons, filepath.Join(second, "bin", "python"))
	x.index.Sdist("pure", "1.0", nil)
	x.index.Sdist("stable", "1.0", map[string]string{"tag": "cp38-abi3-linux_x86_64"})
	x.wants("pure==1.0", "stable==1.0")
	x.good("2 built, 2 published")
	x.has("debian-12-x86_64/p/pure/pure-1.0-py3-none-any.whl", "debian-12-x86_64/s/stable/stable-1.0-cp38-abi3-linux_x86_64.whl")

	// As the tags of another Python have it, too.
	other := map[string]bool{"cp312-cp312-linux_x86_64": true, "cp38-abi3-linux_x86_64": true, "py3-none-any": true}
	for file, want := range map[string]bool{
		"x-1-cp38-abi3-linux_x86_64.whl": true, "x-1-py2.py3-none-any.whl": true,
		"x-1-cp311-cp311-linux_x86_64.whl": false, "x-1-cp38-abi3-win32.whl": false,
	} {
		n, err := wheel.ParseName(file)
		if err != nil || compatible(n, other) != want {
			t.Errorf("%s: %v", file, err)
		}
	}

	x.w.Pythons = []string{"/nonexistent/python"}
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "/nonexistent/python") {
		t.Errorf("no such Python: %v", err)
	}
}

// TestUV: a Python that is not in PATH is asked of uv.
func TestUV(t *testing.T) {
	x := newFixture(t)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "uv"), []byte("#!/bin/sh\ncase \"$*\" in 'python find --no-config python3.99') echo "+python3+";; *) echo no such; exit 2;; esac\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	x.index.Sdist("pure", "1.0", nil)
	x.wants("pure==1.0")
	x.w.Pythons = []string{"python3.99"}
	x.good("1 built")
	x.w.Pythons = []string{"python3.98"}
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "no such") {
		t.Errorf("one that uv does not know: %v", err)
	}
}

// TestOwnIndex: an index that serves what is built here is refused.
func TestOwnIndex(t *testing.T) {
	x := newFixture(t)
	x.index.Sdist("pure", "1.0", nil)
	x.wants("pure==1.0")
	x.good("1 built")
	body, err := os.ReadFile(filepath.Join(x.dir, "debian-12-x86_64/p/pure/pure-1.0-py3-none-any.whl"))
	if err != nil {
		t.Fatal(err)
	}
	x.index.Add("pure-1.0-py3-none-any.whl", []byte("of the author"))
	x.good("1 published")
	x.index.Add("pure-1.0-py3-none-any.whl", body)
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "was built here") {
		t.Errorf("%v", err)
	}
}

// TestUser: builds run as another user, who comes to nothing but his build.
func TestUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	x := newFixture(t)
	work, err := os.MkdirTemp("/var/tmp", "wheels") //nolint:usetesting // another user comes to it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		t.Fatal(err)
	}
	x.w.WorkDir, x.w.User, x.w.Sandbox = work, "nobody", "on"
	x.index.Sdist("who", "1.0", map[string]string{"ext.c": wheelstest.Ext, "evil.py": "import os\nassert os.getuid() == 65534 and os.environ['HOME'].startswith('" + work + "')\n"})
	x.wants("who==1.0")
	x.good("1 built")
	x.has("debian-12-x86_64/w/who/who-1.0-cp311-cp311-linux_x86_64.whl")
	if info, err := os.Stat(filepath.Join(x.dir, x.tree()[0])); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	x.w.User = "no-such-user"
	w := *x.w
	if err := w.Ready(); err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("no such user: %v", err)
	}
}

// TestNoEnvironment: a Python that the user of builds may not come to is no package's
// fault.
func TestNoEnvironment(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	x := newFixture(t)
	work, err := os.MkdirTemp("/var/tmp", "wheels") //nolint:usetesting // another user comes to it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		t.Fatal(err)
	}
	private := t.TempDir()
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(private, "python3")
	if err := os.Symlink(python3, python); err != nil {
		t.Fatal(err)
	}
	x.w.WorkDir, x.w.User, x.w.Pythons, x.w.MaxFailures = work, "nobody", []string{python}, "100%"
	x.index.Sdist("pure", "1.0", nil)
	x.wants("pure==1.0")
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "no virtual environment") || !strings.Contains(err.Error(), "ermission denied") {
		t.Fatalf("%v\n%s", err, x.printed())
	}
	x.counted("")
}

// TestSetuptools: a package with setuptools, which pip fetches from the index, and a module
// in C.
func TestSetuptools(t *testing.T) {
	x := newFixture(t)
	for _, name := range []string{"setuptools", "wheel"} {
		files, _ := filepath.Glob("/usr/share/python-wheels/" + name + "-*.whl")
		if len(files) == 0 {
			t.Skip("no wheel of ", name)
		}
		body, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		x.index.Add(filepath.Base(files[0]), body)
	}
	x.index.Sdist("old", "1.0", map[string]string{
		"pyproject.toml": "",
		"setup.py":       "from setuptools import Extension, setup\nsetup(name='old', version='1.0', py_modules=['old'], ext_modules=[Extension('old_ext', ['ext.c'])])\n",
		"old.py":         "", "ext.c": wheelstest.Ext,
	})
	x.wants("old===1.0")
	x.good("1 built")
	x.has("debian-12-x86_64/o/old/old-1.0-cp311-cp311-linux_x86_64.whl")
}

func TestMemory(t *testing.T) {
	dir := t.TempDir()
	m, err := loadMemory(dir, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if m.waits("x", now) != "" {
		t.Error("what has not failed waits")
	}
	for i, want := range []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour} {
		f, err := m.fail("x", "why", "log", now)
		if err != nil || f.Next.Sub(now) != want || f.Times != i+1 {
			t.Errorf("failure %d waits until %v, %v", i+1, f.Next, err)
		}
	}
	for range 20 {
		if _, err := m.fail("x", "why", "log", now); err != nil {
			t.Fatal(err)
		}
	}
	if m, err = loadMemory(dir, time.Hour); err != nil {
		t.Fatal(err)
	}
	for after, waits := range map[time.Duration]bool{-time.Second: false, 0: true, 29 * 24 * time.Hour: true, 30 * 24 * time.Hour: false} {
		if why := m.waits("x", now.Add(after)); (why != "") != waits || waits && !strings.Contains(why, "why (24 times; tried again 2026-01-31T") {
			t.Errorf("after %v: %q", after, why)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, memoryName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadMemory(dir, time.Hour); err == nil || !strings.Contains(err.Error(), memoryName) {
		t.Errorf("a broken file: %v", err)
	}
}

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		text        string
		failed, all int
		want        bool
	}{
		{"0", 0, 10, true},
		{"0", 1, 10, false},
		{"3", 3, 3, true},
		{"10%", 1, 10, true},
		{"10%", 2, 10, false},
		{"0%", 1, 1000, false},
		{"100%", 10, 10, true},
		{"0.5%", 1, 200, true},
	} {
		b, err := parseBudget(c.text)
		if err != nil || b.allows(c.failed, c.all) != c.want {
			t.Errorf("%s, %d of %d: %v", c.text, c.failed, c.all, err)
		}
	}
	for _, text := range []string{"", "-1", "%", "NaN%", "-1%", "101%", "x"} {
		if _, err := parseBudget(text); err == nil {
			t.Errorf("%q is a budget", text)
		}
	}
}

func TestPlatform(t *testing.T) {
	for text, want := range map[string]string{
		"ID=debian\nVERSION_ID=\"12\"\n":                             "debian-12-x86_64",
		"ID=ubuntu\nVERSION_ID=\"22.04\"\nID_LIKE=debian\n":          "ubuntu-22.04-x86_64",
		"ID=\"centos\"\nVERSION_ID=\"9\"\nID_LIKE=\"rhel\"\n":        "centos-9-x86_64",
		"ID=rocky\nVERSION_ID='9.3'\n":                               "rocky-9-x86_64",
		"# ID=x\nID=alpine\nVERSION_ID=3.20.1\n":                     "alpine-3.20-x86_64",
		"ID=\"opensuse-leap\"\nVERSION_ID=\"15.5\"\n":                "opensuse-leap-15.5-x86_64",
		"ID=linuxmint\nVERSION_ID=21.3\nID_LIKE=\"ubuntu debian\"\n": "linuxmint-21.3-x86_64",
		"ID=debian\n":                     "",
		"ID=../x\nVERSION_ID=1\n":         "",
		"ID=x\nVERSION_ID=\"1/../../\"\n": "",
		"":                                "",
	} {
		got, err := platformOf([]byte(text), "x86_64")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
	if got, err := thisPlatform(); err != nil || strings.Count(got, "-") < 2 {
		t.Errorf("this is %q, %v", got, err)
	}
}

func TestComplaint(t *testing.T) {
	for text, want := range map[string]string{
		"": "pip failed, and has printed nothing",
		"Collecting x\nERROR: Could not find a version\nERROR: No matching distribution found for x==1\n\n":                                                                                                       "ERROR: No matching distribution found for x==1",
		"  error: subprocess-exited-with-error\n  [9 lines of output]\n  x.c:1:10: fatal error: ffi.h: No such file\n  error: command gcc failed\n  [end of output]\n\nERROR: Failed to build one or more wheels": "x.c:1:10: fatal error: ffi.h: No such file",
		"  [9 lines of output]\n  Exception: why\n  [end of output]\n note: it is not pip\nerror: metadata-generation-failed":                                                                                     "Exception: why",
	} {
		if got := complaint(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// TestInstallPip: where there is no wheel of pip, an environment has one.
func TestInstallPip(t *testing.T) {
	x := newFixture(t)
	x.wants("# nothing")
	if err := x.sync(t.Context()); err == nil { // which makes the run
		t.Fatal("there was something to build")
	}
	w := *x.w
	if err := w.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	f, err := w.open(t.Context(), x.now)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	site, err := f.installPip(t.Context(), &python{name: "python3", path: python3}, filepath.Join(f.work, "base"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(site, "pip", "__main__.py")); err != nil {
		t.Error(err)
	}
}
