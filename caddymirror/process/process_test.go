package process

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sh(script string) Command {
	return Command{Name: "/bin/sh", Args: []string{"-c", script}, Env: os.Environ()}
}

func TestOutput(t *testing.T) {
	var out bytes.Buffer
	var lines []string
	c := sh("echo one; echo two >&2; printf three")
	c.Out = &out
	c.Line = func(l string) { lines = append(lines, l) }
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if want := "one\ntwo\nthree"; out.String() != want || r.Tail != want || r.Bytes != int64(len(want)) {
		t.Errorf("printed %q, tail %q, %d bytes", &out, r.Tail, r.Bytes)
	}
	if strings.Join(lines, "|") != "one|two|three" {
		t.Errorf("lines are %q", lines)
	}
}

func TestMuchOutput(t *testing.T) {
	r, err := Run(t.Context(), sh("head -c 104857600 /dev/zero; echo; echo end"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Bytes != 100<<20+5 || len(r.Tail) > tailSize || !strings.HasSuffix(r.Tail, "\nend\n") {
		t.Errorf("%d bytes, a tail of %d", r.Bytes, len(r.Tail))
	}
}

func TestFailure(t *testing.T) {
	r, err := Run(t.Context(), sh("echo disk is full; exit 3"))
	exit, ok := errors.AsType[*ExitError](err)
	if !ok || r.Code != 3 || exit.Status.ExitStatus() != 3 || !strings.Contains(err.Error(), "exit status 3: disk is full") {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Run(t.Context(), sh("kill -9 $$")); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("killed: %v", err)
	}
	if _, err := Run(t.Context(), Command{Name: "/nonexistent"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such program: %v", err)
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 200 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d lives", pid)
}

// zombie reports whether a process has ended that nobody has reaped.
func zombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") Z ")
}

// TestStubborn: a process that ignores SIGTERM, with a grandchild that does, too.
func TestStubborn(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	c := sh(`trap "" TERM; (trap "" TERM; echo $$ > child; sleep 100) & echo started; sleep 100; sleep 100`)
	c.Dir, c.Grace = dir, 300*time.Millisecond
	var pid int
	c.Started = func(p int) { pid = p }
	errLate := errors.New("time is up")
	c.Line = func(string) { cancel(errLate) }
	start := time.Now()
	_, err := Run(ctx, c)
	if !errors.Is(err, errLate) {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(start); took < c.Grace || took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	gone(t, pid)
	if b, err := os.ReadFile(filepath.Join(dir, "child")); err == nil {
		child, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		gone(t, child)
	}
}

// TestLeftBehind: children that hold the output when their parent has ended.
func TestLeftBehind(t *testing.T) {
	start := time.Now()
	r, err := Run(t.Context(), sh("sleep 100 & echo $!"))
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*drain+time.Second {
		t.Errorf("it took %v", took)
	}
	child, err := strconv.Atoi(strings.TrimSpace(r.Tail))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, child)
}

// TestEscaped: a child in a session of its own is out of reach, and is not waited
// for.
func TestEscaped(t *testing.T) {
	start := time.Now()
	r, err := Run(t.Context(), sh("setsid sleep 100 & sleep 0.2; pgrep -n -x sleep"))
	if took := time.Since(start); took > 3*drain {
		t.Errorf("it took %v", took)
	}
	if pid, perr := strconv.Atoi(strings.TrimSpace(r.Tail)); perr == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	} else {
		t.Log(err, r.Tail)
	}
}

func TestFinish(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := sh("echo begun; sleep 0.5; echo done")
	c.Finish = true
	c.Line = func(string) { cancel() }
	if r, err := Run(ctx, c); err != nil || !strings.HasSuffix(r.Tail, "done\n") {
		t.Errorf("%q, %v", r.Tail, err)
	}
}

// TestKeep: the lock on an inherited file outlives the process that took it for as
// long as the command lives.
func TestKeep(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	c := sh("echo begun; sleep 1")
	c.Keep = []*os.File{f}
	c.Line = func(string) { f.Close() } // as a kill -9 of this process would
	other, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	held := make(chan error, 1)
	go func() {
		time.Sleep(300 * time.Millisecond)
		held <- syscall.Flock(int(other.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}()
	if _, err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := <-held; !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("while it ran, the lock was to be had: %v", err)
	}
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Errorf("after it ended: %v", err)
	}
}

// TestGraceOfChildren: a shell ends at SIGTERM, and what it runs has its grace
// nonetheless.
func TestGraceOfChildren(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	c := sh(`sh -c 'trap "sleep 0.5; echo > clean; exit" TERM; echo started; while :; do sleep 0.05; done' >&2; true`)
	c.Dir, c.Grace = dir, 10*time.Second
	c.Line = func(string) { cancel() }
	start := time.Now()
	if _, err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := os.Stat(filepath.Join(dir, "clean")); err != nil {
		t.Errorf("the child could not clean up: %v", err)
	}
}

// TestLeft: a command that is to finish goes on when nobody waits for it any more,
// and whatever it prints then does not end it.
func TestLeft(t *testing.T) {
	dir := t.TempDir()
	left := make(chan struct{})
	c := sh(`echo begun; sleep 0.5; echo one; echo two >/dev/stderr; echo three; echo > finished`)
	c.Dir, c.Finish, c.Left = dir, true, left
	ctx, cancel := context.WithCancel(t.Context())
	c.Started = func(int) { cancel() }
	c.Line = func(string) { close(left) }
	r, err := Run(ctx, c)
	if !errors.Is(err, ErrLeft) || r.Tail != "begun\n" {
		t.Fatalf("%q, %v", r.Tail, err)
	}
	for range 200 {
		if _, err := os.Stat(filepath.Join(dir, "finished")); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it did not finish")
}

// TestFinishOutput: nothing of what a command prints that is to finish is lost, even
// if it opens its output anew. That truncates it: so what came before has to be read
// by then, which takes a slow machine a moment.
func TestFinishOutput(t *testing.T) {
	c := sh(`head -c 2000000 /dev/zero; echo; echo one; sleep 1.5; echo two >/dev/stderr; sleep 0.3; echo three`)
	c.Finish = true
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Bytes != 2000000+15 || !strings.HasSuffix(r.Tail, "\none\ntwo\nthree\n") {
		t.Errorf("%d bytes, tail %q", r.Bytes, r.Tail[max(0, len(r.Tail)-40):])
	}
}
