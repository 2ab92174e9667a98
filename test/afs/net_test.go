package afs_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// Bad networks, firewalls, and mirrors side by side.
func TestNetwork(t *testing.T) {
	n := &network{c: cell.New(t, cell.Options{})}
	n.files.add(3000, "small/%02d", 40)
	n.files.add(32<<20, "large%d", 1)
	v := newVolume(t, n.c, "web", n.c.FS1, n.c.FS2)
	n.files.write(t, v, 1)
	release(t, n.c, "web")
	for _, s := range []struct {
		name string
		test func(*testing.T)
	}{
		{"loss", n.loss},
		{"callbacks of one server blocked", n.oneBlocked},
		{"callbacks blocked later", n.blockedLater},
		{"callbacks blocked", n.blocked},
		{"instances", n.instances},
	} {
		t.Run(s.name, s.test)
		try(t, n.c.Heal())
	}
}

type network struct {
	c     *cell.Cell
	files generations
}

func (n *network) small() []string { return n.files.names[:40] }

func (n *network) mirror(t *testing.T) *witness {
	t.Helper()
	return newWitness(startMirror(t, n.c, "", "/web afs://"+n.c.Name+":web"), "/web", &n.files)
}

func (n *network) loss(t *testing.T) {
	w := n.mirror(t)
	for _, s := range []struct {
		name string
		loss float64
		rtt  time.Duration
	}{
		{name: "a good network"},
		{"1 % loss", 0.01, 0},
		{"5 % loss", 0.05, 0},
		{"20 ms", 0, 20 * time.Millisecond},
	} {
		try(t, errors.Join(n.c.Self.Loss(s.loss), n.c.Self.Delay(s.rtt)))
		slowest := w.coldAll(t, n.small(), http.StatusOK, 1)
		r := w.cold(t, "large0")
		r.want(t, "large0", http.StatusOK, 1)
		rate := float64(n.files.sizes["large0"]) / (1 << 20) / r.took.Seconds()
		t.Logf("%s: 32 MiB at %.1f MiB/s; 40 small files at once: the last after %v", s.name, rate, slowest.Round(time.Millisecond))
		if rate < 1 || slowest > failover {
			t.Errorf("%s: too slow", s.name)
		}
	}
	try(t, n.c.Self.Heal())
	if lines := newJournal(w.srv).lines(); len(lines) > 0 {
		t.Error(lines)
	}
}

// client is a client at a host of its own, for tests in which the mirror's is not
// touched, and what it logs.
func (n *network) client(t *testing.T) (*afs.Tree, *observer.ObservedLogs) {
	t.Helper()
	conn, err := n.c.Client.ListenUDP(0)
	try(t, err)
	core, logs := observer.New(zap.InfoLevel)
	client, err := afs.New(afs.Config{
		Conn:  conn,
		Cells: map[string][]netip.AddrPort{n.c.Name: {netip.AddrPortFrom(n.c.DB.Addr, wire.PortLocation)}},
		Log:   zap.New(core),
	})
	try(t, err)
	t.Cleanup(func() { try(t, client.Close()) })
	return newTree(t, n.c, client, afs.Root{Volume: "web"}), logs
}

