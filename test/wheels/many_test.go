package wheels

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

const (
	platform = "debian-12-x86_64"
	projects = 2_000
	versions = 10 // of each project
)

// metadata are the METADATA of what is installed here for Python, without the fields that
// name it; or something like them.
func metadata(t *testing.T) (all []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "python3", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").Output()
	if err == nil {
		found, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.dist-info", "METADATA"))
		for _, name := range found {
			b, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			var kept strings.Builder
			for line := range strings.Lines(string(b)) {
				if !strings.HasPrefix(line, "Name:") && !strings.HasPrefix(line, "Version:") {
					kept.WriteString(line)
				}
			}
			all = append(all, kept.String())
		}
	}
	t.Logf("%d real METADATA", len(all))
	if len(all) == 0 {
		text := "Metadata-Version: 2.1\nRequires-Python: >=3.9\nRequires-Dist: six\n\n" + strings.Repeat("A description of what it is for.\n", 200)
		all = append(all, text)
	}
	return all
}

// wheelOf is a wheel with METADATA like another.
func wheelOf(t testing.TB, project, version, more string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	info := project + "-" + version + ".dist-info/"
	for _, f := range []struct{ name, text string }{
		{project + ".py", "answer = 42\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "METADATA", "Name: " + project + "\nVersion: " + version + "\n" + more},
		{info + "RECORD", ""},
	} {
		w, err := z.Create(f.name)
		if err == nil {
			_, err = io.WriteString(w, f.text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func put(t testing.TB, tree, project, version, more string) {
	t.Helper()
	dir := filepath.Join(tree, platform, project[:1], project)
	name := filepath.Join(dir, project+"-"+version+"-py3-none-any.whl")
	past := time.Now().Add(-time.Hour)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(name, wheelOf(t, project, version, more), 0o644)
	}
	if err == nil {
		err = os.Chtimes(name, past, past)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// link makes a copy of a tree with the same files.
func link(from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, name)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return os.Link(name, filepath.Join(to, rel))
	})
}

func publish(t *testing.T, top, tree string) {
	t.Helper()
	current := filepath.Join(top, "current")
	err := os.Symlink(tree, current+".new")
	if err == nil {
		err = os.Rename(current+".new", current)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func projectName(n int) string { return fmt.Sprintf("%cproject%d", 'a'+n%26, n) }

type state struct {
	Mounts []struct {
		Origins []struct {
			Release   string
			Reads     int
			ReadBytes int64 `json:"read_bytes"`
			Index     struct {
				State                            string
				Projects, Files, Unread, LeftOut int
			}
		}
	}
}

// await waits until the index of a release is complete, and returns how long that took.
func await(t *testing.T, srv *testcaddy.Server, release string) (state, time.Duration) {
	t.Helper()
	start := time.Now()
	for {
		get(t, srv, "/simple/")
		out, err := srv.Run("mirror", "status", "--json")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var s state
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatal(err)
		}
		if o := s.Mounts[0].Origins[0]; o.Index.State == "complete" && strings.HasPrefix(o.Release, release) {
			return s, time.Since(start)
		}
		if time.Since(start) > 3*time.Minute {
			t.Fatalf("the index is not complete: %s", out)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func get(t *testing.T, srv *testcaddy.Server, path string) (body []byte, cache string, took time.Duration) {
	t.Helper()
	start := time.Now()
	resp, body, err := srv.Get("/wheel/"+platform+path, "Accept: application/vnd.pypi.simple.v1+json")
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s\n%s", path, resp.Status, body)
	}
	return body, resp.Header.Get("Cache-Status"), time.Since(start)
}

// memory is the most that the server has had in memory.
func memory(t *testing.T, srv *testcaddy.Server) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", srv.Pid()))
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// heap is how much the server has in use after its garbage was collected, in MiB.
func heap(t *testing.T, srv *testcaddy.Server) int {
	t.Helper()
	resp, err := http.Get("http://" + srv.Admin + "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "# HeapAlloc = ")
	if !ok {
		t.Fatalf("no HeapAlloc in %.200s", b)
	}
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n >> 20
}

// TestMany makes an index of 20,000 wheels, restarts, and releases one more.
func TestMany(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	top := t.TempDir()
	all := metadata(t)
	for p := range projects {
		for v := range versions {
			put(t, filepath.Join(top, "r1"), projectName(p), fmt.Sprintf("1.%d", v), all[(p*versions+v)%len(all)])
		}
	}
	publish(t, top, "r1")
	config := fmt.Sprintf(`http://{$ADDR} {
	bind 127.0.0.1
	mirror_cache {
		mount /wheel %s/current {
			format wheel
			release_check 200ms
		}
	}
}
`, top)
	srv := testcaddy.Start(t, config)
	srv.WaitReady(t)
	idle := memory(t, srv)

	body, _, took := get(t, srv, "/simple/"+projectName(1994)+"/")
	t.Logf("first page, of %d bytes, while nothing is known: %v", len(body), took)
	if took > 5*time.Second {
		t.Errorf("the first page took %v", took)
	}
	if n := strings.Count(string(body), `"filename"`); n != versions {
		t.Errorf("the first page has %d files", n)
	}
	s, took := await(t, srv, "r1")
	if i := s.Mounts[0].Origins[0].Index; i.Projects != projects || i.Files != projects*versions || i.LeftOut != 0 {
		t.Errorf("index: %+v", i)
	}
	read := s.Mounts[0].Origins[0]
	t.Logf("first index of %d wheels: %v, %d files and %d MiB read", projects*versions, took.Round(time.Millisecond), read.Reads, read.ReadBytes>>20)
	if read.Reads > projects*versions*11/10 {
		t.Errorf("%d files were opened for %d wheels", read.Reads, projects*versions)
	}

	for _, path := range []string{"/simple/" + projectName(1329) + "/", "/simple/"} {
		for range 3 {
			body, cache, took := get(t, srv, path)
			t.Logf("%s, of %d bytes: %v, %s", path, len(body), took, cache)
			time.Sleep(50 * time.Millisecond)
		}
	}
	whole, _, _ := get(t, srv, "/simple/")
	if n := strings.Count(string(whole), `"name"`); n != projects {
		t.Errorf("/simple/ has %d projects", n)
	}
	// The cache may hold 64 MiB of small objects, and what is kept of wheels is among
	// them: the index itself is what is left without that.
	most := memory(t, srv)
	t.Logf("memory: at most %d MiB, %d before; heap: %d MiB in use", most, idle, heap(t, srv))
	if most > idle+400 {
		t.Errorf("it took %d MiB", most)
	}

	srv.Stop()
	srv.Restart(config)
	srv.WaitReady(t)
	s, took = await(t, srv, "r1")
	t.Logf("the same after a restart: %v; memory: at most %d MiB", took.Round(time.Millisecond), memory(t, srv))
	if o := s.Mounts[0].Origins[0]; o.Reads != 0 || o.ReadBytes != 0 {
		t.Errorf("after a restart, %d files were opened and %d bytes read", o.Reads, o.ReadBytes)
	}

	if err := link(filepath.Join(top, "r1"), filepath.Join(top, "r2")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(top, "r2"), "new", "1.0", all[0])
	publish(t, top, "r2")
	s, took = await(t, srv, "r2")
	t.Logf("one more wheel released: %v", took.Round(time.Millisecond))
	if o := s.Mounts[0].Origins[0]; o.Reads != 1 || o.Index.Files != projects*versions+1 {
		t.Errorf("after a release, %d files were opened; index: %+v", o.Reads, o.Index)
	}
}
