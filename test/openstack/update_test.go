package openstack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestUpdate: the update host starts with what MIGRATION.md says that it needs and no
// more, and runs all of its jobs. The programs are stand-ins that fail at once.
func TestUpdate(t *testing.T) {
	if os.Getuid() != 0 {
		testcaddy.Missing(t, "only root can have builds run as another user")
	}
	home := t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		name = filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	guide := example(t, "MIGRATION.md")
	for _, program := range []string{"bandersnatch", "reprepro", "rsync", "k5start", "vos"} {
		put("bin/"+program, "#!/bin/sh\necho stand-in >&2\nexit 1\n", 0o755)
		if !strings.Contains(guide, "`"+program+"`") {
			t.Errorf("MIGRATION.md does not say that %s is needed", program)
		}
	}
	put("bin/curl", "#!/bin/sh\nexit 1\n", 0o755)
	put("bin/python3.10", "#!/bin/sh\nexit 1\n", 0o755)
	put("bin/python3.11", "#!/bin/sh\nexit 1\n", 0o755)
	put("etc/bandersnatch.conf", strings.ReplaceAll(example(t, "bandersnatch.conf"), "/afs/.example.org", home+"/afs"), 0o644)
	put("etc/bandersnatch/upper-constraints.txt", "oslo.config===1.0\n", 0o644)
	for _, name := range []string{"pypi", "ubuntu", "ubuntu-cloud-archive", "debian", "epel", "centos-stream", "wheel"} {
		put("afs/mirror/"+name+"/timestamp.txt", "", 0o644)
	}
	for _, name := range []string{"ubuntu", "ubuntu-cloud-archive", "debian"} {
		put("etc/reprepro/"+name+"/distributions", "Codename: x\nComponents: main\nArchitectures: amd64\n", 0o644)
		put("reprepro/"+name+"/db/x", "", 0o644)
	}
	for _, principal := range []string{"pypi-mirror", "ubuntu-mirror", "ubuntu-cloud-mirror", "debian-mirror", "epel-mirror", "centos-stream-mirror", "wheel-mirror", "afsadmin"} {
		put("etc/"+principal+".keytab", "", 0o600)
	}
	config := strings.NewReplacer(
		"/afs/.{$CELL}", home+"/afs", " /etc/", " "+home+"/etc/", "/var/lib/reprepro", home+"/reprepro", "user wheels", "user nobody",
	).Replace(example(t, "mirror-update.caddyfile"))
	env := append(variables(t, "mirror-update.env"), "PATH="+filepath.Join(home, "bin")+":"+os.Getenv("PATH"), "STATSD=127.0.0.1:9",
		"CONSTRAINTS="+filepath.Join(home, "etc/bandersnatch/upper-constraints.txt"))
	srv := testcaddy.Start(t, config, testcaddy.Env(env...))
	// All are due at once, but for those with a jitter; what fails says why.
	for _, want := range []string{
		"pypi failing", "upper-constraints failing", "ubuntu idle", "ubuntu-cloud-archive idle", "debian idle", "epel idle", "centos-stream idle", "wheel failing",
	} {
		job, state, _ := strings.Cut(want, " ")
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			out, err := srv.Run("mirror", "status", job)
			if err != nil {
				t.Fatalf("%s: %v\n%s", job, err, out)
			}
			if strings.Contains(out, state) {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s is not %s:\n%s", job, state, out)
				break
			}
		}
	}
}

// TestBandersnatch: bandersnatch writes into the tree that its job releases.
func TestBandersnatch(t *testing.T) {
	cell := ""
	for _, v := range variables(t, "mirror-update.env") {
		if name, value, _ := strings.Cut(v, "="); name == "CELL" {
			cell = value
		}
	}
	if want := "\ndirectory = /afs/." + cell + "/mirror/pypi\n"; !strings.Contains(example(t, "bandersnatch.conf"), want) {
		t.Errorf("bandersnatch.conf has no %q", want)
	}
	if want := "import mirror pypi pypi-mirror mirror.pypi\n"; !strings.Contains(example(t, "mirror-update.caddyfile"), want) {
		t.Errorf("mirror-update.caddyfile has no %q", want)
	}
}
