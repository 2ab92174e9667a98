package clients

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/check"
	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestCheck checks this mirror from outside: no fault is found with it, but with a file that
// was changed.
func TestCheck(t *testing.T) {
	origin := t.TempDir()
	if err := wheel.WriteIndex(origin, wheel.Wheel{
		Name: "mirror-lib", Version: "2.0", Files: map[string]string{"mirror_lib.py": strings.Repeat("answer = 42\n", 1000)},
	}); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("0123456789abcdef", 1<<16)
	for name, text := range map[string]string{"files/hello.txt": "hello", "files/x/long.txt": long} {
		if err := wheel.WriteFile(filepath.Join(origin, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	age := func() {
		then := time.Now().Add(-time.Hour) // younger files have no validators
		err := filepath.WalkDir(origin, func(name string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chtimes(name, then, then))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	age()
	srv := testcaddy.Start(t, `http://{$ADDR} {
	bind 127.0.0.1
	mirror_clients
	mirror_cache {
		mount /plain `+origin+`
		mount /pypi `+origin+` {
			format pypi
		}
		mount /flipped `+origin+`
		mount /files `+origin+`/files {
			browse
		}
	}
}
`)
	srv.WaitReady(t)
	all := []string{srv.URL, "--pypi", "/pypi", "--pypi", "/plain", "--files", "/files", "--max-age", "2h"}

	checkMirror := func(args ...string) (status int, stdout, stderr string) {
		stdout, stderr, status = srv.Exec(append([]string{"mirror", "check"}, args...)...)
		return status, stdout, stderr
	}
	status, stdout, stderr := checkMirror(all...)
	if status != 0 || stderr != "" || strings.Count(stdout, "good") != 3 || strings.Contains(stdout, "note") && !strings.Contains(stdout, "how old") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	status, stdout, stderr = checkMirror(append(all, "--all", "--json")...)
	var report check.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || status != 0 || !report.OK || len(report.Mounts) != 3 || report.Mounts[2].Listed != 2 {
		t.Errorf("status %d, %v\n%s%s", status, err, stdout, stderr)
	}

	whl := names(t, origin, "packages/*.whl")[0]
	file := filepath.Join(origin, "packages", whl)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	age()
	status, stdout, stderr = checkMirror(srv.URL, "--pypi", "/flipped")
	if status != 1 || !strings.Contains(stdout, "file: /flipped/packages/"+whl+" its sha256 is") || !strings.Contains(stderr, "1 of 1 mounts have faults: /flipped") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}

	for _, test := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{srv.URL, "--pypi", "/none"}, 1, "have faults: /none"},
		{nil, 2, "which URL?"},
		{[]string{"ftp://x", "--pypi", "/pypi"}, 2, "not the URL of a host"},
		{[]string{srv.URL}, 0, ""},
		{[]string{srv.URL + "/files"}, 2, "name the mounts"},
		{[]string{srv.URL, "--admin", srv.Admin}, 0, "not looked at: /files"},
		{[]string{srv.URL, "--admin", "127.0.0.1:1"}, 2, "no Caddy answers"},
		{[]string{srv.URL, "--apt", "/ubuntu"}, 2, "which distributions?"},
		{[]string{srv.URL, "--pypi", "/pypi", "--sample", "0"}, 2, "--sample"},
		{[]string{srv.URL, "--pypi", "/pypi", "--nonsense"}, 2, "unknown flag"},
		{[]string{srv.URL, "--pypi", "/pypi", "--keyring", "/none"}, 2, "--keyring"},
	} {
		status, stdout, stderr := checkMirror(test.args...)
		if status != test.status || !strings.Contains(stderr, test.stderr) || strings.Contains(stderr, "exiting with") ||
			status == 0 && !strings.Contains(stdout, "/pypi  ") {
			t.Errorf("%q: status %d, want %d and %q\n%s%s", test.args, status, test.status, test.stderr, stdout, stderr)
		}
	}
}
