package mirrorpages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSlug: a shell finds the directory that the wheels syncer writes on the same system.
func TestSlug(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell")
	}
	machine, err := exec.Command("uname", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	for release, want := range map[string]string{
		"ID=ubuntu\nVERSION_ID=\"22.04\"\n":                        "ubuntu-22.04",
		"ID=debian\nVERSION_ID=\"12\"\n":                           "debian-12",
		"ID=debian\nPRETTY_NAME=\"Debian trixie/sid\"\n":           "debian-",
		"ID=\"centos\"\nVERSION_ID=\"9\"\nID_LIKE=\"rhel fedora\"": "centos-9",
		"ID=\"rocky\"\nVERSION_ID=\"9.4\"\n":                       "rocky-9",
		"ID=\"opensuse-leap\"\nVERSION_ID=\"15.6\"\n":              "opensuse-leap-15.6",
		"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=21.3": "linuxmint-21.3",
		"ID=alpine\nVERSION_ID=3.20.1\n":                           "alpine-3.20",
		"ID=suselike\nID_LIKE=debian\nVERSION_ID=1.2.3\n":          "suselike-1.2",
		"ID=x\nID_LIKE=kubuntu\nVERSION_ID=1.2\n":                  "x-1",
		"": "linux-",
	} {
		file := filepath.Join(t.TempDir(), "os-release")
		if err := os.WriteFile(file, []byte(release), 0o644); err != nil {
			t.Fatal(err)
		}
		script := strings.ReplaceAll(slug, "/etc/os-release", file) + `echo "$AFS_SLUG"`
		out, err := exec.Command(sh, "-euc", script).CombinedOutput()
		if want += "-" + string(machine); err != nil || string(out) != want {
			t.Errorf("%q: %q, %v, want %q", release, out, err, want)
		}
	}
}
