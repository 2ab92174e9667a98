package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startTimeout = 15 * time.Second
	stopTimeout  = 5 * time.Second
)

type user struct{ uid, gid int }

// serverUser is nobody when the caller is root, else nil: no server of the bench
// needs root, and some will not run as root.
func serverUser() (*user, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := osuser.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	return &user{uid, gid}, nil
}

// process is a server under way: a process group of its own, which ends when it
// is stopped, or with the bench itself, whatever ends that.
type process struct {
	what string
	cmd  *exec.Cmd
	log  string        // what it wrote to stdout and stderr
	done chan struct{} // closed when its first process has ended
}

// start runs a program pinned to the servers' core, in dir, which is also its
// home, and waits until addr accepts connections.
func (b *bench) start(ctx context.Context, name, dir, addr string, argv ...string) (*process, error) {
	return b.startOn(ctx, b.serverCPU, name, dir, addr, argv...)
}

// startOn is start with another core.
func (b *bench) startOn(ctx context.Context, cpu int, name, dir, addr string, argv ...string) (*process, error) {
	if err := b.give(dir); err != nil {
		return nil, err
	}
	p := &process{
		what: name,
		log:  filepath.Join(dir, "output.log"),
		done: make(chan struct{}),
	}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command("taskset", append([]string{"-c", strconv.Itoa(cpu)}, argv...)...)
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + dir,
		"XDG_DATA_HOME=" + dir,
		"XDG_CONFIG_HOME=" + dir,
		"TMPDIR=" + dir,
		"GOMAXPROCS=1",
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if b.user != nil {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(b.user.uid), Gid: uint32(b.user.gid)}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	b.running = append(b.running, p)
	go func() {
		_ = p.cmd.Wait() // how it ended stands in its log
		close(p.done)
	}()
	if err := p.ready(ctx, addr); err != nil {
		return nil, fmt.Errorf("starting %s: %w\n%s", name, err, p.tail())
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// ready waits until addr accepts a connection.
func (p *process) ready(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not listening on %s: %w", addr, err)
		case <-p.done:
			return errors.New("ended early")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// alive fails if the server has ended.
func (p *process) alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended early\n%s", p.what, p.tail())
	default:
		return nil
	}
}

// tail returns the last lines the server wrote.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if more, err := os.ReadFile(filepath.Join(filepath.Dir(p.log), "error.log")); err == nil {
		text = append(text, more...)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// group returns the fields of /proc/PID/stat from the state on, by PID, of all
// processes of the group.
func (p *process) group() (map[int][]string, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	group := map[int][]string{}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may hold anything; then state, ppid, pgrp, ...
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(f) < 13 || f[2] != strconv.Itoa(p.pid()) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return nil, err
		}
		group[pid] = f
	}
	return group, nil
}

// cpuTime is what all processes of the group have used so far, user and system.
func (p *process) cpuTime() (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ, which is 100 everywhere
	group, err := p.group()
	if err != nil {
		return 0, err
	}
	var ticks uint64
	for pid, f := range group {
		for _, s := range f[11:13] {
			n, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

// memory is that of all processes of the group. What they share counts for each.
func (p *process) memory() (memory, error) {
	group, err := p.group()
	if err != nil {
		return memory{}, err
	}
	if len(group) == 0 {
		return memory{}, fmt.Errorf("%s has no memory: it has ended", p.what)
	}
	var all memory
	for pid := range group {
		m, err := readMemory(pid)
		if err != nil {
			continue // it has ended
		}
		all.rss += m.rss
		all.anon += m.anon
	}
	return all, nil
}

// stop ends the whole process group, at first politely.
func (p *process) stop() {
	group := -p.pid()
	_ = syscall.Kill(group, syscall.SIGTERM)
	deadline := time.Now().Add(stopTimeout)
	for time.Now().Before(deadline) {
		select {
		case <-p.done:
			if errors.Is(syscall.Kill(group, 0), syscall.ESRCH) {
				return
			}
		default:
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-p.done
}

// stopAll ends what was started, the last one first.
func (b *bench) stopAll() {
	for _, v := range slices.Backward(b.running) {
		v.stop()
	}
	b.running = nil
}

// freeAddr returns a loopback address that nothing listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// checkCPUs fails unless this process may run on each of the cores.
func checkCPUs(cpus ...int) error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return fmt.Errorf("asking for the usable cores: %w", err)
	}
	for _, cpu := range cpus {
		if !set.IsSet(cpu) {
			return fmt.Errorf("core %d is not usable here: the bench needs one for servers and one for clients (-server-cpu, -load-cpu)", cpu)
		}
	}
	return nil
}

// pin moves the bench itself to the clients' core. The function it returns
// moves it back.
func (b *bench) pin() (func(), error) {
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("asking for the usable cores: %w", err)
	}
	set.Set(b.loadCPU)
	if err := setAffinity(&set); err != nil {
		return nil, fmt.Errorf("moving to core %d: %w", b.loadCPU, err)
	}
	return func() {
		if err := setAffinity(&before); err != nil {
			progress("moving back to all cores: %v", err)
		}
	}, nil
}

// setAffinity binds all threads of this process; those to come inherit it.
func setAffinity(set *unix.CPUSet) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, set); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// busyTime reads how long a core has worked since boot, and how long it has been
// up, in ticks.
func busyTime(cpu int) (busy, total uint64, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 9 || f[0] != "cpu"+strconv.Itoa(cpu) {
			continue
		}
		// user nice system idle iowait irq softirq steal; guest time is in user.
		for i, s := range f[1:9] {
			n, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("reading /proc/stat: %w", err)
			}
			total += n
			if i != 3 && i != 4 {
				busy += n
			}
		}
		return busy, total, nil
	}
	return 0, 0, fmt.Errorf("no core %d in /proc/stat", cpu)
}

// availableMemory is what the kernel says can be had without swapping.
func availableMemory() (uint64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no MemAvailable in /proc/meminfo")
}

// memory is a process's resident memory in bytes, as /proc/PID/status has it.
type memory struct{ rss, anon int64 }

func readMemory(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		var to *int64
		switch key {
		case "VmRSS":
			to = &m.rss
		case "RssAnon":
			to = &m.anon
		default:
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("reading %s of process %d: %w", key, pid, err)
		}
		*to = kb << 10
	}
	if m.rss == 0 {
		return memory{}, fmt.Errorf("process %d has no memory: it has ended", pid)
	}
	return m, nil
}
