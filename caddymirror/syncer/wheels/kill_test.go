package wheels

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/syncer/wheels/wheelstest"
)

// TestKill: whatever Caddy does when it is killed, its builds end with it, and the next run
// makes what is missing, and nothing twice.
func TestKill(t *testing.T) {
	x := newFixture(t)
	big := strings.NewReplacer("@NAME@", "big", "@VERSION@", "1.0", `b"name = %r\n" % NAME.encode()`, "__import__('os').urandom(40 << 20)").Replace(wheelstest.Backend)
	// A build tells that it runs by asking the index for a file.
	const tells = "import os, time, urllib.request\ntry: urllib.request.urlopen(os.environ['PIP_INDEX_URL'].replace('simple/', 'files/building')).read()\nexcept OSError: pass\n"
	x.index.Sdist("big", "1.0", map[string]string{"backend.py": big, "evil.py": tells})
	x.index.Sdist("small", "1.0", map[string]string{"evil.py": tells})
	x.wants("big==1.0", "small==1.0")
	x.w.Parallel = 1
	a := alone{*x.w, x.dir, x.state}
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	// until runs the job until it comes to a stage, and kills it there. It returns what the
	// tree has then.
	until := func(stage string, come func(kill func())) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0], runWord, config)
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		killed := make(chan struct{})
		var once sync.Once
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		come(func() {
			once.Do(func() {
				close(killed) // before Wait can return
				_ = cmd.Process.Kill()
			})
		})
		_ = cmd.Wait()
		x.index.Slow(nil)
		select {
		case <-killed:
		default:
			t.Fatalf("%s: it was not killed there: %v %s", stage, cmd.ProcessState, said.String())
		}
		for range 100 {
			out, err := exec.CommandContext(t.Context(), "pgrep", "-f", x.w.WorkDir).Output()
			if err != nil {
				break
			}
			said.Reset()
			said.Write(out)
			time.Sleep(100 * time.Millisecond)
		}
		if out, err := exec.CommandContext(t.Context(), "pgrep", "-af", x.w.WorkDir).Output(); err == nil {
			t.Errorf("%s: these live: %s", stage, out)
		}
		for _, name := range x.tree() {
			if !strings.HasSuffix(name, ".whl") && !isPart(filepath.Base(name)) {
				t.Errorf("%s: the tree has %s", stage, name)
			}
		}
	}
	asked := func(file string) func(func()) {
		return func(kill func()) {
			x.index.Slow(func(f string) {
				if f == file {
					kill()
				}
			})
		}
	}
	until("python", func(kill func()) { time.AfterFunc(500*time.Millisecond, kill) })
	until("page", asked("big/"))
	until("download", asked("big-1.0.tar.gz"))
	until("build", asked("building"))
	until("place", func(kill func()) {
		go func() {
			defer kill() // at the latest, so that the test ends
			for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if len(x.tree()) > 0 {
					return
				}
			}
		}()
	})
	if len(x.tree()) == 0 {
		t.Error("it was killed before it placed anything")
	}
	part := filepath.Join(x.dir, "debian-12-x86_64/b/big/.big-1.0-py3-none-any.whl.part")
	if err := errors.Join(os.MkdirAll(filepath.Dir(part), 0o755), os.WriteFile(part, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := x.sync(t.Context()); err != nil {
		t.Fatalf("%v\n%s%s", err, x.printed(), x.logs())
	}
	x.has("debian-12-x86_64/b/big/big-1.0-py3-none-any.whl", "debian-12-x86_64/s/small/small-1.0-py3-none-any.whl")
	x.good("2 published")
}
