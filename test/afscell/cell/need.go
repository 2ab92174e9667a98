package cell

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

const programs = "/usr/lib/openafs/"

// missing says what the machine lacks to run a cell, "" if nothing.
func missing() string {
	if runtime.GOOS != "linux" {
		return "a cell needs Linux"
	}
	for _, p := range []struct{ program, pack string }{
		{programs + "vlserver", "openafs-dbserver"},
		{programs + "ptserver", "openafs-dbserver"},
		{programs + "dafileserver", "openafs-fileserver"},
		{programs + "davolserver", "openafs-fileserver"},
		{programs + "salvageserver", "openafs-fileserver"},
		{"vos", "openafs-client"},
		{"ip", "iproute2"},
		{"nft", "nftables"},
		{"nsenter", "util-linux"},
		{"unshare", "util-linux"},
	} {
		if _, err := exec.LookPath(p.program); err != nil {
			return fmt.Sprintf("%s is not installed (make deps installs %s)", p.program, p.pack)
		}
	}
	if os.Geteuid() != 0 {
		return "a cell needs root, for network namespaces"
	}
	return ""
}

// Need skips the test unless a cell can be run here. In CI it fails the test, see
// [testcaddy.Missing].
func Need(t testing.TB) {
	t.Helper()
	if why := missing(); why != "" {
		testcaddy.Missing(t, why)
	}
}

// New starts a cell for the test, see [Start], and stops it when the test ends. It
// calls [Need]. If the test failed, the ends of the servers' logs are logged.
func New(t testing.TB, o Options) *Cell {
	t.Helper()
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := Start(ctx, o)
	if err != nil {
		t.Fatalf("starting an AFS cell: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.complaints())
		}
		if err := c.Stop(); err != nil {
			t.Errorf("stopping the AFS cell: %v", err)
		}
	})
	return c
}
