package testcaddy

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

const config = `http://{$ADDR} {
	bind 127.0.0.1
	respond "one"
}
`

func body(t *testing.T, s *Server) string {
	t.Helper()
	_, data, err := s.Get("/")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestServer(t *testing.T) {
	s := Start(t, config)
	if got := body(t, s); got != "one" {
		t.Errorf("answer is %q", got)
	}

	if err := s.Reload(strings.Replace(config, "one", "two", 1)); err != nil {
		t.Fatal(err)
	}
	if got := body(t, s); got != "two" {
		t.Errorf("answer after a reload is %q", got)
	}
	err := s.Reload("http://{$ADDR} {\n\tno_such_directive\n}\n")
	if err == nil || !strings.Contains(err.Error(), "no_such_directive") {
		t.Errorf("a reload that must fail: %v", err)
	}

	pid := s.Pid()
	s.Kill()
	<-s.Done()
	s.Restart(`{"apps":{"http":{"servers":{"s":{"listen":["{$ADDR}"],"routes":[{"handle":[{"handler":"static_response","body":"three"}]}]}}}}}`)
	if got := body(t, s); got != "three" {
		t.Errorf("answer after a restart is %q", got)
	}
	if s.Pid() == pid {
		t.Error("the process is the old one")
	}
	s.Stop()
	select {
	case <-s.Done():
	default:
		t.Error("the process is still there after Stop")
	}
}

// record is a test that fails only on paper.
type record struct {
	testing.TB
	errors []string
}

func (r *record) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

// TestOverdue: the server of a test that hangs is ended, even one that is stopped, so
// that the test goes on; it fails, and the log has the server's goroutines.
func TestOverdue(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped %v", stopped), func(t *testing.T) {
			s := Start(t, config)
			c, err := net.Dial("tcp", s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if stopped {
				s.Signal(syscall.SIGSTOP)
			}
			r := &record{TB: t}
			s.t = r
			s.overdue()
			s.t = t
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a client got an answer to nothing")
			}
			select {
			case <-s.Done():
			default:
				t.Fatal("the server is still there")
			}
			if len(r.errors) != 1 || !strings.Contains(r.errors[0], "the test hangs") {
				t.Errorf("errors: %q", r.errors)
			}
			if log := s.Logs(); !strings.Contains(log, "SIGABRT: abort") || strings.Count(log, "\ngoroutine ") < 5 {
				t.Errorf("there are no goroutines in the log:\n%s", log)
			}
		})
	}
}

func TestThreadStates(t *testing.T) {
	states, err := ThreadStates(os.Getpid())
	if err != nil || len(states) < 2 || strings.Trim(states, "RSDtZX") != "" {
		t.Errorf("states %q, %v", states, err)
	}
	if states, err := ThreadStates(0); err == nil {
		t.Errorf("states %q of no process", states)
	}
}

// TestFreeAddr: no two servers of parallel tests share a port.
func TestFreeAddr(t *testing.T) {
	seen := make(map[string]bool)
	for range 2000 {
		addr := FreeAddr(t)
		if seen[addr] {
			t.Fatalf("%s was returned twice", addr)
		}
		seen[addr] = true
	}
}
