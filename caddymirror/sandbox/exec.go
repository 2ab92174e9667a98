package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// proxyVariable tells the last stage where the proxy is.
const proxyVariable = "MIRROR_SANDBOX_PROXY"

// exec confines this process, and becomes the command.
func (s *Spec) exec() int {
	runtime.LockOSThread()
	flags, err := strconv.ParseUint(os.Getenv(wallVariable), 10, 64)
	if err != nil {
		return refuse(err)
	}
	env := make([]string, 0, len(s.Env))
	for _, v := range s.Env {
		env = append(env, strings.ReplaceAll(v, "{proxy}", os.Getenv(proxyVariable)))
	}
	if err := os.Chdir(s.Dir); err != nil {
		return refuse(err)
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 10) // what is served goes first
	if err := s.become(); err != nil {
		return refuse(err)
	}
	if err := s.confine(uintptr(flags)); err != nil {
		return refuse(err)
	}
	if err := s.limits(); err != nil {
		return refuse(err)
	}
	err = syscall.Exec(s.Args[0], s.Args, env) //nolint:gosec // what runs here is what this package is for
	return refuse(fmt.Errorf("%s: %w", s.Args[0], err))
}

// become changes the user, and gives up what root may do beyond files of its own.
func (s *Spec) become() error {
	if os.Geteuid() != 0 {
		// Nothing if there are none; without it, the command had what set up its namespaces.
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		return nil
	}
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		switch c {
		case unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETUID, unix.CAP_SETGID:
			continue // as a root of its own files
		}
		_ = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
	}
	if s.GID != nil {
		if err := syscall.Setgroups(nil); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
		if err := syscall.Setgid(*s.GID); err != nil {
			return fmt.Errorf("setgid: %w", err)
		}
	}
	if s.UID != nil {
		if err := syscall.Setuid(*s.UID); err != nil {
			return fmt.Errorf("setuid: %w", err)
		}
	}
	return nil
}

// confine keeps this process, and what comes of it, from writing elsewhere.
func (s *Spec) confine(flags uintptr) error {
	if s.Free {
		return nil
	}
	writable := s.Writable
	if flags&unix.CLONE_NEWNS != 0 {
		writable = append(slices.Clip(writable), sharedMemory)
	}
	rules := []landlock.Rule{
		landlock.RODirs("/"),
		landlock.RWFiles("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty").IgnoreIfMissing(),
		landlock.RWDirs(writable...).WithRefer().IgnoreIfMissing(),
	}
	config := landlock.V3
	if !s.Require {
		config = config.BestEffort()
	}
	if err := config.RestrictPaths(rules...); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	if abi, err := ll.LandlockGetABIVersion(); flags == 0 && (err != nil || abi < 1) {
		lacks("neither namespaces nor Landlock, so it may write wherever its user may")
	}
	return nil
}

// limits sets what the kernel bounds for each process. The supervisor bounds them together.
func (s *Spec) limits() error {
	all := map[int]uint64{unix.RLIMIT_CORE: 0}
	if s.Memory > 0 {
		all[unix.RLIMIT_DATA] = uint64(s.Memory)
	}
	if s.Disk > 0 {
		all[unix.RLIMIT_FSIZE] = uint64(s.Disk)
	}
	for what, n := range all {
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("setrlimit: %w", err)
		}
	}
	return nil
}
