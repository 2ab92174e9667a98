package upstreams

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// verdaccioVersion needs no other registry than npm's.
const verdaccioVersion = "4.13.2"

// verdaccioProgram installs verdaccio below the repository's bin, unless it is there.
func verdaccioProgram(t *testing.T) string {
	t.Helper()
	testcaddy.Need(t, "node", "npm")
	dir := filepath.Join(testcaddy.Root(t), "bin", "test", "verdaccio-"+verdaccioVersion)
	program := filepath.Join(dir, "node_modules", ".bin", "verdaccio")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	// It gets its name when it is complete.
	tmp := dir + ".new"
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("npm", "install", "--prefix", tmp, "--no-audit", "--no-fund", "--loglevel=error", "verdaccio@"+verdaccioVersion)
	if out, err := cmd.CombinedOutput(); err != nil {
		testcaddy.Missing(t, fmt.Sprintf("npm install verdaccio: %v\n%s", err, out))
	}
	if err := os.Rename(tmp, dir); err != nil {
		t.Fatal(err)
	}
	return program
}

// npmPackages of the registry, each of which depends on the next one.
var npmPackages = []string{"@scope/first", "second", "third"}

// startNpm runs verdaccio with npmPackages. It returns the tree of files that an
// installation of the first one has.
func startNpm(t *testing.T) (u upstream, want map[string][]byte) {
	t.Helper()
	program := verdaccioProgram(t)
	dir, addr := t.TempDir(), testcaddy.FreeAddr(t)
	config := "storage: ./storage\nauth:\n  htpasswd:\n    file: ./htpasswd\nlogs:\n  - {type: stdout, format: json, level: warn}\n" +
		"packages:\n  '**':\n    access: $all\n    publish: $all\n"
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, dir, addr, nil, program, "--config", file, "--listen", addr)
	u = upstream{"http://" + addr, p.stop, p.start}

	want = make(map[string][]byte)
	for i, name := range npmPackages {
		source := t.TempDir()
		content := make([]byte, 200_000)
		rand.NewChaCha8([32]byte{byte(i)}).Read(content)
		manifest := map[string]any{"name": name, "version": "1.0.0", "license": "MIT"}
		if i+1 < len(npmPackages) {
			manifest["dependencies"] = map[string]string{npmPackages[i+1]: "^1.0.0"}
		}
		about, err := json.Marshal(manifest)
		if err != nil {
			t.Fatal(err)
		}
		for file, data := range map[string][]byte{"package.json": about, "content.bin": content} {
			if err := os.WriteFile(filepath.Join(source, file), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want[name+"/content.bin"] = content
		npm(t, source, u.url, "publish", "--access=public", "--"+strings.TrimPrefix(u.url, "http:")+"/:_authToken=test")
	}
	return u, want
}

// npm runs npm with a cache and a configuration of its own.
func npm(t *testing.T, dir, registry string, args ...string) {
	t.Helper()
	// The addresses of archives in verdaccio's answers have its own host.
	rc := fmt.Sprintf("registry=%s/\nreplace-registry-host=always\naudit=false\nfund=false\nupdate-notifier=false\nfetch-retries=0\ncache=%s\n",
		registry, filepath.Join(t.TempDir(), "cache"))
	if err := os.WriteFile(filepath.Join(dir, ".npmrc"), []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	testclients.Command(t, dir, nil, "npm", args...)
}

// npmInstall installs the first package, and compares the files of all.
func npmInstall(t *testing.T, url string, want map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	npm(t, dir, url, "install", npmPackages[0])
	got := 0
	filepath.WalkDir(filepath.Join(dir, "node_modules"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Error(err)
			return nil
		}
		if d.Name() != "content.bin" {
			return nil
		}
		name, err := filepath.Rel(filepath.Join(dir, "node_modules"), path)
		data, readErr := os.ReadFile(path)
		if err != nil || readErr != nil || !bytes.Equal(data, want[name]) {
			t.Errorf("%s has %d bytes, %v, %v", name, len(data), err, readErr)
		}
		got++
		return nil
	})
	if got != len(want) {
		t.Errorf("%d packages are installed, want %d", got, len(want))
	}
}
