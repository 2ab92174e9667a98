package wheels

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/syncer/wheels/wheelstest"
)

// TestBadBuilds: builds that hang, eat memory, fork without end, fill the disk, write where
// they should not, ask for hosts that they should not, or leave something else than a wheel
// fail alone, with a reason; nothing of them is left.
func TestBadBuilds(t *testing.T) {
	x := newFixture(t)
	outside := t.TempDir()
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	touched := make(chan string, 100)
	go http.Serve(l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { touched <- r.URL.Path }))
	mark := strconv.Itoa(100000 + os.Getpid())
	bad := map[string]struct{ evil, reason string }{
		"hangs": {
			"import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nfor i in range(5):\n  if os.fork() == 0:\n    os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    os.execlp('sleep', 'sleep', '" + mark + "')\ntime.sleep(1000)",
			"it took more than 15s",
		},
		"eats":  {"x = bytearray(b'x') * (600 << 20)", "MemoryError"},
		"herd":  {"import os, time\nfor i in range(3):\n  if os.fork() == 0:\n    x = bytearray(b'x') * (150 << 20)\n    time.sleep(100)\nos.wait()", "of memory together"},
		"forks": {"import os, time\nfor i in range(100):\n  if os.fork() == 0: time.sleep(101)\ntime.sleep(100)", "more than 40 processes"},
		"fills": {"import time\nfor i in range(9): open('big%d' % i, 'wb').write(b'x' * (30 << 20))\ntime.sleep(100)", "it wrote more than 200 MiB"},
		"escapes": {
			"import os\nfor d in ['" + outside + "', '" + x.dir + "', '" + x.state + "', '/var/tmp', '/etc']:\n  try:\n    open(d + '/escaped', 'w').write('x'); os.environ['HOME'] += '!'\n  except OSError: pass\nraise Exception('error: escaped' if '!' in os.environ['HOME'] else 'error: kept in')",
			"kept in",
		},
		"calls": {
			"import urllib.request\nn = 0\nfor proxies in [{}, {'http': __import__('os').environ['http_proxy']}]:\n  try: urllib.request.build_opener(urllib.request.ProxyHandler(proxies)).open('http://" + l.Addr().String() + "/secret', timeout=5)\n  except OSError: n += 1\nraise Exception('error: %d refused' % n)",
			"it has asked for " + l.Addr().String(),
		},
		"steals": {"import os\nraise Exception('error: has ' + ' '.join(k for k in os.environ if 'SECRET' in k) + '.')", "error: has ."},
	}
	lines := make([]string, 0, len(bad))
	for name, b := range bad {
		x.index.Sdist(name, "1.0", map[string]string{"evil.py": b.evil})
		lines = append(lines, name+"==1.0")
	}
	for name, b := range map[string]struct{ file, text, reason string }{
		"corrupt": {"broken", "", "its RECORD says"},
		"foreign": {"tag", "cp27-cp27mu-win32", "which /usr/bin/python3 cannot use"},
		"other":   {"evil.py", "NAME = 'another'", "No matching distribution found"},
		"newer":   {"evil.py", "VERSION = '2.0'", "No matching distribution found"},
		"link":    {"evil.py", "import os\nw = os.environ['HOME'] + '/../out/x-1.0-py3-none-any.whl'\nif not os.path.lexists(w): os.symlink('/etc/passwd', w)", "has left 2 wheels"},
		"full":    {"evil.py", "raise SystemExit('No space left on device')", "No space left on device"},
	} {
		x.index.Sdist(name, "1.0", map[string]string{b.file: b.text})
		lines = append(lines, name+"==1.0")
		bad[name] = struct{ evil, reason string }{"", b.reason}
	}
	x.index.Sdist("good", "1.0", nil)
	x.wants(append(lines, "good==1.0")...)
	t.Setenv("SECRET_OF_CADDY", "x")
	x.w.Timeout, x.w.Memory, x.w.Disk, x.w.Processes, x.w.MaxFailures = caddy.Duration(15*time.Second), "300MiB", "200MiB", 40, "100%"
	x.good(fmt.Sprintf("1 built, %d failed", len(bad)))
	x.has("debian-12-x86_64/g/good/good-1.0-py3-none-any.whl")
	m, err := loadMemory(x.state, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range bad {
		f := m.Failures[name+"==1.0 for cp311"]
		if !strings.Contains(f.Reason, b.reason) {
			t.Errorf("%s: %q, want %q", name, f.Reason, b.reason)
		}
		if _, err := os.Stat(f.Log); err != nil {
			t.Errorf("%s: the log: %v", name, err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "pgrep", "-f", "sleep "+mark).Output(); err == nil {
		t.Errorf("these live: %s", out)
	}
	select {
	case path := <-touched:
		t.Errorf("%s was asked for", path)
	default:
	}
	for _, dir := range []string{outside, x.dir, x.state, "/var/tmp", "/etc"} {
		if _, err := os.Stat(filepath.Join(dir, "escaped")); err == nil {
			t.Errorf("it wrote to %s", dir)
		}
	}
}

// TestProblems: each line that cannot be read is told with its number, and the rest built.
func TestProblems(t *testing.T) {
	x := newFixture(t)
	x.index.Sdist("good", "1.0", nil)
	x.index.Sdist("good", "2.0", nil)
	bad := []string{"==1", "a=1", "a==", "a[b==1", "a==1; python_version", "--frob", "a @ nowhere", "-e .", "a==1 --hash=x"}
	second := filepath.Join(t.TempDir(), "stable.txt")
	if err := os.WriteFile(second, []byte("good===2.0\nb==\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x.w.Constraints = append(x.w.Constraints, second)
	x.w.MaxFailures = "10"
	x.wants(append(slices.Clone(bad), "good==1.0")...)
	x.good("2 built, 10 lines_unreadable")
	for i, line := range bad {
		if want := fmt.Sprintf("%s:%d: ", x.constraints, i+1); !strings.Contains(x.printed(), want) {
			t.Errorf("%q is not told as %s", line, want)
		}
	}
	if !strings.Contains(x.printed(), second+":2: ") {
		t.Error("the line of the second file is not told")
	}
	x.has("debian-12-x86_64/g/good/good-1.0-py3-none-any.whl", "debian-12-x86_64/g/good/good-2.0-py3-none-any.whl")
	x.w.MaxFailures = "9"
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "10 of 12") {
		t.Errorf("more than may fail: %v", err)
	}
	x.wants("# nothing")
	x.w.Constraints = x.w.Constraints[:1]
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "no package") {
		t.Errorf("nothing to build: %v", err)
	}
	if err := os.Remove(x.constraints); err != nil {
		t.Fatal(err)
	}
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no constraints: %v", err)
	}
}

// TestIndexDown: an index that is away, or goes away, is no package's fault.
func TestIndexDown(t *testing.T) {
	x := newFixture(t)
	x.w.MaxFailures, x.w.Parallel = "100%", 1
	x.index.Sdist("one", "1.0", nil)
	x.index.Sdist("two", "1.0", nil)
	x.wants("one==1.0", "two==1.0")
	x.index.Slow(func(file string) {
		if file == "two-1.0.tar.gz" {
			x.index.Down.Store(true)
			panic(http.ErrAbortHandler)
		}
	})
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "the index does not answer") {
		t.Fatalf("%v\n%s", err, x.printed())
	}
	x.has("debian-12-x86_64/o/one/one-1.0-py3-none-any.whl")
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "the index does not answer") {
		t.Errorf("it is still away: %v", err)
	}
	x.index.Slow(nil)
	x.index.Down.Store(false)
	x.good("1 built, 1 published")
}

