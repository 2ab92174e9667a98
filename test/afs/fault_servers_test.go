package afs_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/afscell/cell"
)

// failover is how long a file that is not cached may take when a file server has
// just gone.
const failover = 3 * time.Second

// File servers stop, are killed, are restarted and cannot be reached. What is
// cached does not notice, the rest is read from the other one.
func TestFileServers(t *testing.T) {
	c := cell.New(t, cell.Options{})
	v := newVolume(t, c, "web", c.FS1, c.FS2)
	files := &generations{}
	files.add(3000, "cold/%02d", 30)
	files.add(20_000, "warm/%02d", 20)
	files.add(48<<20, "large%d", 1)
	cold, warm := files.names[:30], files.names[30:50]
	files.write(t, v, 1)
	release(t, c, "web")

	srv := startMirror(t, c, "", "/web afs://"+c.Name+":web")
	w := newWitness(srv, "/web", files)
	for _, name := range warm {
		w.cold(t, name).want(t, name, http.StatusOK, 1)
	}
	before := w.p99(t, warm)
	t.Logf("a cached file, p99: %v", before)
	cached := func(t *testing.T) {
		t.Helper()
		now := w.p99(t, warm)
		t.Logf("a cached file, p99: %v", now)
		if most := 3*before + 5*time.Millisecond; now > most {
			t.Errorf("a cached file, p99: %v, want %v at most", now, most)
		}
	}
	heal := func(h *cell.Host) func() error { return h.Heal }

	for _, fault := range []struct {
		name      string
		host      *cell.Host
		make, end func() error
	}{
		{"stopped", c.FS1, c.FS1.Fileserver().Pause, c.FS1.Fileserver().Continue},
		{"killed", c.FS2, c.FS2.Fileserver().Kill, func() error { return c.FS2.Fileserver().Start(t.Context()) }},
		{"unreachable", c.FS1, c.FS1.Drop, heal(c.FS1)},
	} {
		t.Run(fault.name, func(t *testing.T) {
			j := newJournal(srv)
			try(t, fault.make())
			var slowest time.Duration
			for _, name := range cold[:10] {
				r := w.cold(t, name)
				r.want(t, name, http.StatusOK, 1)
				slowest = max(slowest, r.took)
			}
			slowest = max(slowest, w.coldAll(t, cold, http.StatusOK, 1))
			t.Logf("a file that is not cached took %v at most", slowest)
			if slowest > failover {
				t.Errorf("a file that is not cached took %v, want %v at most", slowest, failover)
			}
			cached(t)
			j.tells(t, 8*time.Second, 1, "AFS file server does not answer", fault.host.Addr.String())

			// That it is away is known by now.
			if d := w.coldAll(t, cold, http.StatusOK, 1); d > time.Second {
				t.Errorf("a file that is not cached took %v while one server is known to be away", d)
			}
			begin := time.Now()
			try(t, fault.end())
			j.tells(t, 15*time.Second, 1, "AFS file server is back", fault.host.Addr.String())
			t.Logf("in use again after %v", time.Since(begin))
			j.brief(t, 5)
		})
	}

	t.Run("restarted", func(t *testing.T) {
		restarted := make(chan error, 1)
		go func() { restarted <- c.FS1.Fileserver().Restart(t.Context()) }()
		var slowest time.Duration
		for done := false; !done; {
			select {
			case err := <-restarted:
				try(t, err)
				done = true
			default:
				slowest = max(slowest, w.coldAll(t, cold[:5], http.StatusOK, 1))
			}
		}
		slowest = max(slowest, w.coldAll(t, cold, http.StatusOK, 1))
		t.Logf("a file that is not cached took %v at most", slowest)
		if slowest > failover {
			t.Errorf("a file that is not cached took %v, want %v at most", slowest, failover)
		}
	})

	// A download goes on with the other server.
	t.Run("under way", func(t *testing.T) {
		j := newJournal(srv)
		was := srv.Origins(t, "/web")[0].ReadBytes
		type ended struct {
			reply
			err error
		}
		end := make(chan ended, 1)
		go func() {
			r, err := w.ask("large0")
			end <- ended{r, err}
		}()
		var at uint64
		waitFor(t, timeout, "under way", func() bool {
			at = srv.Origins(t, "/web")[0].ReadBytes - was
			return at > 2<<20 || len(end) > 0
		})
		try(t, c.FS1.Fileserver().Pause())
		e := <-end
		try(t, c.FS1.Fileserver().Continue())
		try(t, e.err)
		e.want(t, "large0", http.StatusOK, 1)
		t.Logf("stopped at %d of %d bytes, took %v", at, files.sizes["large0"], e.took)
		if e.took > never {
			t.Errorf("it took %v", e.took)
		}
		if len(j.lines("AFS file server does not answer")) > 0 {
			j.tells(t, 15*time.Second, 1, "AFS file server is back")
		}
	})

	t.Run("both", func(t *testing.T) {
		j := newJournal(srv)
		try(t, errors.Join(c.FS1.Fileserver().Pause(), c.FS2.Fileserver().Kill()))
		d := w.coldAll(t, cold, http.StatusServiceUnavailable, 0)
		t.Logf("503 after %v", d)
		if d > timeout+time.Second {
			t.Errorf("503 after %v, want %v at most", d, timeout)
		}
		if d := w.coldAll(t, cold, http.StatusServiceUnavailable, 0); d > time.Second {
			t.Errorf("503 once more, after %v, want it at once", d)
		}
		cached(t)
		w.cachedAll(t, warm, 1)
		j.tells(t, 0, 1, "AFS file server does not answer", c.FS1.Addr.String())
		j.tells(t, 0, 1, "AFS file server does not answer", c.FS2.Addr.String())
		j.tells(t, 0, 1, "origin is away", "web")

		// A mirror that never knew better.
		fresh := startMirror(t, c, "", "/web afs://"+c.Name+":web")
		w2 := newWitness(fresh, "/web", files)
		d = w2.coldAll(t, cold, http.StatusServiceUnavailable, 0)
		t.Logf("503 of another mirror after %v", d)
		if d > timeout+time.Second {
			t.Errorf("503 after %v, want %v at most", d, timeout)
		}
		if d := w2.coldAll(t, cold, http.StatusServiceUnavailable, 0); d > time.Second {
			t.Errorf("503 once more, after %v, want it at once", d)
		}

		begin := time.Now()
		try(t, errors.Join(c.FS1.Fileserver().Continue(), c.FS2.Fileserver().Start(t.Context())))
		for _, w := range []*witness{w, w2} {
			waitFor(t, 15*time.Second, "well again", func() bool { return w.cold(t, cold[0]).status == http.StatusOK })
			t.Logf("well again after %v", time.Since(begin))
		}
		for _, h := range []*cell.Host{c.FS1, c.FS2} {
			j.tells(t, 15*time.Second, 1, "AFS file server is back", h.Addr.String())
		}
		t.Logf("both in use again after %v", time.Since(begin))
		w.coldAll(t, cold, http.StatusOK, 1)
		w2.coldAll(t, cold, http.StatusOK, 1)
		j.tells(t, 0, 1, "origin is back", "web")
		j.brief(t, 10)
	})
}
