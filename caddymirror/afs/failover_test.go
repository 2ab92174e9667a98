package afs

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// ready is a cell with page in its root volume, and a tree that has read some.
func readyCell(t *testing.T, servers int) (*fakeCell, *fakeVolume, *Client, *Tree) {
	c := newFakeCell(t, servers)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	client, tree := c.start()
	for range 4 * servers { // so that all have been asked
		wantFile(t, tree, "index", "one")
	}
	return c, v, client, tree
}

// TestSilentServer: it is left for another one, not asked again, and asked again
// once it answers.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	c, _, client, tree := readyCell(t, 2)
	for i, known := range []bool{true, false} {
		if !known { // neither server has ever been called by this one
			client, tree = c.start()
		}
		dead := c.files[0]
		dead.silent.Store(true)
		for range 3 {
			start := time.Now()
			wantFile(t, tree, "a/index", "one")
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("%d: took %v", i, d)
			}
		}
		var down *server
		soon(t, 3*time.Second, "server is known to be down", func() bool {
			down = client.serverAt(dead.addr.Addr())
			if down == nil || down.isDown() == nil {
				looked(t, tree)
			}
			return down != nil && down.isDown() != nil
		})
		start := time.Now()
		for range 50 {
			wantFile(t, tree, "a/index", "one")
		}
		if d := time.Since(start); d > 20*time.Second { // two seconds for each if it were asked
			t.Errorf("50 reads beside a server that is down took %v", d)
		}
		dead.silent.Store(false)
		before := dead.calls()
		soon(t, 6*time.Second, "server is asked again", func() bool {
			wantFile(t, tree, "a/index", "one")
			return dead.calls() > before
		})
	}
}

// TestAllSilent: the error comes in time, and the service by itself.
func TestAllSilent(t *testing.T) {
	t.Parallel()
	c, _, _, tree := readyCell(t, 2)
	for _, s := range c.files {
		s.silent.Store(true)
	}
	start := time.Now()
	_, _, err := contents(within(t, 10*time.Second), tree, "a/index")
	if !errors.Is(err, ErrUnavailable) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	start = time.Now()
	_, err = tree.Stat(within(t, 10*time.Second), "a/b")
	if !errors.Is(err, ErrUnavailable) || time.Since(start) > time.Second {
		t.Errorf("%v after %v, where all are known to be down", err, time.Since(start))
	}
	for _, s := range c.files {
		s.silent.Store(false)
	}
	soon(t, 6*time.Second, "all is well again", func() bool {
		got, _, err := contents(within(t, time.Second), tree, "a/index")
		return err == nil && got == "one"
	})
}

// TestSilentFromStart: a client that starts while nobody answers.
func TestSilentFromStart(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	c.files[0].silent.Store(true)
	_, tree := c.start()
	start := time.Now()
	_, _, err := contents(within(t, 700*time.Millisecond), tree, "a/index")
	if !errors.Is(err, ErrUnavailable) || time.Since(start) > 1200*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if r := tree.Release(within(t, 200*time.Millisecond)); !r.Seen.IsZero() || strings.Contains(r.Token, "@") {
		t.Errorf("release is %+v", r)
	}
	c.files[0].silent.Store(false)
	soon(t, 8*time.Second, "all is well", func() bool {
		got, _, err := contents(within(t, time.Second), tree, "a/index")
		return err == nil && got == "one"
	})
}

// TestSlowServer: one that works for long, and says so when asked, is not down.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	c, _, client, tree := readyCell(t, 1)
	c.files[0].on(func(op string, _ wire.FID, _ int64) int32 {
		if op == "data" {
			time.Sleep(3 * time.Second)
		}
		return 0
	})
	start := time.Now()
	wantFile(t, tree, "index", "one")
	if time.Since(start) < 3*time.Second {
		t.Error("the server was not slow")
	}
	if err := client.serverAt(c.files[0].addr.Addr()).isDown(); err != nil {
		t.Error(err)
	}
}

