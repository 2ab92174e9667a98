// Package testclients runs real package managers, each with directories and a
// configuration of its own, and makes the repositories that they fetch from.
package testclients

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Command runs a client in dir with nothing in its environment but env and what
// programs need to be found and to write; it returns what the client printed
// and fails the test if the client fails.
func Command(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := Try(t, dir, env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Command for a client that may fail.
func Try(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tmp := filepath.Join(dir, "tmp")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + tmp, "LC_ALL=C.UTF-8"}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// SameFile fails the test unless got has the bytes of want.
func SameFile(t *testing.T, got, want string) {
	t.Helper()
	g, err := os.ReadFile(got)
	if err != nil {
		t.Error(err)
		return
	}
	w, err := os.ReadFile(want)
	if err != nil {
		t.Error(err)
		return
	}
	if !bytes.Equal(g, w) {
		t.Errorf("%s has not the bytes of %s: %d bytes, %d wanted", got, want, len(g), len(w))
	}
}

// Names of the files in dir that match pattern.
func Names(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	slices.Sort(found)
	return found
}
