package afs_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
)

// TestPyPI: a mirror as bandersnatch leaves it, in AFS, before and after a release: each
// page tells the serial that it is of, and a warm one costs AFS nothing.
func TestPyPI(t *testing.T) {
	c := sharedCell(t)
	v := newVolume(t, c, "mirror.pypi", c.FS1)
	lib := wheel.Wheel{Name: "Mirror.Lib", Version: "2.0"}
	other := wheel.Wheel{Name: "other", Version: "1.0"}
	publish := func(serial int, wheels ...wheel.Distribution) {
		t.Helper()
		b := wheel.Bandersnatch{Dir: t.TempDir(), Serial: serial, HashIndex: true}
		try(t, b.Write(wheels...))
		// Large pages are not read as a whole before they are stored.
		for _, page := range []string{"index.html", "index.v1_json"} {
			name := filepath.Join(b.Dir, "web/simple/m/mirror-lib", page)
			text, err := os.ReadFile(name)
			try(t, err)
			try(t, os.WriteFile(name, append([]byte(strings.Repeat(" ", 3<<20)), text...), 0o644))
		}
		try(t, v.WriteTree(t.Context(), os.DirFS(filepath.Join(b.Dir, "web")), "."))
		release(t, c, "mirror.pypi")
	}
	publish(1, lib, other)
	srv := startMirror(t, c, "", "/pypi afs://"+c.Name+":mirror.pypi/ {\nformat pypi\nrelease_check 100ms\n}")
	get := func(path, accept string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		try(t, err)
		r.Header.Set("Accept", accept)
		resp, err := srv.Client.Do(r)
		try(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		try(t, err)
		try(t, resp.Body.Close())
		return resp
	}
	const json, html = "application/vnd.pypi.simple.v1+json", "text/html"
	if to := get("/pypi/simple/Mirror.Lib", json).Header.Get("Location"); to != "/pypi/simple/mirror-lib/" {
		t.Errorf("redirected to %q", to)
	}
	for _, serial := range []string{"1", "2"} {
		for _, project := range []string{"mirror-lib", "other"} {
			for _, accept := range []string{json, html} {
				path := "/pypi/simple/" + project + "/"
				waitFor(t, 20*time.Second, "serial "+serial+" of "+path+" as "+accept, func() bool {
					resp := get(path, accept)
					return resp.StatusCode == http.StatusOK && resp.Header.Get("X-PyPI-Last-Serial") == serial && strings.HasPrefix(resp.Header.Get("Content-Type"), accept)
				})
			}
		}
		if serial == "1" {
			time.Sleep(1100 * time.Millisecond) // dates are whole seconds
			publish(2, lib, other)
		}
	}
	if resp := get("/pypi/simple/other/", "image/png"); resp.StatusCode != http.StatusNotAcceptable {
		t.Errorf("what is not acceptable is %s", resp.Status)
	}
	touched := srv.Touches(t, "/pypi")
	for range 10 {
		if resp := get("/pypi/simple/other/", json); resp.Header.Get("Cache-Status") != "mirror; hit" {
			t.Errorf("Cache-Status: %s", resp.Header.Get("Cache-Status"))
		}
	}
	if n := srv.Touches(t, "/pypi") - touched; n > 0 {
		t.Errorf("hits touched AFS %d times", n)
	}
}
