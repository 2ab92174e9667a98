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
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// age makes all in a tree an hour old: younger files have no validators.
func age(t *testing.T, tree string) {
	t.Helper()
	then := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(tree, func(name string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(name, then, then))
	})
	if err != nil {
		t.Fatal(err)
	}
}

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
	age(t, origin)
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

	whl := testclients.Names(t, origin, "packages/*.whl")[0]
	file := filepath.Join(origin, "packages", whl)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	age(t, origin)
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
		{[]string{srv.URL, "--admin", "127.0.0.1:1"}, 1, "no Caddy answers"},
		{[]string{"http://127.0.0.1:1"}, 1, "connection refused"},
		{[]string{srv.URL, "--apt", "/ubuntu"}, 2, "which distributions?"},
		{[]string{srv.URL, "--pypi", "/pypi", "--sample", "0"}, 2, "--sample"},
		{[]string{srv.URL, "--pypi", "/pypi", "--max-age", "-1h"}, 2, "--max-age"},
		{[]string{"http://me:secret@127.0.0.1:1"}, 1, "Error: http://me:xxxxx@127.0.0.1:1: "},
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

// TestCheckWheels checks an index that is made of wheels: of a platform, and of a mount that
// is one.
func TestCheckWheels(t *testing.T) {
	tree := t.TempDir()
	for _, dir := range []string{"ubuntu-22.04-x86_64/f/foo", "debian-12-x86_64"} {
		tmp := t.TempDir()
		if err := wheel.WriteIndex(tmp, wheel.Wheel{Name: "foo", Version: "1.0", Files: map[string]string{"foo.py": dir}}); err != nil {
			t.Fatal(err)
		}
		for _, name := range testclients.Names(t, tmp, "packages/*.whl") {
			b, err := os.ReadFile(filepath.Join(tmp, "packages", name))
			if err == nil {
				err = wheel.WriteFile(filepath.Join(tree, dir, name), b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	age(t, tree)
	srv := testcaddy.Start(t, `http://{$ADDR} {
	bind 127.0.0.1
	mirror_cache {
		mount /wheel `+tree+` {
			format wheel
			browse
		}
		mount /flat `+tree+`/debian-12-x86_64 {
			format wheel
		}
	}
}
`)
	srv.WaitReady(t)
	var stdout, stderr string
	status := -1
	for range 20 { // until all wheels have been read
		stdout, stderr, status = srv.Exec("mirror", "check", srv.URL, "--all", "--wheel", "/wheel", "--wheel", "/flat", "--wheel", "/wheel,debian-12-x86_64")
		if status == 0 && !strings.Contains(stdout, "no checksums") {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	if status != 0 || strings.Count(stdout, "good") != 3 || strings.Contains(stdout, "note") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
}

// TestCheckRepositories checks repositories as reprepro and createrepo_c make them, with
// signatures of gpg.
func TestCheckRepositories(t *testing.T) {
	testcaddy.Need(t, "apt-get", "dpkg", "reprepro", "gpg", "gpgconf", "rpmbuild", "createrepo_c")
	home, trees := t.TempDir(), t.TempDir()
	key := testclients.SigningKey(t, home)
	testclients.MakeRepo(t, filepath.Join(trees, "debian"), home, testclients.DownloadDebs(t, []string{"netbase", "hostname"}))
	repo := filepath.Join(trees, "epel", "9", "x86_64")
	for name, text := range map[string]string{
		filepath.Join(home, "one.spec"):            "Name: one\nVersion: 1\nRelease: 1\nSummary: s\nLicense: L\nBuildArch: noarch\n%description\nd\n%files\n",
		filepath.Join(trees, "epel/timestamp.txt"): time.Now().Format(time.RFC3339),
	} {
		if err := wheel.WriteFile(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	testclients.Command(t, home, nil, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+home, "--define", "_rpmdir "+repo, "--define", "_build_name_fmt one.rpm", "one.spec")
	testclients.Command(t, repo, nil, "createrepo_c", "--quiet", ".")
	testclients.Command(t, repo, []string{"GNUPGHOME=" + filepath.Join(home, "gnupg")}, "gpg", "--batch", "--armor", "--detach-sign", "repodata/repomd.xml")
	srv := testcaddy.Start(t, `http://{$ADDR} {
	bind 127.0.0.1
	mirror_clients {
		apt debian /debian test
		rpm epel nine /epel/9/x86_64
	}
	mirror_cache {
		mount /debian `+trees+`/debian
		mount /epel `+trees+`/epel
	}
}
`)
	srv.WaitReady(t)
	time.Sleep(2 * time.Second) // younger files have no validators
	for _, mounts := range [][]string{
		{"--apt", "/debian,test", "--rpm", "/epel/9/x86_64", "--all"},
		nil, // those that there is configuration for
	} {
		args := append([]string{"mirror", "check", srv.URL, "--keyring", key, "--max-age", "1h"}, mounts...)
		if stdout, stderr, status := srv.Exec(args...); status != 0 || strings.Count(stdout, "good") != 2 {
			t.Errorf("%q: status %d\n%s%s", args, status, stdout, stderr)
		}
	}
	other := t.TempDir()
	stdout, stderr, status := srv.Exec("mirror", "check", srv.URL, "--keyring", testclients.SigningKey(t, other))
	if status != 1 || strings.Count(stdout, "  signature: ") != 2 {
		t.Errorf("a keyring of another: status %d\n%s%s", status, stdout, stderr)
	}
}
