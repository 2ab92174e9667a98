package cell

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// Tests start cells in processes of their own to kill these.
func TestMain(m *testing.M) {
	if os.Getenv("AFSCELL_TEST_ORPHAN") == "" {
		os.Exit(m.Run())
	}
	c, err := Start(context.Background(), Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println(c.Dir)
	time.Sleep(time.Hour)
}

// orphan starts a cell whose process is killed, and returns its directory.
func orphan(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "AFSCELL_TEST_ORPHAN=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || strings.HasPrefix(dir, "error") {
		t.Fatalf("starting a cell: %v %s", err, dir)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return strings.TrimSpace(dir)
}

func TestOrphan(t *testing.T) {
	Need(t)
	dir := orphan(t)
	c, err := Attach(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.servers() {
		if !s.Running() {
			t.Errorf("%s ended with the process that started it", s)
		}
	}
	ctx := t.Context()
	if _, err := exec.LookPath("afsd.fuse"); err == nil {
		try1(t, func() (*Fuse, error) { return c.Client.MountFuse(ctx, FuseOptions{}) })
	}
	if !listed(t, dir, true) {
		t.Errorf("a cell without its process is not listed as stale")
	}
	unlock, err := lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := removeStale(ctx); err != nil {
		t.Error(err)
	}
	gone(t, c)
}

func listed(t *testing.T, dir string, stale bool) bool {
	t.Helper()
	for _, i := range List(t.Context()) {
		if i.Dir == dir && i.Stale == stale {
			return true
		}
	}
	return false
}

// gone checks that nothing is left of a cell.
func gone(t *testing.T, c *Cell) {
	t.Helper()
	for _, s := range c.servers() {
		if s.Running() {
			t.Errorf("%s still runs", s)
		}
	}
	if used(c.state.Slot) {
		t.Errorf("namespaces of the cell are left")
	}
	if _, err := run(context.Background(), "ip", "link", "show", "dev", slotName(c.state.Slot)); err == nil {
		t.Errorf("a link of the cell is left")
	}
	if _, err := os.Stat(c.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cell's directory: %v, want it gone", err)
	}
	if m, err := mountedBelow(c.Dir); err != nil || len(m) > 0 {
		t.Errorf("still mounted: %q, %v", m, err)
	}
}

func TestCell(t *testing.T) {
	begin := time.Now()
	c := New(t, Options{Partitions: []string{"a", "b"}})
	started := time.Since(begin)
	t.Logf("started in %v", started)
	if started > 15*time.Second {
		t.Errorf("starting took %v, want at most 15s", started)
	}
	if !listed(t, c.Dir, false) {
		t.Errorf("the cell is not listed")
	}
	if _, err := os.Stat("/vicepa/AlwaysAttach"); err == nil {
		t.Errorf("there is a /vicepa outside of the cell")
	}

	ctx := t.Context()
	v := try1(t, func() (*Volume, error) { return c.CreateVolume(ctx, "mirror", c.FS1, "a") })
	// Each of these leaves the cell as it was, but for what is in volumes.
	for _, s := range []struct {
		name string
		test func(*testing.T, *Cell, *Volume)
	}{
		{"volume", testVolume},
		{"access", testAccess},
		{"release", testRelease},
		{"pause", testPause},
		{"kill", testKill},
		{"network", testNetwork},
		{"callbacks", testCallbacks},
		// Last, as the volume may stay busy: vos may have been about to clone it.
		{"kill vos", testKillVos},
	} {
		t.Run(s.name, func(t *testing.T) { s.test(t, c, v) })
	}

	if t.Failed() {
		return // the servers' logs are to be shown
	}
	try(t, c.Stop())
	gone(t, c)
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func try1[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	try(t, err)
	return v
}

// testVolume changes files in all the ways there are.
func testVolume(t *testing.T, _ *Cell, v *Volume) {
	ctx := t.Context()
	then := time.Date(2020, 2, 29, 12, 30, 1, 0, time.UTC)
	try(t, v.MkdirAll(ctx, "a/b"))
	try(t, v.WriteFile(ctx, "a/b/file", bytes.Repeat([]byte("longer"), chunk/2), Attr{}))
	try(t, v.WriteFile(ctx, "a/b/file", []byte("short"), Attr{Mode: 0o600, ModTime: then}))
	if got := text(t, v, "a/b/file"); got != "short" {
		t.Errorf("a file written over a longer one is %q", got)
	}
	st := try1(t, func() (wire.Status, error) { return v.Stat(ctx, "a/b/file") })
	if st.Length != 5 || st.Mode != 0o600 || !st.ModTime.Equal(then) {
		t.Errorf("written: %+v", st)
	}

	try(t, v.Rename(ctx, "a/b", "c"))
	if _, err := v.Stat(ctx, "a/b/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its directory was renamed: %v, want it not to exist", err)
	}
	try(t, v.Chmod(ctx, "c/file", 0o400))
	try(t, v.Chtimes(ctx, "c/file", then.Add(time.Hour)))
	st = try1(t, func() (wire.Status, error) { return v.Stat(ctx, "c/file") })
	if st.Mode != 0o400 || !st.ModTime.Equal(then.Add(time.Hour)) {
		t.Errorf("changed: %+v", st)
	}

	try(t, v.WriteAt(ctx, "c/large", []byte("!"), 2<<30))
	st = try1(t, func() (wire.Status, error) { return v.Stat(ctx, "c/large") })
	if st.Length != 2<<30+1 {
		t.Errorf("a file of 2 GiB and a byte has %d", st.Length)
	}
	try(t, v.WriteAt(ctx, "c/file", []byte("ri"), 1))
	if got := text(t, v, "c/file"); got != "srirt" {
		t.Errorf("a file written in the middle is %q", got)
	}

	if err := v.Mkdir(ctx, "c", Attr{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("making a directory twice: %v", err)
	}
	if err := v.Remove(ctx, "c"); err == nil {
		t.Errorf("a directory with files in it was removed")
	}
	try(t, v.RemoveAll(ctx, "c"))
	if _, err := v.Stat(ctx, "c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it was removed: %v", err)
	}
}

// text is what is in a small file.
func text(t *testing.T, v *Volume, name string) string {
	t.Helper()
	ctx := t.Context()
	f := try1(t, func() (wire.FID, error) { return v.Lookup(ctx, name) })
	reply := try1(t, func() ([]byte, error) {
		return v.call(ctx, "reading", name, wire.FetchData64Request(f, 0, 100), wire.FetchData64ReplySize(100))
	})
	r := try1(t, func() (wire.DataReply, error) { return wire.DecodeFetchData64(reply) })
	return string(r.Data)
}

func testAccess(t *testing.T, _ *Cell, v *Volume) {
	ctx := t.Context()
	try(t, v.MkdirAll(ctx, "secret"))
	try(t, v.WriteFile(ctx, "secret/file", []byte("text"), Attr{}))
	try(t, v.SetACL(ctx, "secret", wire.AccessLookup|wire.AccessAdminister))
	if err := v.WriteFile(ctx, "secret/other", nil, Attr{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("writing without the right to: %v", err)
	}
	if _, err := v.Stat(ctx, "secret/file"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("looking without the right to: %v", err)
	}
	try(t, v.SetACL(ctx, "secret", 0x7f))
	try(t, v.RemoveAll(ctx, "secret"))
}

// testRelease publishes a tree, and compares it as OpenAFS' own client sees it.
func testRelease(t *testing.T, c *Cell, v *Volume) {
	ctx := t.Context()
	tree := sampleTree()
	for range 2 { // the second time over the first
		try(t, v.WriteTree(ctx, tree, "."))
	}
	try(t, c.AddSite(ctx, v.Name, c.FS1, "a"))
	try(t, c.AddSite(ctx, v.Name, c.FS2, "b"))
	try(t, c.Release(ctx, v.Name))
	root := try1(t, func() (*Volume, error) { return c.Open(ctx, "root.cell") })
	try(t, root.Mount(ctx, "mirror", v.Name))

	if _, err := exec.LookPath("afsd.fuse"); err != nil {
		t.Skip("afsd.fuse is not installed (Debian package openafs-fuse)")
	}
	f := try1(t, func() (*Fuse, error) { return c.Client.MountFuse(ctx, FuseOptions{}) })
	defer func() { try(t, f.Unmount()) }()
	for _, dir := range []string{
		filepath.Join(f.Dir, ".:mount", c.Name+":"+v.Name+".readonly"),
		f.Path(c.Name, "mirror"),
	} {
		compare(t, dir, tree)
	}
}

// sampleTree is a tree with what is out of the ordinary.
func sampleTree() fstest.MapFS {
	at := time.Date(2001, 9, 9, 1, 46, 40, 0, time.UTC)
	tree := fstest.MapFS{
		"empty":                   {Mode: 0o644, ModTime: at},
		strings.Repeat("ä", 125):  {Data: []byte("a long name"), Mode: 0o644, ModTime: at},
		"dir/large":               {Data: bytes.Repeat([]byte("0123456789abcde\n"), chunk/8+1), Mode: 0o755, ModTime: at},
		"dir/link":                {Data: []byte("../many/f7"), Mode: fs.ModeSymlink | 0o777},
		"dir/with spaces/and/dir": {Mode: fs.ModeDir | 0o755, ModTime: at},
	}
	for i := range 1000 {
		tree[fmt.Sprintf("many/f%d", i)] = &fstest.MapFile{Data: fmt.Append(nil, i), Mode: 0o640, ModTime: at}
	}
	return tree
}

// compare compares a directory with what was written.
func compare(t *testing.T, dir string, want fstest.MapFS) {
	t.Helper()
	for name, w := range want {
		name := filepath.Join(dir, name)
		info, err := os.Lstat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode().Type() != w.Mode.Type() {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), w.Mode)
		}
		if w.Mode.Type() == fs.ModeSymlink {
			if got, err := os.Readlink(name); err != nil || got != string(w.Data) {
				t.Errorf("%s: link to %q, %v, want %q", name, got, err, w.Data)
			}
		}
		if w.Mode.IsRegular() {
			if info.Mode() != w.Mode || !info.ModTime().Equal(w.ModTime) {
				t.Errorf("%s: %v %v, want %v %v", name, info.Mode(), info.ModTime(), w.Mode, w.ModTime)
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, w.Data) {
				t.Errorf("%s: %d bytes, %v, want %d other ones", name, len(got), err, len(w.Data))
			}
		}
	}
	if got, err := os.ReadDir(filepath.Join(dir, "many")); err != nil || len(got) != 1000 {
		t.Errorf("%s: %d files in many, %v", dir, len(got), err)
	}
}

// testKillVos kills vos in the middle of a release, which leaves a lock.
func testKillVos(t *testing.T, c *Cell, v *Volume) {
	ctx := t.Context()
	locked := func() bool {
		t.Helper()
		out := try1(t, func() (Output, error) { return c.Vos(ctx, "listvldb", v.Name) })
		return strings.Contains(out.Stdout, "LOCKED")
	}
	release := try1(t, func() (*Vos, error) { return c.VosStart(ctx, "release", v.Name) })
	try(t, poll(ctx, 20*time.Millisecond, func() error {
		if !locked() {
			return errors.New("not locked yet")
		}
		return nil
	}))
	try(t, release.Kill())
	out, err := release.Wait()
	if err == nil || out.Code != -1 {
		t.Errorf("a killed release: %+v, %v", out, err)
	}
	if !locked() {
		t.Errorf("a killed release left no lock")
	}
	try1(t, func() (Output, error) { return c.Vos(ctx, "unlock", v.Name) })
	if locked() {
		t.Errorf("unlocking the volume did not")
	}
}

// peer is a client at a host, that answers callbacks.
func peer(t *testing.T, h *Host, to *Host) *rx.Peer {
	t.Helper()
	conn := try1(t, func() (*net.UDPConn, error) { return h.ListenUDP(0) })
	c := &client{uuid: wire.NewUUID(), addr: h.Addr}
	e := try1(t, func() (*rx.Endpoint, error) {
		return rx.Listen("", rx.Options{Conn: conn, Handle: c.callback})
	})
	t.Cleanup(func() { _ = e.Close() })
	return e.Peer(netip.AddrPortFrom(to.Addr, wire.PortFile), wire.ServiceFile)
}

// ask asks a server for its version, which it answers without ado, and returns how
// long that took. Nothing is sent again.
func ask(p *rx.Peer, wait time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	begin := time.Now()
	_, err := p.Version(ctx)
	return time.Since(begin), err
}

func testPause(t *testing.T, c *Cell, _ *Volume) {
	p := peer(t, c.Self, c.FS1)
	try(t, c.FS1.Fileserver().Pause())
	if _, err := ask(p, time.Second/2); err == nil {
		t.Errorf("a paused server answered")
	}
	try(t, c.FS1.Fileserver().Continue())
	if _, err := ask(p, 5*time.Second); err != nil {
		t.Errorf("a server that continued does not answer: %v", err)
	}
}

// testKill kills a file server: what was written is there after a restart.
func testKill(t *testing.T, c *Cell, v *Volume) {
	ctx := t.Context()
	try(t, v.WriteFile(ctx, "kept", []byte("kept"), Attr{}))
	s := c.FS1.Fileserver()
	try(t, s.Kill())
	if s.Running() {
		t.Fatalf("%s runs after it was killed", s)
	}
	if err := s.Pause(); err == nil {
		t.Errorf("%s was paused after it was killed", s)
	}
	begin := time.Now()
	try(t, s.Start(ctx))
	t.Logf("started again in %v", time.Since(begin))
	if got := text(t, v, "kept"); got != "kept" {
		t.Errorf("after a restart: %q", got)
	}
	try(t, v.WriteFile(ctx, "kept", []byte("new"), Attr{}))
	t.Logf("salvaged after %v", time.Since(begin))

	begin = time.Now()
	try(t, s.Restart(ctx))
	t.Logf("restarted in %v", time.Since(begin))
	if got := text(t, v, "kept"); got != "new" {
		t.Errorf("after another restart: %q", got)
	}
	try(t, c.FS1.Volserver().Kill())
	try(t, c.FS1.Volserver().Start(ctx))
	if _, err := c.Vos(ctx, "examine", v.Name); err != nil {
		t.Errorf("after a restart of the volume server: %v", err)
	}
}

// testNetwork spoils the network between one client and one server.
func testNetwork(t *testing.T, c *Cell, _ *Volume) {
	spoiled, clean := peer(t, c.Client, c.FS2), peer(t, c.Self, c.FS2)
	const short, rtt = 200 * time.Millisecond, 40 * time.Millisecond
	fine := func() {
		t.Helper()
		for _, p := range []*rx.Peer{spoiled, clean} {
			if d, err := ask(p, time.Second); err != nil || d > rtt {
				t.Errorf("asking over a good network: %v, %v", d, err)
			}
		}
	}
	fine()

	try(t, c.Client.Drop())
	if _, err := ask(spoiled, short); err == nil {
		t.Errorf("an answer though all packets are dropped")
	}
	if _, err := ask(clean, time.Second); err != nil {
		t.Errorf("the packets of one client are dropped, and another gets no answer: %v", err)
	}
	faults, err := c.Faults()
	if err != nil || len(faults) != 1 {
		t.Errorf("faults: %q, %v", faults, err)
	}
	try(t, c.Client.Heal())
	fine()

	try(t, c.Client.Delay(rtt))
	if d, err := ask(spoiled, time.Second); err != nil || d < rtt || d > 2*rtt {
		t.Errorf("asking with a delay of %v: %v, %v", rtt, d, err)
	}
	if d, err := ask(clean, time.Second); err != nil || d > rtt {
		t.Errorf("one client is delayed, and so is another: %v, %v", d, err)
	}
	try(t, c.Heal())
	fine()

	try(t, c.FS2.Loss(0.3))
	const n = 100
	var answers int
	for range n {
		if _, err := ask(clean, 20*time.Millisecond); err == nil {
			answers++
		}
	}
	// 49 are to be expected. This fails once in millions of times.
	if answers < n/4 || answers > 3*n/4 {
		t.Errorf("%d of %d answers with 30 %% loss each way", answers, n)
	}
	try(t, c.Heal())
	fine()
}

// testCallbacks blocks the way from servers to a client, as a firewall does.
func testCallbacks(t *testing.T, c *Cell, v *Volume) {
	p := peer(t, c.Client, c.FS1)
	status := func(wait time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		reply := make([]byte, wire.FetchStatusReplySize)
		_, err := p.Call(ctx, wire.FetchStatusRequest(wire.Root(v.ID)), reply)
		return err
	}
	try(t, c.Client.BlockCallbacks())
	if _, err := ask(p, time.Second); err != nil {
		t.Errorf("replies do not pass: %v", err)
	}
	err := status(2 * time.Second)
	if call, ok := errors.AsType[*rx.CallError](err); !ok || !call.Heard || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call while callbacks are blocked: %v, want a silence that is not quite one", err)
	}
	try(t, c.Client.Heal())
	if err := status(30 * time.Second); err != nil {
		t.Errorf("a call after callbacks were let through: %v", err)
	}
}