// readAll reads small files, all at once, and returns how long the last one took.
func (n *network) readAll(t *testing.T, tree *afs.Tree, names []string) time.Duration {
	t.Helper()
	start := time.Now()
	err := cell.Each(names, func(name string) error {
		ctx, cancel := context.WithTimeout(t.Context(), never)
		defer cancel()
		f, err := tree.Open(ctx, name)
		if err != nil {
			return err
		}
		defer f.Close()
		b := make([]byte, f.Info().Size)
		if _, err := f.ReadAt(ctx, b, 0); err != nil {
			return err
		}
		_, err = n.files.generation(name, b)
		return err
	})
	if err != nil {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	return time.Since(start)
}

// block drops the calls of one file server to the client, in the client's own
// namespace, or none.
func (n *network) block(t *testing.T, server *cell.Host) {
	t.Helper()
	rules := "add table ip afs\ndelete table ip afs\n"
	if server != nil {
		// Bit 0 of an Rx packet's flags: it is from whoever opened the connection.
		rules += fmt.Sprintf("table ip afs {\nchain input {\ntype filter hook input priority 0;\n"+
			"ip saddr %s udp sport %d @th,232,8 & 1 == 1 drop\n}\n}\n", server.Addr, wire.PortFile)
	}
	cmd := n.c.Client.Command(t.Context(), "nft", "--file", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

const diagnosis = "its own calls do not reach us"

func (n *network) oneBlocked(t *testing.T) {
	n.block(t, n.c.FS1)
	defer n.block(t, nil)
	tree, logs := n.client(t)
	start := time.Now()
	d := n.readAll(t, tree, n.small())
	t.Logf("the first files after %v", d)
	if d > 6*time.Second {
		t.Errorf("the first files after %v", d)
	}
	waitFor(t, 10*time.Second-time.Since(start), "a diagnosis in the log", func() bool {
		all := logs.FilterMessageSnippet(diagnosis).All()
		return len(all) == 1 && strings.Contains(fmt.Sprint(all[0].ContextMap()), n.c.FS1.Addr.String())
	})
	if d := n.readAll(t, tree, n.small()); d > time.Second {
		t.Errorf("more files after %v", d)
	}
	if logs.Len() > 2 {
		t.Errorf("it logs %v", logs.All())
	}
}

// blockedLater has a firewall come up while a client is at work. Connections that
// there are go on; others cannot be opened.
func (n *network) blockedLater(t *testing.T) {
	tree, logs := n.client(t)
	n.readAll(t, tree, n.small()[:1])
	n.block(t, n.c.FS1)
	defer n.block(t, nil)
	var slowest time.Duration
	for range 5 {
		d := n.readAll(t, tree, n.small())
		slowest = max(slowest, d)
		t.Logf("40 files at once: %v", d)
	}
	// A second of that is for the opening of a connection, which does not count
	// against the server.
	if slowest > never-failover+time.Second {
		t.Errorf("40 files at once: %v", slowest)
	}
	if all := logs.FilterMessageSnippet(diagnosis).All(); len(all) != 1 {
		t.Errorf("no diagnosis: %v", logs.All())
	}
}

func (n *network) blocked(t *testing.T) {
	try(t, n.c.Self.BlockCallbacks())
	w := n.mirror(t)
	j := newJournal(w.srv)
	start := time.Now()
	d := w.coldAll(t, n.small()[:10], http.StatusServiceUnavailable, 0)
	t.Logf("503 after %v", d)
	if d > timeout+time.Second {
		t.Errorf("503 after %v", d)
	}
	for _, h := range []*cell.Host{n.c.FS1, n.c.FS2} {
		j.tells(t, 10*time.Second-time.Since(start), 1, diagnosis, h.Addr.String(), "from_port", "to_port")
	}
	if d := w.coldAll(t, n.small()[:10], http.StatusServiceUnavailable, 0); d > time.Second {
		t.Errorf("503 once more after %v, want it at once", d)
	}
	j.brief(t, 4)
	start = time.Now()
	try(t, n.c.Self.Heal())
	waitFor(t, 30*time.Second, "well again", func() bool { return w.cold(t, n.small()[0]).status == http.StatusOK })
	t.Logf("well again %v after the firewall was opened", time.Since(start))
	w.coldAll(t, n.small(), http.StatusOK, 1)
}

// instances are two mirrors at one host, one with a fixed port. One is restarted,
// well-behaved and not: neither has to wait.
func (n *network) instances(t *testing.T) {
	conn, err := net.ListenPacket("udp4", ":0")
	try(t, err)
	port := conn.LocalAddr().(*net.UDPAddr).Port
	try(t, conn.Close())
	free := site(t, n.c, "", "", "mirror_cache {\nmount /web afs://"+n.c.Name+":web\n}")
	fixed := strings.Replace(site(t, n.c, "", "", "mirror_cache {\nmount /web afs://"+n.c.Name+":web\n}"),
		"afs {", fmt.Sprintf("afs {\naddress :%d", port), 1)
	one, two := testcaddy.Start(t, free), testcaddy.Start(t, fixed)
	mirrors := []*witness{newWitness(one, "/web", &n.files), newWitness(two, "/web", &n.files)}
	for _, w := range mirrors {
		w.srv.WaitReady(t)
		w.coldAll(t, n.small(), http.StatusOK, 1)
	}
	for i, config := range []string{free, fixed} {
		for _, end := range []struct {
			name string
			f    func()
		}{{"killed", mirrors[i].srv.Kill}, {"stopped", mirrors[i].srv.Stop}} {
			stop := make(chan struct{})
			var slowest time.Duration
			var wg sync.WaitGroup
			wg.Go(func() { // the other one
				for k := 0; ; k++ {
					select {
					case <-stop:
						return
					case <-time.After(10 * time.Millisecond):
						slowest = max(slowest, mirrors[1-i].cold(t, n.small()[k%40]).took)
					}
				}
			})
			end.f()
			mirrors[i].srv.Restart(config)
			mirrors[i].srv.WaitReady(t)
			r := mirrors[i].cold(t, n.small()[0])
			r.want(t, "after a restart", http.StatusOK, 1)
			all := mirrors[i].coldAll(t, n.small(), http.StatusOK, 1)
			close(stop)
			wg.Wait()
			t.Logf("mirror %d %s: the first file after %v, more in %v, the other mirror's in %v", i, end.name, r.took, all, slowest)
			if max(r.took, all, slowest) > time.Second {
				t.Errorf("mirror %d %s: that is a stall", i, end.name)
			}
		}
	}
}
