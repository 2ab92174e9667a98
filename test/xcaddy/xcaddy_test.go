// Package xcaddy builds Caddy from xcaddy.json in the way of xcaddy, which
// reads no such file itself: a new module that imports Caddy and the plugins.
package xcaddy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// builder has the fields of xcaddy's Builder that xcaddy.json uses.
type builder struct {
	CaddyVersion string        `json:"caddy_version"`
	Plugins      []dependency  `json:"plugins"`
	Replacements []replacement `json:"replacements"`
	BuildFlags   string        `json:"build_flags"`
}

type dependency struct {
	ModulePath string `json:"module_path"`
	Version    string `json:"version"`
}

type replacement struct {
	Old string `json:"old"`
	New string `json:"new"`
}

const caddyModule = "github.com/caddyserver/caddy/v2"

func load(t *testing.T) builder {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testcaddy.Root(t), "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var b builder
	if err := dec.Decode(&b); err != nil {
		t.Fatalf("xcaddy.json: %v", err)
	}
	return b
}

func TestCaddyVersion(t *testing.T) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Version}}", caddyModule)
	cmd.Dir = testcaddy.Root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if got, want := load(t).CaddyVersion, strings.TrimSpace(string(out)); got != want {
		t.Errorf("xcaddy.json has caddy_version %s, go.mod %s", got, want)
	}
}

// TestBuildFlags holds the flags of all builds together: builds with other
// flags compile all of Caddy once more, and need minutes for it.
func TestBuildFlags(t *testing.T) {
	flags := strings.Fields(load(t).BuildFlags)
	if !slices.Equal(flags, testcaddy.BuildFlags) {
		t.Errorf("xcaddy.json has the build flags %q, testcaddy %q", flags, testcaddy.BuildFlags)
	}
	makefile, err := os.ReadFile(filepath.Join(testcaddy.Root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if line := "\nBUILDFLAGS := " + strings.Join(flags, " ") + "\n"; !bytes.Contains(makefile, []byte(line)) {
		t.Errorf("the Makefile lacks the line %q", strings.TrimSpace(line))
	}
}

func TestBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds all of Caddy")
	}
	b := load(t)
	dir := t.TempDir()

	var imports strings.Builder
	for _, p := range b.Plugins {
		fmt.Fprintf(&imports, "\t_ %q\n", p.ModulePath)
	}
	main := fmt.Sprintf(`package main

import (
	caddycmd "%s/cmd"

	// plug in Caddy modules here
	_ "%[1]s/modules/standard"
%s)

func main() {
	caddycmd.Main()
}
`, caddyModule, imports.String())
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(main), 0o644); err != nil {
		t.Fatal(err)
	}

	run := func(args ...string) {
		t.Helper()
		start := time.Now()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		t.Logf("go %s: %v", strings.Join(args, " "), time.Since(start).Round(time.Millisecond))
	}
	run("mod", "init", "caddy")
	for _, r := range b.Replacements {
		// xcaddy makes relative paths absolute, from where it is called.
		if strings.HasPrefix(r.New, ".") {
			r.New = filepath.Join(testcaddy.Root(t), r.New)
		}
		run("mod", "edit", "-replace", r.Old+"="+r.New)
		// xcaddy leaves it to the next step to find out, by asking the proxy
		// for longer paths first, that this module has the plugin. Some
		// proxies refuse to be asked for what they do not know.
		run("mod", "edit", "-require", r.Old+"@v0.0.0-00010101000000-000000000000")
	}
	flags := strings.Fields(b.BuildFlags)
	get := func(modules ...string) {
		t.Helper()
		run(slices.Concat([]string{"get", "-v"}, flags, modules)...)
	}
	caddy := caddyModule + "@" + b.CaddyVersion
	get(caddy)
	for _, p := range b.Plugins {
		// What lies within a replaced module is not to be had elsewhere.
		if slices.ContainsFunc(b.Replacements, func(r replacement) bool {
			return strings.HasPrefix(p.ModulePath, r.Old+"/")
		}) {
			continue
		}
		plugin := p.ModulePath
		if p.Version != "" {
			plugin += "@" + p.Version
		}
		get(plugin, caddy)
	}
	get()
	run("mod", "tidy", "-e")
	binary := filepath.Join(dir, "caddy")
	run(slices.Concat([]string{"build"}, flags, []string{"-o", binary})...)

	out, err := exec.Command(binary, "list-modules", "--versions").Output()
	if err != nil {
		t.Fatalf("list-modules: %v", err)
	}
	modules := make(map[string]string) // to version
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 {
			modules[f[0]] = strings.Join(f[1:], " ")
		}
	}
	for _, want := range []string{
		"mirror", "http.handlers.mirror_cache", "admin.api.mirror", "mirror.origins.dir", "mirror.formats.plain",
	} {
		if _, ok := modules[want]; !ok {
			t.Errorf("list-modules lacks %s", want)
		}
	}
	// The oldest trap of such builds: a plugin that moves Caddy's version.
	if got := modules["http.handlers.file_server"]; got != b.CaddyVersion {
		t.Errorf("the build has Caddy %q, want %s", got, b.CaddyVersion)
	}
	if t.Failed() {
		t.Logf("list-modules:\n%s", out)
	}
}
