package upstreams

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is an upstream that runs as a program of its own. It ends with the test.
type process struct {
	t    testing.TB
	dir  string // its files, and its log
	addr string
	env  []string
	args []string

	mu  sync.Mutex
	cmd *exec.Cmd // nil: does not run
}

// startProcess starts a program that listens on addr, and waits until it does.
func startProcess(t testing.TB, dir, addr string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, dir: dir, addr: addr, env: env, args: args}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s says:\n%s", args[0], log[max(0, len(log)-5000):])
		}
	})
	p.start()
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmd = cmd
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not listen on %s", p.args[0], p.addr)
		}
	}
}

// stop ends the program and those that it started, with all connections.
func (p *process) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	p.cmd.Wait() // it was killed
	p.cmd = nil
}
