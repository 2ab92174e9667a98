// Package process runs commands that may misbehave: ones that hang, ignore
// signals, leave children behind or print without end.
//
// A command is the leader of a process group of its own. When it is to end, the
// group gets SIGTERM and, after a time of grace, SIGKILL. Processes of the group
// that outlive the leader are ended the same way. Only processes that make a group
// of their own escape that.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tailSize is how much of the output is kept.
	tailSize = 2 << 10

	// drain is how long the output of a command is waited for that has ended, in
	// case that it left children behind.
	drain = 2 * time.Second
)

// Command is a command to run.
type Command struct {
	// Name of the program, and its arguments.
	Name string
	Args []string

	// Dir is the working directory. Default: that of this process.
	Dir string

	// Env is the whole environment.
	Env []string

	// Out gets what the command prints, both its output and its errors. Nil: it is
	// thrown away.
	Out io.Writer

	// Line is called with each line that it prints, without its end. Long ones are
	// cut.
	Line func(string)

	// Grace is how long the command has after SIGTERM. Default: 10s.
	Grace time.Duration

	// Finish has the command left alone when the context ends. What it prints goes by
	// way of memory instead of a pipe, so that it can go on without this process.
	Finish bool

	// Left ends the wait for a command that is to finish: Run returns [ErrLeft] when it
	// is closed, and the command goes on.
	Left <-chan struct{}

	// Keep are inherited by the command and all its children: whoever has locked one
	// can tell later, by the lock, that some of them live.
	Keep []*os.File

	// Started is called with the number of the process, which is that of its group.
	Started func(pid int)
}

// Result is how a command ended.
type Result struct {
	Code  int    // exit status, -1 if a signal ended it
	Tail  string // the end of what it printed
	Bytes int64  // how much it printed
}

// ErrLeft says that a command goes on, and nobody waits for it.
var ErrLeft = errors.New("it is left to finish")

// ExitError says that a command failed.
type ExitError struct {
	Name   string
	Status syscall.WaitStatus
	Last   string // line that was printed last
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit status %d", e.Status.ExitStatus())
	if e.Status.Signaled() {
		how = "ended by " + e.Status.Signal().String()
	}
	if e.Last != "" {
		how += ": " + e.Last
	}
	return e.Name + ": " + how
}

// Run runs a command to its end. Its error is an [ExitError] if the command ran and
// failed, and the context's cause if that was why it ended.
func Run(ctx context.Context, c Command) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{Code: -1}, context.Cause(ctx)
	}
	cmd := exec.Command(c.Name, c.Args...) //nolint:noctx,gosec // ended by us, the whole group of it; what runs is what an operator has configured
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.ExtraFiles = c.Keep
	out := newOutput(c)
	w, err := out.open()
	if err != nil {
		return Result{Code: -1}, err
	}
	defer out.close()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		if _, why := os.Stat(c.Dir); c.Dir != "" && why != nil {
			err = why // the system says the same as if the program were missing
		}
		return Result{Code: -1}, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	if c.Started != nil {
		c.Started(cmd.Process.Pid)
	}
	go out.read()
	ended, left := c.end(ctx, cmd.Process.Pid, out.done)
	if !left {
		err = cmd.Wait()
	}
	out.finish()
	res := Result{Code: -1, Tail: out.tail(), Bytes: out.bytes}
	if left {
		return res, fmt.Errorf("%s, process %d: %w", c.Name, cmd.Process.Pid, ErrLeft)
	}
	res.Code = cmd.ProcessState.ExitCode()
	switch exit, ok := errors.AsType[*exec.ExitError](err); {
	case ended:
		return res, fmt.Errorf("%s: %w", c.Name, context.Cause(ctx))
	case ok:
		return res, &ExitError{c.Name, exit.Sys().(syscall.WaitStatus), out.last()}
	}
	return res, err
}

// end waits for the leader to end, or ends it when the context does, and then ends
// what is left of its group. The leader is not reaped before that, so that its
// number stays its own. It reports whether the context was the reason, or that the
// command is left alone.
func (c Command) end(ctx context.Context, pid int, printed <-chan struct{}) (ended, left bool) {
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		awaitExit(pid)
	}()
	done, leave := ctx.Done(), c.Left
	if c.Finish {
		done = nil
	} else {
		leave = nil
	}
	var kill <-chan time.Time
	for {
		select {
		case <-done:
			ended, done = true, nil
			signal(pid, syscall.SIGTERM)
			grace := c.Grace
			if grace <= 0 {
				grace = 10 * time.Second
			}
			timer := time.NewTimer(grace)
			defer timer.Stop()
			kill = timer.C
		case <-kill:
			signal(pid, syscall.SIGKILL)
		case <-leave:
			return false, true
		case <-exited:
			if ended {
				// A shell is gone at once; what it runs has its grace, too.
				awaitGroup(pid, kill, nil)
			} else {
				// Children may have something to say yet.
				awaitGroup(pid, time.After(drain), printed)
			}
			signal(pid, syscall.SIGKILL)
			return ended, false
		}
	}
}

