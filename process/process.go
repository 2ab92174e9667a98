// Package process runs commands that may misbehave: ones that hang, ignore
// signals, leave children behind or print without end.
//
// A command is the leader of a process group of its own. When it is to end, the
// group gets SIGTERM and, after a time of grace, SIGKILL; what is left of the group
// when the leader has ended, too. Only processes that make a group of their own
// escape that.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tailSize is how much of the output is kept.
	tailSize = 16 << 10

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

	// Finish has the command left alone when the context ends.
	Finish bool

	// Keep are inherited by the command and all its children: whoever has locked one
	// can tell later, by the lock, that some of them live.
	Keep []*os.File

	// Started is called with the number of the process, which is that of its group.
	Started func(pid int)
}

// Result is how a command ended.
type Result struct {
	Code     int    // exit status, -1 if a signal ended it
	Tail     string // the end of what it printed
	Bytes    int64  // how much it printed
	Duration time.Duration
}

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
	start := time.Now()
	cmd := exec.Command(c.Name, c.Args...) //nolint:noctx,gosec // ended by us, the whole group of it; what runs is what an operator has configured
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.ExtraFiles = c.Keep
	r, w, err := os.Pipe()
	if err != nil {
		return Result{Code: -1}, err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return Result{Code: -1}, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	if c.Started != nil {
		c.Started(cmd.Process.Pid)
	}
	out := newOutput(c)
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		out.copy(r)
	}()
	ended := c.end(ctx, cmd.Process.Pid, printed)
	err = cmd.Wait()
	select {
	case <-printed:
	case <-time.After(drain): // somebody escaped, and holds the pipe
		r.Close()
		<-printed
	}
	res := Result{Code: cmd.ProcessState.ExitCode(), Tail: out.tail(), Bytes: out.bytes, Duration: time.Since(start)}
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
// number stays its own. It reports whether the context was the reason.
func (c Command) end(ctx context.Context, pid int, printed <-chan struct{}) (ended bool) {
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		awaitExit(pid)
	}()
	done := ctx.Done()
	if c.Finish {
		done = nil
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
		case <-exited:
			if !ended {
				// Children may have something to say yet.
				select {
				case <-printed:
				case <-time.After(drain):
				}
			}
			signal(pid, syscall.SIGKILL)
			return ended
		}
	}
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

// Terminate ends a process group that is not ours to wait for: one that an earlier
// process has started.
func Terminate(pgid int) { signal(pgid, syscall.SIGTERM) }

// Kill is Terminate without asking.
func Kill(pgid int) { signal(pgid, syscall.SIGKILL) }

// output takes what a command prints.
type output struct {
	c     Command
	ring  []byte // the end of it
	line  []byte // begun
	ended string // the last line that was not empty
	bytes int64
}

const maxLine = 4 << 10

func newOutput(c Command) *output { return &output{c: c} }

// copy reads all that is printed: to the end, since a command must not hang because
// a log cannot be written.
func (o *output) copy(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		o.write(buf[:n])
		if err != nil {
			o.endLine()
			return
		}
	}
}

func (o *output) write(b []byte) {
	o.bytes += int64(len(b))
	if o.c.Out != nil {
		_, _ = o.c.Out.Write(b)
	}
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
