package jobs

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestTimeout: a command that ignores SIGTERM, with a grandchild that does, is gone
// when its grace is over, and one that does not has the grace to clean up.
func TestTimeout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := testcaddy.Start(t, jobs(
		"stubborn timeout 500ms;;grace 700ms;;directory "+dir+";;"+
			shell(`trap "" TERM; (trap "" TERM; (trap "" TERM; exec sleep 300) & wait; sleep 300) & echo begun; wait; sleep 200; sleep 300`),
		"tidy timeout 500ms;;grace 20s;;directory "+dir+";;"+
			shell(`sh -c "trap \"sleep 0.3; echo tidy > tidy; exit\" TERM; while :; do sleep 0.05; done"; true`),
		"patient timeout 300ms;;"+shell("sleep 1"),
	))
	id := start(t, srv, "stubborn")
	pid := until(t, srv, "stubborn", "running", running).Current.PID
	r := ended(t, srv, "stubborn", id)
	if r.Outcome != "failed" || !strings.Contains(r.Error, "time is up: 500ms") {
		t.Errorf("%+v", r)
	}
	if took := r.Ended.Sub(r.Began); took < 1200*time.Millisecond || took > 6*time.Second {
		t.Errorf("it took %v", took)
	}
	if alive(pid) {
		t.Errorf("something of process group %d lives", pid)
	}
	r = ended(t, srv, "tidy", start(t, srv, "tidy"))
	if took := r.Ended.Sub(r.Began); r.Outcome != "failed" || took > 10*time.Second || read(dir+"/tidy") != "tidy\n" {
		t.Errorf("tidy took %v and left %q: %+v", took, read(dir+"/tidy"), r)
	}
	if out, err := srv.Run("mirror", "run", "patient", "--wait", "--no-timeout"); err != nil {
		t.Errorf("without a time-out: %v: %s", err, out)
	}
	if out, err := srv.Run("mirror", "run", "patient", "--wait"); err == nil || !strings.Contains(out, "time is up") {
		t.Errorf("with one: %v: %s", err, out)
	}
}

// TestMuchOutput: of 100 MB, the log keeps the end and no more than it may.
func TestMuchOutput(t *testing.T) {
	t.Parallel()
	srv := testcaddy.Start(t, jobs("x log 5 1MiB;;"+
		shell(`yes abcdefghijklmnopqrstuvwxyz0123456789 2>/dev/null | head -c 104857600; echo; echo the end; exit 9`)))
	r := ended(t, srv, "x", start(t, srv, "x"))
	if r.Outcome != "failed" || r.Code != 9 || !strings.HasSuffix(r.Error, "exit status 9: the end") {
		t.Errorf("%+v", r)
	}
	var size int64
	logs, _ := filepath.Glob(state(srv, "x") + "/log/*")
	for _, name := range logs {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += fi.Size()
	}
	if size < 500<<10 || size > 1<<20+100<<10 {
		t.Errorf("the logs have %d bytes", size)
	}
	out, err := srv.Run("mirror", "log", "x", "--last", "100")
	if err != nil || !strings.Contains(out, "6789\n") || !strings.Contains(out, "the end\n--- sync failed") {
		t.Errorf("the end of the log is %q, %v", out, err)
	}
	out, err = srv.Run("mirror", "log", "x", "--last", "10000000")
	if err != nil || int64(len(out)) != size {
		t.Errorf("of %d bytes in the log, %d are shown, %v", size, len(out), err)
	}
}