// awaitGroup waits until nothing of a group lives, but at most until one of the
// others.
func awaitGroup(pgid int, timeout <-chan time.Time, done <-chan struct{}) {
	for nap := 5 * time.Millisecond; alive(pgid); nap = min(2*nap, 200*time.Millisecond) {
		select {
		case <-timeout:
			return
		case <-done:
			return
		case <-time.After(nap):
		}
	}
}

// alive reports whether a group has a process that has not ended.
func alive(pgid int) bool {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + p.Name() + "/stat")
		if err != nil {
			continue // it has just ended
		}
		// PID (NAME) STATE PPID PGRP ...; the name may be anything
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) > 2 && f[2] == strconv.Itoa(pgid) && f[0] != "Z" && f[0] != "X" {
			return true
		}
	}
	return false
}

// awaitExit waits until a child has ended, and leaves it to be reaped.
func awaitExit(pid int) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// signal signals a process group, if any of it is left.
func signal(pgid int, sig syscall.Signal) { _ = syscall.Kill(-pgid, sig) }

// output takes what a command prints.
type output struct {
	c     Command
	f     *os.File      // where it comes from: a pipe or, if the command is to finish, memory
	over  chan struct{} // closed when no more of it is wanted
	done  chan struct{} // closed when all is read
	ring  []byte        // the end of it
	line  []byte        // begun
	ended string        // the last line that was not empty
	bytes int64
}

const maxLine = 4 << 10

func newOutput(c Command) *output {
	return &output{c: c, over: make(chan struct{}), done: make(chan struct{})}
}

// open returns what the command writes to.
func (o *output) open() (w *os.File, err error) {
	if !o.c.Finish {
		o.f, w, err = os.Pipe()
		return w, err
	}
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w = os.NewFile(uintptr(fd), "output")
	// Else what is printed after a script's "> /dev/stderr" would leave a hole.
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETFL, unix.O_APPEND); err != nil {
		w.Close()
		return nil, err
	}
	if fd, err = unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		w.Close()
		return nil, err
	}
	o.f = os.NewFile(uintptr(fd), "output")
	return w, nil
}

func (o *output) close() { o.f.Close() }

// read reads all that is printed: to the end, since a command must not hang because
// a log cannot be written.
func (o *output) read() {
	defer close(o.done)
	defer o.endLine()
	buf := make([]byte, 32<<10)
	if o.c.Finish {
		o.follow(buf)
		return
	}
	for {
		n, err := o.f.Read(buf)
		o.write(buf[:n])
		if err != nil {
			return
		}
	}
}

// follow reads from memory what is written there, and frees it.
func (o *output) follow(buf []byte) {
	const poll = 50 * time.Millisecond
	var off int64
	for last := false; ; {
		n, _ := o.f.ReadAt(buf, off)
		if n > 0 {
			o.write(buf[:n])
			if off > 0 { // there, a script may be writing anew
				_ = unix.Fallocate(int(o.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, int64(n))
			}
			off += int64(n)
			continue
		}
		if fi, err := o.f.Stat(); err == nil && fi.Size() < off {
			off = 0 // "> /dev/stderr" truncates
			continue
		}
		if last {
			return
		}
		select {
		case <-o.over:
			last = true
		case <-time.After(poll):
		}
	}
}

// finish waits until all is read that was printed.
func (o *output) finish() {
	close(o.over)
	select {
	case <-o.done:
	case <-time.After(drain): // somebody escaped, and holds the pipe
		o.f.Close()
		<-o.done
	}
}

func (o *output) write(b []byte) {
	if o.c.Out != nil {
		_, _ = o.c.Out.Write(b)
	}
	o.bytes += int64(len(b))
	o.ring = append(o.ring, b...)
	if extra := len(o.ring) - tailSize; extra > tailSize {
		o.ring = append(o.ring[:0], o.ring[extra:]...)
	}
	for _, x := range b {
		switch {
		case x == '\n' || x == '\r': // progress is printed over itself
			o.endLine()
		case len(o.line) < maxLine:
			o.line = append(o.line, x)
		}
	}
}

func (o *output) endLine() {
	if len(o.line) == 0 {
		return
	}
	text := strings.ToValidUTF8(string(o.line), "�")
	o.line = o.line[:0]
	if strings.TrimSpace(text) != "" {
		o.ended = text
	}
	if o.c.Line != nil {
		o.c.Line(text)
	}
}

func (o *output) tail() string {
	return strings.ToValidUTF8(string(o.ring[max(0, len(o.ring)-tailSize):]), "�")
}

func (o *output) last() string {
	const limit = 300
	return o.ended[:min(len(o.ended), limit)]
}
