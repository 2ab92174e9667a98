package cell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one process of the machine. The time it started at tells it from
// others that get its number later.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since boot
}

// processOf looks up a running process.
func processOf(pid int) (process, error) {
	start, _, err := procStat(pid)
	return process{pid, start}, err
}

func (p process) alive() bool {
	start, state, err := procStat(p.PID)
	return err == nil && start == p.Start && state != 'Z' && state != 'X'
}

// procStat reads the start time and the state of a process (proc_pid_stat(5)).
func procStat(pid int) (start uint64, state byte, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	const (
		stateField = 0 // after the name, which may contain anything
		startField = 19
	)
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) <= startField {
		return 0, 0, fmt.Errorf("process %d: unexpected %q", pid, b)
	}
	start, err = strconv.ParseUint(f[startField], 10, 64)
	return start, f[stateField][0], err
}

func (p process) signal(sig syscall.Signal) error {
	if !p.alive() {
		return os.ErrProcessDone
	}
	return syscall.Kill(p.PID, sig)
}

// kill ends the process and those it started, which are in its session's process
// group, and waits until it has ended.
func (p process) kill(ctx context.Context) error {
	if !p.alive() {
		return nil
	}
	if pgid, err := syscall.Getpgid(p.PID); err == nil && pgid == p.PID {
		_ = syscall.Kill(-p.PID, syscall.SIGKILL)
	}
	_ = syscall.Kill(p.PID, syscall.SIGKILL)
	return p.wait(ctx)
}

// wait waits until the process has ended.
func (p process) wait(ctx context.Context) error {
	return poll(ctx, 5*time.Millisecond, func() error {
		if p.alive() {
			return fmt.Errorf("process %d is still there", p.PID)
		}
		return nil
	})
}

// poll calls f until it succeeds. When ctx ends, the last error is returned.
func poll(ctx context.Context, every time.Duration, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(every):
		}
	}
}

// start starts a command that outlives this process: in a session of its own, and
// with its output going to a file.
func start(cmd *exec.Cmd, output string) (process, error) {
	out, err := os.OpenFile(output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return process{}, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, err
	}
	p, err := processOf(cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	go func() { _ = cmd.Wait() }() // no zombie while this process lives
	return p, err
}

// run runs a command to its end, and returns what it printed.
func run(ctx context.Context, name string, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, name, args...))
}

// output runs a command to its end, and returns what it printed. The error has
// what it complained of.
func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err != nil {
		said := strings.TrimSpace(stderr.String())
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, said)
	}
	return stdout.String(), err
}

// mountedBelow are the mount points in a directory.
func mountedBelow(dir string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		const mountPoint = 4 // proc_pid_mountinfo(5)
		f := strings.Fields(line)
		if len(f) > mountPoint && strings.HasPrefix(f[mountPoint], dir+"/") {
			found = append(found, f[mountPoint])
		}
	}
	return found, nil
}

// removeDir removes a directory of the cell, once nothing is mounted in it: what is
// mounted would be removed, too.
func removeDir(dir string) error {
	mounts, err := mountedBelow(dir)
	for _, m := range mounts {
		err = errors.Join(err, unmount(m))
	}
	if err != nil {
		return err
	}
	if mounts, err = mountedBelow(dir); err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%s is kept: still mounted: %s", dir, strings.Join(mounts, ", "))
	}
	return os.RemoveAll(dir)
}

func unmount(dir string) error {
	_, err := run(context.Background(), "umount", "--lazy", dir)
	return err
}
