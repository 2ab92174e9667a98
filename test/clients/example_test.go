package clients

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	config := replace(t, readFile(t, "Caddyfile.example"), exampleSite, "http://mirror.test:"+port+" {\n\tbind 127.0.0.1\n")
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

// startExample makes the sample and runs Caddyfile.example, as it stands except for the port
// and how the wheel is made, until all jobs have released.
func startExample(t *testing.T, wheel string) (srv *testcaddy.Server, dir string) {
	t.Helper()
	dir = t.TempDir()
	program := filepath.Join(dir, "bin/make-sample")
	for _, args := range [][]string{
		{"go", "build", "-o", program, "./examples/sample"},
		{program, "-o", filepath.Join(dir, "bin/sample/rw")},
		{"mkdir", filepath.Join(dir, "bin/sample/ro")},
		{"ln", "-s", testcaddy.Binary(t), filepath.Join(dir, "bin/caddy")},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = testcaddy.Root(t)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	config := replace(t, readFile(t, "Caddyfile.example"), exampleSite, "http://{$ADDR} {\n\tbind 127.0.0.1\n")
	config = replace(t, config, "http://localhost:8080", "http://{$ADDR}")
	srv = testcaddy.Start(t, config, testcaddy.WorkDir(dir), testcaddy.Env("MIRROR_WHEEL="+wheel))
	srv.WaitReady(t)
	// The jobs are due at once, and publish what is served. A wheel that was written this
	// moment is read a little later.
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, _, err := srv.Get("/wheel/"); err != nil {
			t.Fatal(err)
		}
		out, err := srv.Run("mirror", "status")
		if err != nil {
			t.Fatalf("status: %v: %s", err, out)
		}
		if strings.Count(out, "released, ") == 3 && strings.Contains(out, "index complete: 1 project, 1 file\n") &&
			!strings.Contains(out, "listed without a checksum") {
			return srv, dir
		}
		if time.Now().After(deadline) {
			t.Fatalf("the jobs have not released, or the wheel is not indexed:\n%s", out)
		}
	}
}

// readFile is a file of the repository.
func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testcaddy.Root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// readmeCommands are the commands of a section of README.
func readmeCommands(t *testing.T, section string) (commands []string) {
	t.Helper()
	_, text, found := strings.Cut(readFile(t, "README.md"), "\n## "+section+"\n")
	text, _, ended := strings.Cut(text, "\n## ")
	if !found || !ended {
		t.Fatalf("README has no section %q", section)
	}
	for line := range strings.Lines(text) {
		if n := len(commands); n > 0 && strings.HasSuffix(commands[n-1], "\\\n") {
			commands[n-1] += line
		} else if command, ok := strings.CutPrefix(line, "$ "); ok {
			commands = append(commands, command)
		}
	}
	return commands
}

// TestExample does what README tells a new user to do.
func TestExample(t *testing.T) {
	needPip(t)
	testcaddy.Need(t, "curl")
	srv, dir := startExample(t, "built")
	commands := readmeCommands(t, "Try it")
	if len(commands) < 8 || commands[0] != "make run\n" {
		t.Fatalf("README's commands are %q", commands)
	}
	script := strings.ReplaceAll("set -ex\n"+strings.Join(commands[1:], ""), "http://localhost:8080", srv.URL)
	out := testclients.Command(t, dir, []string{
		"CADDY_ADMIN=" + srv.Admin, "PIP_CONFIG_FILE=/dev/null", "PIP_NO_CACHE_DIR=1", "PIP_DISABLE_PIP_VERSION_CHECK=1",
	}, "sh", "-c", script)
	for _, want := range []string{
		"\r\nCache-Status: mirror; fwd=uri-miss; fwd-status=200; stored\r\n", "\r\n\r\nHello from the mirror.\n", "\nCache-Status: mirror; hit\r\n",
		"/pypi/packages/", "/mirror_sample_source-1.0-py3-none-any.whl",
		"\nSuccessfully installed mirror-sample-1.0 mirror-sample-source-1.0 mirror-sample-words-1.0\n",
		"mirror_sample\nHello from the mirror.\n", "index complete: 1 project, 1 file", " of wheel: unchanged, ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("not printed: %q", want)
		}
	}
	if n := strings.Count(out, " good\n"); n != 3 {
		t.Errorf("the check finds %d mounts good, want 3", n)
	}
	if t.Failed() {
		t.Logf("%s", out)
	}

	// What is in no mount is not there.
	for path, want := range map[string]int{"/files/hello.txt": 200, "/nope": 404, "/": 404} {
		if resp, _, err := srv.Get(path); err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v, %v, want status %d", path, resp, err, want)
		}
	}
	example := filepath.Join(testcaddy.Root(t), "Caddyfile.example")
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

// TestExampleWithoutPython: where no wheel can be built, the sample makes one.
func TestExampleWithoutPython(t *testing.T) {
	srv, dir := startExample(t, "made")
	platforms := testclients.Names(t, dir, "bin/sample/ro/wheel/*")
	if len(platforms) != 1 {
		t.Fatalf("the wheels are of %q", platforms)
	}
	const name = "mirror_sample_source-1.0-py3-none-any.whl"
	page := "/wheel/" + platforms[0] + "/mirror-sample-source/"
	if resp, body, err := srv.Get(page); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), name) {
		t.Errorf("%s: %v, %v\n%s", page, resp, err, body)
	}
	if out, err := srv.Run("mirror", "check", srv.URL, "--pypi", "/pypi", "--wheel", "/wheel", "--all"); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
	needPip(t)
	pip(t, dir, "install", "--index-url", srv.URL+"/pypi/simple/", "--extra-index-url", srv.URL+"/wheel/"+platforms[0]+"/",
		"--only-binary", ":all:", "--target", "site", "mirror-sample")
	out := testclients.Command(t, dir, []string{"PYTHONPATH=" + filepath.Join(dir, "site")}, "python3", "-m", "mirror_sample")
	if out != "Hello from the mirror.\n" {
		t.Errorf("the installed package prints %q", out)
	}
}
