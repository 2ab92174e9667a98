package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// wallVariable tells the first process in which namespaces it is.
const wallVariable = "MIRROR_SANDBOX_WALL"

// begin is the first process behind the wall. Where there is a namespace of processes, all
// others end with it.
func (s *Spec) begin(file string) int {
	ready := os.NewFile(3, "ready")
	unix.CloseOnExec(3)
	flags, err := strconv.ParseUint(os.Getenv(wallVariable), 10, 64)
	if err != nil {
		return refuse(err)
	}
	proxy, err := s.prepare(uintptr(flags))
	if err != nil {
		fmt.Fprint(ready, strings.ReplaceAll(err.Error(), "\n", "; "))
		return ExitRefused
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprint(ready, err)
		return ExitRefused
	}
	attr := &os.ProcAttr{
		Env: []string{wallVariable + "=" + os.Getenv(wallVariable), proxyVariable + "=" + proxy, "HOME=/"}, Files: []*os.File{nil, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{},
	}
	if attr.Files[0], err = os.Open(os.DevNull); err != nil {
		fmt.Fprint(ready, err)
		return ExitRefused
	}
	p, err := os.StartProcess(self, []string{self, Word, "exec", file}, attr) //nolint:gosec // it is this program
	if err != nil {
		fmt.Fprint(ready, err)
		return ExitRefused
	}
	fmt.Fprintln(ready, "ready")
	ready.Close()
	return reap(p.Pid)
}

// reap waits for a child, and for whatever else comes to this process.
func reap(pid int) int {
	for {
		var w unix.WaitStatus
		got, err := unix.Wait4(-1, &w, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return refuse(err)
		case got == pid && w.Exited():
			return w.ExitStatus()
		case got == pid && w.Signaled():
			say("it was ended by %v", w.Signal())
			return 128 + int(w.Signal())
		}
	}
}

// prepare makes use of the namespaces that this process is in.
func (s *Spec) prepare(flags uintptr) (proxy string, err error) {
	if flags&unix.CLONE_NEWNS != 0 {
		if err := s.mounts(); err != nil {
			return "", err
		}
	}
	if flags&unix.CLONE_NEWNET != 0 {
		if err := loopback(); err != nil {
			return "", err
		}
	}
	if s.Proxy == "" {
		return "", nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of this machine, at once
	if err != nil {
		return "", err
	}
	go relay(l, s.Proxy)
	return l.Addr().String(), nil
}

// mounts makes everything but the writable directories read-only, shows the processes of
// this namespace, and gives them memory to share.
func (s *Spec) mounts() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for _, dir := range s.Writable {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", dir, err)
		}
	}
	err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	for _, dir := range s.Writable {
		if err == nil {
			err = unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		}
	}
	switch {
	case errors.Is(err, unix.ENOSYS): // before Linux 5.12: there may be Landlock
	case err != nil:
		return fmt.Errorf("making mounts read-only: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if _, err := os.Stat(sharedMemory); err == nil {
		if err := unix.Mount("tmpfs", sharedMemory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64m,mode=1777"); err != nil {
			return fmt.Errorf("mounting %s: %w", sharedMemory, err)
		}
	}
	return nil
}

const sharedMemory = "/dev/shm"

// loopback brings the loopback interface of a new namespace up.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	return nil
}