// TestBlocked: a server whose calls to us are lost answers nothing, but is heard.
// That is told to the operator within ten seconds.
func TestBlocked(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	c.files[0].mute = true
	c.files[0].hook = func(string, wire.FID, int64) int32 { return neverReply }
	client, logs := c.client()
	tree := c.tree(client, Root{})
	start := time.Now()
	_, err := tree.Stat(within(t, 10*time.Second), "index")
	if !errors.Is(err, ErrUnavailable) || time.Since(start) > 9*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	told := func() int {
		return logs.FilterLevelExact(zapcore.ErrorLevel).FilterMessageSnippet("do not reach us").Len()
	}
	soon(t, 9*time.Second-time.Since(start), "the operator is told", func() bool { return told() > 0 })
	if _, err := tree.Stat(within(t, 2*time.Second), "index"); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if n := told(); n != 1 {
		t.Errorf("told %d times: %v", n, logs.All())
	}
}

// TestCodes: what a site answers decides who is asked next, and how long.
func TestCodes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		codes []wire.Code // answers in turn to reads, of any site; then it is well
		one   wire.Code   // of the first site, always
		err   error
		max   time.Duration
	}{
		{"busy", []wire.Code{wire.VBusy, wire.VBusy}, 0, nil, time.Second},
		{"busy for longer", []wire.Code{wire.VBusy, wire.VBusy, wire.VBusy, wire.VBusy, wire.VBusy, wire.VBusy, wire.VBusy, wire.VBusy, wire.VBusy}, 0, nil, 4 * time.Second},
		{"offline", []wire.Code{wire.VOffline, wire.VOffline, wire.VOffline, wire.VOffline}, 0, nil, 3 * time.Second},
		{"salvaging", []wire.Code{wire.VSalvaging, wire.VSalvaging}, 0, nil, 2 * time.Second},
		{"restarting", []wire.Code{wire.VRestarting, wire.VRestarting}, 0, nil, 2 * time.Second},
		{"no such volume", []wire.Code{wire.VNoVol, wire.VNoVol}, 0, nil, 2 * time.Second},
		{"moved", []wire.Code{wire.VMoved, wire.VMoved}, 0, nil, 2 * time.Second},
		{"one has a broken disk", nil, wire.VIO, nil, time.Second},
		{"one has an I/O error", nil, 49733380, nil, time.Second},
		{"one needs salvaging", nil, wire.VSalvage, nil, time.Second},
		{"one is out of service", nil, wire.VNoService, nil, time.Second},
		{"one has given us up", nil, wire.RXCallDead, nil, time.Second},
		{"one is offline", nil, wire.VOffline, nil, time.Second},
		{"one is busy", nil, wire.VBusy, nil, 2 * time.Second},
		{"one does not know reads", nil, wire.RXGENOpcode, nil, time.Second},
		{"denied", nil, eaccess, fs.ErrPermission, time.Second},
		{"denied, untranslated", nil, 13, fs.ErrPermission, time.Second},
		{"not there", nil, wire.VNoVnode, fs.ErrNotExist, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, _, _, tree := readyCell(t, 2)
			var n atomic.Int32
			for i, s := range c.files {
				s.on(func(op string, fid wire.FID, _ int64) int32 {
					if op != "data" || fid.Vnode == 1 {
						return 0
					}
					if at := int(n.Add(1)) - 1; at < len(test.codes) {
						return int32(test.codes[at])
					}
					if i == 0 || test.err != nil {
						return int32(test.one)
					}
					return 0
				})
			}
			for range 4 {
				start := time.Now()
				got, _, err := contents(within(t, 6*time.Second), tree, "index")
				if !errors.Is(err, test.err) || err == nil && got != "one" {
					t.Errorf("%q, %v, want %v", got, err, test.err)
				}
				if test.err != nil && errors.Is(err, ErrUnavailable) {
					t.Errorf("%v says that something is wrong", err)
				}
				if d := time.Since(start); d > test.max {
					t.Errorf("took %v", d)
				}
			}
		})
	}
}

