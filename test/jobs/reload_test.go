package jobs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestReload in every state: a run goes on with its old settings, whatever becomes of
// the job, and the next one has the new.
func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := func(what string) string {
		return shell("echo " + what + " >> $MIRROR_JOB.did; while ! test -e $MIRROR_JOB.go; do sleep 0.03; done; rm $MIRROR_JOB.go; test ! -e $MIRROR_JOB.fail")
	}
	old := jobs("same "+script("old"), "changed "+script("old"), "renamed directory "+dir+"/renamed;;"+shell("echo old >> did; while ! test -e go; do sleep 0.03; done"),
		"removed "+script("old"), "idle "+script("old"), "held every 1h;;"+script("old"), "failing retry 1h 1h;;"+shell("exit 1"))
	if err := os.Mkdir(dir+"/renamed", 0o700); err != nil {
		t.Fatal(err)
	}
	srv := testcaddy.Start(t, jobs("held "+shell("true")), testcaddy.WorkDir(dir))
	if _, err := srv.Run("mirror", "hold", "held", "--reason", "because"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Reload(old); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, name := range []string{"same", "changed", "renamed", "removed"} {
		ids[name] = start(t, srv, name)
	}
	ended(t, srv, "failing", start(t, srv, "failing"))
	for name := range ids {
		until(t, srv, name, "running", running)
	}

	// What must change nothing: a reload that fails in another app or module, and a
	// validation beside.
	fresh := "fresh every 1h;;" + shell("echo fresh >> fresh.did")
	bad := strings.TrimSuffix(jobs("changed "+script("bad"), fresh), "\n")
	for _, broken := range []string{
		bad + "\nhttp://{$ADDR} {\n\tbind 192.0.2.1\n\trespond hello\n}\n", // not an address of ours: the server cannot start
		strings.Replace(bad, "job fresh {", "job fresh {\n\t\t\trelease snapshot relative", 1),
		strings.Replace(bad, "job fresh {", "job fresh {\n\t\t\tkerberos /nonexistent/keytab me", 1),
	} {
		for range 3 {
			if err := srv.Reload(broken); err == nil {
				t.Fatalf("this should fail:\n%s", broken)
			}
		}
	}
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := srv.Run("validate", "--adapter", "caddyfile", "--config", file); err != nil {
		t.Errorf("validate: %v: %s", err, out)
	}
	time.Sleep(300 * time.Millisecond)
	if s := read(dir + "/fresh.did"); s != "" {
		t.Error("a job of a config that failed has run")
	}
	for name, id := range ids {
		if j := status(t, srv, name); j.State != "running" || j.Current.ID != id {
			t.Errorf("%s after reloads that failed: %+v", name, j)
		}
	}

	now := jobs("same "+script("old"), "changed "+script("new"), "other every 1h;;directory "+dir+"/renamed;;"+shell("echo other >> did"),
		"idle "+script("new"), "held every 1h;;"+script("new"), "failing retry 1h 1h;;"+shell("true"))
	if err := srv.Reload(now); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"same": "running", "changed": "running", "renamed": "leaving", "removed": "leaving", "idle": "idle", "held": "held", "failing": "failing"} {
		if j := status(t, srv, name); j.State != want {
			t.Errorf("%s is %s: %+v", name, j.State, j)
		}
	}
	if j := status(t, srv, "held"); j.Hold == nil || j.Hold.Reason != "because" || !j.Next.IsZero() {
		t.Errorf("held: %+v", j)
	}
	if j := until(t, srv, "other", "waiting", waiting); !strings.Contains(j.Waits, "job renamed runs") {
		t.Errorf("the renamed job waits for %q", j.Waits)
	}
	// No mirror jobs at all: what runs goes on even so.
	if err := srv.Reload("{\n\tmirror {\n\t}\n}\n"); err != nil {
		t.Fatal(err)
	}
	if j := status(t, srv, "changed"); j.State != "leaving" {
		t.Errorf("with no jobs configured, a running one is %+v", j)
	}
	if out, err := srv.Run("mirror", "status"); err != nil || !strings.Contains(out, "leaving") {
		t.Errorf("status: %v: %s", err, out)
	}
	if err := srv.Reload(now); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"same", "changed", "removed", "renamed/"} {
		if err := os.WriteFile(dir+"/"+name+strings.TrimPrefix(".go", strings.Repeat(".", strings.Count(name, "/"))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"same", "changed"} {
		if r := ended(t, srv, name, ids[name]); r.Outcome != "unchanged" {
			t.Errorf("%s ended with %+v", name, r)
		}
	}
	for _, name := range []string{"removed", "renamed"} {
		until(t, srv, name, "gone", func(j job) bool { return j.Name == "" })
	}
	until(t, srv, "other", "idle", func(j job) bool { return idle(j) && j.Last != nil })
	if got := read(dir + "/renamed/did"); got != "old\nother\n" {
		t.Errorf("in the tree of the renamed job: %q", got)
	}
	start(t, srv, "changed")
	// It is running from before its command is.
	until(t, srv, "changed", "in its command", func(j job) bool { return running(j) && read(dir+"/changed.did") != "old\n" })
	if got := read(dir + "/changed.did"); got != "old\nnew\n" {
		t.Errorf("the changed job did %q", got)
	}
	if r := ended(t, srv, "failing", start(t, srv, "failing")); r.Outcome != "unchanged" || status(t, srv, "failing").State != "idle" {
		t.Errorf("the failing job, mended: %+v", r)
	}
	if err := os.WriteFile(dir+"/changed.go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestStorm: reloads, runs by hand and by the schedule, as fast as they come, never
// have a job run twice at once.
func TestStorm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := func(n int) string {
		return jobs(fmt.Sprintf("x every 30ms;;retry 30ms 30ms;;env N %d;;directory %s;;%s", n, dir,
			shell("mkdir turn || echo two >> twice; echo $N >> did; sleep 0.05; rmdir turn")))
	}
	srv := testcaddy.Start(t, config(0))
	var wg sync.WaitGroup
	stop := time.Now().Add(4 * time.Second)
	wg.Go(func() {
		for n := 1; time.Now().Before(stop); n++ {
			// The admin endpoint is replaced, and may be gone before it has answered.
			if err := srv.Reload(config(n)); err != nil && strings.Contains(err.Error(), "/load: ") {
				t.Error(err)
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			for time.Now().Before(stop) {
				// While the admin endpoint is replaced, it may not answer.
				_, _ = srv.Run("mirror", "run", "x")
			}
		})
	}
	wg.Wait()
	runs := strings.Count(read(dir+"/did"), "\n")
	t.Logf("%d runs", runs)
	if read(dir+"/twice") != "" || runs < 5 {
		t.Errorf("it ran twice at once, or seldom: %d runs", runs)
	}
	if err := srv.Reload(jobs("y " + shell("true"))); err != nil {
		t.Fatal(err)
	}
	until(t, srv, "x", "gone", func(j job) bool { return j.Name == "" })
}

// TestMissing: a job whose release somebody has removed does not wait for its time.
func TestMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := jobs("x every 10h;;directory " + dir + ";;" + shell("echo 1 > file.new; mv file.new file") + ";;release snapshot " + dir + ".ro")
	srv := testcaddy.Start(t, config)
	first := until(t, srv, "x", "released", func(j job) bool { return j.Last != nil })
	if first.Last.Outcome != "released" || time.Until(first.Next) < 9*time.Hour {
		t.Fatalf("%+v, %+v", first, first.Last)
	}
	srv.Stop()
	srv.Restart(config)
	if j := status(t, srv, "x"); j.State != "idle" || j.Last.ID != first.Last.ID {
		t.Errorf("the release is there: %+v", j)
	}
	if err := os.Remove(dir + ".ro"); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	srv.Restart(config)
	again := until(t, srv, "x", "released", func(j job) bool { return j.State == "idle" && j.Last.ID != first.Last.ID })
	if again.Last.Outcome != "released" || again.Last.Trigger != "schedule" || read(dir+".ro/file") != "1\n" {
		t.Errorf("%+v, %+v", again, again.Last)
	}
}
