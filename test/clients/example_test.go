package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestExample does what the README tells a new user to do, with
// Caddyfile.example as it stands except for the port.
func TestExample(t *testing.T) {
	needPip(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "bin/make-sample")
	for _, args := range [][]string{
		{"go", "build", "-o", program, "./sample"},
		{program, "-o", filepath.Join(dir, "bin/sample/rw")},
		{"mkdir", filepath.Join(dir, "bin/sample/ro")},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = testcaddy.Root(t)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	example := filepath.Join(testcaddy.Root(t), "Caddyfile.example")
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	const site = "{$MIRROR_SITE:http://:8080} {\n"
	config := strings.Replace(string(data), site, "http://{$ADDR} {\n\tbind 127.0.0.1\n", 1)
	if config == string(data) {
		t.Fatalf("Caddyfile.example has no %q", site)
	}
	srv := testcaddy.Start(t, config, testcaddy.WorkDir(dir))
	srv.WaitReady(t)
	// The jobs are due at once, and publish what is served.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, err := srv.Run("mirror", "status")
		if err != nil {
			t.Fatalf("status: %v: %s", err, out)
		}
		if strings.Count(out, "released, now") == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the jobs have not released:\n%s", out)
		}
	}

	for _, want := range []string{"mirror; fwd=uri-miss", "mirror; hit"} {
		resp, body, err := srv.Get("/files/hello.txt")
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Cache-Status"); !strings.HasPrefix(got, want) {
			t.Errorf("Cache-Status is %q, want %q", got, want)
		}
		if got, want := string(body), "Hello from the mirror.\n"; got != want {
			t.Errorf("body is %q, want %q", got, want)
		}
	}

	pip(t, dir, "download", "--no-deps", "--index-url", srv.URL+"/wheels/simple/", "--dest", "wheels", "mirror-sample")
	const name = "mirror_sample-1.0-py3-none-any.whl"
	sameFile(t, filepath.Join(dir, "wheels", name), filepath.Join(dir, "bin/sample/rw/wheels/packages", name))
	pip(t, dir, "install", "--index-url", srv.URL+"/wheels/simple/", "--target", "site", "mirror-sample")
	out := command(t, dir, []string{"PYTHONPATH=" + filepath.Join(dir, "site")}, "python3", "-m", "mirror_sample")
	if out != "Hello from the mirror.\n" {
		t.Errorf("the installed package prints %q", out)
	}

	for _, args := range [][]string{
		{"fmt", "--diff", example},
		{"validate", "--config", example},
		{"mirror", "status"},
		{"mirror", "purge", "--mount", "/files", "--path", "/hello.txt"},
	} {
		if out, err := srv.Run(args...); err != nil {
			t.Errorf("caddy %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	resp, _, err := srv.Get("/files/hello.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Cache-Status"); !strings.HasPrefix(got, "mirror; fwd=uri-miss") {
		t.Errorf("Cache-Status after the purge is %q", got)
	}
}