// TestAllOffline: for as long as a release takes the readers wait.
func TestAllOffline(t *testing.T) {
	t.Parallel()
	c, v, _, tree := readyCell(t, 2)
	c.do(func() { v.sites[0].fail, v.sites[1].fail = wire.VOffline, wire.VOffline })
	ctx := within(t, 400*time.Millisecond)
	if _, err := tree.Open(ctx, "a/index"); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	before := c.total("data", "status", "bulk")
	time.AfterFunc(1500*time.Millisecond, func() {
		c.do(func() {
			page(v, "two")
			v.release(firstDate + 200)
		})
	})
	wantFile(t, tree, "a/index", "two")
	if n := c.total("data", "status", "bulk") - before; n > 40 {
		t.Errorf("asked %d times meanwhile", n)
	}
}

// TestVnodeOfNobody: a site that does not even know its root is no reason to ask
// without end.
func TestVnodeOfNobody(t *testing.T) {
	t.Parallel()
	c, _, _, tree := readyCell(t, 1)
	c.files[0].on(func(op string, _ wire.FID, _ int64) int32 {
		if op == "hello" || op == "bye" {
			return 0
		}
		return int32(wire.VNoVnode)
	})
	before := c.total()
	start := time.Now()
	if _, err := tree.Open(within(t, 3*time.Second), "index"); err == nil {
		t.Error("opened")
	}
	if d, n := time.Since(start), c.total()-before; n > 100 {
		t.Errorf("asked %d times in %v", n, d)
	}
}

