package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// look is how often the supervisor looks at the processes.
const look = 200 * time.Millisecond

// supervise runs the command to its end. This process holds the locks that it has
// inherited; those that it starts do not have them.
func (s *Spec) supervise(file string) int {
	runtime.LockOSThread() // a child gets the signal of a parent's death when the thread ends
	closeOnExec()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return refuse(fmt.Errorf("becoming a reaper: %w", err))
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	parent := os.Getppid()
	var why error
	for _, w := range s.walls() {
		cmd, err := s.start(file, w)
		if err == nil {
			if w.flags == 0 && !s.Free {
				lacks("no namespaces for it, so it may reach the network: %v", why)
			}
			return s.watch(cmd, parent, ended)
		}
		why = errors.Join(why, fmt.Errorf("%s: %w", w.name, err))
	}
	return refuse(fmt.Errorf("it cannot be confined: %w", why))
}

// wall is a way to confine a command.
type wall struct {
	name  string
	flags uintptr // namespaces
}

// walls are the ways to try, the best first.
func (s *Spec) walls() (all []wall) {
	if !s.Free {
		flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC)
		if s.Proxy != "" {
			flags |= unix.CLONE_NEWNET
		}
		if os.Geteuid() != 0 {
			flags |= unix.CLONE_NEWUSER
		}
		all = append(all, wall{"namespaces", flags})
	}
	if !s.Require {
		all = append(all, wall{"no namespaces", 0})
	}
	return all
}

// start starts the first process behind a wall. It returns when that has confined itself.
func (s *Spec) start(file string, w wall) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, Word, "init", file) //nolint:noctx,gosec // it is ended by the supervisor; it is this program
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), fmt.Sprint(wallVariable, "=", w.flags))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: w.flags, Pdeathsig: unix.SIGKILL}
	if w.flags&unix.CLONE_NEWUSER != 0 {
		// The same ids inside: nobody is root there, and what it takes to set it up goes
		// away with the last exec.
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN}
	}
	r, ready, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{ready}
	err = cmd.Start()
	ready.Close()
	if err != nil {
		return nil, err
	}
	said, _ := bufio.NewReader(r).ReadString('\n')
	if said == "ready\n" {
		return cmd, nil
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return nil, errors.New(said)
}

// watch waits for the end, or brings it about.
func (s *Spec) watch(cmd *exec.Cmd, parent int, ended <-chan os.Signal) int {
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	tick := time.NewTicker(look)
	defer tick.Stop()
	full := s.fills(exited)
	var late <-chan time.Time
	if s.Time > 0 {
		timer := time.NewTimer(s.Time)
		defer timer.Stop()
		late = timer.C
	}
	status, why := 0, ""
	for status == 0 {
		select {
		case <-exited:
			killAll()
			return exitStatus(cmd.ProcessState)
		case <-ended:
			status, why = ExitEnded, "it was ended"
		case <-late:
			status, why = ExitTime, fmt.Sprintf("it was killed: it took more than %v", s.Time)
		case <-full:
			status, why = ExitDisk, fmt.Sprintf("it was killed: it wrote more than %s", humanize.IBytes(uint64(s.Disk)))
		case <-tick.C:
			if os.Getppid() != parent {
				status, why = ExitEnded, "it was killed: who has begun it is gone"
				break
			}
			status, why = s.judge(descendants())
		}
	}
	_ = cmd.Process.Kill() // if it is the first of a namespace, all others go with it
	killAll()
	<-exited
	killAll()
	say("%s", why)
	return status
}

// judge says whether processes use more than they may.
func (s *Spec) judge(all []proc) (status int, why string) {
	switch {
	case s.Memory > 0 && sum(all, proc.resident) > s.Memory && sum(all, proc.proportional) > s.Memory:
		return ExitMemory, fmt.Sprintf("it was killed: its processes used more than %s of memory together", humanize.IBytes(uint64(s.Memory)))
	case s.Processes > 0 && len(all) > s.Processes:
		return ExitProcesses, fmt.Sprintf("it was killed: it had more than %d processes", s.Processes)
	}
	return 0, ""
}

// fills returns a channel that is closed when the writable directories have more in them
// than they may.
func (s *Spec) fills(exited <-chan struct{}) <-chan struct{} {
	full := make(chan struct{})
	if s.Disk <= 0 {
		return full
	}
	go func() {
		const least = 10 * look
		for nap := least; ; {
			select {
			case <-exited:
				return
			case <-time.After(nap):
			}
			start := time.Now()
			if size(s.Writable) > s.Disk {
				close(full)
				return
			}
			nap = max(least, 20*time.Since(start)) // a twentieth of the time at most
		}
	}()
	return full
}

// size is how much directories have on disk.
func size(dirs []string) (sum int64) {
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // it has just been removed, or is not to be read
			}
			if info, err := d.Info(); err == nil && !d.IsDir() {
				if stat, ok := info.Sys().(*syscall.Stat_t); ok {
					sum += stat.Blocks * 512
				}
			}
			return nil
		})
	}
	return sum
}

func sum(all []proc, memory func(proc) int64) (n int64) {
	for _, p := range all {
		n += memory(p)
	}
	return n
}

// killAll kills what there is below this process, until nothing is. Orphans come to it.
func killAll() {
	for nap := time.Millisecond; ; nap = min(2*nap, 100*time.Millisecond) {
		all := descendants()
		alive := false
		for _, p := range all {
			if !p.zombie {
				alive = true
				_ = syscall.Kill(p.pid, unix.SIGKILL)
			}
		}
		if !alive {
			return
		}
		time.Sleep(nap)
	}
}

func exitStatus(p *os.ProcessState) int {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		say("it was ended by %v", w.Signal())
		return 128 + int(w.Signal())
	}
	return p.ExitCode()
}

// closeOnExec keeps from children what this process has inherited.
func closeOnExec() {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, f := range files {
		var fd int
		if _, err := fmt.Sscan(f.Name(), &fd); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
