package upstreams

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// A world is an upstream with a real client for it.
type world struct {
	upstream

	// prefix is the mount that the client is pointed at, below the upstream's and the
	// mirror's URL alike where it has to be the same, as that of an OCI registry.
	prefix string
	root   bool // the mount's prefix is a part of the upstream's paths, too

	options string // of the mount

	// fetch has a client without any state fetch everything from url, which has no slash at
	// the end, and compares what it got.
	fetch func(t *testing.T, url string)
}

// servers that serve a tree of files.
var servers = map[string]func(t *testing.T, tree string) upstream{
	"nginx": func(t *testing.T, tree string) upstream { return startNginx(t, tree) },
	"Caddy": func(t *testing.T, tree string) upstream { return startCaddy(t, tree) },
}

// worlds are all of them, by name. Each is made when it is wanted.
var worlds = map[string]func(t *testing.T) world{
	"apt from nginx":                 func(t *testing.T) world { return aptWorld(t, servers["nginx"]) },
	"apt from Caddy":                 func(t *testing.T) world { return aptWorld(t, servers["Caddy"]) },
	"rpm from nginx":                 func(t *testing.T) world { return rpmWorld(t, servers["nginx"]) },
	"rpm from Caddy":                 func(t *testing.T) world { return rpmWorld(t, servers["Caddy"]) },
	"go from nginx":                  func(t *testing.T) world { return goWorld(t, servers["nginx"]) },
	"go from Caddy":                  func(t *testing.T) world { return goWorld(t, servers["Caddy"]) },
	"docker-registry":                func(t *testing.T) world { return registryWorld(t, false) },
	"docker-registry with redirects": func(t *testing.T) world { return registryWorld(t, true) },
	"verdaccio": func(t *testing.T) world {
		u, want := startNpm(t)
		return world{u, "/npm", false, "", func(t *testing.T, url string) { npmInstall(t, url, want) }}
	},
}

func aptWorld(t *testing.T, serve func(*testing.T, string) upstream) world {
	testcaddy.Need(t, "apt-get", "dpkg", "dpkg-deb", "reprepro", "gpg", "gpgconf")
	packages := []string{"netbase", "sensible-utils"}
	debs := testclients.DownloadDebs(t, packages)
	home := t.TempDir()
	key := testclients.SigningKey(t, home)
	repo := filepath.Join(home, "repo")
	testclients.MakeRepo(t, repo, home, debs)
	backdate(t, repo)
	return world{serve(t, repo), "/apt", false, "", func(t *testing.T, url string) {
		apt := testclients.NewApt(t, fmt.Sprintf("deb [signed-by=%s] %s test main", key, url))
		if out := apt.Run(t, "update"); strings.Contains(out, "Ign:") || strings.Contains(out, "W:") {
			t.Errorf("apt-get update was not content:\n%s", out)
		}
		apt.Run(t, append([]string{"install", "--yes", "--no-install-recommends", "--download-only"}, packages...)...)
		archives := filepath.Join(apt.Dir, "var/cache/apt/archives")
		for _, deb := range debs {
			testclients.SameFile(t, filepath.Join(archives, filepath.Base(deb)), deb)
		}
	}}
}

func rpmWorld(t *testing.T, serve func(*testing.T, string) upstream) world {
	testcaddy.Need(t, "dnf", "rpmbuild", "createrepo_c")
	repo := t.TempDir()
	packages := []string{"one", "two"}
	testclients.MakeRPMRepo(t, repo, packages...)
	backdate(t, repo)
	return world{serve(t, repo), "/rpm", false, "", func(t *testing.T, url string) {
		dnf := testclients.NewDnf(t)
		source := "[test]\nname=test\ngpgcheck=0\nbaseurl=" + url + "/\n"
		if err := os.WriteFile(filepath.Join(dnf.Dir, "repos", "test.repo"), []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		dnf.Run(t, append([]string{"install", "--downloadonly", "--downloaddir=got"}, packages...)...)
		for _, name := range packages {
			testclients.SameFile(t, filepath.Join(dnf.Dir, "got", name+".rpm"), filepath.Join(repo, name+".rpm"))
		}
	}}
}

func goWorld(t *testing.T, serve func(*testing.T, string) upstream) world {
	testcaddy.Need(t, "go")
	m := testclients.NewGoModules(t, "github.com/google/uuid", "github.com/Masterminds/goutils") // few files, and upper-case letters
	backdate(t, m.Dir)
	return world{serve(t, m.Dir), "/go", false, "", m.Download}
}

// backdate gives all files below dir a date in the past: what is new may change unnoticed.
func backdate(t *testing.T, dir string) {
	t.Helper()
	at := time.Now().Add(-48 * time.Hour)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chtimes(path, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}