// TestVolumeMoved: the database is read again when a site has it no more.
func TestVolumeMoved(t *testing.T) {
	t.Parallel()
	for _, code := range []wire.Code{wire.VNoVol, wire.VMoved} {
		t.Run(code.Name(), func(t *testing.T) {
			t.Parallel()
			c, v, _, tree := readyCell(t, 1)
			to := c.addServer()
			c.do(func() {
				v.sites[0].srv = to
				c.files[0].hook = func(op string, _ wire.FID, _ int64) int32 {
					if op == "hello" || op == "bye" {
						return 0
					}
					return int32(code)
				}
			})
			start := time.Now()
			wantFile(t, tree, "a/index", "one")
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// TestVolumeRenumbered: it is found under its new number, by those that are on
// the way as well.
func TestVolumeRenumbered(t *testing.T) {
	t.Parallel()
	c, v, _, tree := readyCell(t, 1)
	before := tree.Release(within(t, 5*time.Second))
	c.do(func() {
		v.ids = [3]uint32{c.ids, c.ids + 1, c.ids + 2}
		c.ids += 3
		page(v, "two")
		v.release(firstDate + 50) // dates begin anew
	})
	start := time.Now()
	wantFile(t, tree, "a/index", "two")
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %v", d)
	}
	looked(t, tree)
	if after := tree.Last(); after.Token == before.Token || after.Seen.IsZero() {
		t.Errorf("release is %+v, was %+v", after, before)
	}
}

// TestVolumeDeleted: that of a mount point is not there, that of the tree may
// come back.
func TestVolumeDeleted(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	root, sub := c.vols["root.cell"], c.volume("sub")
	root.mount("sub", "#sub.")
	root.write("index", "root")
	root.release(firstDate + 100)
	sub.write("large", pattern(1, 4*chunk))
	page(sub, "sub")
	sub.release(firstDate + 100)
	client, tree := c.start()
	inSub := c.tree(client, Root{Volume: "sub"})
	wantFile(t, tree, "sub/a/index", "sub")
	wantFile(t, inSub, "a/index", "sub")
	ctx := within(t, 20*time.Second)
	before := tree.Release(ctx)
	f, err := tree.Open(ctx, "sub/large")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c.do(func() { delete(c.vols, "sub") })
	expire(client)
	if _, err := f.ReadAt(within(t, 2*time.Second), make([]byte, 100), 3*chunk); !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrChanged) {
		t.Errorf("reading on: %v", err)
	}
	for _, name := range []string{"sub", "sub/a/index"} {
		if _, err := tree.Stat(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want fs.ErrNotExist", name, err)
		}
	}
	if _, err := inSub.Stat(ctx, "a/index"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("in the volume itself: %v, want ErrUnavailable", err)
	}
	wantFile(t, tree, "index", "root")
	time.Sleep(2 * time.Millisecond)
	looked(t, tree)
	if after := tree.Last(); after.Token == before.Token || !after.Seen.After(before.Seen) {
		t.Errorf("release is %+v, was %+v", after, before)
	}
	c.do(func() { c.vols["sub"] = sub })
	expire(client)
	wantFile(t, tree, "sub/a/index", "sub")
	wantFile(t, inSub, "a/index", "sub")
}

// TestLocators: volume location servers that are away cost a moment, once.
func TestLocators(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	c.addDB()
	root, later := c.vols["root.cell"], c.volume("later")
	root.mount("later", "#later.")
	page(root, "one")
	root.release(firstDate + 100)
	page(later, "late")
	later.release(firstDate + 100)
	c.dbs[0].silent.Store(true)
	client, tree := c.start()
	start := time.Now()
	wantFile(t, tree, "index", "one")
	if d := time.Since(start); d > 2500*time.Millisecond {
		t.Errorf("one of two away: took %v", d)
	}
	start = time.Now()
	for range 5 {
		wantFile(t, tree, "a/index", "one")
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("one of two away, and known to be: took %v", d)
	}

	// All are away. What is known is served; what is not cannot be.
	c.dbs[1].silent.Store(true)
	start = time.Now()
	for range 3 {
		wantFile(t, tree, "index", "one")
	}
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("three reads with all away took %v", d)
	}
	expire(client)
	wantFile(t, tree, "a/b/index", "one")
	if _, err := tree.Stat(within(t, 5*time.Second), "later/index"); !errors.Is(err, ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	// A newer release cannot be believed now, nor can the older any more be had.
	c.do(func() {
		page(root, "two")
		root.release(firstDate + 200)
	})
	if got, _, err := contents(within(t, 5*time.Second), tree, "a/index"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("reads %q, %v", got, err)
	}
	c.dbs[0].silent.Store(false)
	soon(t, 8*time.Second, "the newer release is served", func() bool {
		got, _, err := contents(within(t, 2*time.Second), tree, "a/index")
		return err == nil && got == "two"
	})
	wantFile(t, tree, "later/index", "late")
}

// TestLocatorCodes: who has trouble itself is left for another one, and old
// servers are asked in their own way.
func TestLocatorCodes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		codes [2]wire.Code
		op    uint32 // only to this question; 0: to all
		err   error
	}{
		{"no quorum", [2]wire.Code{wire.UNoQuorum, 0}, 0, nil},
		{"one cannot read its disk", [2]wire.Code{wire.VLNoEnt - 3, 0}, 0, nil},
		{"database of one is broken", [2]wire.Code{wire.VLDBBad, 0}, 0, nil},
		{"one is dead", [2]wire.Code{wire.RXCallDead, 0}, 0, nil},
		{"no quorum anywhere", [2]wire.Code{wire.UNoQuorum, wire.UNoQuorum}, 0, ErrUnavailable},
		{"one is old", [2]wire.Code{wire.RXGENOpcode, 0}, 527, nil},
		{"both are old", [2]wire.Code{wire.RXGENOpcode, wire.RXGENOpcode}, 527, nil},
		{"all broken", [2]wire.Code{wire.VLDBBad, wire.VLDBBad}, 0, ErrUnavailable},
		{"no such volume", [2]wire.Code{wire.VLNoEnt, wire.VLNoEnt}, 0, ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newFakeCell(t, 1)
			c.addDB()
			v := c.vols["root.cell"]
			page(v, "one")
			v.release(firstDate + 100)
			for i, db := range c.dbs {
				db.hook = func(op uint32, _ string) int32 {
					if test.op == 0 || test.op == op {
						return int32(test.codes[i])
					}
					return 0
				}
			}
			_, tree := c.start()
			got, _, err := contents(within(t, 4*time.Second), tree, "a/index")
			if !errors.Is(err, test.err) || err == nil && got != "one" {
				t.Errorf("%q, %v, want %v", got, err, test.err)
			}
		})
	}
}