// TestDiskFull: a disk that is full, of builds or of the tree, is no package's fault, and
// leaves nothing half.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	x := newFixture(t)
	big := strings.Repeat("#", 1<<20)
	x.index.Sdist("big", "1.0", map[string]string{"evil.py": "open('waste', 'wb').write(b'x' * (90 << 20))\nglobal files", "padding": big})
	x.index.Sdist("fat", "1.0", map[string]string{"evil.py": "import os\nNAME_OF = 'fat'\nimport builtins\nbuiltins.FAT = os.urandom(5 << 20)", "backend.py": strings.NewReplacer("@NAME@", "fat", "@VERSION@", "1.0",
		`b"name = %r\n" % NAME.encode()`, "__import__('os').urandom(5 << 20)").Replace(wheelstest.Backend)})
	x.w.MaxFailures = "100%"
	mount := func(dir, size string) {
		t.Helper()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
			t.Skip("no mounts here: ", err)
		}
	}
	mount(x.w.WorkDir, "80m")
	mounted := true
	defer func() {
		if mounted {
			_ = syscall.Unmount(x.w.WorkDir, syscall.MNT_DETACH)
		}
	}()
	x.wants("big==1.0")
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "is full") {
		t.Fatalf("the disk of builds: %v\n%s", err, x.logs())
	}
	x.has()
	if err := syscall.Unmount(x.w.WorkDir, 0); err != nil {
		t.Fatal(err)
	}
	mounted = false
	x.good("1 built")
	big1 := "debian-12-x86_64/b/big/big-1.0-py3-none-any.whl"
	x.has(big1)

	full := t.TempDir()
	mount(full, "2m")
	defer func() { _ = syscall.Unmount(full, syscall.MNT_DETACH) }()
	x.wants("fat==1.0")
	whole := x.dir
	x.dir = full
	if err := x.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("the disk of the tree: %v\n%s", err, x.printed())
	}
	x.has()
	x.dir = whole
	x.good("1 built")
	x.has(big1, "debian-12-x86_64/f/fat/fat-1.0-py3-none-any.whl")
}
