package upstreams

import (
	"net/http"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// TestClients has each client fetch from the upstream, which shows that both work; and
// through the mirror: with an empty cache; again, when the upstream need not be asked; with
// the upstream stopped; with the upstream stopped and all entries stale; with everything
// that can go wrong between mirror and upstream; and at last with an empty cache again
// behind faults that can be mended.
func TestClients(t *testing.T) {
	t.Parallel()
	for name, newWorld := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mirrored(t, newWorld(t))
		})
	}
}

// setbacks are what an old entry stands in for.
var setbacks = []struct {
	name  string
	fault faulty.Fault
}{
	{"silent", faulty.Silent},
	{"slow header", faulty.SlowHeader(30 * time.Second)},
	{"trickled header", faulty.TrickledHeader(50 * time.Millisecond)},
	{"reset in the header", faulty.ResetInHeader},
	{"100 MB of header", faulty.HugeHeader(100 << 20)},
	{"flood of 1xx", faulty.Informational(1_000_000)},
	{"redirects without an end", faulty.RedirectOn},
	{"429", faulty.Status(http.StatusTooManyRequests, "Retry-After: 1")},
	{"500", faulty.Status(http.StatusInternalServerError)},
	{"503", faulty.Status(http.StatusServiceUnavailable)},
}

// hitches are what an upstream may do on the way to a good answer.
var hitches = []struct {
	name  string
	fault faulty.Fault
}{
	{"slow", faulty.Slow(20_000, 5*time.Millisecond)},
	{"slow header", faulty.SlowHeader(50 * time.Millisecond)},
	{"some 1xx", faulty.Informational(3)},
	{"trailers", faulty.First(1, faulty.Trailers, faulty.Honest)},
	{"dates decades off", faulty.Dates(-40 * 365 * 24 * time.Hour)},
	{"length too small", faulty.TooLong(10)},
	{"Vary on everything", faulty.Fields("Vary: Accept-Encoding, User-Agent, Accept")},
}

func mirrored(t *testing.T, w world) {
	between := faulty.Start(t, w.url)
	url := between.URL
	if w.root {
		url += w.prefix
	}
	dir := t.TempDir()
	config := func(ttl string) string {
		return site("path "+dir, mount(w.prefix, url, deadlines+";policy mirror;ttl "+ttl+";"+w.options))
	}
	fresh, short := config("1h"), config("1ms")
	srv := startMirror(t, fresh)
	at := srv.URL
	if !w.root {
		at += w.prefix
	}
	run := func(name string) {
		t.Helper()
		if !t.Run(name, func(t *testing.T) { w.fetch(t, at) }) {
			t.FailNow()
		}
	}
	reload := func(config string) {
		t.Helper()
		if err := srv.Reload(config); err != nil {
			t.Fatalf("reloading: %v", err)
		}
	}

	t.Run("direct", func(t *testing.T) { w.fetch(t, between.URL) })
	between.Forget()
	run("cold")
	cold := between.Count("")
	if cold == 0 {
		t.Fatal("the cold run did not ask the upstream: this test shows nothing")
	}
	run("warm")
	if n := between.Count(""); n != cold {
		t.Errorf("the warm run asked the upstream %d times: %+v", n-cold, between.Seen()[cold:])
	}
	w.stop()
	between.Refuse()
	run("stopped")
	reload(short)
	run("stopped and stale")
	w.start()
	between.Accept()
	for _, f := range setbacks {
		between.Set(faulty.Honest)
		between.Cut() // what hangs still is not of the next one
		time.Sleep(50 * time.Millisecond)
		waitState(t, srv, w.prefix, "up")
		between.Forget()
		between.Set(f.fault)
		run("stale behind " + f.name)
		if between.Count("") == 0 {
			t.Errorf("%s: the upstream was not asked", f.name)
		}
	}
	between.Set(faulty.Honest)
	waitState(t, srv, w.prefix, "up")
	run("back")

	reload(fresh)
	for _, f := range hitches {
		if _, err := srv.Purge(w.prefix, "", "/"); err != nil {
			t.Fatal(err)
		}
		between.Set(f.fault)
		run("cold behind " + f.name)
	}
}

// waitState waits until the origin of a mount is up or away.
func waitState(t *testing.T, srv *testcaddy.Server, prefix, want string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := srv.Origins(t, prefix)[0].State
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the origin of %s is %s still, want %s", prefix, got, want)
		}
	}
}
