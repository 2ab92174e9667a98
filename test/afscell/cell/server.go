package cell

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Kinds of servers.
const (
	vlserver      = "vlserver"
	ptserver      = "ptserver"
	fileserver    = "fileserver"
	volserver     = "volserver"
	salvageserver = "salvageserver"
)

// Server is one server process of the cell. No one restarts it when it ends.
type Server struct {
	host *Host
	kind string
}

// String is the host and the kind: fs1/volserver.
func (s *Server) String() string { return s.host.Name + "/" + s.kind }

// Server returns a server of the host: vlserver and ptserver at db; fileserver,
// volserver and salvageserver at fs1 and fs2. It panics if there is no such.
func (h *Host) Server(kind string) *Server {
	for _, s := range h.servers {
		if s.kind == kind {
			return s
		}
	}
	panic("cell: no " + kind + " at " + h.Name)
}

// Servers are all servers of the host.
func (h *Host) Servers() []*Server { return slices.Clone(h.servers) }

// Fileserver is the process that serves files, on port 7000.
func (h *Host) Fileserver() *Server { return h.Server(fileserver) }

// Volserver is the process that creates, releases and moves volumes, on port 7005.
func (h *Host) Volserver() *Server { return h.Server(volserver) }

// Vlserver is the process that knows where volumes are, on port 7003.
func (h *Host) Vlserver() *Server { return h.Server(vlserver) }

// Server finds a server by its String.
func (c *Cell) Server(name string) (*Server, error) {
	var names []string
	for _, s := range c.servers() {
		if s.String() == name {
			return s, nil
		}
		names = append(names, s.String())
	}
	return nil, fmt.Errorf("no server %q: there are %s", name, strings.Join(names, ", "))
}

// argv is the command line of the server.
func (s *Server) argv() []string {
	switch s.kind {
	case ptserver:
		return []string{programs + ptserver, "-default_access", "S-----", "S-M---"}
	case fileserver:
		// As on a large server, but for memory. Nothing waits for the disk: what is
		// lost when the machine stops is only a test.
		args := []string{
			programs + "dafileserver",
			"-p", "64", "-busyat", "600", "-rxpck", "800", "-udpsize", "2097152",
			"-s", "2400", "-l", "2400", "-cb", "200000", "-b", "500", "-vc", "600",
			"-sync", "never",
		}
		return append(args, s.host.cell.state.Fileserver...)
	case volserver:
		return []string{programs + "davolserver", "-p", "16", "-sync", "never"}
	}
	return []string{programs + s.kind}
}

// Log is the file the server logs to.
func (s *Server) Log() string {
	name := map[string]string{
		vlserver:      "VLLog",
		ptserver:      "PtLog",
		fileserver:    "FileLog",
		volserver:     "VolserLog",
		salvageserver: "SalsrvLog",
	}[s.kind]
	return filepath.Join(s.host.root(), logDir, name)
}

// output is the file for what the server prints.
func (s *Server) output() string { return filepath.Join(s.host.root(), logDir, s.kind+".out") }

// PID is the process id of the server, 0 if it does not run.
func (s *Server) PID() int {
	if p, ok := s.host.cell.process(s.String()); ok && p.alive() {
		return p.PID
	}
	return 0
}

// Running tells whether the process exists. It may be paused.
func (s *Server) Running() bool { return s.PID() != 0 }

func (s *Server) signal(sig syscall.Signal) error {
	p, ok := s.host.cell.process(s.String())
	if !ok {
		return fmt.Errorf("%s was not started", s)
	}
	if err := p.signal(sig); err != nil {
		return fmt.Errorf("%v for %s: %w", sig, s, err)
	}
	return nil
}

// Pause stops the process (SIGSTOP) until [Server.Continue]: its port is open, and
// nobody answers.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Continue undoes [Server.Pause].
func (s *Server) Continue() error { return s.signal(syscall.SIGCONT) }

