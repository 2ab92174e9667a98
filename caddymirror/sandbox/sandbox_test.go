package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Word {
		os.Exit(Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

type result struct {
	code int
	out  string
	took time.Duration
}

// confined runs a shell script in a directory of its own.
func confined(t *testing.T, script string, change func(*Spec)) result {
	t.Helper()
	s := &Spec{Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")}, Time: 20 * time.Second}
	s.Dir = t.TempDir()
	// A user that is another must come to it.
	for dir := s.Dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.Writable = []string{s.Dir}
	if change != nil {
		change(s)
	}
	return run(t, t.Context(), s, nil)
}

func run(t *testing.T, ctx context.Context, s *Spec, change func(*exec.Cmd)) result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "spec")
	if err := s.Write(file); err != nil {
		t.Fatal(err)
	}
	name, args, err := Command(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if change != nil {
		change(cmd)
	}
	start := time.Now()
	err = cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), time.Since(start)}
}

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
}

func TestRuns(t *testing.T) {
	r := confined(t, "echo $0 $HOME; echo x >file; cat file; mv file file2; exit 7", func(s *Spec) { s.Env = append(s.Env, "HOME=here") })
	if r.code != 7 || r.out != "/bin/sh here\nx\n" {
		t.Errorf("%d, %q", r.code, r.out)
	}
	if r := confined(t, "kill -9 $$", nil); r.code != 128+9 {
		t.Errorf("killed: %d, %q", r.code, r.out)
	}
	if r := confined(t, "", func(s *Spec) { s.Args[0] = "/nonexistent" }); r.code != ExitRefused || !strings.Contains(r.out, "/nonexistent") {
		t.Errorf("no such program: %d, %q", r.code, r.out)
	}
	if err := new(Spec).Write(filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("a spec without a program is written")
	}
}

// TestWrites: a command writes to its directories, and nowhere else, whoever it runs as.
func TestWrites(t *testing.T) {
	outside := t.TempDir()
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, who := range users() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(outside, name)
			r := confined(t, "echo x >"+file+" && echo wrote; touch /var/tmp/"+name+" && echo wrote; echo x >/dev/null; echo x >/dev/shm/x && echo x >in && ln in in2 && mkdir d && mv in d && echo fine", who)
			if !strings.HasSuffix(r.out, "fine\n") || strings.Contains(r.out, "wrote") {
				t.Errorf("%d, %q", r.code, r.out)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("it wrote outside")
			}
		})
	}
	if _, err := os.Stat("/dev/shm/x"); err == nil {
		t.Error("/dev/shm is everybody's")
	}
}

// TestMounts: directories are read-only also without Landlock.
func TestMounts(t *testing.T) {
	root(t)
	r := confined(t, "echo x >in && grep -c ' / / ro' /proc/self/mountinfo; awk '$5 == dir {print $6}' dir=$PWD /proc/self/mountinfo | tail -1 | cut -c1-2", nil)
	if r.out != "1\nrw\n" {
		t.Errorf("%d, %q", r.code, r.out)
	}
}

// users are whom commands run as.
func users() map[string]func(*Spec) {
	nobody := 65534
	all := map[string]func(*Spec){"same": nil}
	if os.Geteuid() == 0 {
		all["nobody"] = func(s *Spec) {
			s.UID, s.GID = &nobody, &nobody
			_ = os.Chown(s.Dir, nobody, nobody)
		}
	}
	return all
}

func TestUser(t *testing.T) {
	root(t)
	r := confined(t, "id -u; id -g; id -G; grep -E 'CapEff|NoNewPrivs' /proc/self/status", users()["nobody"])
	if r.out != "65534\n65534\n65534\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n" {
		t.Errorf("%d, %q", r.code, r.out)
	}
	// As root it has files of its own, and no more.
	r = confined(t, "id -u; mount -t tmpfs x /mnt 2>&1 && echo mounted; hostname evil 2>&1 && echo named; touch x; chown 1 x; cat x; true", nil)
	if !strings.HasPrefix(r.out, "0\n") || strings.Contains(r.out, "mounted") || strings.Contains(r.out, "named") {
		t.Errorf("%d, %q", r.code, r.out)
	}
}

