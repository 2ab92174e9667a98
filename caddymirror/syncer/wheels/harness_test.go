package wheels

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/sandbox"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
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
	index *fakeIndex
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
	x := &fixture{t: t, index: newFakeIndex(t), dir: t.TempDir(), state: t.TempDir()}
	x.constraints = filepath.Join(t.TempDir(), "upper-constraints.txt")
	x.w = &Wheels{Constraints: []string{x.constraints}, Pythons: []string{python3}, Platform: "debian-12-x86_64", Index: x.index.url() + "/simple", WorkDir: t.TempDir(), Parallel: 2, MaxFailures: "0"}
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

// fakeIndex is an index of packages.
type fakeIndex struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	pages map[string]int // how often each was asked for
	down  atomic.Bool
	html  bool
	slow  func(file string) // is called before a file, or the page of a project, is sent
}

func newFakeIndex(t testing.TB) *fakeIndex {
	x := &fakeIndex{files: map[string][]byte{}, pages: map[string]int{}}
	x.Server = httptest.NewServer(x)
	t.Cleanup(x.Close)
	return x
}

func (x *fakeIndex) url() string { return x.URL }

// sdist adds a source distribution, with a backend of its own that needs nothing else.
func (x *fakeIndex) sdist(name, version string, files map[string]string) {
	all := map[string]string{
		"PKG-INFO":       "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n",
		"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n",
		"backend.py":     strings.NewReplacer("@NAME@", name, "@VERSION@", version).Replace(backend),
	}
	maps.Copy(all, files)
	base := name + "-" + version
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, file := range slices.Sorted(maps.Keys(all)) {
		_ = w.WriteHeader(&tar.Header{Name: base + "/" + file, Size: int64(len(all[file])), Mode: 0o644})
		_, _ = io.WriteString(w, all[file])
	}
	_ = w.Close()
	_ = z.Close()
	x.add(base+".tar.gz", b.Bytes())
}

func (x *fakeIndex) add(file string, body []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.files[file] = body
}

func (x *fakeIndex) asked(project string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.pages[project]
}

func (x *fakeIndex) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if x.down.Load() {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	if file, ok := strings.CutPrefix(r.URL.Path, "/files/"); ok {
		x.mu.Lock()
		body, ok := x.files[file]
		slow := x.slow
		x.mu.Unlock()
		if slow != nil {
			slow(file)
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(body)
		return
	}
	project := strings.Trim(strings.TrimPrefix(r.URL.Path, "/simple/"), "/")
	x.mu.Lock()
	slow := x.slow
	x.mu.Unlock()
	if slow != nil {
		slow(project + "/")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pages[project]++
	type entry struct {
		Filename string            `json:"filename"`
		URL      string            `json:"url"`
		Hashes   map[string]string `json:"hashes"`
	}
	var all []entry
	for _, file := range slices.Sorted(maps.Keys(x.files)) {
		stem := strings.TrimSuffix(strings.TrimSuffix(file, ".tar.gz"), ".whl")
		name, _, _ := strings.Cut(stem, "-")
		if !strings.HasSuffix(file, ".whl") {
			name = stem[:strings.LastIndex(stem, "-")]
		}
		if pypi.Normalize(name) == project {
			sum := sha256.Sum256(x.files[file])
			all = append(all, entry{file, "../../files/" + file, map[string]string{"sha256": hex.EncodeToString(sum[:])}})
		}
	}
	if len(all) == 0 {
		http.NotFound(w, r)
		return
	}
	if x.html || !strings.Contains(r.Header.Get("Accept"), "json") {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintln(w, "<!DOCTYPE html><html><body>")
		for _, e := range all {
			fmt.Fprintf(w, "<a href=\"%s#sha256=%s\">%s</a>\n", e.URL, e.Hashes["sha256"], e.Filename)
		}
		fmt.Fprintln(w, "</body></html>")
		return
	}
	w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
	_ = json.NewEncoder(w).Encode(map[string]any{"meta": map[string]string{"api-version": "1.0"}, "name": project, "files": all})
}

// backend builds a wheel (PEP 517). It runs evil.py first, if there is one, and compiles
// ext.c.
const backend = `
import base64, hashlib, os, subprocess, sys, sysconfig, zipfile
NAME, VERSION = "@NAME@", "@VERSION@"
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    if os.path.exists("evil.py"):
        exec(open("evil.py").read(), globals())
    module = NAME.replace("-", "_").replace(".", "_")
    tag, files = "py3-none-any", {module + ".py": b"name = %r\n" % NAME.encode()}
    if os.path.exists("tag"):
        tag = open("tag").read().strip()
    if os.path.exists("ext.c"):
        so = module + "_ext" + sysconfig.get_config_var("EXT_SUFFIX")
        subprocess.run(["gcc", "-shared", "-fPIC", "-I" + sysconfig.get_paths()["include"], "ext.c", "-o", so], check=True)
        files[so] = open(so, "rb").read()
        py = "cp%d%d" % sys.version_info[:2]
        tag = "%s-%s-%s" % (py, py, sysconfig.get_platform().replace("-", "_"))
    info = "%s-%s.dist-info/" % (module, VERSION)
    files[info + "METADATA"] = b"Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (NAME.encode(), VERSION.encode())
    files[info + "WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n" + b"".join(b"Tag: %s\n" % t.encode() for t in [tag])
    record = ""
    for name, body in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\n" % (name, digest, len(body))
    files[info + "RECORD"] = (record + info + "RECORD,,\n").encode()
    if os.path.exists("broken"):
        files[module + ".py"] = b"something else\n"
    wheel = "%s-%s-%s.whl" % (module, VERSION, tag)
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w") as z:
        for name, body in files.items():
            z.writestr(name, body)
    return wheel
`

// ext is a module in C.
const ext = `#include <Python.h>
static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "x", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_x(void) { return PyModule_Create(&m); }
`
