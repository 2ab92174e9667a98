package cell

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread that is in a network namespace.
func inNamespace(name string, f func() error) error {
	ns, err := os.Open(filepath.Join(netns, name))
	if err != nil {
		return err
	}
	defer ns.Close()
	done := make(chan error)
	go func() { done <- enter(ns, f) }()
	return <-done
}

func enter(ns *os.File, f func() error) error {
	runtime.LockOSThread()
	back, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer back.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering the network namespace %s: %w", ns.Name(), err)
	}
	err = f()
	if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	} // Otherwise the thread ends with this goroutine.
	return err
}
