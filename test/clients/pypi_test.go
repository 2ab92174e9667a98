package clients

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// pips are the pips of this machine, as commands.
func pips(t *testing.T) map[string][]string {
	t.Helper()
	needPip(t)
	found := map[string][]string{}
	for _, python := range []string{"/usr/bin/python3", "python3"} { // Debian's, and the one in the path
		out, err := exec.CommandContext(t.Context(), python, "-m", "pip", "--version").Output()
		if words := strings.Fields(string(out)); err == nil && len(words) > 1 && found[words[1]] == nil {
			found[words[1]] = []string{python, "-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check"}
		}
	}
	return found
}

// pypiWheels are an application with a library in two versions, under names that are
// not normalized.
func pypiWheels() (app, lib, old wheel.Wheel) {
	lib = wheel.Wheel{Name: "Mirror.Lib", Version: "2.0", Files: map[string]string{"mirror_lib.py": "answer = 42\n"}}
	app = wheel.Wheel{
		Name: "mirror_App", Version: "1.0", Requires: []string{"Mirror_lib >= 2"},
		Files: map[string]string{"mirror_app.py": "import mirror_lib\n\nprint(mirror_lib.answer)\n"},
	}
	old = lib
	old.Version = "1.0"
	return app, lib, old
}

// mirrorPyPI serves a mirror as bandersnatch leaves it below /pypi.
func mirrorPyPI(t *testing.T, b wheel.Bandersnatch, config string) *testcaddy.Server {
	t.Helper()
	app, lib, old := pypiWheels()
	if err := b.Write(old, lib, app); err != nil {
		t.Fatal(err)
	}
	srv := testcaddy.Start(t, strings.ReplaceAll(config, "WEB", filepath.Join(b.Dir, "web")))
	srv.WaitReady(t)
	return srv
}

const pypiConfig = `http://{$ADDR} {
	bind 127.0.0.1
	log
	mirror_cache {
		mount /pypi WEB {
			format pypi
			ttl 1h
		}
	}
}
`

// TestPipOfBandersnatch: pip installs from a mirror as bandersnatch leaves it, in each of
// its layouts, under any spelling of a project.
func TestPipOfBandersnatch(t *testing.T) {
	app, lib, _ := pypiWheels()
	for name, b := range map[string]wheel.Bandersnatch{
		"all pages":            {},
		"hash_index":           {HashIndex: true},
		"HTML only":            {Pages: []string{"index.html"}},
		"JSON only":            {Pages: []string{"index.v1_json"}},
		"JSON only, hashed":    {Pages: []string{"index.v1_json"}, HashIndex: true},
		"versioned HTML only":  {Pages: []string{"index.v1_html"}},
		"HTML of both, hashed": {Pages: []string{"index.html", "index.v1_html"}, HashIndex: true},
	} {
		t.Run(name, func(t *testing.T) {
			b.Dir, b.Serial = t.TempDir(), 4711
			srv := mirrorPyPI(t, b, pypiConfig)
			for version, pip := range pips(t) {
				dir := t.TempDir()
				args := append(slices.Clone(pip[1:]), "install", "--no-deps", "--index-url", srv.URL+"/pypi/simple", "--only-binary", ":all:",
					"--target", "installed", "MIRROR-app", "mirror.LIB")
				testclients.Command(t, dir, []string{"PIP_CONFIG_FILE=/dev/null"}, pip[0], args...)
				for _, w := range []wheel.Wheel{app, lib} {
					for file, want := range w.Files {
						got, err := os.ReadFile(filepath.Join(dir, "installed", file))
						if err != nil || string(got) != want {
							t.Errorf("pip %s: %s: %q, %v", version, file, got, err)
						}
					}
				}
				args = append(slices.Clone(pip[1:]), "download", "--index-url", srv.URL+"/pypi/simple/", "--only-binary", ":all:", "--dest", "wheels", "Mirror.App")
				testclients.Command(t, dir, []string{"PIP_CONFIG_FILE=/dev/null"}, pip[0], args...)
				if got := testclients.Names(t, dir, "wheels/*"); !slices.Equal(got, []string{app.Filename(), lib.Filename()}) {
					t.Errorf("pip %s downloaded %v", version, got)
				}
			}
			logs := srv.Logs()
			// What pip asks for it gets in the form that it wants most.
			if b.Pages == nil && !strings.Contains(logs, "application/vnd.pypi.simple.v1+json") {
				t.Error("no page was answered as JSON")
			}
		})
	}
}