// TestDiskFull: with no space for states and logs a run goes on, and status says what
// cannot be kept; a server that starts then serves.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=256k"); err != nil {
		testcaddy.Missing(t, "mounting a tmpfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	tree := t.TempDir()
	config := jobs("x directory "+tree+";;"+shell("seq 20000; echo done >> did"), "y directory "+tree+";;"+shell("sleep 0.5; echo y >> did"))
	srv := testcaddy.Start(t, config, testcaddy.Env("XDG_DATA_HOME="+data))
	fill := func() {
		t.Helper()
		f, err := os.OpenFile(data+"/filler", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for n := 64 << 10; n > 0; {
			if _, err := f.Write(make([]byte, n)); err != nil {
				n /= 2
			}
		}
	}
	ended(t, srv, "x", start(t, srv, "x"))
	fill()
	r := ended(t, srv, "x", start(t, srv, "x"))
	if r.Outcome != "unchanged" || strings.Count(read(tree+"/did"), "done") != 2 {
		t.Errorf("%+v, and it did %q", r, read(tree+"/did"))
	}
	j := status(t, srv, "x")
	if !strings.Contains(j.Problem, "writing the state of a job") || !strings.Contains(j.Problem, "writing the log") || !strings.Contains(j.Problem, "no space left") {
		t.Errorf("the problem is %q", j.Problem)
	}
	if out, err := srv.Run("mirror", "status"); err != nil || !strings.Contains(out, "no space left") {
		t.Errorf("status: %v: %s", err, out)
	}
	if out, err := srv.Run("mirror", "hold", "x"); err == nil || !strings.Contains(out, "will not be after a restart") {
		t.Errorf("hold: %v: %s", err, out)
	}
	if j := status(t, srv, "x"); j.Hold == nil {
		t.Error("it is not held")
	}
	srv.Kill()
	// A server that is killed in a run has something to write at its start.
	if err := os.Remove(data + "/filler"); err != nil {
		t.Fatal(err)
	}
	srv.Restart(config)
	start(t, srv, "y")
	until(t, srv, "y", "running", running)
	killGroup(t, status(t, srv, "y").Current.PID)
	fill()
	srv.Kill()
	srv.Restart(config)
	if j := status(t, srv, "y"); j.Last == nil || j.Last.Outcome != "interrupted" || !strings.Contains(j.Problem, "no space left") {
		t.Errorf("after a restart: %+v, %+v", j, j.Last)
	}
	if r := ended(t, srv, "y", start(t, srv, "y")); r.Outcome != "unchanged" {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(data + "/filler"); err != nil {
		t.Fatal(err)
	}
	if r := ended(t, srv, "x", start(t, srv, "x")); r.Outcome != "unchanged" || status(t, srv, "x").Problem != "" {
		t.Errorf("with space again: %+v, %q", r, status(t, srv, "x").Problem)
	}
}

// TestFlock: the job and an operator's script keep out of each other's way.
func TestFlock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock := filepath.Join(dir, "lock")
	srv := testcaddy.Start(t, jobs("x lock "+lock+";;directory "+dir+";;"+shell("echo run >> did; while ! test -e go; do sleep 0.05; done")))
	script := exec.Command("flock", lock, "sleep", "60")
	script.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	killGroup(t, script.Process.Pid)
	free := func() bool { return exec.Command("flock", "-n", lock, "true").Run() == nil }
	for free() {
		time.Sleep(10 * time.Millisecond)
	}
	r := ended(t, srv, "x", start(t, srv, "x"))
	if r.Outcome != "busy" || !strings.Contains(r.Error, lock) || read(dir+"/did") != "" {
		t.Errorf("%+v, and it did %q", r, read(dir+"/did"))
	}
	if j := status(t, srv, "x"); j.Failures != 0 || j.State != "idle" {
		t.Errorf("%+v", j)
	}
	_ = syscall.Kill(-script.Process.Pid, syscall.SIGKILL)
	_ = script.Wait()

	start(t, srv, "x")
	pid := until(t, srv, "x", "running", running).Current.PID
	killGroup(t, pid)
	if free() {
		t.Error("while the job runs, a script gets the lock")
	}
	srv.Kill()
	if free() || !alive(pid) {
		t.Error("after a crash, while the job's processes live, a script gets the lock")
	}
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); !free(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lock is still held when the processes are gone")
		}
	}
}

