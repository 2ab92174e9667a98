package faults

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestHangingTree: a job whose tree is on a file system that hangs says so, holds up no
// other, and goes on when it is well again.
func TestHangingTree(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := bind(t, t.TempDir(), "-o", "attr_timeout=0,entry_timeout=0")
	if err := os.Mkdir(f.dir+"/tree", 0o700); err != nil {
		t.Fatal(err)
	}
	f.hang(t)
	srv := testcaddy.Start(t, "{\n\tmirror {\n"+
		"\t\tjob stuck {\n\t\t\tevery 1h\n\t\t\tdirectory "+f.dir+"/tree\n\t\t\tsync exec true\n\t\t}\n"+
		"\t\tjob free {\n\t\t\tsync exec true\n\t\t}\n\t}\n}\n")
	t.Cleanup(func() { f.resume(t) }) // before it ends
	status := func() string {
		t.Helper()
		start := time.Now()
		out, err := srv.Run("mirror", "status")
		if took := time.Since(start); err != nil || took > 5*time.Second {
			t.Fatalf("status: %v, %v\n%s", took, err, out)
		}
		return out
	}
	if out, err := srv.Run("mirror", "run", "free", "--wait"); err != nil {
		t.Errorf("a job beside: %v: %s", err, out)
	}
	wait(t, 30*time.Second, "the job says what it waits for", func() bool {
		return strings.Contains(status(), "stuck  waiting") && strings.Contains(status(), "does not answer")
	})
	f.resume(t)
	wait(t, 30*time.Second, "both jobs have run", func() bool { return strings.Count(status(), "unchanged, ") == 2 })
}
