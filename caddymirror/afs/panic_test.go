package afs

import (
	"errors"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

// wantPanic checks that err stands for a panic, and is one of the package's.
func wantPanic(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*panics.Error](err); !ok || !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// TestPanics: a bug that one answer of a server brings out, wherever that is, fails
// what was asked for, and is over with it.
func TestPanics(t *testing.T) {
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.write("a/f", "some bytes")
	v.write("b/f", "other bytes")
	v.write("large", pattern(1, 8*chunk))
	v.release(firstDate + 100)
	client, tree := c.start()
	healthy := func(t *testing.T) {
		t.Helper()
		wantFile(t, tree, "a/f", "some bytes")
		wantFile(t, tree, "b/f", "other bytes")
		wantFile(t, tree, "large", pattern(1, 8*chunk))
		soon(t, 5*time.Second, "all of the budget is back", func() bool {
			client.buffer.mu.Lock()
			defer client.buffer.mu.Unlock()
			return client.buffer.free == maxReadAhead
		})
	}
	healthy(t)

	t.Run("walk", func(t *testing.T) {
		// Directories that are none.
		was := map[textKey]text{}
		client.texts.mu.Lock()
		for _, k := range client.texts.lru.Keys() {
			was[k], _ = client.texts.lru.Peek(k)
			client.texts.lru.Add(k, text{"not a directory", 0})
		}
		client.texts.mu.Unlock()
		_, err := tree.Stat(t.Context(), "a/f")
		wantPanic(t, err)
		_, err = tree.Open(t.Context(), "a/f")
		wantPanic(t, err)
		_, err = tree.ReadDir(t.Context(), "a")
		wantPanic(t, err)
		client.texts.mu.Lock()
		for k, v := range was {
			client.texts.lru.Add(k, v)
		}
		client.texts.mu.Unlock()
		healthy(t)
	})
	t.Run("read", func(t *testing.T) {
		f, err := tree.Open(t.Context(), "large")
		if err != nil {
			t.Fatal(err)
		}
		f.vol = nil
		r := f.Reader(chunk)
		_, err = r.Read(make([]byte, 10))
		wantPanic(t, err)
		r.Close()
		f.Close()
		healthy(t)
	})
	t.Run("database", func(t *testing.T) {
		cl := client.cell(c.name)
		cl.mu.Lock()
		was := cl.locators
		cl.locators = []*locator{nil}
		cl.mu.Unlock()
		expire(client)
		before := panics.Counts()["afs look"]
		looked(t, tree)
		if panics.Counts()["afs look"] == before {
			t.Error("there was no panic")
		}
		cl.mu.Lock()
		cl.locators = was
		cl.mu.Unlock()
		healthy(t)
	})
	t.Run("server", func(t *testing.T) {
		s := client.serverAt(c.files[0].addr.Addr())
		s.mu.Lock()
		was := s.addrs
		s.addrs = nil
		s.mu.Unlock()
		before := panics.Counts()["afs watch"]
		looked(t, tree) // each site on a goroutine of its own
		if panics.Counts()["afs watch"] == before {
			t.Error("there was no panic")
		}
		s.setAddrs(was)
		healthy(t)
	})
	t.Run("watch", func(t *testing.T) {
		tree.mu.Lock()
		tree.volumes[nil] = true
		tree.mu.Unlock()
		tree.wake()
		time.Sleep(200 * time.Millisecond) // it would end the process
		tree.mu.Lock()
		delete(tree.volumes, nil)
		tree.mu.Unlock()
		c.do(func() {
			v.write("a/f", "newer bytes")
			v.release(firstDate + 200)
		})
		tree.wake() // it still watches
		soon(t, 5*time.Second, "the release is noticed", func() bool {
			_, release := client.cell(c.name).all()[0].state()
			return release == firstDate+200
		})
		wantFile(t, tree, "a/f", "newer bytes")
	})
	if n := panics.Counts()["afs walk"]; n < 3 {
		t.Errorf("%d panics counted", n)
	}
}
