package jobs

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestExit: a server that is ended ends what runs, within its grace, and says so; a
// command that is to finish it leaves alone, and the next server waits for that.
func TestExit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := jobs(
		"plain grace 5s;;"+shell("trap \"echo term >> plain; exit 1\" TERM; echo begun; while :; do sleep 0.05; done"),
		"stubborn grace 500ms;;"+shell(`trap "" TERM; (trap "" TERM; sleep 300) & echo begun; sleep 300; sleep 300`),
		"publish grace 700ms;;release exec `echo releasing; while ! test -e go; do sleep 0.05; done; echo really; echo out >/dev/stderr; echo published >> published` {;;shell;;finish;;}",
		"quick grace 20s;;release exec `sleep 1; echo done >> quick` {;;shell;;finish;;}",
	)
	srv := testcaddy.Start(t, config, testcaddy.WorkDir(dir))
	pids := map[string]int{}
	for _, name := range []string{"plain", "stubborn", "publish", "quick"} {
		start(t, srv, name)
		pids[name] = until(t, srv, name, "running", running).Current.PID
		killGroup(t, pids[name])
	}
	began := time.Now()
	if _, err := srv.Run("mirror", "hold", "plain", "--reason", "for later"); err != nil {
		t.Fatal(err)
	}
	done := srv.Done()
	srv.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(28 * time.Second):
		t.Fatal("the server does not end")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, name := range []string{"plain", "stubborn"} {
		if alive(pids[name]) {
			t.Errorf("something of %s lives", name)
		}
	}
	if read(dir+"/plain") != "term\n" {
		t.Errorf("the plain one was not asked to end: %q", read(dir+"/plain"))
	}
	if !alive(pids["publish"]) || read(dir+"/quick") != "done\n" {
		t.Errorf("what is to finish was not left to: %t, %q", alive(pids["publish"]), read(dir+"/quick"))
	}

	srv.Restart(config)
	for name, want := range map[string]string{"plain": "interrupted", "stubborn": "interrupted", "publish": "interrupted", "quick": "released"} {
		j := status(t, srv, name)
		if j.Last == nil || j.Last.Outcome != want || want == "interrupted" && !strings.Contains(j.Last.Error, "the server is ended") {
			t.Errorf("%s: %+v", name, j.Last)
		}
	}
	if j := status(t, srv, "plain"); j.Hold == nil || j.Hold.Reason != "for later" {
		t.Errorf("the hold is %+v", j.Hold)
	}
	id := start(t, srv, "publish")
	j := until(t, srv, "publish", "waiting", waiting)
	if !strings.Contains(j.Waits, "process group") || j.Last.PID != pids["publish"] || !strings.Contains(j.Last.Error, "left to finish") {
		t.Errorf("it waits for %q; the last run is %+v", j.Waits, j.Last)
	}
	if out, err := srv.Run("mirror", "status"); err != nil || !strings.Contains(out, j.Waits) {
		t.Errorf("status: %v: %s", err, out)
	}
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := ended(t, srv, "publish", id); r.Outcome != "released" {
		t.Errorf("%+v", r)
	}
	if got := read(dir + "/published"); strings.Count(got, "\n") != 2 {
		t.Errorf("published: %q", got)
	}
}

