package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestApt installs real Debian packages from a signed repository, made by
// reprepro, with an apt of its own.
func TestApt(t *testing.T) {
	testcaddy.Need(t, "apt-get", "dpkg", "dpkg-deb", "reprepro", "gpg", "gpgconf")

	// hostname depends on libc6, the others on nothing.
	packages := []string{"netbase", "sensible-utils", "hostname"}
	debs := downloadDebs(t, packages)
	home := t.TempDir()
	key := signingKey(t, home)
	repo := filepath.Join(home, "repo")
	makeRepo(t, repo, home, debs)

	want := make(map[string]string) // from the names that apt-get gives them
	for _, deb := range debs {
		want[filepath.Base(deb)] = deb
	}
	coldWarmAway(t, repo, func(t *testing.T, url string) {
		apt := newApt(t, fmt.Sprintf("deb [signed-by=%s] %s test main", key, url))
		out := apt.run(t, "update")
		if strings.Contains(out, "Ign:") || strings.Contains(out, "W:") {
			t.Errorf("apt-get update was not content:\n%s", out)
		}
		apt.run(t, append([]string{"install", "--yes", "--no-install-recommends", "--download-only"}, packages...)...)

		archives := filepath.Join(apt.dir, "var/cache/apt/archives")
		got := names(t, archives, "*.deb")
		if len(got) != len(want) {
			t.Errorf("apt-get fetched %v", got)
		}
		for _, name := range got {
			sameFile(t, filepath.Join(archives, name), want[name])
		}
	})
}

// downloadDebs gets packages from the distribution that the machine runs.
func downloadDebs(t *testing.T, packages []string) []string {
	t.Helper()
	dir := t.TempDir()
	download := func() ([]byte, error) {
		cmd := exec.Command("apt-get", append([]string{"-o", "APT::Sandbox::User=root", "download"}, packages...)...)
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	out, err := download()
	if err != nil && os.Geteuid() == 0 {
		// The lists are missing, or older than what the archive now has.
		if out, err := exec.Command("apt-get", "update").CombinedOutput(); err != nil {
			testcaddy.Missing(t, fmt.Sprintf("apt-get update: %v\n%s", err, out))
		}
		out, err = download()
	}
	if err != nil {
		testcaddy.Missing(t, fmt.Sprintf("apt-get download: %v\n%s", err, out))
	}
	var debs []string
	for _, name := range names(t, dir, "*.deb") {
		debs = append(debs, filepath.Join(dir, name))
	}
	if len(debs) != len(packages) {
		t.Fatalf("apt-get download left %v", debs)
	}
	return debs
}

// signingKey makes a key that signs without a passphrase, in the GnuPG home
// gnupg below home, and returns the file of its public half.
func signingKey(t *testing.T, home string) string {
	t.Helper()
	gnupg := filepath.Join(home, "gnupg")
	if err := os.Mkdir(gnupg, 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{"GNUPGHOME=" + gnupg}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("stopping gpg-agent: %v\n%s", err, out)
		}
	})
	command(t, home, env, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Test <test@example.org>", "ed25519", "sign", "never")
	key := filepath.Join(home, "key.gpg")
	command(t, home, env, "gpg", "--batch", "--output", key, "--export", "test@example.org")
	return key
}

// makeRepo makes an apt repository of debs at repo, with the suite test. What
// reprepro keeps for itself goes below home.
func makeRepo(t *testing.T, repo, home string, debs []string) {
	t.Helper()
	conf := filepath.Join(home, "reprepro", "conf")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	err := os.WriteFile(filepath.Join(conf, "distributions"), fmt.Appendf(nil, `Origin: Test
Label: Test
Suite: test
Codename: test
Architectures: %s
Components: main
Description: packages for a test
SignWith: test@example.org
`, architecture(t)), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--silent", "--basedir", filepath.Join(home, "reprepro"), "--outdir", repo,
		"includedeb", "test",
	}
	command(t, home, []string{"GNUPGHOME=" + filepath.Join(home, "gnupg")}, "reprepro", append(args, debs...)...)
}

func architecture(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(command(t, t.TempDir(), nil, "dpkg", "--print-architecture"))
}

// apt is an apt-get with directories of its own: it knows nothing of the
// machine's packages, sources and configuration.
type apt struct {
	dir string
	env []string
}

func newApt(t *testing.T, source string) apt {
	t.Helper()
	a := apt{dir: t.TempDir()}
	for _, dir := range []string{
		"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d",
		"var/lib/apt/lists/partial", "var/lib/dpkg", "var/cache/apt/archives/partial", "var/log/apt",
	} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string]string{
		"etc/apt/sources.list": source + "\n",
		// The C library counts as installed: the repository has none.
		"var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nVersion: 99\nArchitecture: " + architecture(t) +
			"\nMaintainer: Test <test@example.org>\nDescription: a C library\n",
		"apt.conf": fmt.Sprintf(`Dir %q;
Dir::State::status %q;
Dir::Etc::main "/dev/null";
APT::Architecture %q;
APT::Architectures { %[3]q; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::http::Proxy "DIRECT";
Debug::NoLocking "true";
`, a.dir, filepath.Join(a.dir, "var/lib/dpkg/status"), architecture(t)),
	} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a.env = []string{"APT_CONFIG=" + filepath.Join(a.dir, "apt.conf"), "DEBIAN_FRONTEND=noninteractive"}
	return a
}

func (a apt) run(t *testing.T, args ...string) string {
	t.Helper()
	return command(t, a.dir, a.env, "apt-get", args...)
}