// Kill ends the process at once (SIGKILL). Its host says that nobody listens there.
// After a file server was killed, volumes it had in use are salvaged when they are
// wanted next: the salvage server has to run for that.
func (s *Server) Kill() error {
	p, ok := s.host.cell.process(s.String())
	if !ok {
		return fmt.Errorf("%s was not started", s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return p.kill(ctx)
}

// stopTime is how long a server has to end when told to.
const stopTime = 20 * time.Second

// Shutdown tells the server to end, and waits until it has. One that does not in
// 20 seconds is killed.
func (s *Server) Shutdown() error {
	p, ok := s.host.cell.process(s.String())
	if !ok || !p.alive() {
		return nil
	}
	sig := syscall.SIGTERM
	if s.kind == fileserver {
		sig = syscall.SIGQUIT
	}
	_ = p.signal(syscall.SIGCONT)
	if err := p.signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if p.wait(ctx) == nil {
		return nil
	}
	return s.Kill()
}

// Restart shuts the server down, if it runs, and starts it.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Shutdown(); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Start starts the server, unless it runs, and waits until it is ready: a file
// server for requests, the others for its clients to try.
func (s *Server) Start(ctx context.Context) error {
	if s.Running() {
		return nil
	}
	ready := s.readiness()
	h := s.host
	argv := s.argv()
	//nolint:contextcheck // the process outlives ctx
	p, err := start(h.chroot(context.Background(), argv[0], argv[1:]...), s.output())
	if err != nil {
		return fmt.Errorf("starting %s: %w", s, err)
	}
	if err := h.cell.note(s.String(), p); err != nil {
		return err
	}
	err = poll(ctx, 10*time.Millisecond, func() error {
		if !p.alive() {
			return errDied
		}
		return ready()
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", s, err)
	}
	return nil
}

var errDied = errors.New("it ended")

// readiness returns a function that tells whether the server, which is about to be
// started, is ready: it says so in its log, and listens to its neighbours.
func (s *Server) readiness() func() error {
	sign := map[string]string{
		fileserver:    "File Server started",
		volserver:     "Starting AFS Volserver",
		salvageserver: "Starting OpenAFS Online Salvage Server",
		vlserver:      "Starting AFS vlserver",
		ptserver:      "Starting AFS ptserver",
	}[s.kind]
	socket := map[string]string{
		fileserver:    "fssync.sock",
		salvageserver: "salvsync.sock",
	}[s.kind]
	if socket != "" {
		socket = filepath.Join(s.host.root(), localDir, socket)
		_ = os.Remove(socket) // of an earlier run
	}
	before, _ := os.ReadFile(s.Log())
	return func() error {
		b, err := os.ReadFile(s.Log())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// The log is begun anew, or it grows.
		if !bytes.Contains(bytes.TrimPrefix(b, before), []byte(sign)) {
			return fmt.Errorf("no %q in %s", sign, s.Log())
		}
		if socket != "" {
			_, err = os.Stat(socket)
		}
		return err
	}
}

// start starts the servers of a host, and waits until they work.
func (h *Host) start(ctx context.Context) error {
	for _, s := range h.servers {
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	if h != h.cell.DB {
		return nil
	}
	return h.cell.WaitQuorum(ctx)
}

// WaitQuorum waits until the database servers take changes. They elect themselves
// for four seconds after each start.
func (c *Cell) WaitQuorum(ctx context.Context) error {
	return poll(ctx, 100*time.Millisecond, func() error {
		_, err := output(c.DB.chroot(ctx, "vos", "listvldb", "-localauth", "-quiet"))
		if err != nil {
			return err
		}
		_, err = output(c.DB.chroot(ctx, "pts", "listentries", "-groups", "-localauth"))
		return err
	})
}

const (
	logDir   = "var/log/openafs"
	localDir = "var/lib/openafs/local"
)

// root is the directory that is the root directory of the host's programs.
func (h *Host) root() string { return filepath.Join(h.cell.Dir, hostsDir, h.Name) }

// chroot is a command that runs at the host, with the host's root directory. The
// process that is started becomes the program: all on the way there use exec.
func (h *Host) chroot(ctx context.Context, name string, args ...string) *exec.Cmd {
	const script = `set -e
hostname "${0##*/}"
mount --bind -o ro /usr "$0/usr"
mount --bind /dev "$0/dev"
mount -t proc none "$0/proc"
exec chroot "$0" "$@"`
	args = append([]string{"--mount", "--uts", "--", "sh", "-c", script, h.root(), name}, args...)
	return h.Command(ctx, "unshare", args...)
}

// makeRoots makes the root directories of the servers.
func (c *Cell) makeRoots() error {
	key := keyFile()
	for _, h := range []*Host{c.DB, c.FS1, c.FS2} {
		if err := h.makeRoot(key); err != nil {
			return fmt.Errorf("making the files of %s: %w", h, err)
		}
	}
	return nil
}

func (h *Host) makeRoot(key []byte) error {
	c := h.cell
	dirs := []string{
		"usr", "proc", "dev", "tmp", logDir,
		"etc/openafs/server", "var/lib/openafs/db", localDir,
	}
	files := map[string][]byte{"etc/openafs/server/KeyFileExt": key}
	for _, d := range []string{"etc/openafs/", "etc/openafs/server/"} {
		files[d+"ThisCell"] = []byte(c.Name + "\n")
		files[d+"CellServDB"] = []byte(c.CellServDB())
	}
	files["etc/openafs/server/UserList"] = nil
	// Servers look up their own address by their name, and nothing else.
	for _, other := range c.Hosts() {
		files["etc/hosts"] = fmt.Appendf(files["etc/hosts"], "%s %s\n", other.Addr, other.Name)
	}
	files["etc/nsswitch.conf"] = []byte("hosts: files\npasswd: files\ngroup: files\nservices: files\n")
	if slices.Contains([]*Host{c.FS1, c.FS2}, h) {
		for _, p := range c.state.Partitions {
			dirs = append(dirs, "vicep"+p)
			files["vicep"+p+"/AlwaysAttach"] = nil
		}
	}
	for _, f := range []string{"passwd", "group", "services", "localtime", "ld.so.cache"} {
		if b, err := os.ReadFile("/etc/" + f); err == nil {
			files["etc/"+f] = b
		}
	}

	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(h.root(), d), 0o755); err != nil {
			return err
		}
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(h.root(), name), b, 0o600); err != nil {
			return err
		}
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib32", "lib64"} { // merged, as in Debian 12
		if err := os.Symlink("usr/"+d, filepath.Join(h.root(), d)); err != nil {
			return err
		}
	}
	return nil
}

// keyFile is a KeyFileExt (asetkey(8)) with one random key: kvno 1 of the type
// rxkad_krb5, for aes256-cts-hmac-sha1-96.
func keyFile() []byte {
	const (
		keys      = 1
		entrySize = 16 // without the key
		rxkadKrb5 = 2
		kvno      = 1
		aes256    = 18
	)
	key := randomKey()
	var b []byte
	for _, v := range []int{keys, entrySize, rxkadKrb5, kvno, aes256, len(key)} {
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	return append(b, key...)
}
