// Package testcaddy runs our Caddy as a process of its own, for tests that
// look at it from outside: through HTTP, the admin API, signals and files.
package testcaddy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is one Caddy with directories, ports and an admin endpoint of its
// own. It stops when the test ends. A test that hangs fails: see [Start].
type Server struct {
	// Addr is the host and port that {$ADDR} stands for in configurations.
	Addr string

	// URL is http:// and Addr, without a slash at the end.
	URL string

	// Admin is the host and port of the admin endpoint.
	Admin string

	// Home holds the server's files: data/caddy is its data directory.
	Home string

	// Client speaks to the server. It sees the bytes as they are sent: it
	// never decompresses, and follows no redirects. A response may take two
	// minutes.
	Client *http.Client

	t      testing.TB
	binary string
	dir    string
	env    []string

	mu   sync.Mutex
	proc *process // the last one started
}

// process is one run of a server.
type process struct {
	*exec.Cmd
	done chan struct{} // closed when it has ended
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Option changes how a server is started.
type Option func(*options)

type options struct {
	env []string
	dir string
}

// Env adds variables, as NAME=value, to the server's environment.
func Env(vars ...string) Option {
	return func(o *options) { o.env = append(o.env, vars...) }
}

// WorkDir is the server's working directory. Default: its home.
func WorkDir(dir string) Option {
	return func(o *options) { o.dir = dir }
}

const (
	startTime  = 60 * time.Second
	stopTime   = 20 * time.Second
	killTime   = 20 * time.Second
	clientTime = 2 * time.Minute // for a response with its body
	maxLog     = 20_000          // bytes of the log that a failed test shows
	maxTraces  = 200_000         // the same of a log with goroutines
)

// adminClient keeps no connections: the admin endpoint is replaced by every
// reload.
var adminClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Start builds Caddy, once per change of its sources, and starts it with
// config, a Caddyfile or JSON. In config, {$ADDR} stands for 127.0.0.1 and a
// free port. A site with this address should bind 127.0.0.1: Caddy takes a
// site's host for a matcher only, and listens everywhere.
//
// The server answers when Start returns; its caches may still be scanning,
// see [Server.WaitReady].
//
// A test that still runs after 8 minutes fails: its server is ended, so that
// whatever waits for that goes on, and its log has the server's goroutines. If
// the test does not end then, its process does. Fuzzing may take any time.
func Start(t testing.TB, config string, opts ...Option) *Server {
	t.Helper()
	return StartBinary(t, Binary(t), config, opts...)
}

// StartBinary is Start with a given executable.
func StartBinary(t testing.TB, binary, config string, opts ...Option) *Server {
	t.Helper()
	home := t.TempDir()
	o := options{dir: home}
	for _, opt := range opts {
		opt(&o)
	}
	s := &Server{
		Home: home,
		Client: &http.Client{
			Timeout:       clientTime,
			Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		t:      t,
		binary: binary,
		dir:    o.dir,
	}
	t.Cleanup(s.cleanup)
	s.watch()

	// Another process may take a port between our finding it and Caddy's
	// listening on it.
	for try := 1; ; try++ {
		addrs := freeAddrs(t, 2)
		s.Addr, s.URL, s.Admin = addrs[0], "http://"+addrs[0], addrs[1]
		s.env = append(os.Environ(),
			"HOME="+home,
			"XDG_DATA_HOME="+filepath.Join(home, "data"),
			"XDG_CONFIG_HOME="+filepath.Join(home, "config"),
			"CADDY_ADMIN="+s.Admin,
			"ADDR="+s.Addr,
		)
		s.env = append(s.env, o.env...)
		err := s.start(config)
		if err == nil {
			return s
		}
		if try == 3 || !strings.Contains(err.Error(), "address already in use") {
			t.Fatalf("starting Caddy: %v", err)
		}
	}
}

// Restart starts the server again after [Server.Stop] or [Server.Kill], on
// its old directories and ports.
func (s *Server) Restart(config string) {
	s.t.Helper()
	if err := s.start(config); err != nil {
		s.t.Fatalf("starting Caddy: %v", err)
	}
}

func (s *Server) start(config string) error {
	config = s.expand(config)
	file := filepath.Join(s.Home, "Caddyfile")
	args := []string{"run", "--config", file, "--adapter", "caddyfile"}
	if json.Valid([]byte(config)) {
		file = filepath.Join(s.Home, "caddy.json")
		args = []string{"run", "--config", file}
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	out, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc.running() {
		return errors.New("it is running already")
	}
	p := &process{exec.Command(s.binary, args...), make(chan struct{})}
	p.Dir, p.Env = s.dir, s.env
	p.Stdout, p.Stderr = out, out
	dieWithParent(p.Cmd)
	if err := p.Start(); err != nil {
		return err
	}
	s.proc = p
	go func() {
		p.Wait() // ProcessState tells the rest
		close(p.done)
	}()

	for deadline := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) {
		if !p.running() {
			return fmt.Errorf("it ended at once, %v:\n%s", p.ProcessState, s.Logs())
		}
		err := s.answers(config)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not up after %v: %w", startTime, err)
		}
	}
}

// answers reports whether the admin endpoint has a configuration and, if
// config uses it, Addr is listened on.
func (s *Server) answers(config string) error {
	body, err := s.AdminGet("/config/")
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(body)) == "null" {
		return errors.New("no configuration yet")
	}
	if !strings.Contains(config, s.Addr) {
		return nil
	}
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return err
	}
	return c.Close()
}

