package testcaddy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	testTime  = 8 * time.Minute // that a test may take
	endTime   = time.Minute     // that it may take to end without its server
	abortTime = 10 * time.Second
)

// watch ends a test that hangs.
func (s *Server) watch() {
	if _, ok := s.t.(*testing.T); !ok {
		return
	}
	hangs := time.AfterFunc(testTime, s.overdue)
	still := time.AfterFunc(testTime+endTime, func() {
		panic(fmt.Sprintf("%s still runs %v after its server was ended", s.t.Name(), endTime))
	})
	s.t.Cleanup(func() {
		hangs.Stop()
		still.Stop()
	})
}

// overdue fails the test, and ends the server that it may be waiting for.
func (s *Server) overdue() {
	s.t.Errorf("the test hangs: it still runs %v after it has started Caddy", testTime)
	s.abort()
}

// abort ends the server and has it write its goroutines to its log.
func (s *Server) abort() {
	s.t.Helper()
	p := s.signal(syscall.SIGABRT) // Caddy handles SIGQUIT, and writes nothing
	if p == nil {
		return
	}
	s.signal(syscall.SIGCONT) // a test may have stopped it
	select {
	case <-p.done:
	case <-time.After(abortTime):
		s.Kill()
	}
}

// ThreadStates are the states of a process's threads, a letter for each, as
// proc_pid_stat(5) has them: S sleeps, D waits in the kernel for a disk and
// cannot be killed, T is stopped, Z has ended.
func ThreadStates(pid int) (string, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return "", err
	}
	if len(threads) == 0 {
		return "", fmt.Errorf("process %d has no threads", pid)
	}
	var states strings.Builder
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		// The name before the state may have anything in it.
		rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		if len(rest) > 1 {
			states.WriteByte(rest[1])
		}
	}
	return states.String(), nil
}
