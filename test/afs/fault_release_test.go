package afs_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// Releases that break off: at fs1 is the new one, and at fs2 what must not be
// served, though fs2 serves it.
func TestBrokenReleases(t *testing.T) {
	t.Parallel() // it waits, mostly
	c := cell.New(t, cell.Options{})
	files := &generations{}
	files.add(2000, "a/%02d", 10)
	files.add(3<<20, "bulk%d", 1) // in the middle of a release
	files.add(2000, "z/%02d", 10)
	volumes := []string{"killed", "torn", "old", "alone"}
	rw := map[string]*cell.Volume{}
	for _, name := range volumes {
		sites := []*cell.Host{c.FS1, c.FS2}
		if name == "alone" {
			sites = sites[1:]
		}
		rw[name] = newVolume(t, c, name, sites...)
	}
	write := func(gen int) {
		t.Helper()
		for _, name := range volumes {
			files.write(t, rw[name], gen)
		}
	}
	write(1)
	release(t, c, volumes...)
	b := &broken{c: c, files: files, volumes: volumes}
	b.srv, b.witnesses = b.mirror(t)
	for _, w := range b.witnesses {
		w.coldAll(t, files.names, http.StatusOK, 1)
	}
	write(2)

	j := newJournal(b.srv)
	stop := b.background(t)
	b.breakReleases(t)
	b.checkTorn(t, "torn", rw["torn"])
	b.checkTorn(t, "alone", rw["alone"])
	stop()

	for name, w := range b.witnesses {
		if name == "alone" {
			// One site, which must not be used: the release before stays.
			w.coldAll(t, files.names[1:], http.StatusServiceUnavailable, 0)
			w.cachedAll(t, files.names[:1], 1)
			_, fresh := b.mirror(t)
			fresh[name].coldAll(t, files.names, http.StatusServiceUnavailable, 0)
			continue
		}
		w.coldAll(t, files.names, http.StatusOK, 2)
		j.tells(t, 0, 1, "AFS volume was released", name)
	}
	b.onlyBroken(t)

	// Somebody cleans up.
	try(t, c.FS2.Volserver().Start(t.Context()))
	try(t, c.FS1.Volserver().Restart(t.Context())) // it has a transaction left of vos
	for _, name := range []string{"killed", "alone"} {
		if _, err := c.Vos(t.Context(), "unlock", name); err != nil {
			t.Error(err)
		}
	}
	write(3)
	stop = b.background(t)
	try(t, cell.Each(volumes, func(v string) error { return c.Release(t.Context(), v, "-force-reclone") }))
	for _, w := range b.witnesses {
		waitFor(t, 10*time.Second, "released", func() bool { return w.cold(t, "a/00").gen == 3 })
		w.coldAll(t, files.names, http.StatusOK, 3)
	}
	stop()
	j.brief(t, 35)
	try(t, c.FS1.Fileserver().Pause())
	defer func() { try(t, c.FS1.Fileserver().Continue()) }()
	for _, w := range b.witnesses {
		w.coldAll(t, files.names[:5], http.StatusOK, 3) // of fs2
	}
}

// broken is a cell whose releases break off.
type broken struct {
	c         *cell.Cell
	files     *generations
	volumes   []string
	srv       *testcaddy.Server
	witnesses map[string]*witness
}

// mirror starts a mirror of the volumes.
func (b *broken) mirror(t *testing.T) (*testcaddy.Server, map[string]*witness) {
	t.Helper()
	var mounts []string
	for _, name := range b.volumes {
		mounts = append(mounts, "/"+name+" afs://"+b.c.Name+":"+name)
	}
	srv := startMirror(t, b.c, "", mounts...)
	all := map[string]*witness{}
	for _, name := range b.volumes {
		all[name] = newWitness(srv, "/"+name, b.files)
	}
	return srv, all
}

