package testclients

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// MakeRPMRepo makes a repository of packages without dependencies at repo.
func MakeRPMRepo(t *testing.T, repo string, packages ...string) {
	t.Helper()
	home := t.TempDir()
	if err := os.MkdirAll(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range packages {
		spec := fmt.Sprintf("Name: %s\nVersion: 1\nRelease: 1\nSummary: s\nLicense: L\nBuildArch: noarch\n%%description\nd\n%%files\n", name)
		if err := os.WriteFile(filepath.Join(home, name+".spec"), []byte(spec), 0o644); err != nil {
			t.Fatal(err)
		}
		Command(t, home, nil, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+home, "--define", "_rpmdir "+repo,
			"--define", "_build_name_fmt "+name+".rpm", name+".spec")
	}
	Command(t, repo, nil, "createrepo_c", "--quiet", ".")
}

// Dnf is a dnf with directories of its own: it knows nothing of the machine's packages,
// repositories and configuration.
type Dnf struct {
	Dir string
}

// NewDnf makes a dnf that knows the repositories of the files repos/*.repo in its Dir.
func NewDnf(t *testing.T) Dnf {
	t.Helper()
	d := Dnf{t.TempDir()}
	if err := os.Mkdir(filepath.Join(d.Dir, "repos"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Dir, "dnf.conf"), []byte("[main]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return d
}

// Run runs dnf and returns what it printed.
func (d Dnf) Run(t *testing.T, args ...string) string {
	t.Helper()
	return Command(t, d.Dir, nil, "dnf", append([]string{
		"--config=" + filepath.Join(d.Dir, "dnf.conf"), "--setopt=reposdir=" + filepath.Join(d.Dir, "repos"),
		"--setopt=cachedir=" + filepath.Join(d.Dir, "cache"), "--setopt=logdir=" + d.Dir,
		"--setopt=persistdir=" + filepath.Join(d.Dir, "lib"), "--installroot=" + filepath.Join(d.Dir, "root"),
		"--releasever=9", "--noplugins", "-y",
	}, args...)...)
}
