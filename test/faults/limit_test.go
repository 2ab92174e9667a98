package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// The process runs out of descriptors: requests may fail, but nothing is
// wrong, nothing is lost, and all is well again when there are some.
func TestDescriptors(t *testing.T) {
	needProc(t)
	tr := newTree(t)
	const files = 200
	for n := range files {
		tr.add(t, fmt.Sprintf("file%d", n), 1000+int64(n)*3000)
	}
	cache := t.TempDir()
	srv := testcaddy.Start(t, site("path "+cache+";memory 100KiB;max_size 1GiB", mount("/a", tr.dir, "ttl 500ms")))
	srv.WaitReady(t)
	for n := range files / 2 {
		waitHit(t, srv, "/a", tr, fmt.Sprintf("file%d", n), 10*time.Second)
	}
	waitQuiet(t, srv)
	quiet := len(srv.Logs())

	var old unix.Rlimit
	if err := unix.Prlimit(srv.Pid(), unix.RLIMIT_NOFILE, nil, &old); err != nil {
		testcaddy.Missing(t, "limits of other processes cannot be set: "+err.Error())
	}
	few := unix.Rlimit{Cur: uint64(openFiles(t, srv.Pid()) + 8), Max: old.Max}
	if err := unix.Prlimit(srv.Pid(), unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	var whole, failed atomic.Int64
	during(t, srv, 4*time.Second, 16, func() error {
		// Connections that nobody accepts are given up.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		a, err := do(ctx, srv, http.MethodGet, "/a", tr, fmt.Sprintf("file%d", rand.IntN(files)))
		switch {
		case errors.Is(err, errWrong):
			return err
		case err != nil || a.status != 200:
			failed.Add(1)
			time.Sleep(10 * time.Millisecond)
		default:
			whole.Add(1)
		}
		return nil
	})
	srv.Client.CloseIdleConnections()
	if err := unix.Prlimit(srv.Pid(), unix.RLIMIT_NOFILE, &old, nil); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d answers, %d failures", whole.Load(), failed.Load())
	wait(t, 10*time.Second, "ready", func() bool {
		all, err := caches(srv)
		return err == nil && all[0].State == "ready"
	})
	for n := range files {
		name := fmt.Sprintf("file%d", n)
		wait(t, 10*time.Second, "all there", func() bool {
			a, err := get(srv, "/a", tr, name)
			if errors.Is(err, errWrong) {
				t.Fatal(err)
			}
			return err == nil && a.status == 200 && a.of == tr.newest(name)
		})
	}
	sound(t, srv, cache)
	if s := theCache(t, srv); s.Entries != files {
		t.Errorf("%d entries of %d files", s.Entries, files)
	}
	// Caddy itself logs each 503.
	if n := strings.Count(srv.Logs()[quiet:], `"logger":"mirror`); n > 10 {
		t.Errorf("%d lines of ours in the log", n)
	}
}