// background asks for files that are not cached, until it is stopped. One site can
// always be read from, where there is more than one.
func (b *broken) background(t *testing.T) (stop func()) {
	t.Helper()
	end := make(chan struct{})
	var wg sync.WaitGroup
	for _, w := range b.witnesses {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				case <-time.After(20 * time.Millisecond):
				}
				// All but the first, which is to stay cached.
				name := b.files.names[1+i%(len(b.files.names)-1)]
				if _, err := w.srv.Purge(w.mount, "/"+name, ""); err != nil {
					t.Error(err)
				}
				r, err := w.ask(name)
				switch {
				case err != nil && errors.Is(err, io.ErrUnexpectedEOF) && name == "bulk0":
					continue // it was replaced while it was sent
				case err != nil:
					t.Error(err)
				}
				if r.status != http.StatusOK && (w.mount != "/alone" || r.status != http.StatusServiceUnavailable) {
					t.Errorf("%s/%s while it is released: status %d after %v", w.mount, name, r.status, r.took)
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { close(end); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// breakReleases begins the release of all volumes and breaks each off: vos is
// killed, the volume server is killed, and the volume server is not there at all.
func (b *broken) breakReleases(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	c := b.c
	try(t, c.FS2.Delay(100*time.Millisecond))
	killed, err := c.VosStart(ctx, "release", "killed")
	try(t, err)
	torn, err := c.VosStart(ctx, "release", "torn")
	try(t, err)
	var now map[string]transaction
	const packets = 100 // more than a/* takes
	waitFor(t, 20*time.Second, "under way", func() bool {
		now = b.transactions(t, c.FS2)
		return now["killed"].packets > packets && now["torn"].packets > packets
	})
	// The database lists the only site for use until all of it was written.
	alone, err := c.VosStart(ctx, "release", "alone")
	try(t, err)
	waitFor(t, 10*time.Second, "under way", func() bool {
		now = b.transactions(t, c.FS2)
		return now["alone"].packets > packets && now["killed"].id != ""
	})
	t.Logf("under way: %+v", now)
	for _, vos := range []*cell.Vos{killed, alone} {
		try(t, vos.Kill())
		if _, err := vos.Wait(); err == nil {
			t.Error("a release that was killed ended well")
		}
	}
	// The site comes back when the transaction ends, which takes ten minutes by
	// itself: and it has the date of the new release.
	if _, err := c.Vos(ctx, "endtrans", c.FS2.Addr.String(), now["killed"].id); err != nil {
		t.Error(err)
	}
	try(t, c.FS2.Volserver().Kill())
	if _, err := torn.Wait(); err == nil {
		t.Error("a release whose volume server was killed ended well")
	}
	try(t, c.FS2.Heal())
	if err := c.Release(ctx, "old"); err == nil {
		t.Error("a release to a server that is not there ended well")
	}
	for _, name := range b.volumes[:3] {
		out, err := c.Vos(ctx, "listvldb", name)
		if err != nil || !strings.Contains(out.Stdout, "Old release") {
			t.Errorf("%s is to have a site with an old release: %v\n%s", name, err, out.Stdout)
		}
	}
}

// transaction is what a volume server is doing for a volume.
type transaction struct {
	id      string
	packets int // that came
}

var transactionLines = regexp.MustCompile(`(?s)^: (\d+).*volume: (\d+).*packetRead: (\d+)`)

// transactions are those of a volume server by the volumes' names.
func (b *broken) transactions(t *testing.T, h *cell.Host) map[string]transaction {
	t.Helper()
	out, err := b.c.Vos(t.Context(), "status", h.Addr.String())
	try(t, err)
	found := map[string]transaction{}
	for part := range strings.SplitSeq(out.Stdout, "transaction") {
		m := transactionLines.FindStringSubmatch(part)
		for _, name := range b.volumes {
			if m != nil && m[2] == strconv.Itoa(int(readOnlyID(t, b.c, name))) {
				n, _ := strconv.Atoi(m[3])
				found[name] = transaction{m[1], n}
			}
		}
	}
	return found
}

var readOnlyIDs sync.Map

func readOnlyID(t *testing.T, c *cell.Cell, volume string) uint32 {
	t.Helper()
	if id, ok := readOnlyIDs.Load(volume); ok {
		return id.(uint32)
	}
	out, err := c.Vos(t.Context(), "listvldb", volume)
	try(t, err)
	m := regexp.MustCompile(`ROnly: (\d+)`).FindStringSubmatch(out.Stdout)
	if m == nil {
		t.Fatalf("volume %s has no read-only copy:\n%s", volume, out.Stdout)
	}
	n, err := strconv.ParseUint(m[1], 10, 32)
	try(t, err)
	readOnlyIDs.Store(volume, uint32(n))
	return uint32(n)
}

// checkTorn checks that fs2 serves files of two releases of a volume under the date
// of the old one: else the test shows nothing.
func (b *broken) checkTorn(t *testing.T, volume string, rw *cell.Volume) {
	t.Helper()
	conn, err := b.c.Client.ListenUDP(0)
	try(t, err)
	e, err := rx.Listen("", rx.Options{Conn: conn, Handle: func(r rx.Request) ([]byte, int32) {
		switch wire.ReadCallbackOp(r.Body) {
		case wire.OpInitCallBackState, wire.OpCallBack, wire.OpProbe:
			return nil, 0
		default:
			return nil, int32(wire.RXGENOpcode)
		}
	}})
	try(t, err)
	defer e.Close()
	read := func(h *cell.Host, name string) (gen int, release uint32) {
		t.Helper()
		f, err := rw.Lookup(t.Context(), name)
		try(t, err)
		f.Volume = readOnlyID(t, b.c, volume)
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		reply := make([]byte, wire.FetchData64ReplySize(1<<16))
		p := e.Peer(netip.AddrPortFrom(h.Addr, wire.PortFile), wire.ServiceFile)
		n, err := p.Call(ctx, wire.FetchData64Request(f, 0, 1<<16), reply)
		try(t, err)
		r, err := wire.DecodeFetchData64(reply[:n])
		try(t, err)
		gen, err = b.files.generation(name, r.Data)
		try(t, err)
		return gen, r.VolSync.Creation
	}
	first, release1 := read(b.c.FS2, "a/00")
	last, release2 := read(b.c.FS2, "z/09")
	t.Logf("fs2 has generations %d and %d of %s under the dates %d and %d", first, last, volume, release1, release2)
	if first != 2 || last != 1 || release1 != release2 {
		t.Errorf("that is not torn")
	}
}

// onlyBroken has the good site go away. What the other serves is not believed, by
// those who know the good one nor by those who do not.
func (b *broken) onlyBroken(t *testing.T) {
	t.Helper()
	for _, name := range b.volumes[:3] {
		for _, file := range []string{"a/00", "z/09"} {
			b.witnesses[name].cold(t, file).want(t, file, http.StatusOK, 2)
		}
	}
	j := newJournal(b.srv)
	try(t, b.c.FS1.Fileserver().Pause())
	fresh, others := b.mirror(t)
	for _, all := range []map[string]*witness{b.witnesses, others} {
		for _, name := range b.volumes[:3] {
			w := all[name]
			d := w.coldAll(t, b.files.names[1:20], http.StatusServiceUnavailable, 0)
			t.Logf("%s: 503 after %v", w.mount, d)
			if d > timeout+time.Second {
				t.Errorf("%s: 503 after %v", w.mount, d)
			}
			if d := w.coldAll(t, b.files.names[1:20], http.StatusServiceUnavailable, 0); d > time.Second {
				t.Errorf("%s: 503 once more, after %v, want it at once", w.mount, d)
			}
		}
	}
	for _, name := range b.volumes[:3] {
		b.witnesses[name].cachedAll(t, []string{"a/00", "z/09"}, 2)
		j.tells(t, 0, 1, "origin is away", name)
	}
	j.brief(t, 10)
	try(t, b.c.FS1.Fileserver().Continue())
	for _, all := range []map[string]*witness{b.witnesses, others} {
		for _, name := range b.volumes[:3] {
			w := all[name]
			waitFor(t, 15*time.Second, "well again", func() bool { return w.cold(t, "a/01").status == http.StatusOK })
			w.coldAll(t, b.files.names, http.StatusOK, 2)
		}
	}
	fresh.Stop()
}