// TestKill: however often and whenever the server is killed, the next one knows what
// was interrupted, waits for what lives of it, and then runs.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := jobs(
		"busy every 20ms;;retry 20ms 20ms;;"+shell("mkdir busy || echo busy >> twice; sleep 0.03; rmdir busy"),
		"long "+shell("mkdir long || echo long >> twice; echo x >> long.did; while ! test -e go; do sleep 0.03; done; rmdir long"),
		"held every 20ms;;"+shell("echo held >> twice"),
		"failing every 10h;;retry 10h 10h;;"+shell("exit 1"),
	)
	srv := testcaddy.Start(t, jobs("held "+shell("true")), testcaddy.WorkDir(dir))
	if _, err := srv.Run("mirror", "hold", "held", "--reason", "moving"); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	srv.Restart(config)
	until(t, srv, "failing", "failing", func(j job) bool { return j.State == "failing" })
	start(t, srv, "long")
	first := until(t, srv, "long", "running", running).Current
	killGroup(t, first.PID)
	interrupted := 0
	for n := range 12 {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		busy := status(t, srv, "busy")
		srv.Kill()
		for _, name := range []string{"busy", "long", "held", "failing"} {
			text, err := os.ReadFile(filepath.Join(state(srv, name), "state.json"))
			if err != nil || !json.Valid(text) {
				t.Fatalf("after kill %d, the state of %s is %q, %v", n, name, text, err)
			}
		}
		srv.Restart(config)
		long := status(t, srv, "long")
		if long.Last == nil || long.Last.Outcome != "interrupted" || long.Last.ID != first.ID || long.Last.PID != first.PID || long.Last.Stage != "sync" {
			t.Fatalf("after kill %d, the run that it interrupted is %+v", n, long.Last)
		}
		if j := status(t, srv, "held"); j.State != "held" || j.Hold.Reason != "moving" {
			t.Errorf("after kill %d: held is %+v", n, j)
		}
		if j := status(t, srv, "failing"); j.State != "failing" || j.Failures != 1 || j.Next.Before(time.Now().Add(time.Hour)) {
			t.Errorf("after kill %d: failing is %+v", n, j)
		}
		if busy.Current != nil {
			j := until(t, srv, "busy", "known", func(j job) bool { return j.Last != nil })
			if j.Last.Outcome == "interrupted" {
				interrupted++
			}
		}
	}
	id := start(t, srv, "long")
	j := until(t, srv, "long", "waiting", waiting)
	if !strings.Contains(j.Waits, first.ID) {
		t.Errorf("it waits for %q", j.Waits)
	}
	// Asked again, it is there already; the answer to the first is not lost.
	if out, err := srv.Run("mirror", "run", "long"); err == nil || !strings.Contains(out, id) {
		t.Errorf("run: %v: %s", err, out)
	}
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := ended(t, srv, "long", id); r.Outcome != "unchanged" {
		t.Errorf("%+v", r)
	}
	until(t, srv, "busy", "good", func(j job) bool { return j.Last != nil && j.Last.Outcome == "unchanged" })
	if s := read(dir + "/twice"); s != "" {
		t.Errorf("ran twice at once, or on hold: %q", s)
	}
	if left, _ := filepath.Glob(state(srv, "*") + "/*tmp*"); len(left) > 4 {
		t.Errorf("left over: %v", left)
	}
	t.Logf("%d runs were seen as interrupted", interrupted)
}

// TestTwoServers: one directory of state is one server's.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	srv := testcaddy.Start(t, jobs("x "+shell("true")))
	other := testcaddy.Start(t, "{\n}\n", testcaddy.Env("XDG_DATA_HOME="+srv.Home+"/data"))
	if err := other.Reload(jobs("x " + shell("true"))); err == nil || !strings.Contains(err.Error(), "belong to another Caddy") {
		t.Errorf("a second server: %v", err)
	}
	srv.Kill()
	if err := other.Reload(jobs("x " + shell("true"))); err != nil {
		t.Errorf("once the first is gone: %v", err)
	}
}

