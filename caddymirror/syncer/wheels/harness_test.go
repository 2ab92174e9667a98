package wheels

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/sandbox"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
	"github.com/unifiedmirrors/mirror/caddymirror/syncer/wheels/wheelstest"
)

// python3 is Debian's.
const python3 = "/usr/bin/python3"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case sandbox.Word:
			os.Exit(sandbox.Main(os.Args[2:]))
		case helperWord:
			os.Exit(helperMain(os.Args[2:]))
		case runWord:
			os.Exit(runAlone(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

// fixture is a job of wheels, and an index on this machine.
type fixture struct {
	t     testing.TB
	w     *Wheels
	index *wheelstest.Index
	dir   string // of the job
	state string

	constraints string // a file
	now         *step.Run
	counts      map[string]int
	progress    []step.Progress
	out         bytes.Buffer
	mu          sync.Mutex
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	if _, err := os.Stat(python3); err != nil {
		t.Skip("no ", python3)
	}
	x := &fixture{t: t, index: wheelstest.New(t), dir: t.TempDir(), state: t.TempDir()}
	x.constraints = filepath.Join(t.TempDir(), "upper-constraints.txt")
	x.w = &Wheels{Constraints: []string{x.constraints}, Pythons: []string{python3}, Platform: "debian-12-x86_64", Index: x.index.URL + "/simple", WorkDir: t.TempDir(), Parallel: 2, MaxFailures: "0"}
	return x
}

// wants writes the constraints.
func (x *fixture) wants(lines ...string) {
	x.t.Helper()
	if err := os.WriteFile(x.constraints, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		x.t.Fatal(err)
	}
}

func (x *fixture) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.Write(p)
}

func (x *fixture) printed() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.String()
}

// sync runs the job once.
func (x *fixture) sync(ctx context.Context) error {
	x.t.Helper()
	return x.run(ctx, zaptest.NewLogger(x.t))
}

// runWord is the first argument of a test that is to run a job and be killed.
const runWord = "mirror-wheels-run"

// alone is what such a test is told.
type alone struct {
	Wheels     Wheels
	Dir, State string
}

func runAlone(config string) int {
	var a alone
	text, err := os.ReadFile(config)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err == nil {
		err = (&fixture{w: &a.Wheels, dir: a.Dir, state: a.State}).run(context.Background(), zap.NewNop())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (x *fixture) run(ctx context.Context, log *zap.Logger) error {
	w := *x.w
	if err := w.Provision(caddy.Context{}); err != nil {
		return err
	}
	x.out.Reset()
	x.progress = nil
	r := &step.Run{
		Job: "wheels", ID: "1", Dir: x.dir, State: x.state, Log: log, Out: x,
		Command: func(ctx context.Context, c step.Command) (step.Result, error) {
			out := c.Out
			if out == nil {
				out = x
			}
			env := c.Env
			if !c.Untrusted {
				env = append(os.Environ(), env...)
			}
			if c.Dir == "" {
				c.Dir = x.dir
			}
			res, err := process.Run(ctx, process.Command{Name: c.Name, Args: c.Args, Dir: c.Dir, Env: env, Out: out, Line: c.Line, Grace: 5 * time.Second})
			return step.Result{Code: res.Code}, err
		},
		Report: func(p step.Progress) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.progress = append(x.progress, p)
		},
		Count: func(c map[string]int) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.counts = c
		},
	}
	x.now = r
	return w.Sync(ctx, r)
}

// good runs the job, which must go well, and compares what it has counted.
func (x *fixture) good(counts string) {
	x.t.Helper()
	if err := x.sync(x.t.Context()); err != nil {
		x.t.Fatalf("%v\n%s%s", err, x.printed(), x.logs())
	}
	x.counted(counts)
}

func (x *fixture) counted(want string) {
	x.t.Helper()
	var got []string
	for _, name := range slices.Sorted(maps.Keys(x.counts)) {
		if n := x.counts[name]; n > 0 {
			got = append(got, fmt.Sprint(n, " ", name))
		}
	}
	if text := strings.Join(got, ", "); text != want {
		x.t.Fatalf("counted %q, want %q\n%s%s", text, want, x.printed(), x.logs())
	}
}

// logs are those of builds that have failed.
func (x *fixture) logs() string {
	var all strings.Builder
	names, _ := filepath.Glob(filepath.Join(x.state, logsName, "*"))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		fmt.Fprintf(&all, "--- %s\n%s", name, text)
	}
	return all.String()
}

// tree are the names of all files of the job's directory.
func (x *fixture) tree() (names []string) {
	_ = filepath.WalkDir(x.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(x.dir, path)
			names = append(names, rel)
		}
		return nil
	})
	return names
}

func (x *fixture) has(want ...string) {
	x.t.Helper()
	if got := x.tree(); !slices.Equal(got, want) {
		x.t.Errorf("the tree has %q, want %q", got, want)
	}
	left, _ := os.ReadDir(x.w.WorkDir)
	if len(left) > 0 {
		x.t.Errorf("left in the directory of builds: %v", left)
	}
}
