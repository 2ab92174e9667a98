package testcaddy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// BuildFlags are the flags of every build of Caddy in this repository, the
// Makefile's and xcaddy's too: builds with other flags would share nothing of
// the build cache, and compiling all of Caddy takes minutes.
var BuildFlags = []string{"-trimpath", "-ldflags=-s", "-tags=nobadger,nomysql,nopgx"}

// Binary builds cmd/caddy, unless it is up to date, and returns its path. The
// environment variable TESTCADDY names another executable to use, such as
// one built with -race.
func Binary(t testing.TB) string {
	t.Helper()
	if name := os.Getenv("TESTCADDY"); name != "" {
		return name
	}
	name, err := build()
	if err != nil {
		t.Fatalf("building Caddy: %v", err)
	}
	return name
}

var build = sync.OnceValues(func() (string, error) {
	root, err := root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}

	// The tests of several packages run at a time, each in a process.
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("locking %s: %w", lock.Name(), err)
	}

	name := filepath.Join(dir, "caddy")
	args := append([]string{"build", "-o", name}, BuildFlags...)
	cmd := exec.Command("go", append(args, "./cmd/caddy")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return name, nil
})

// Root is the directory of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// root is the next directory above the test's that has a go.mod.
func root() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
	}
	return "", fmt.Errorf("finding the repository from %s: no go.mod", dir)
}
