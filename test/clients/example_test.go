package clients

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// exampleSite is the site in Caddyfile.example.
const exampleSite = "{$MIRROR_SITE:http://:8080} {\n"

// replace replaces a part of a configuration, which must have it once.
func replace(t *testing.T, config, part, by string) string {
	t.Helper()
	if n := strings.Count(config, part); n != 1 {
		t.Fatalf("the configuration has %q %d times", part, n)
	}
	return strings.Replace(config, part, by, 1)
}

// rawStatus sends a request as it is, and returns the status of the answer.
func rawStatus(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 2 {
		t.Fatalf("%q gets %q, %v", request, line, err)
	}
	return words[1]
}

// TestExampleHosts: with a host name, as it is for a region, Caddyfile.example refuses
// requests for other hosts and for none: Caddy would answer with an empty 200, which
// apt takes for an empty file.
func TestExampleHosts(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(testcaddy.Root(t), "Caddyfile.example"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	config := replace(t, string(data), exampleSite, "http://mirror.test:"+port+" {\n\tbind 127.0.0.1\n")
	config = replace(t, config, "\thttp:// {\n", "\thttp://:"+port+" {\n\t\tbind 127.0.0.1\n")
	testcaddy.Start(t, config, testcaddy.Env("MIRROR_FROM=afs", "MIRROR_CELL=no-such-cell.invalid"))
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			break
		}
	}
	const path = "/debian/dists/stable/InRelease"
	for _, c := range []struct{ request, want string }{
		{"GET /debian HTTP/1.1\r\nHost: mirror.test\r\n\r\n", "308"}, // to the directory: it is the mirror's
		{"GET /debian HTTP/1.1\r\nHost: mirror.test:" + port + "\r\n\r\n", "308"},
		{"GET /debian HTTP/1.0\r\nHost: mirror.test\r\n\r\n", "308"},
		{"GET " + path + " HTTP/1.0\r\n\r\n", "421"},
		{"HEAD " + path + " HTTP/1.0\r\n\r\n", "421"},
		{"GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", "421"},
		{"GET " + path + " HTTP/1.1\r\nHost: other.test\r\n\r\n", "421"},
		{"GET " + path + " HTTP/1.1\r\nHost: \r\n\r\n", "400"},
		{"GET " + path + " HTTP/1.1\r\n\r\n", "400"},
		{"GET /debain/dists/stable/InRelease HTTP/1.1\r\nHost: mirror.test\r\n\r\n", "404"},
		{"GET / HTTP/1.1\r\nHost: mirror.test\r\n\r\n", "404"},
	} {
		if got := rawStatus(t, addr, c.request); got != c.want {
			t.Errorf("%q gets status %s, want %s", c.request, got, c.want)
		}
	}
}

// TestExample does what the README tells a new user to do, with
// Caddyfile.example as it stands except for the port.
func TestExample(t *testing.T) {
	needPip(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "bin/make-sample")
	for _, args := range [][]string{
		{"go", "build", "-o", program, "./examples/sample"},
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
	config := replace(t, string(data), exampleSite, "http://{$ADDR} {\n\tbind 127.0.0.1\n")
	srv := testcaddy.Start(t, config, testcaddy.WorkDir(dir))
	srv.WaitReady(t)
	// The jobs are due at once, and publish what is served.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, err := srv.Run("mirror", "status")
		if err != nil {
			t.Fatalf("status: %v: %s", err, out)
		}
		if strings.Count(out, "released, ") == 2 {
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

	// What is in no mount is not there.
	for path, want := range map[string]int{"/files/hello.txt": 200, "/nope": 404, "/": 404} {
		if resp, _, err := srv.Get(path); err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v, %v, want status %d", path, resp, err, want)
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