func (s *Server) expand(config string) string {
	return strings.ReplaceAll(config, "{$ADDR}", s.Addr)
}

// Pid is the server's process id.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.Process.Pid
}

// Done is closed when the process that now runs has ended.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.done
}

// Stop ends the server as an operator would, by SIGTERM. A server that does
// not go, or ends with an error, fails the test.
func (s *Server) Stop() {
	s.t.Helper()
	p := s.signal(syscall.SIGTERM)
	if p == nil {
		return
	}
	select {
	case <-p.done:
		if !p.ProcessState.Success() {
			s.t.Errorf("Caddy ended with %v after SIGTERM", p.ProcessState)
		}
	case <-time.After(stopTime):
		s.t.Errorf("Caddy is still there %v after SIGTERM", stopTime)
		s.abort()
	}
}

// Kill ends the server as a crash would, by SIGKILL, and waits until it is
// gone. A server that does not go fails the test.
func (s *Server) Kill() {
	s.t.Helper()
	p := s.signal(syscall.SIGKILL)
	if p == nil {
		return
	}
	select {
	case <-p.done:
	case <-time.After(killTime):
		states, err := ThreadStates(p.Process.Pid)
		s.t.Errorf("Caddy is still there %v after SIGKILL: states of its threads: %q, %v", killTime, states, err)
	}
}

// Signal sends a signal to the server.
func (s *Server) Signal(sig os.Signal) {
	s.t.Helper()
	if s.signal(sig) == nil {
		s.t.Errorf("sending %v: Caddy is not running", sig)
	}
}

// signal returns the process that it signaled, nil if there is none.
func (s *Server) signal(sig os.Signal) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.proc.running() || s.proc.Process.Signal(sig) != nil {
		return nil
	}
	return s.proc
}

func (s *Server) cleanup() {
	s.signal(syscall.SIGCONT) // a test may have left it stopped
	s.Stop()
	s.Client.CloseIdleConnections()
	logs := s.Logs()
	for line := range strings.Lines(logs) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") ||
			strings.Contains(line, "WARNING: DATA RACE") || strings.Contains(line, "http: panic serving") {
			s.t.Errorf("Caddy's log has: %s", line)
		}
	}
	if s.t.Failed() {
		most := maxLog
		if strings.Contains(logs, "\nSIGABRT: ") {
			most = maxTraces
		}
		if len(logs) > most {
			logs = "...\n" + logs[len(logs)-most:]
		}
		s.t.Logf("Caddy's log:\n%s", logs)
	}
}

func (s *Server) logFile() string { return filepath.Join(s.Home, "caddy.log") }

// Logs is everything that the server wrote to its standard streams, over all
// its runs.
func (s *Server) Logs() string {
	data, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Reload gives the running server another configuration, a Caddyfile or
// JSON, through the admin API. The error is the server's.
func (s *Server) Reload(config string) error {
	config = s.expand(config)
	kind := "text/caddyfile"
	if json.Valid([]byte(config)) {
		kind = "application/json"
	}
	_, err := s.admin(http.MethodPost, "/load", kind, []byte(config))
	// Caddy closes them, too, and a request might be under way on one just then.
	s.Client.CloseIdleConnections()
	return err
}

// AdminGet asks the admin endpoint for a path, and returns the body of a good
// answer.
func (s *Server) AdminGet(path string) ([]byte, error) {
	body, err := s.admin(http.MethodGet, path, "", nil)
	if errors.Is(err, syscall.ECONNRESET) {
		// Soon after a reload, the endpoint of before may have taken the connection.
		body, err = s.admin(http.MethodGet, path, "", nil)
	}
	return body, err
}

// admin calls the admin endpoint and returns the body of a good answer.
func (s *Server) admin(method, path, kind string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Admin+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := adminClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(data))
	}
	return data, nil
}

// Run runs a caddy command, such as "mirror", "status", against the server
// and returns what it prints.
func (s *Server) Run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Dir, cmd.Env = s.Home, s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Exec is Run with both streams and the exit status apart.
func (s *Server) Exec(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Dir, cmd.Env = s.Home, s.env
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		s.t.Fatalf("running %q: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Get fetches a path of the server and returns the answer and its whole body.
// Header fields are given as "Name: value".
func (s *Server) Get(path string, header ...string) (*http.Response, []byte, error) {
	return s.Do(http.MethodGet, path, header...)
}

// Do is Get with another method.
func (s *Server) Do(method, path string, header ...string) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, nil)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Add(name, strings.TrimSpace(value))
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// freeAddrs finds ports on the loopback interface that nothing listens on.
func freeAddrs(t testing.TB, n int) []string {
	t.Helper()
	var addrs []string
	for range n {
		addrs = append(addrs, FreeAddr(t))
	}
	return addrs
}

// given are the addresses that FreeAddr has returned.
var given sync.Map

// FreeAddr is a host and port on the loopback interface that nothing listens on. It
// returns none twice: a second Caddy would share the port with the first (SO_REUSEPORT),
// and each get some of the connections.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("finding a free port: %v", err)
		}
		addr := l.Addr().String()
		_, known := given.LoadOrStore(addr, nil)
		l.Close()
		if !known {
			return addr
		}
	}
}