// TestKillRenamed: what a killed server has started holds back all that works at the
// same places, under whatever names, and also if it has closed all that it inherited.
func TestKillRenamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"tree", "sub/in", "ghost"} {
		if err := os.MkdirAll(dir+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("tree", dir+"/alias"); err != nil {
		t.Fatal(err)
	}
	slow := shell("echo begun >> did; while ! test -e go; do sleep 0.05; done; echo ended >> did")
	// As ssh does.
	closing := "sync exec bash -c `for fd in /proc/self/fd/*; do fd=${fd##*/}; [ $fd -gt 2 ] && eval \"exec $fd>&-\"; done 2>/dev/null; echo begun >> did; while ! test -e go; do sleep 0.05; done`"
	srv := testcaddy.Start(t, jobs(
		"old directory "+dir+"/tree;;"+slow,
		"target "+shell("true")+";;release exec `while ! test -e "+dir+"/go; do sleep 0.05; done` {;;shell;;releases web;;}",
		"ghost directory "+dir+"/ghost;;"+closing,
	))
	for _, name := range []string{"old", "target", "ghost"} {
		start(t, srv, name)
		killGroup(t, until(t, srv, name, "running", func(j job) bool { return running(j) && j.Current.PID != 0 }).Current.PID)
	}
	until(t, srv, "target", "releasing", func(j job) bool { return running(j) && j.Current.Stage == "release" && j.Current.PID != 0 })
	killGroup(t, status(t, srv, "target").Current.PID)
	until(t, srv, "ghost", "in its command", func(job) bool { return read(dir+"/ghost/did") != "" })
	srv.Kill()
	config := jobs(
		"new directory "+dir+"/alias;;"+shell("echo new >> did"),
		"aim "+shell("true")+";;release exec true {;;releases web;;}",
		"ghost directory "+dir+"/ghost;;"+shell("echo again >> did"),
		"free "+shell("true"),
	)
	srv.Restart(config)
	for _, name := range []string{"new", "aim", "ghost"} {
		start(t, srv, name)
		j := until(t, srv, name, "waiting", func(j job) bool { return j.State == "waiting" })
		if !strings.Contains(j.Waits, "are still") {
			t.Errorf("%s waits for %q", name, j.Waits)
		}
	}
	if r := ended(t, srv, "free", start(t, srv, "free")); r.Outcome != "unchanged" {
		t.Errorf("one that has nothing to do with it: %+v", r)
	}
	for _, name := range []string{"/go", "/tree/go", "/ghost/go"} {
		if err := os.WriteFile(dir+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"new", "aim", "ghost"} {
		until(t, srv, name, "done", func(j job) bool { return idle(j) && j.Last != nil && j.Last.Outcome != "interrupted" })
	}
	if got := read(dir + "/tree/did"); got != "begun\nended\nnew\n" {
		t.Errorf("in the tree: %q", got)
	}
	if got := read(dir + "/ghost/did"); got != "begun\nagain\n" {
		t.Errorf("by the ghost: %q", got)
	}
}

// TestKillStages: a server that is killed at any stage of a job leaves one whole
// release, and the next says at which stage it was.
func TestKillStages(t *testing.T) {
	t.Parallel()
	const files = 250
	dir := t.TempDir()
	config := jobs("x exclusive;;directory " + dir + "/rw;;timestamp;;" +
		shell(fmt.Sprintf("n=$(($(cat 1 2>/dev/null || echo 0)+1)); i=1; while [ $i -le %d ]; do echo $n > new; mv new $i; i=$((i+1)); done", files)) +
		";;gate exec sleep 0.1;;gate exists 1;;release snapshot " + dir + "/ro")
	config = strings.Replace(config, "{\n", "{\n\tstorage file_system "+dir+"/storage\n", 1)
	if err := os.Mkdir(dir+"/rw", 0o700); err != nil {
		t.Fatal(err)
	}
	srv := testcaddy.Start(t, config)
	if r := ended(t, srv, "x", start(t, srv, "x")); r.Outcome != "released" {
		t.Fatalf("%+v", r)
	}
	stages := map[string]int{}
	for n, stage := range []string{"lock", "sync", "gate exec", "gate exists", "release", "release", "release", "release"} {
		id := start(t, srv, "x")
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if j := status(t, srv, "x"); j.Current != nil && j.Current.Stage == stage || j.Current == nil && j.Last.ID == id {
				break
			}
		}
		time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
		srv.Kill()
		release := ""
		for k := 1; k <= files; k++ {
			text := read(fmt.Sprint(dir, "/ro/", k))
			if release == "" {
				release = text
			}
			if text == "" || text != release {
				t.Fatalf("after kill %d, file %d of the release has %q, others %q", n, k, text, release)
			}
		}
		srv.Restart(config)
		j := until(t, srv, "x", "there", func(j job) bool { return j.Last != nil })
		switch {
		case j.Last.ID == id && j.Last.Outcome == "interrupted":
			stages[j.Last.Stage]++
		case j.Last.ID == id && j.Last.Outcome == "released":
			stages["over"]++
		case j.Last.ID == id:
			t.Errorf("after kill %d: %+v", n, j.Last)
		default:
			stages["not begun"]++
		}
	}
	t.Logf("killed in %v", stages)
	// What is on the disk may be a stage behind.
	if stages["release"] == 0 || len(stages) < 3 {
		t.Error("the kills were not all along the run")
	}
	if r := ended(t, srv, "x", start(t, srv, "x")); r.Outcome != "released" || read(dir+"/ro/1") != read(dir+"/rw/1") {
		t.Errorf("in the end: %+v", r)
	}
	if left, _ := filepath.Glob(dir + "/ro.releases/.[no]*"); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
