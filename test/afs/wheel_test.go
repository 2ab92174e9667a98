package afs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// putWheel writes a wheel into a volume, and returns its name in the tree and its bytes.
func putWheel(t *testing.T, v *cell.Volume, project, version, text string) (name string, b []byte) {
	t.Helper()
	w := wheel.Wheel{Name: project, Version: version, Python: ">=3.9", Files: map[string]string{project + ".py": text}}
	var buf bytes.Buffer
	_, err := w.WriteTo(&buf)
	try(t, err)
	name = project[:1] + "/" + project + "/" + w.Filename()
	try(t, v.MkdirAll(t.Context(), path.Dir(name)))
	try(t, v.WriteFile(t.Context(), name, buf.Bytes(), cell.Attr{}))
	return "debian-12-x86_64/" + name, buf.Bytes()
}

// wheelPage waits until a project's page has what it should, and nothing of what was
// there before.
func wheelPage(t *testing.T, srv *testcaddy.Server, project string, has ...string) {
	t.Helper()
	var page string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, body, err := srv.Get("/wheel/debian-12-x86_64/simple/" + project + "/")
		try(t, err)
		page = string(body)
		missing := ""
		for _, text := range has {
			if resp.StatusCode != http.StatusOK || !strings.Contains(page, text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the page has no %s:\n%s", missing, page)
		}
	}
}

// TestWheelIndex makes an index of wheels in AFS, with a volume for each platform. Each
// wheel is read once: over a release of others, and over a restart.
func TestWheelIndex(t *testing.T) {
	c := sharedCell(t)
	top, v := newVolume(t, c, "wheels", c.FS1), newVolume(t, c, "wheels.deb12", c.FS1)
	try(t, top.MountPoint(t.Context(), "debian-12-x86_64", wire.Mount{Kind: '#', Volume: "wheels.deb12"}))
	var sums []string
	for n := range 5 {
		_, b := putWheel(t, v, "foo", fmt.Sprintf("1.%d", n), "one")
		sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(b)))
	}
	release(t, c, "wheels", "wheels.deb12")
	config := site(t, c, "", "", `mirror_cache {
		mount /wheel afs://`+c.Name+`:wheels {
			format wheel
			release_check 200ms
		}
	}`)
	srv := startSite(t, config)
	reads := func() (reads, bytes uint64) {
		t.Helper()
		o := srv.Origins(t, "/wheel")[0]
		return o.Reads, o.ReadBytes
	}
	wheelPage(t, srv, "foo", sums...)
	if n, _ := reads(); n != 5 {
		t.Errorf("%d files were opened for 5 wheels", n)
	}

	srv.Stop()
	srv.Restart(config)
	srv.WaitReady(t)
	wheelPage(t, srv, "foo", sums...)
	if n, b := reads(); n != 0 || b != 0 {
		t.Errorf("%d files were opened after a restart, and %d bytes read", n, b)
	}

	time.Sleep(1100 * time.Millisecond) // dates are whole seconds

	// One is new, and one is another under the same name and of the same size.
	_, b := putWheel(t, v, "foo", "2.0", "one")
	sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(b)))
	old := sums[0]
	name, b := putWheel(t, v, "foo", "1.0", "two")
	sums[0] = fmt.Sprintf("%x", sha256.Sum256(b))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	try(t, c.Release(ctx, "wheels.deb12"))
	wheelPage(t, srv, "foo", sums...)
	if n, _ := reads(); n != 2 {
		t.Errorf("%d files were opened for 2 wheels of a release", n)
	}
	resp, body, err := srv.Get("/wheel/debian-12-x86_64/simple/foo/")
	try(t, err)
	if resp.StatusCode != http.StatusOK || strings.Contains(string(body), old) {
		t.Errorf("the page has the checksum of a wheel that was replaced:\n%s", body)
	}
	resp, body, err = srv.Get("/wheel/" + name)
	try(t, err)
	if got := fmt.Sprintf("%x", sha256.Sum256(body)); resp.StatusCode != http.StatusOK || got != sums[0] {
		t.Errorf("the wheel that the page links is %s, %s", resp.Status, got)
	}
}
