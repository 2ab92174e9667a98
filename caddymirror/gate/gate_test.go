package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// newRun returns a run of a job with the tree dir.
func newRun(t testing.TB, dir string) *step.Run {
	t.Helper()
	return &step.Run{
		Job: "test", ID: "run-1", Dir: dir, State: t.TempDir(),
		Log: zap.NewNop(), Out: io.Discard, Report: func(step.Progress) {},
		Command: func(ctx context.Context, c step.Command) (step.Result, error) {
			cmd := exec.CommandContext(ctx, c.Name, c.Args...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			for line := range strings.Lines(string(out)) {
				c.Line(strings.TrimSuffix(line, "\n"))
			}
			res := step.Result{Code: -1}
			if cmd.ProcessState != nil {
				res.Code = cmd.ProcessState.ExitCode()
			}
			return res, err
		},
	}
}

func put(t testing.TB, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	// A new file: what was there may be linked elsewhere.
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func rm(t testing.TB, dir, name string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func symlink(t testing.TB, dir, target, name string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// need skips the test if a program is not there.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func run(t testing.TB, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func passes(t testing.TB, g Gate, r *step.Run) {
	t.Helper()
	if err := g.Check(t.Context(), r); err != nil {
		t.Fatalf("does not pass: %v", err)
	}
}

// fails checks that the verdict names file and has reason in it.
func fails(t testing.TB, g Gate, r *step.Run, file, reason string) *Verdict {
	t.Helper()
	err := g.Check(t.Context(), r)
	var v *Verdict
	if !errors.As(err, &v) {
		t.Fatalf("no verdict, but %v", err)
	}
	if v.File != file || !strings.Contains(v.Reason, reason) {
		t.Fatalf("verdict on %q: %q\nwant on %q: %q\nin all: %v", v.File, v.Reason, file, reason, v)
	}
	return v
}

// blind checks that the gate says that it could not look.
func blind(t testing.TB, g Gate, r *step.Run, reason string) {
	t.Helper()
	err := g.Check(t.Context(), r)
	var v *Verdict
	if err == nil || errors.As(err, &v) {
		t.Fatalf("verdict %v, but one can not look", err)
	}
	if !strings.Contains(err.Error(), reason) {
		t.Fatalf("%v; want %q in it", err, reason)
	}
}

func provision[G Gate](t testing.TB, g G) G {
	t.Helper()
	if p, ok := any(g).(caddy.Provisioner); ok {
		if err := p.Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
	}
	if v, ok := any(g).(caddy.Validator); ok {
		if err := v.Validate(); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestVerdict(t *testing.T) {
	var p problems
	for i := 9; i >= 0; i-- {
		p.add(int64(i), fmt.Sprintf("f%d", i), "is %d", i)
	}
	v := p.verdict("apt")
	const want = "apt: f0: is 0; f1: is 1; f2: is 2; f3: is 3; f4: is 4; and 5 more"
	if v.Error() != want || v.Count != 10 {
		t.Errorf("%d: %s", v.Count, v)
	}
	v = &Verdict{Gate: "rpm", File: "a\x1b[31m\nb", Reason: "is missing", Count: 1}
	if got := v.Error(); got != `rpm: "a\x1b[31m\nb": is missing` {
		t.Error(got)
	}
}

func TestFault(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "file", "x")
	symlink(t, dir, "/etc/passwd", "absolute")
	symlink(t, dir, "../../etc/passwd", "up")
	symlink(t, dir, "loop", "loop")
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"none": "is missing", "file/below": "is missing", strings.Repeat("x", 300): "is missing",
		"absolute": "leads out", "up": "leads out", "loop": "leads nowhere",
	} {
		_, err := root.Stat(name)
		if reason, ok := reasonOf(err); !ok || !strings.Contains(reason, want) {
			t.Errorf("%s: %v: %q", name, err, reason)
		}
	}
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.EACCES, syscall.ETIMEDOUT, syscall.ENODEV, syscall.ESTALE, syscall.EMFILE} {
		if reason, ok := reasonOf(&fs.PathError{Op: "stat", Path: "x", Err: errno}); ok {
			t.Errorf("%v is taken for a fault of the file: %q", errno, reason)
		}
	}
	root.Close()
	if _, err := root.Stat("file"); err == nil {
		t.Error("a closed root answers")
	} else if reason, ok := reasonOf(err); ok {
		t.Errorf("%v is taken for a fault of the file: %q", err, reason)
	}
}

// TestCanNotLook checks that what says nothing of the tree is no verdict.
func TestCanNotLook(t *testing.T) {
	gates := map[string]Gate{
		"shrink": provision(t, &Shrink{Entries: "5%"}),
		"exists": &Exists{Paths: []string{"x"}},
		"same":   provision(t, &Same{URL: "http://127.0.0.1:1/x", File: "x"}),
		"apt":    &Apt{},
		"rpm":    &Rpm{},
		"pypi":   &Pypi{},
		"exec":   &Exec{Command: []string{"/does/not/exist"}},
	}
	for name, g := range gates {
		t.Run(name, func(t *testing.T) {
			gone := filepath.Join(t.TempDir(), "gone")
			blind(t, g, newRun(t, gone), "")
			if name == "exec" {
				return
			}
			blind(t, g, newRun(t, ""), "no directory")

			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("the job is to end")
			cancel(why)
			if err := g.Check(ctx, newRun(t, t.TempDir())); !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
				t.Errorf("a check that was broken off says %v", err)
			}
		})
	}
}

func TestHang(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	err := within(ctx, func(context.Context) error {
		<-release
		return nil
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
	if took := time.Since(start); took > patience+5*time.Second {
		t.Errorf("it took %v", took)
	}

	// What a check finds after it was broken off is no verdict.
	ctx, cancel = context.WithCancel(t.Context())
	err = within(ctx, func(context.Context) error {
		cancel()
		return &Verdict{Gate: "x"}
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestPanic: what a check cannot read fails it, and not the server.
func TestPanic(t *testing.T) {
	err := within(t.Context(), func(context.Context) error {
		parts := strings.Fields("no field of this number")
		return errors.New(parts[len(t.Name())])
	})
	if err == nil || !strings.Contains(err.Error(), "panic in gate: runtime error: index out of range") {
		t.Error(err)
	}
}

func TestCaddyfile(t *testing.T) {
	for _, test := range []struct {
		in   string
		gate caddyfile.Unmarshaler
		want string // JSON, or what the error has in it
	}{
		{"shrink 5%", new(Shrink), `{"entries":"5%","bytes":"5%","deletions":"5%"}`},
		{"shrink {\n entries 5%\n bytes 10GB\n deletions 1000\n}", new(Shrink), `{"entries":"5%","bytes":"10GB","deletions":"1000"}`},
		{"shrink 5% {\n bytes 50%\n}", new(Shrink), `{"entries":"5%","bytes":"50%","deletions":"5%"}`},
		{"shrink", new(Shrink), "Testfile:1"},
		{"shrink 5", new(Shrink), "not a percentage"},
		{"shrink 101%", new(Shrink), "not a percentage"},
		{"shrink NaN%", new(Shrink), "not a percentage"},
		{"shrink 5% 6%", new(Shrink), "Testfile:1"},
		{"shrink {\n entries -1\n}", new(Shrink), "Testfile:2"},
		{"shrink {\n bytes lots\n}", new(Shrink), "Testfile:2"},
		{"shrink {\n entries 1\n entries 2\n}", new(Shrink), "entries already specified, at Testfile:3"},
		{"shrink {\n color red\n}", new(Shrink), "unrecognized subdirective 'color', at Testfile:2"},
		{"exists a b/c dir/", new(Exists), `{"paths":["a","b/c","dir/"]}`},
		{"exists", new(Exists), "Testfile:1"},
		{"exists /etc/passwd", new(Exists), "not a path relative to the tree"},
		{"exists a/../../b", new(Exists), "not a path relative to the tree"},
		{"exists a {\n x\n}", new(Exists), "Testfile:2"},
		{"same https://example.org/x y {\n timeout 5s\n max_size 1MiB\n}", new(Same), `{"url":"https://example.org/x","file":"y","timeout":5000000000,"max_size":1048576}`},
		{"same https://example.org/x", new(Same), "Testfile:1"},
		{"same ftp://example.org/x y", new(Same), "not an http or https address"},
		{"same https://example.org/x ../y", new(Same), "not a path relative to the tree"},
		{"same https://example.org/x y {\n timeout 0s\n}", new(Same), "Testfile:2"},
		{"same https://example.org/x y {\n max_size 0\n}", new(Same), "Testfile:2"},
		{"apt", new(Apt), `{}`},
		{"apt a stable/updates flat/ {\n hash\n keyring /k\n architectures amd64 source\n root ubuntu\n allow_expired\n allow_older\n}", new(Apt), `{"root":"ubuntu","dists":["a","stable/updates","flat/"],"architectures":["amd64","source"],"hash":true,"keyring":"/k","allow_expired":true,"allow_older":true}`},
		{"apt ../x", new(Apt), "not a path relative to the tree"},
		{"apt {\n hash yes\n}", new(Apt), "Testfile:2"},
		{"apt {\n keyring\n}", new(Apt), "Testfile:2"},
		{"apt {\n root /x\n}", new(Apt), "Testfile:2"},
		{"rpm 9/BaseOS . {\n hash\n keyring k\n allow_older\n}", new(Rpm), `{"dirs":["9/BaseOS","."],"hash":true,"keyring":"k","allow_older":true}`},
		{"rpm /x", new(Rpm), "not a path relative to the tree"},
		{"pypi web {\n hash\n root_uri https://example.org/pypi\n}", new(Pypi), `{"dir":"web","root_uri":"https://example.org/pypi","hash":true}`},
		{"pypi {\n deletions 0.1%\n}", new(Pypi), `{"deletions":"0.1%"}`},
		{"pypi {\n deletions few\n}", new(Pypi), "Testfile:2"},
		{"pypi a b", new(Pypi), "Testfile:1"},
		{"exec /bin/check -x {path}", new(Exec), `{"command":["/bin/check","-x","{path}"]}`},
		{"exec", new(Exec), "Testfile:1"},
	} {
		err := test.gate.UnmarshalCaddyfile(caddyfile.NewTestDispenser(test.in))
		got := asJSON(t, test.gate)
		if err != nil {
			got = err.Error()
		}
		if strings.HasPrefix(test.want, "{") && got != test.want || !strings.Contains(got, test.want) {
			t.Errorf("%q: %s\nwant %s", test.in, got, test.want)
		}
	}
}

// TestValidate checks that what a Caddyfile can not say is refused in JSON too.
func TestValidate(t *testing.T) {
	for _, g := range []any{
		new(Shrink), new(Exists), &Exists{Paths: []string{"/x"}}, new(Same), &Same{URL: "http://x/", File: "/y"},
		&Same{URL: "http://x/", File: "y", Timeout: -1}, &Same{URL: "http://x/", File: "y", MaxSize: -1},
		&Apt{Root: "/x"}, &Apt{Dists: []string{"../x"}}, &Rpm{Dirs: []string{"x/../y"}}, &Pypi{Dir: "/x"},
		new(Exec), &Exec{Command: []string{""}},
	} {
		if err := g.(caddy.Validator).Validate(); err == nil {
			t.Errorf("%T %+v is taken", g, g)
		}
	}
	for _, g := range []caddy.Provisioner{&Shrink{Entries: "x"}, &Pypi{Deletions: "x"}} {
		if err := g.Provision(caddy.Context{}); err == nil {
			t.Errorf("%T: a budget of x is taken", g)
		}
	}
}
