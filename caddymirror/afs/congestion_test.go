package afs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// TestCongestion: calls that find no place in time say so, and nothing is held
// against a server that answers all that it is asked.
func TestCongestion(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.write("small", "some bytes")
	v.write("large", pattern(1, 4*chunk))
	v.release(firstDate + 100)
	client, logs := c.client()
	tree := c.tree(client, Root{})
	wantFile(t, tree, "small", "some bytes")
	open, err := tree.Open(within(t, 8*time.Second), "large")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	late := open.Reader(2 * chunk)
	defer late.Close()
	warned, begun := logs.Len(), time.Now()

	c.files[0].on(func(op string, _ wire.FID, _ int64) int32 {
		if op == "data" {
			time.Sleep(1500 * time.Millisecond)
		}
		return 0
	})
	var wg sync.WaitGroup
	var done, busy, cut atomic.Int32
	for range 250 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			f, err := tree.Open(ctx, "small")
			switch {
			case err == nil:
				done.Add(1)
				f.Close()
			case errors.Is(err, ErrBusy) && errors.Is(err, ErrUnavailable):
				busy.Add(1)
			case errors.Is(err, ErrUnavailable) && errors.Is(err, context.DeadlineExceeded):
				cut.Add(1) // it had begun
			default:
				t.Error(err)
			}
		})
	}
	soon(t, 3*time.Second, "the server has all it may have", client.serverAt(c.files[0].addr.Addr()).peer().Full)
	if _, err := late.ReadContext(within(t, 300*time.Millisecond), make([]byte, 10)); !errors.Is(err, ErrBusy) {
		t.Errorf("a read that waits for its turn: %v", err)
	}
	wg.Wait()
	t.Logf("%d done, %d found no place in time, %d were cut short", done.Load(), busy.Load(), cut.Load())
	if done.Load() == 0 || busy.Load() == 0 {
		t.Error("there was no congestion")
	}
	if n := c.files[0].calls("hello"); n != 1 {
		t.Errorf("the client has introduced itself %d times", n)
	}
	client.eachVolume(func(v *volume) {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, s := range v.sites {
			if s.suspect.After(begun) {
				t.Errorf("site %s is doubted", s.server)
			}
		}
	})
	for _, l := range logs.All()[warned:] {
		t.Errorf("logged: %s", l.Message)
	}
	c.files[0].on(nil)
	wantFile(t, tree, "large", pattern(1, 4*chunk))
}

// TestLocatorCongestion: the same for the database. It is neither shunned nor taken
// for down.
func TestLocatorCongestion(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	c.vols["root.cell"].write("small", "some bytes")
	c.vols["root.cell"].release(firstDate + 100)
	client, _ := c.client()
	c.do(func() {
		c.dbs[0].hook = func(uint32, string) int32 {
			time.Sleep(time.Second)
			return 0
		}
	})
	cl := client.cell(c.name)
	var wg sync.WaitGroup
	var busy atomic.Int32
	for range 150 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			defer cancel()
			if _, err := cl.entry(ctx, "root.cell"); errors.Is(err, ErrBusy) {
				busy.Add(1)
			} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cl.mu.Lock()
	if busy.Load() == 0 || cl.down != nil || !cl.locators[0].shun.IsZero() {
		t.Errorf("%d busy, down: %v, shunned until %v", busy.Load(), cl.down, cl.locators[0].shun)
	}
	cl.mu.Unlock()
	c.do(func() { c.dbs[0].hook = nil })
	wantFile(t, c.tree(client, Root{}), "small", "some bytes")
}