// TestPipReadsMetadata: pip resolves with the metadata files alone (PEP 658), and
// downloads nothing for it.
func TestPipReadsMetadata(t *testing.T) {
	srv := mirrorPyPI(t, wheel.Bandersnatch{Dir: t.TempDir(), Serial: 1}, pypiConfig)
	for version, pip := range pips(t) {
		if strings.HasPrefix(version, "22.") || version == "23.0.1" {
			continue // older than what reads core-metadata
		}
		dir := t.TempDir()
		args := append(slices.Clone(pip[1:]), "install", "--dry-run", "--ignore-installed", "--index-url", srv.URL+"/pypi/simple/", "mirror-app")
		out := testclients.Command(t, dir, []string{"PIP_CONFIG_FILE=/dev/null"}, pip[0], args...)
		if !strings.Contains(out, ".whl.metadata") || !strings.Contains(out, "Mirror.Lib-2.0") && !strings.Contains(out, "mirror_lib-2.0") && !strings.Contains(out, "Mirror.Lib 2.0") {
			t.Errorf("pip %s:\n%s", version, out)
		}
	}
}

// TestPipOfOurPages: pages that are written here, with metadata files, are read by all
// pips. Those up to 23.0 fail on metadata under the old name.
func TestPipOfOurPages(t *testing.T) {
	app, _, _ := pypiWheels()
	app.Requires = nil
	web := t.TempDir()
	if err := (wheel.Bandersnatch{Dir: web, Serial: 1}).Write(app); err != nil {
		t.Fatal(err)
	}
	web = filepath.Join(web, "web")
	wheels, err := filepath.Glob(filepath.Join(web, "packages/*/*/*/*.whl"))
	if err != nil || len(wheels) != 1 {
		t.Fatal(wheels, err)
	}
	name, err := filepath.Rel(web, wheels[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := func(file string) digest.Digest {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s := sha256.Sum256(data)
		return digest.Digest{Kind: "sha256", Sum: string(s[:])}
	}
	page := pypi.Page{Project: app.Project(), Versions: []string{app.Version}, Files: slices.Values([]pypi.File{{
		URL: "../../" + name, Digest: sum(wheels[0]), Metadata: true, MetadataDigest: sum(wheels[0] + ".metadata"),
	}})}
	for file, write := range map[string]func(io.Writer) error{"index.html": page.WriteHTML, "index.v1_json": page.WriteJSON} {
		t.Run(file, func(t *testing.T) {
			dir := filepath.Join(web, "simple", app.Project())
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := errors.Join(write(&b), wheel.WriteFile(filepath.Join(dir, file), b.Bytes())); err != nil {
				t.Fatal(err)
			}
			srv := testcaddy.Start(t, strings.ReplaceAll(pypiConfig, "WEB", web))
			for _, pip := range pips(t) {
				args := append(slices.Clone(pip[1:]), "download", "--index-url", srv.URL+"/pypi/simple/", "--no-deps", "--dest", "wheels", "MIRROR.app")
				testclients.Command(t, t.TempDir(), []string{"PIP_CONFIG_FILE=/dev/null"}, pip[0], args...)
			}
		})
	}
}

// raw sends a request as it is, and returns the answer.
func raw(t *testing.T, addr, request string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.80q: %v", request, err)
	}
	return resp
}

// TestPyPIOnTheWire looks at what the server sends for requests that no client library
// would send as they are, under every URL by which a mount can be reached.
func TestPyPIOnTheWire(t *testing.T) {
	config := `{
	auto_https off
}
http://{$ADDR} {
	bind 127.0.0.1
	handle_path "/be hind/*" {
		mirror_cache {
			mount /pypi WEB {
				format pypi
			}
		}
	}
	@pip path /pip/*
	handle @pip {
		uri replace /pip/ /pypi/ 1
		mirror_cache {
			mount /pypi WEB {
				format pypi
			}
		}
	}
	handle {
		mirror_cache {
			mount /pypi WEB {
				format pypi
				old_name pypi.region.example.org
			}
			mount "/my index" WEB {
				format pypi
			}
		}
	}
}
http://pypi.region.example.org:{$OLD} {
	bind 127.0.0.1
	mirror_cache {
		mount /pypi WEB {
			format pypi
			old_name pypi.region.example.org
		}
	}
}
`
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	old := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(old)
	srv := mirrorPyPI(t, wheel.Bandersnatch{Dir: t.TempDir(), Serial: 7}, strings.ReplaceAll(config, "{$OLD}", port))

	long := strings.Repeat("x", 10<<10)
	for _, tc := range []struct {
		target   string
		status   int
		location string
	}{
		{"/pypi/simple", 301, "/pypi/simple/"},
		{"/pypi/simple/Mirror.Lib", 301, "/pypi/simple/mirror-lib/"},
		{"/pypi/simple/mirror-lib", 301, "/pypi/simple/mirror-lib/"},
		{"/pypi/simple/mirror-lib//", 301, "/pypi/simple/mirror-lib/"},
		{"/pypi/simple/Mirror_Lib//?a=%20b&format=text/html", 301, "/pypi/simple/mirror-lib/?a=%20b&format=text/html"},
		{"/pypi/simple/mirror%2Dlib", 301, "/pypi/simple/mirror-lib/"},
		{"/pypi/simple/m/mirror-lib/", 301, "/pypi/simple/mirror-lib/"},
		{"/my%20index/simple/Mirror.Lib?x", 301, "/my%20index/simple/mirror-lib/?x"},
		{"/be%20hind/pypi/simple/Mirror.Lib", 301, "/be%20hind/pypi/simple/mirror-lib/"},
		{"/be%20hind/pypi/simple/Mirror.Lib?q=/../", 301, "/be%20hind/pypi/simple/mirror-lib/?q=/../"},
		{"/be%20hind/pypi/simple/mirror-lib/", 200, ""},
		{"/pip/simple/Mirror.Lib", 301, "/pip/simple/mirror-lib/"},
		{"/pip/simple/mirror-lib", 301, "/pip/simple/mirror-lib/"},
		{"/pypi/json/Mirror.Lib", 301, "/pypi/json/mirror-lib"},
		{"/pypi/pypi/Mirror.Lib/json?x=y", 301, "/pypi/pypi/mirror-lib/json?x=y"},
		{"//pypi/simple/Mirror.Lib", 301, "/pypi/simple/mirror-lib/"},
		{"/pypi/simple//evil.example.org/", 301, "/pypi/simple/evil-example-org/"},
		{"http://ADDR/pypi/simple/Mirror.Lib", 301, "/pypi/simple/mirror-lib/"},

		{"/pypi/simple/mirror-lib/", 200, ""},
		{"/pypi/simple/mirror-lib/?format=application/vnd.pypi.simple.v1+json", 200, ""},
		{"/pypi/pypi/mirror-lib/json", 200, ""},
		{"/pypi/json/mirror-lib", 200, ""},
		{"/pypi/last-modified", 200, ""},
		{"/pypi/../status", 200, ""}, // no mount's: Caddy's own empty answer
		{"/pypi/simple/../../status", 200, ""},
		{"/pypi/simple/%2e%2e/%2e%2e/%2e%2e/etc/passwd", 200, ""},
		{"/pypi/simple/..%2f..%2fstatus", 200, ""},
		{"/pypi/simple/..%5c..%5cstatus/", 404, ""},
		{"/pypi/simple/%00/", 400, ""},
		{"/pypi/simple/mirror-lib%00", 400, ""},
		{"/pypi/simple/%0d%0aSet-Cookie:%20x", 400, ""},
		{"/pypi/simple/mirror%2Flib/", 404, ""},
		{"/pypi/simple/%zz/", 400, ""},
		{"/pypi/simple/" + long, 404, ""},
		{"/pypi/simple/" + long + "/", 404, ""},
		{"/pypi/simple/A" + long + "/", 404, ""},
		{"/pypi/simple/mirror-lib/?format=" + long, 406, ""},
	} {
		tc.target = strings.Replace(tc.target, "ADDR", srv.Addr, 1)
		for _, method := range []string{"GET", "HEAD"} {
			resp := raw(t, srv.Addr, method+" "+tc.target+" HTTP/1.1\r\nHost: "+srv.Addr+"\r\nConnection: close\r\n\r\n")
			if got := resp.Header.Get("Location"); resp.StatusCode != tc.status || got != tc.location {
				t.Errorf("%s %.60s: got %d, Location: %s; want %d, %s", method, tc.target, resp.StatusCode, got, tc.status, tc.location)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || strings.HasPrefix(string(body), "7") || strings.Contains(string(body), "root:") || resp.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s %.60s: got %q, %v", method, tc.target, body, err)
			}
		}
	}

	// A name of its own: the prefix is not the client's.
	resp := raw(t, old, "GET /simple/Mirror.Lib?x=y HTTP/1.1\r\nHost: pypi.region.example.org\r\nConnection: close\r\n\r\n")
	if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusMovedPermanently || got != "/simple/mirror-lib/?x=y" {
		t.Errorf("at an old name: got %d, Location: %s", resp.StatusCode, got)
	}

	// Lines of a field are one field.
	for _, tc := range []struct{ fields, mediaType string }{
		{"Accept: text/html;q=0.1\r\nAccept: application/vnd.pypi.simple.v1+json\r\n", "application/vnd.pypi.simple.v1+json"},
		{"Accept: application/vnd.pypi.simple.v1+html\r\nAccept: application/vnd.pypi.simple.v1+json;q=0.1\r\n", "application/vnd.pypi.simple.v1+html"},
		{"Accept:\r\n", "text/html; charset=utf-8"},
		{"", "text/html; charset=utf-8"},
	} {
		resp := raw(t, srv.Addr, fmt.Sprintf("GET /pypi/simple/mirror-lib/ HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n", srv.Addr, tc.fields))
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != tc.mediaType || resp.Header.Get("X-PyPI-Last-Serial") != "7" {
			t.Errorf("%q: got %d, %v", tc.fields, resp.StatusCode, resp.Header)
		}
	}
}
