package testcaddy

import (
	"os"
	"os/exec"
	"testing"
)

// Need skips the test unless all of these programs are installed. In CI, that
// is with the environment variable CI set, a missing one fails the test.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Missing(t, p+" is not installed (make deps installs it)")
		}
	}
}

// Missing skips the test because of what the machine lacks, or fails it in
// CI, where nothing may be lacking.
func Missing(t testing.TB, why string) {
	t.Helper()
	if ci := os.Getenv("CI"); ci != "" && ci != "false" {
		t.Fatal(why)
	}
	t.Skip(why)
}
