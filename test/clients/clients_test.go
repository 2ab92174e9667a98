// Package clients has real package managers install through the mirror.
package clients

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// coldWarmAway serves the directory origin below /repo and lets a client
// fetch from it: with an empty cache; again, when the origin may not be
// touched; with the origin gone; and with the origin gone and all entries
// stale. fetch starts each time from a clean client, gets the mirror's URL
// without a slash at the end, and checks what it fetched.
func coldWarmAway(t *testing.T, origin string, fetch func(t *testing.T, url string)) {
	config := func(ttl string) string {
		return fmt.Sprintf(`http://{$ADDR} {
	bind 127.0.0.1
	mirror_cache {
		mount /repo %s {
			ttl %s
		}
	}
}
`, origin, ttl)
	}
	srv := testcaddy.Start(t, config("1h"))
	srv.WaitReady(t)
	url := srv.URL + "/repo"
	run := func(name string, fetch func(t *testing.T, url string)) {
		t.Helper()
		start := time.Now()
		if !t.Run(name, func(t *testing.T) { fetch(t, url) }) {
			t.FailNow()
		}
		t.Logf("%s: %v", name, time.Since(start).Round(time.Millisecond))
	}

	run("cold", fetch)
	cold := srv.Touches(t, "/repo")
	if cold == 0 {
		t.Fatal("the cold run did not touch the origin: this test shows nothing")
	}
	run("warm", fetch)
	if warm := srv.Touches(t, "/repo"); warm != cold {
		t.Errorf("the warm run touched the origin: %d times after the cold run, %d after the warm one", cold, warm)
	}

	away := origin + ".away"
	if err := os.Rename(origin, away); err != nil {
		t.Fatal(err)
	}
	run("away", fetch)

	if err := srv.Reload(config("1ms")); err != nil {
		t.Fatalf("reloading: %v", err)
	}
	run("stale", fetch)

	// Back again: what the cache holds is still good, and is found to be.
	if err := os.Rename(away, origin); err != nil {
		t.Fatal(err)
	}
	run("back", fetch)
}

// command runs a client with nothing in its environment but env and what
// programs need to be found and to write; it returns what the client printed
// and fails the test if the client fails.
func command(t *testing.T, dir string, env []string, name string, args ...string) string {
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
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sameFile fails the test unless got has the bytes of want.
func sameFile(t *testing.T, got, want string) {
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

// names of the files in dir that match pattern.
func names(t *testing.T, dir, pattern string) []string {
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
