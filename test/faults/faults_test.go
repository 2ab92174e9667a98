// Package faults breaks things under a running mirror: processes, disks,
// origins, configurations and clients. Whatever it breaks, no response may
// have a wrong byte.
package faults

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// namespaced is set for a process that has a mount namespace of its own.
const namespaced = "MIRROR_FAULTS_NAMESPACED"

// TestMain gives the tests a mount namespace of their own: what they mount is
// seen by no other process and is gone with the last of theirs, however that
// ends. Where this is not allowed, tests that mount are skipped.
func TestMain(m *testing.M) {
	unshare, err := exec.LookPath("unshare")
	if err == nil && runtime.GOOS == "linux" && os.Getenv(namespaced) == "" &&
		exec.Command(unshare, "--mount", "--propagation", "private", "true").Run() == nil {
		args := append([]string{"unshare", "--mount", "--propagation", "private", "--", os.Args[0]}, os.Args[1:]...)
		err := syscall.Exec(unshare, args, append(os.Environ(), namespaced+"=1"))
		fmt.Fprintln(os.Stderr, "entering a mount namespace:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// needMounts skips the test where it cannot mount.
func needMounts(t testing.TB) {
	t.Helper()
	if os.Getenv(namespaced) == "" {
		testcaddy.Missing(t, "a mount namespace of our own cannot be had: that takes root and unshare(1)")
	}
}

// needProc skips the test where processes cannot be looked at from outside.
func needProc(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		testcaddy.Missing(t, "there is no /proc")
	}
}

// site is a Caddyfile with one cache, whose options are cache, and one site,
// with these mounts.
func site(cache string, mounts ...string) string {
	return fmt.Sprintf(`{
	mirror {
		cache {
			%s
		}
	}
}
http://{$ADDR} {
	bind 127.0.0.1
	mirror_cache {
		%s
	}
}
`, lines(cache), lines(mounts...))
}

// mount is a mount of a site.
func mount(prefix, origin string, options ...string) string {
	return fmt.Sprintf("mount %s %s {\n%s\n}", prefix, origin, lines(options...))
}

// lines puts the options on lines of their own, where they are parted by
// semicolons.
func lines(options ...string) string {
	return strings.ReplaceAll(strings.Join(options, "\n"), ";", "\n")
}