// TestEntryShared: many who want to know one thing of the database ask once.
func TestEntryShared(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	c.dbs[0].hook = func(uint32, string) int32 {
		time.Sleep(20 * time.Millisecond)
		return 0
	}
	_, tree := c.start()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := tree.Stat(within(t, 5*time.Second), "a/b/index"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := c.dbs[0].asked(); n > 15 {
		t.Errorf("asked the database %d times", n)
	}
}

// TestFirstCall: until a server knows us it is asked one thing only.
func TestFirstCall(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	c.files[0].hook = func(op string, _ wire.FID, _ int64) int32 {
		if op == "hello" {
			time.Sleep(50 * time.Millisecond)
		}
		return 0
	}
	_, tree := c.start()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := tree.Stat(within(t, 5*time.Second), "a/b/index"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c.do(func() {
		if s := c.files[0]; s.early != 0 || s.count["hello"] != 1 {
			t.Errorf("%d calls before the first had ended, of which there were %d", s.early, s.count["hello"])
		}
	})
}

// TestFirstCallRefused: a server that cannot greet just now is not down, and one
// that does not know the call is as good as any.
func TestFirstCallRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code  wire.Code
		times int32
	}{{wire.RXGENOpcode, 1000}, {wire.VBusy, 1}, {wire.VRestarting, 2}} {
		t.Run(test.code.Name(), func(t *testing.T) {
			t.Parallel()
			c := newFakeCell(t, 1)
			v := c.vols["root.cell"]
			page(v, "one")
			v.release(firstDate + 100)
			var n atomic.Int32
			c.files[0].hook = func(op string, _ wire.FID, _ int64) int32 {
				if op == "hello" && n.Add(1) <= test.times {
					return int32(test.code)
				}
				return 0
			}
			_, tree := c.start()
			soon(t, 5*time.Second, "it is read", func() bool {
				got, _, err := contents(within(t, 5*time.Second), tree, "a/index")
				return err == nil && got == "one"
			})
		})
	}
}

// TestOtherAddress: a server with two addresses is reached at the one that works.
func TestOtherAddress(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	client, _ := c.client()
	c.files[0].silent.Store(true)
	id := wire.NewUUID()
	s := client.server(id, []netip.AddrPort{c.files[0].addr, c.files[1].addr})
	reply := make([]byte, 100)
	request := binary.BigEndian.AppendUint32(nil, 65540)
	if _, err := s.call(within(t, 5*time.Second), request, reply); err != nil {
		t.Fatal(err)
	}
	c.files[0].silent.Store(false)
	c.files[1].silent.Store(true)
	if _, err := s.call(within(t, 5*time.Second), request, reply); err == nil {
		t.Error("a silent address answered")
	}
	soon(t, 6*time.Second, "the other address is in use", func() bool {
		_, err := s.call(within(t, time.Second), request, reply)
		return err == nil
	})
	if again := client.server(id, []netip.AddrPort{c.files[0].addr}); again != s {
		t.Error("another server of the same UUID")
	}
}

// TestClose: a client that is closed hangs nobody, and leaves nothing behind.
func TestClose(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.write("large", pattern(1, 8*chunk))
	v.release(firstDate + 100)
	client, tree := c.start()
	f, err := tree.Open(within(t, 5*time.Second), "large")
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	defer close(gate)
	c.files[0].on(func(op string, _ wire.FID, _ int64) int32 {
		if op == "data" {
			<-gate
		}
		return 0
	})
	done := make(chan error, 4)
	buf := make([]byte, chunk)
	go func() { _, err := f.ReadAt(t.Context(), buf, 2*chunk); done <- err }()
	go func() { _, err := tree.Stat(t.Context(), "large/x"); done <- err }()
	time.Sleep(20 * time.Millisecond)
	start := time.Now()
	if err := client.Close(); err != nil || time.Since(start) > 2*time.Second {
		t.Errorf("closing took %v: %v", time.Since(start), err)
	}
	go func() { _, err := f.ReadAt(t.Context(), make([]byte, chunk), 4*chunk); done <- err }()
	go func() { _ = tree.Release(t.Context()); done <- context.Canceled }()
	for range cap(done) {
		select {
		case err := <-done:
			if err == nil {
				t.Error("a call to a closed client succeeded")
			}
		case <-time.After(3 * time.Second):
			t.Fatal("a call to a closed client does not end")
		}
	}
	if c.files[0].calls("bye") != 1 {
		t.Error("the server was not told")
	}
}
