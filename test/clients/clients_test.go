// Package clients has real package managers install through the mirror.
package clients

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// coldWarmAway serves the directory origin below /repo and lets a client
// fetch from it: with an empty cache; again, when the origin may not be
// touched; with the origin gone; and with the origin gone and all entries
// stale. fetch starts each time from a clean client, gets the mirror's URL
// without a slash at the end, and checks what it fetched.
func coldWarmAway(t *testing.T, origin string, fetch func(t *testing.T, url string)) {
	config := func(ttl string) string {
		return fmt.Sprintf(`http://{$ADDR} {
	bind 127.0.0.1
	mirror_cache {
		mount /repo %s {
			ttl %s
		}
	}
}
`, origin, ttl)
	}
	srv := testcaddy.Start(t, config("1h"))
	srv.WaitReady(t)
	url := srv.URL + "/repo"
	run := func(name string, fetch func(t *testing.T, url string)) {
		t.Helper()
		start := time.Now()
		if !t.Run(name, func(t *testing.T) { fetch(t, url) }) {
			t.FailNow()
		}
		t.Logf("%s: %v", name, time.Since(start).Round(time.Millisecond))
	}

	run("cold", fetch)
	cold := srv.Touches(t, "/repo")
	if cold == 0 {
		t.Fatal("the cold run did not touch the origin: this test shows nothing")
	}
	run("warm", fetch)
	if warm := srv.Touches(t, "/repo"); warm != cold {
		t.Errorf("the warm run touched the origin: %d times after the cold run, %d after the warm one", cold, warm)
	}

	away := origin + ".away"
	if err := os.Rename(origin, away); err != nil {
		t.Fatal(err)
	}
	run("away", fetch)

	if err := srv.Reload(config("1ms")); err != nil {
		t.Fatalf("reloading: %v", err)
	}
	run("stale", fetch)

	// Back again: what the cache holds is still good, and is found to be.
	if err := os.Rename(away, origin); err != nil {
		t.Fatal(err)
	}
	run("back", fetch)
}
