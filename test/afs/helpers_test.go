// Package afs_test reads a real AFS cell, with package afs and through Caddy.
package afs_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.cell != nil {
		if err := shared.cell.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the AFS cell:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is the cell that most tests have in common.
var shared struct {
	start sync.Once
	cell  *cell.Cell
	err   error
}

// sharedCell is a cell that many tests use at a time: each has volumes of its own
// there, and leaves servers and network alone. Tests of faults start cells of their
// own, with [cell.New]. Its root.cell has one read-only site, so that releasing it
// takes no time; see mounted.
func sharedCell(t testing.TB) *cell.Cell {
	t.Helper()
	cell.Need(t)
	shared.start.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		shared.cell, shared.err = cell.Start(ctx, cell.Options{})
		if shared.err == nil {
			shared.err = errors.Join(
				shared.cell.AddSite(ctx, afs.RootCell, shared.cell.FS1, "a"),
				shared.cell.Release(ctx, afs.RootCell))
		}
	})
	if shared.err != nil {
		t.Fatalf("starting an AFS cell: %v", shared.err)
	}
	return shared.cell
}

// try fails the test for an error.
func try(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newVolume makes a read-write volume at fs1, which is to have read-only copies at
// these hosts. It has none before the first release. In the shared cell, it is removed
// when the test ends.
func newVolume(t testing.TB, c *cell.Cell, name string, sites ...*cell.Host) *cell.Volume {
	t.Helper()
	v, err := c.CreateVolume(t.Context(), name, c.FS1, "a")
	try(t, err)
	if c == shared.cell {
		t.Cleanup(func() {
			ctx := context.Background()
			for _, h := range sites {
				try(t, c.RemoveSite(ctx, name, h, "a"))
			}
			_, err := c.Vos(ctx, "remove", c.FS1.Addr.String(), "a", name)
			try(t, err)
		})
	}
	for _, h := range sites {
		try(t, c.AddSite(t.Context(), name, h, "a"))
	}
	return v
}

// release publishes volumes, all at once. That takes six seconds if one of them has
// two sites, and none if they have one, at fs1.
func release(t testing.TB, c *cell.Cell, volumes ...string) {
	t.Helper()
	try(t, cell.Each(volumes, func(v string) error { return c.Release(t.Context(), v) }))
}

// rootCell is held while root.cell is changed.
var rootCell sync.Mutex

// mounted makes a mount point in root.cell, of the volume's name, and publishes it. It
// is removed when the test ends.
func mounted(t testing.TB, c *cell.Cell, volume string) {
	t.Helper()
	mountedAs(t, c, volume, wire.Mount{Kind: '#', Volume: volume})
}

func mountedAs(t testing.TB, c *cell.Cell, name string, m wire.Mount) {
	t.Helper()
	rootCell.Lock()
	defer rootCell.Unlock()
	root, err := c.Open(t.Context(), afs.RootCell)
	try(t, err)
	try(t, root.MountPoint(t.Context(), name, m))
	release(t, c, afs.RootCell)
	if c == shared.cell {
		t.Cleanup(func() {
			rootCell.Lock()
			defer rootCell.Unlock()
			try(t, root.Remove(context.Background(), name))
		})
	}
}

// newClient is a client of the cell in this process, in the namespace of c.Self. It
// logs to the test.
func newClient(t testing.TB, c *cell.Cell) *afs.Client {
	t.Helper()
	return newClientAs(t, c, afs.Config{})
}

// newClientAs is newClient with a socket or an address of its own.
func newClientAs(t testing.TB, c *cell.Cell, conf afs.Config) *afs.Client {
	t.Helper()
	conf.Cells = map[string][]netip.AddrPort{c.Name: {netip.AddrPortFrom(c.DB.Addr, wire.PortLocation)}}
	conf.Log = zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel))
	client, err := afs.New(conf)
	try(t, err)
	t.Cleanup(func() { try(t, client.Close()) })
	return client
}

// newTree is a tree of a client. Its Cell is that of c.
func newTree(t testing.TB, c *cell.Cell, client *afs.Client, r afs.Root) *afs.Tree {
	t.Helper()
	r.Cell = c.Name
	tree, err := client.Tree(r)
	try(t, err)
	t.Cleanup(func() { try(t, tree.Close()) })
	return tree
}

// site is a Caddyfile that knows the cell, with one cache, with global options, such
// as filesystems, and what a site has, such as mirror_cache with mounts. Options of
// the cache are on lines of their own where semicolons part them.
func site(t testing.TB, c *cell.Cell, cache, global, handlers string) string {
	t.Helper()
	if !strings.Contains(cache, "path ") {
		cache += ";path " + t.TempDir()
	}
	return fmt.Sprintf(`{
	afs {
		cell %s %s
	}
	mirror {
		cache {
			%s
		}
	}
	%s
}
http://{$ADDR} {
	bind 127.0.0.1
	%s
}
`, c.Name, c.DB.Addr, strings.ReplaceAll(cache, ";", "\n"), global, handlers)
}

// startMirror starts Caddy with mounts of mirror_cache, such as
// `/pypi afs://example.org/mirror/pypi`, and a cache with these options.
func startMirror(t testing.TB, c *cell.Cell, cache string, mounts ...string) *testcaddy.Server {
	t.Helper()
	var b strings.Builder
	b.WriteString("mirror_cache {\n")
	for _, m := range mounts {
		b.WriteString("mount " + m + "\n")
	}
	b.WriteString("}")
	return startSite(t, site(t, c, cache, "", b.String()))
}

// startSite starts Caddy with a configuration, see site.
func startSite(t testing.TB, config string) *testcaddy.Server {
	t.Helper()
	srv := testcaddy.Start(t, config)
	srv.WaitReady(t)
	// Connections that were opened in vain would hold up its end for five seconds.
	t.Cleanup(srv.Client.CloseIdleConnections)
	return srv
}

// waitFor waits until f holds. It fails the test if that takes longer than limit.
func waitFor(t testing.TB, limit time.Duration, what string, f func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !f() {
		if time.Since(start) > limit {
			t.Fatalf("after %v: not %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(start)
}
