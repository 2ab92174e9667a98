package testclients

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// GoModules is a tree that is laid out as a GOPROXY is (see "go help goproxy").
type GoModules struct {
	Dir     string
	Modules []string // path@version

	want  string // a copy of Dir
	cache string // of what go compiles: nothing, but to make it anew takes as long as the download
}

// NewGoModules makes one of modules of the versions that this repository uses.
func NewGoModules(t *testing.T, paths ...string) GoModules {
	t.Helper()
	list := exec.Command("go", append([]string{"list", "-m", "-f", "{{.Path}}@{{.Version}}"}, paths...)...)
	list.Dir = testcaddy.Root(t)
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list -m: %v", err)
	}
	m := GoModules{Modules: strings.Fields(string(out)), cache: t.TempDir()}

	cache := t.TempDir()
	seed := exec.Command("go", append([]string{"mod", "download", "-json"}, m.Modules...)...)
	seed.Dir = testcaddy.Root(t) // its go.sum vouches for the modules
	seed.Env = append(os.Environ(), "GOMODCACHE="+cache, "GOFLAGS=-mod=readonly -modcacherw", "GOSUMDB=off",
		// The machine's own module cache first, it most likely has them.
		"GOPROXY=file://"+goEnv(t, "GOMODCACHE")+"/cache/download,"+goEnv(t, "GOPROXY"))
	if out, err := seed.CombinedOutput(); err != nil {
		testcaddy.Missing(t, fmt.Sprintf("downloading modules to serve: %v\n%s", err, out))
	}
	// What clients get is compared with a copy, since the tree may move away.
	m.want = filepath.Join(t.TempDir(), "download")
	m.Dir = filepath.Join(cache, "cache", "download")
	if err := os.CopyFS(m.want, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
	return m
}

// Download has go download all modules from the proxy at url, with an empty module cache,
// and compares every file.
func (m GoModules) Download(t *testing.T, url string) {
	t.Helper()
	dir := t.TempDir()
	var gomod strings.Builder
	gomod.WriteString("module example.org/client\n\ngo 1.21\n")
	for _, m := range m.Modules {
		gomod.WriteString("\nrequire " + strings.Replace(m, "@", " ", 1) + "\n")
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(gomod.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	clean := filepath.Join(dir, "modcache")
	out := Command(t, dir, []string{
		"GOENV=off", "GOTOOLCHAIN=local", "GOFLAGS=-mod=mod -modcacherw", "GOMODCACHE=" + clean,
		"GOPROXY=" + url, "GONOPROXY=none", "GOSUMDB=off", "GOCACHE=" + m.cache,
	}, "go", "mod", "download", "-json")

	var n int
	for dec := json.NewDecoder(strings.NewReader(out)); ; n++ {
		var got struct{ Path, Error, Info, GoMod, Zip string }
		err := dec.Decode(&got)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || got.Error != "" {
			t.Fatalf("go mod download: %v %s\n%s", err, got.Error, out)
		}
		for _, name := range []string{got.Info, got.GoMod, got.Zip} {
			rel, err := filepath.Rel(filepath.Join(clean, "cache", "download"), name)
			if err != nil {
				t.Fatal(err)
			}
			SameFile(t, name, filepath.Join(m.want, rel))
		}
	}
	if n != len(m.Modules) {
		t.Errorf("go mod download spoke of %d modules, want %d:\n%s", n, len(m.Modules), out)
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}