// TestKerberos: with a k5start of ours, which tells what it is given.
func TestKerberos(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/k5start", []byte("#!/bin/sh\necho \"$@\" >> "+dir+"/argv\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	keytab := dir + "/x.keytab"
	config := jobs("x kerberos "+keytab+" service/x-mirror;;sync exec sh -c `exit ${CODE:-0}`;;release exec true", "bad kerberos "+keytab+" service/x;;sync exec sh -c `exit 7`")
	path := testcaddy.Env("PATH=" + dir + ":" + os.Getenv("PATH"))

	// Without the keytab there is no start, and a reload changes nothing.
	srv := testcaddy.Start(t, jobs("plain "+shell("true")), path)
	if err := srv.Reload(config); err == nil || !strings.Contains(err.Error(), "job bad: kerberos: keytab: open "+keytab) {
		t.Errorf("with no keytab: %v", err)
	}
	if j := status(t, srv, "plain"); j.State != "idle" || status(t, srv, "x").Name != "" {
		t.Errorf("after that: %+v", j)
	}
	if err := os.WriteFile(keytab, []byte("keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := srv.Reload(config); err != nil {
		t.Fatal(err)
	}
	if r := ended(t, srv, "x", start(t, srv, "x")); r.Outcome != "released" {
		t.Errorf("%+v", r)
	}
	tokens := ""
	if _, err := os.Stat("/proc/fs/openafs/afs_ioctl"); err == nil {
		tokens = "-t "
	}
	with := "-q -x " + tokens + "-f " + keytab + " service/x-mirror -- "
	want := with + "sh -c exit ${CODE:-0}\n" + with + "true\n"
	if got := read(dir + "/argv"); got != want {
		t.Errorf("k5start was given\n%swant\n%s", got, want)
	}
	if r := ended(t, srv, "bad", start(t, srv, "bad")); r.Outcome != "failed" || r.Code != 7 {
		t.Errorf("%+v", r)
	}
}

// TestExclusive: of two servers with one storage, one runs the job at a time. When it
// is killed, what it has started may live on: the other has its turn when the time of
// that run is up, or when it is told to take over.
func TestExclusive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := "{\n\tstorage file_system " + dir + "/storage\n" + strings.TrimPrefix(
		jobs("x exclusive;;every 50ms;;retry 50ms 50ms;;timeout 15s;;grace 1s;;directory "+dir+";;"+
			shell("mkdir turn || echo two >> twice; echo $MIRROR_HOST >> did; "+
				"while test -e long; do sleep 0.1; done; sleep 0.3; rmdir turn")+";;env MIRROR_HOST {$MIRROR_HOST}"), "{\n")
	a := testcaddy.Start(t, config, testcaddy.Env("MIRROR_HOST=a"))
	b := testcaddy.Start(t, config, testcaddy.Env("MIRROR_HOST=b"))
	turns := func() (a, b int) { s := read(dir + "/did"); return strings.Count(s, "a"), strings.Count(s, "b") }
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if x, y := turns(); x+y >= 4 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("turns: %q", read(dir+"/did"))
		}
	}
	// Killed in the middle of a run, whose command lives on for longer than the lock.
	long := dir + "/long"
	mirror := func(srv *testcaddy.Server, args ...string) {
		t.Helper()
		if out, err := srv.Run(append([]string{"mirror"}, args...)...); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	mirror(b, "hold", "x")
	until(t, b, "x", "not running", func(j job) bool { return j.Current == nil })
	if err := os.WriteFile(long, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, a, "x", "running", func(j job) bool { return running(j) && time.Since(j.Current.Began) > time.Second })
	mirror(b, "resume", "x")
	a.Kill()
	killed := time.Now()
	_, before := turns()
	turn := func(within time.Duration) {
		t.Helper()
		for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			if _, y := turns(); y > before {
				before = y
				return
			}
			if time.Since(start) > within {
				t.Fatalf("the other server never has its turn: %+v", status(t, b, "x").Last)
			}
		}
	}
	held := until(t, b, "x", "what it waits for", func(j job) bool { return j.Last != nil && strings.Contains(j.Last.Error, "--take-over") })
	if held.Last.Outcome != "busy" || held.Failures != 0 {
		t.Errorf("waiting counts as a failure: %+v, %+v", held, held.Last)
	}
	if err := os.Remove(long); err != nil { // and the command ends
		t.Fatal(err)
	}
	turn(60 * time.Second)
	t.Logf("the other server ran the job %v after a kill", time.Since(killed).Round(100*time.Millisecond))
	if since := time.Since(killed); since < 10*time.Second {
		t.Errorf("the other server ran the job %v after a kill, before the time of the run was up", since)
	}

	// Started again, the one that was killed has its turns.
	mirror(b, "hold", "x")
	a.Restart(config)
	x, _ := turns()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if now, _ := turns(); now > x {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server that was killed has no turn: %+v", status(t, a, "x").Last)
		}
	}
	// Killed once more, and somebody knows that nothing of it is left.
	if err := os.WriteFile(long, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, a, "x", "running", func(j job) bool { return running(j) && time.Since(j.Current.Began) > time.Second })
	a.Kill()
	if err := os.Remove(long); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(dir + "/turn"); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the command of a server that was killed does not end")
		}
	}
	_, before = turns()
	if out, err := b.Run("mirror", "run", "x", "--wait"); err == nil || !strings.Contains(out, "--take-over") {
		t.Errorf("not taking over: %v: %s", err, out)
	}
	if out, err := b.Run("mirror", "run", "x", "--wait", "--take-over"); err != nil {
		t.Errorf("taking over: %v: %s", err, out)
	}
	turn(time.Second)
	if j := status(t, b, "x"); j.Failures != 0 {
		t.Errorf("waiting counts as a failure: %+v, %+v", j, j.Last)
	}
	if s := read(dir + "/twice"); s != "" {
		t.Error("it ran twice at once")
	}
}

