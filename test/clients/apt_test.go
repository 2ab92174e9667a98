package clients

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// TestApt installs real Debian packages from a signed repository, made by
// reprepro, with an apt of its own.
func TestApt(t *testing.T) {
	testcaddy.Need(t, "apt-get", "dpkg", "dpkg-deb", "reprepro", "gpg", "gpgconf")

	// hostname depends on libc6, the others on nothing.
	packages := []string{"netbase", "sensible-utils", "hostname"}
	debs := testclients.DownloadDebs(t, packages)
	home := t.TempDir()
	key := testclients.SigningKey(t, home)
	repo := filepath.Join(home, "repo")
	testclients.MakeRepo(t, repo, home, debs)

	want := make(map[string]string) // from the names that apt-get gives them
	for _, deb := range debs {
		want[filepath.Base(deb)] = deb
	}
	coldWarmAway(t, repo, func(t *testing.T, url string) {
		apt := testclients.NewApt(t, fmt.Sprintf("deb [signed-by=%s] %s test main", key, url))
		out := apt.Run(t, "update")
		if strings.Contains(out, "Ign:") || strings.Contains(out, "W:") {
			t.Errorf("apt-get update was not content:\n%s", out)
		}
		apt.Run(t, append([]string{"install", "--yes", "--no-install-recommends", "--download-only"}, packages...)...)

		archives := filepath.Join(apt.Dir, "var/cache/apt/archives")
		got := testclients.Names(t, archives, "*.deb")
		if len(got) != len(want) {
			t.Errorf("apt-get fetched %v", got)
		}
		for _, name := range got {
			testclients.SameFile(t, filepath.Join(archives, name), want[name])
		}
	})
}