// TestWithoutRoot: namespaces are had by those who are not root as well.
func TestWithoutRoot(t *testing.T) {
	root(t)
	dir := t.TempDir()
	s := &Spec{
		Args: []string{"/bin/sh", "-c", "id -u; echo $$; ls /sys/class/net | wc -l; echo x >" + os.TempDir() + "/outside && echo wrote; echo x >in && cat in; grep CapEff /proc/self/status; cat /proc/net/dev | wc -l"},
		Dir:  dir, Writable: []string{dir}, Env: []string{"PATH=/usr/bin:/bin"}, Proxy: "/nonexistent", Require: true,
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := os.MkdirTemp("/var/tmp", "sandbox") //nolint:usetesting // that user must come to it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(bin)
	s.Dir, s.Writable = bin, []string{bin}
	file := filepath.Join(bin, "spec")
	if err := errors.Join(os.WriteFile(bin+"/self", program, 0o755), s.Write(file), os.Chown(file, 65534, 65534), os.Chown(bin, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin+"/self", Word, "run", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil && strings.Contains(text, "not permitted") {
		t.Skip("user namespaces are not for everybody here: ", text)
	}
	f := strings.Split(text, "\n")
	if err != nil || f[0] != "65534" || strings.Contains(text, "wrote") || !strings.Contains(text, "\nx\nCapEff:\t0000000000000000\n3\n") {
		t.Errorf("%v, %q", err, text)
	}
}

// TestEnds: whatever a command leaves behind, none of it is there when it has ended.
func TestEnds(t *testing.T) {
	for name, free := range map[string]bool{"namespaces": false, "none": true} {
		t.Run(name, func(t *testing.T) {
			n := strconv.Itoa(86400 + os.Getpid() + len(name))
			change := func(s *Spec) { s.Time, s.Free = time.Second, free }
			r := confined(t, "setsid sleep "+n+" & (trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep "+n+"; sleep "+n+"') & echo begun; exit 3", change)
			if r.code != 3 || r.out != "begun\n" {
				t.Errorf("%d, %q", r.code, r.out)
			}
			r = confined(t, "trap '' TERM; setsid sleep "+n+" & sleep "+n+"; sleep "+n, change)
			if r.code != ExitTime || !strings.Contains(r.out, "more than 1s") || r.took > 10*time.Second {
				t.Errorf("%d, %q, %v", r.code, r.out, r.took)
			}
			if out, err := exec.CommandContext(t.Context(), "pgrep", "-f", "sleep "+n).Output(); err == nil {
				t.Errorf("these live: %s", out)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	python, err := exec.LookPath("/usr/bin/python3")
	if err != nil {
		t.Skip(err)
	}
	eat := func(script string) func(*Spec) {
		return func(s *Spec) {
			s.Args = []string{python, "-c", script}
			s.Memory, s.Processes = 200<<20, 30
		}
	}
	// One process is stopped by the kernel, several by the supervisor.
	if r := confined(t, "", eat("x = bytearray(400 << 20)")); r.code != 1 || !strings.Contains(r.out, "MemoryError") {
		t.Errorf("one that eats memory: %d, %q", r.code, r.out)
	}
	r := confined(t, "", eat("import os, time\nfor i in range(4):\n  if os.fork() == 0:\n    x = bytearray(b'x') * (80 << 20)\n    time.sleep(101)\ntime.sleep(100)"))
	if r.code != ExitMemory || r.took > 15*time.Second {
		t.Errorf("several that eat memory: %d, %q, %v", r.code, r.out, r.took)
	}
	r = confined(t, "", eat("import os, time\nfor i in range(60): \n  if os.fork() == 0: os.setsid(); time.sleep(101)\ntime.sleep(100)"))
	if r.code != ExitProcesses || r.took > 15*time.Second {
		t.Errorf("many processes: %d, %q, %v", r.code, r.out, r.took)
	}
	r = confined(t, "head -c 3000000 /dev/zero >big; ls -l big", func(s *Spec) { s.Disk = 1 << 20 })
	if !strings.Contains(r.out, " 1048576 ") {
		t.Errorf("a large file: %d, %q", r.code, r.out)
	}
	r = confined(t, "for i in 1 2 3; do head -c 900000 /dev/zero >big$i; done; exec sleep 60", func(s *Spec) { s.Disk = 1 << 20 })
	if r.code != ExitDisk || r.took > 15*time.Second {
		t.Errorf("many files: %d, %q, %v", r.code, r.out, r.took)
	}
}

// TestNetwork: a command reaches the proxy, and nothing else.
func TestNetwork(t *testing.T) {
	root(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	go http.Serve(tcp, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "outside") }))
	socket := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	go http.Serve(unix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "proxy of %s, %d", r.URL, len(body))
	}))
	const script = `
import os, socket, urllib.request
try:
    print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open("http://%s/", timeout=5).read())
except OSError as e:
    print("unreachable")
data = b"x" * 1000000
print(urllib.request.build_opener(urllib.request.ProxyHandler({"http": os.environ["P"]})).open("http://index.example.org/x", data, timeout=5).read())`
	r := confined(t, "", func(s *Spec) {
		s.Args = []string{"/usr/bin/python3", "-c", fmt.Sprintf(script, tcp.Addr())}
		s.Proxy, s.Env = socket, []string{"P=http://{proxy}"}
	})
	if r.out != "unreachable\nb'proxy of http://index.example.org/x, 1000000'\n" {
		t.Errorf("%d, %q", r.code, r.out)
	}
	// Where there are no namespaces, the proxy is there as well.
	r = confined(t, "", func(s *Spec) {
		s.Args = []string{"/usr/bin/python3", "-c", fmt.Sprintf(script, tcp.Addr())}
		s.Proxy, s.Env, s.Free = socket, []string{"P=http://{proxy}"}, true
	})
	if !strings.HasSuffix(r.out, "b'proxy of http://index.example.org/x, 1000000'\n") {
		t.Errorf("%d, %q", r.code, r.out)
	}
}

// TestParent: a command ends with who has begun it, however that ends, and when it is asked
// to. Meanwhile it has none of the files that its supervisor has inherited.
func TestParent(t *testing.T) {
	dir := t.TempDir()
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	n := strconv.Itoa(86400 + os.Getpid())
	s := &Spec{Args: []string{"/bin/sh", "-c", "ls /proc/self/fd | wc -l; echo >>begun; setsid sleep " + n + " & sleep " + n}, Dir: dir, Writable: []string{dir}, Env: []string{"PATH=/usr/bin:/bin"}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r := run(t, ctx, s, func(c *exec.Cmd) { c.ExtraFiles = []*os.File{lock, lock, lock} })
	if r.code != ExitEnded || !strings.HasPrefix(r.out, "4\n") || r.took > 10*time.Second {
		t.Errorf("%d, %q, %v", r.code, r.out, r.took)
	}
	file := filepath.Join(dir, "spec")
	if err := s.Write(file); err != nil {
		t.Fatal(err)
	}
	name, args, err := Command(file)
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(t.Context(), "/bin/sh", "-c", `"$@" & sleep 1; kill -9 $$`, "sh", name, args[0], args[1], args[2])
	if err := shell.Run(); err == nil {
		t.Error("the shell has not been killed")
	}
	if begun, err := os.ReadFile(filepath.Join(dir, "begun")); err != nil || len(begun) != 2 {
		t.Fatalf("it has begun %d times, %v", len(begun), err)
	}
	for range 100 {
		out, err := exec.CommandContext(t.Context(), "pgrep", "-f", "sleep "+n).Output()
		if err != nil {
			return
		}
		r.out = string(out)
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("these live: %s", r.out)
}

// TestLandlock: without namespaces, Landlock is what keeps a command in its directories.
func TestLandlock(t *testing.T) {
	if abi, err := ll.LandlockGetABIVersion(); err != nil || abi < 3 {
		t.Skip("no Landlock here: ", abi, err)
	}
	dir, outside := t.TempDir(), t.TempDir()
	s := &Spec{Args: []string{"/bin/sh", "-c", "echo x >in; mv in in2; cat in2; echo x >" + outside + "/out || echo kept"}, Dir: dir, Writable: []string{dir}, Env: []string{"PATH=/usr/bin:/bin"}}
	file := filepath.Join(t.TempDir(), "spec")
	if err := s.Write(file); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], Word, "exec", file)
	cmd.Env = []string{wallVariable + "=0"}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "x\n") || !strings.HasSuffix(string(out), "kept\n") {
		t.Errorf("%v, %q", err, out)
	}
}