// TestThousand is what jobs cost that have nothing to do.
func TestThousand(t *testing.T) {
	const n = 1000
	list := make([]string, n)
	for k := range list {
		list[k] = fmt.Sprintf("job%d cron `%d %d * * *`;;jitter 30m;;directory /srv/%d;;%s;;gate exists dists;;release exec true", k, k%60, (time.Now().UTC().Hour()+3)%24, k, shell("true"))
	}
	srv := testcaddy.Start(t, jobs("one "+shell("true")))
	time.Sleep(time.Second)
	memory, _ := usage(t, srv.Pid())
	began := time.Now()
	if err := srv.Reload(jobs(list...)); err != nil {
		t.Fatal(err)
	}
	cold := time.Since(began)
	time.Sleep(time.Second)
	more, cpu := usage(t, srv.Pid())
	const watch = 3 * time.Second
	time.Sleep(watch)
	_, cpu2 := usage(t, srv.Pid())
	idle := 100 * float64(cpu2-cpu) / float64(watch)
	per := (more - memory) / n
	srv.Stop()

	// With all the history that a job can have.
	began = time.Now().Add(-time.Hour).Truncate(time.Second)
	var runs []string
	for k := range 30 {
		text, _ := json.Marshal(run{
			ID: fmt.Sprint("run", k), Trigger: "schedule", Began: began, Ended: began, Outcome: "failed", Stage: "release",
			Error: strings.Repeat("x", 300), Stages: map[string]float64{"sync": 1, "gate exists": 1, "release": 1},
		})
		runs = append(runs, string(text))
	}
	for k := range list {
		text := `{"hold":{"since":"2026-01-01T00:00:00Z"},"runs":[` + strings.Join(runs, ",") + `]}`
		if err := os.WriteFile(state(srv, fmt.Sprint("job", k))+"/state.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	began = time.Now()
	srv.Restart(jobs(list...))
	warm := time.Since(began)
	time.Sleep(time.Second)
	full, _ := usage(t, srv.Pid())
	full = (full - memory) / n
	t.Logf("%d jobs: reload with new ones %v, start with all their history %v, %d KiB a job, with history %d, idle CPU %.2f %%",
		n, cold.Round(time.Millisecond), warm.Round(time.Millisecond), per>>10, full>>10, idle)
	if cold > 3*time.Second || warm > 3*time.Second || per > 50<<10 || full > 100<<10 || idle > 2 {
		t.Error("that is too much")
	}
}

// usage is the anonymous memory and the CPU time of a process.
func usage(t *testing.T, pid int) (memory int64, cpu time.Duration) {
	t.Helper()
	for line := range strings.Lines(read(fmt.Sprintf("/proc/%d/status", pid))) {
		if text, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			memory = kb << 10
		}
	}
	stat := read(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	for _, text := range f[11:13] {
		ticks, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	return memory, cpu
}

// TestDirectory: two jobs with one directory do not write to it at once, and a sync
// that leaves a process behind is not released.
func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	turn := "directory " + dir + ";;every 10ms;;" + shell("mkdir turn || echo two >> twice; echo $MIRROR_JOB >> did; sleep 0.05; rmdir turn")
	srv := testcaddy.Start(t, jobs("x "+turn, "y "+turn,
		"daemon directory "+dir+".rw;;"+shell("setsid sh -c \"exec >/dev/null 2>&1; echo \\$\\$ > pid; sleep 300\" & while ! test -s pid; do sleep 0.01; done")+
			";;release snapshot "+dir+".ro"))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		did := read(dir + "/did")
		if strings.Contains(did, "x") && strings.Contains(did, "y") && len(did) > 40 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("turns: %q", did)
		}
	}
	if s := read(dir + "/twice"); s != "" {
		t.Error("two jobs were in one directory at once")
	}

	if err := os.Mkdir(dir+".rw", 0o700); err != nil {
		t.Fatal(err)
	}
	r := ended(t, srv, "daemon", start(t, srv, "daemon"))
	pid, err := strconv.Atoi(strings.TrimSpace(read(dir + ".rw/pid")))
	if err != nil || pid <= 1 {
		t.Fatalf("there is no process: %v: %+v", err, r)
	}
	killGroup(t, pid)
	if r.Outcome != "failed" || !strings.Contains(r.Error, fmt.Sprintf("are still there: %d (sh)", pid)) {
		t.Errorf("a sync that has left process %d: %+v", pid, r)
	}
	id := start(t, srv, "daemon")
	until(t, srv, "daemon", "waiting for the process", func(j job) bool {
		return j.State == "waiting" && strings.Contains(j.Waits, fmt.Sprintf("%d (sh)", pid))
	})
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	if err := os.Remove(dir + ".rw/pid"); err != nil {
		t.Fatal(err)
	}
	until(t, srv, "daemon", "running", func(j job) bool { return j.Current != nil && j.Current.ID == id || j.Last.ID == id })
	ended(t, srv, "daemon", id)
	if again, err := strconv.Atoi(strings.TrimSpace(read(dir + ".rw/pid"))); err == nil && again > 1 {
		killGroup(t, again)
	}
}
