package clients

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

// TestGo downloads modules from the download directory of a module cache,
// which is laid out as a GOPROXY is (see "go help goproxy").
func TestGo(t *testing.T) {
	testcaddy.Need(t, "go")

	// Small ones, of the versions that this repository uses; one of them
	// has upper-case letters, which a proxy sees as !b and !s.
	modules := versions(t, "github.com/google/uuid", "github.com/rs/xid", "github.com/BurntSushi/toml")
	cache := t.TempDir()
	seed := exec.Command("go", append([]string{"mod", "download", "-json"}, modules...)...)
	seed.Dir = testcaddy.Root(t) // its go.sum vouches for the modules
	seed.Env = append(os.Environ(), "GOMODCACHE="+cache, "GOFLAGS=-mod=readonly -modcacherw", "GOSUMDB=off",
		// The machine's own module cache first, it most likely has them.
		"GOPROXY=file://"+goEnv(t, "GOMODCACHE")+"/cache/download,"+goEnv(t, "GOPROXY"))
	if out, err := seed.CombinedOutput(); err != nil {
		testcaddy.Missing(t, fmt.Sprintf("downloading modules to serve: %v\n%s", err, out))
	}
	// The client's cache/download is compared with a copy, for the origin moves away.
	want := filepath.Join(t.TempDir(), "download")
	origin := filepath.Join(cache, "cache", "download")
	if err := os.CopyFS(want, os.DirFS(origin)); err != nil {
		t.Fatal(err)
	}

	gomod := "module example.org/client\n\ngo 1.21\n"
	for _, m := range modules {
		gomod += "\nrequire " + strings.Replace(m, "@", " ", 1) + "\n"
	}
	coldWarmAway(t, origin, func(t *testing.T, url string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(gomod), 0o644); err != nil {
			t.Fatal(err)
		}
		clean := filepath.Join(dir, "modcache")
		out := command(t, dir, []string{
			"GOENV=off", "GOTOOLCHAIN=local", "GOFLAGS=-mod=mod -modcacherw", "GOMODCACHE=" + clean,
			"GOPROXY=" + url, "GONOPROXY=none", "GOSUMDB=off", "GOCACHE=" + filepath.Join(dir, "cache"),
		}, "go", "mod", "download", "-json")

		var n int
		for dec := json.NewDecoder(strings.NewReader(out)); ; n++ {
			var m struct{ Path, Error, Info, GoMod, Zip string }
			err := dec.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || m.Error != "" {
				t.Fatalf("go mod download: %v %s\n%s", err, m.Error, out)
			}
			for _, name := range []string{m.Info, m.GoMod, m.Zip} {
				rel, err := filepath.Rel(filepath.Join(clean, "cache", "download"), name)
				if err != nil {
					t.Fatal(err)
				}
				sameFile(t, name, filepath.Join(want, rel))
			}
		}
		if n != len(modules) {
			t.Errorf("go mod download spoke of %d modules, want %d:\n%s", n, len(modules), out)
		}
	})
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// versions of modules that this repository depends on, as path@version.
func versions(t *testing.T, modules ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-m", "-f", "{{.Path}}@{{.Version}}"}, modules...)...)
	cmd.Dir = testcaddy.Root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -m: %v", err)
	}
	return strings.Fields(string(out))
}
