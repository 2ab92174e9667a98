package testclients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// DownloadDebs gets packages from the distribution that the machine runs.
func DownloadDebs(t *testing.T, packages []string) []string {
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
	for _, name := range Names(t, dir, "*.deb") {
		debs = append(debs, filepath.Join(dir, name))
	}
	if len(debs) != len(packages) {
		t.Fatalf("apt-get download left %v", debs)
	}
	return debs
}

// SigningKey makes a key that signs without a passphrase, in the GnuPG home
// gnupg below home, and returns the file of its public half.
func SigningKey(t *testing.T, home string) string {
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
	Command(t, home, env, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Test <test@example.org>", "ed25519", "sign", "never")
	key := filepath.Join(home, "key.gpg")
	Command(t, home, env, "gpg", "--batch", "--output", key, "--export", "test@example.org")
	return key
}

// MakeRepo makes an apt repository of debs at repo, with the suite test. What
// reprepro keeps for itself goes below home.
func MakeRepo(t *testing.T, repo, home string, debs []string) {
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
`, Architecture(t)), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--silent", "--basedir", filepath.Join(home, "reprepro"), "--outdir", repo,
		"includedeb", "test",
	}
	Command(t, home, []string{"GNUPGHOME=" + filepath.Join(home, "gnupg")}, "reprepro", append(args, debs...)...)
}

func Architecture(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(Command(t, t.TempDir(), nil, "dpkg", "--print-architecture"))
}

// Apt is an apt-get with directories of its own: it knows nothing of the
// machine's packages, sources and configuration.
type Apt struct {
	Dir string
	Env []string
}

func NewApt(t *testing.T, source string) Apt {
	t.Helper()
	a := Apt{Dir: t.TempDir()}
	for _, dir := range []string{
		"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d",
		"var/lib/apt/lists/partial", "var/lib/dpkg", "var/cache/apt/archives/partial", "var/log/apt",
	} {
		if err := os.MkdirAll(filepath.Join(a.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string]string{
		"etc/apt/sources.list": source + "\n",
		// The C library counts as installed: the repository has none.
		"var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nVersion: 99\nArchitecture: " + Architecture(t) +
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
`, a.Dir, filepath.Join(a.Dir, "var/lib/dpkg/status"), Architecture(t)),
	} {
		if err := os.WriteFile(filepath.Join(a.Dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a.Env = []string{"APT_CONFIG=" + filepath.Join(a.Dir, "apt.conf"), "DEBIAN_FRONTEND=noninteractive"}
	return a
}

func (a Apt) Run(t *testing.T, args ...string) string {
	t.Helper()
	return Command(t, a.Dir, a.Env, "apt-get", args...)
}
