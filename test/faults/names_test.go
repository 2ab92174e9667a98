package faults

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// Names are bytes: whatever a file system can hold is served, cached, and
// found again after a restart.
func TestOddNames(t *testing.T) {
	tr := newTree(t)
	names := []string{
		"plain.txt",
		"a b+c%2f&d?e#f;g.txt",
		`back\slash"quote'.txt`,
		"<script>.txt",
		"latin1-\xe4\xf6.txt",
		"latin1-\xe5\xf7.txt",
		"\xff\xfe",
		"nfc-\u00e9", "nfd-e\u0301",
		"replacement-\ufffd.txt",
		"line-\u2028separator",
		"...",
		"..a",
		"~tilde",
		"index.html",
		"sub/index.html",
	}
	for n, name := range names {
		tr.add(t, name, int64(1000+n))
	}
	if _, err := os.Lstat(filepath.Join(tr.dir, "\xff\xfe")); err != nil {
		testcaddy.Missing(t, "this file system holds no such names")
	}
	config := site("path "+t.TempDir(), mount("/a", tr.dir, "ttl 1h"))
	srv := testcaddy.Start(t, config)
	srv.WaitReady(t)
	all := func(want string, ok func(a answer) bool) {
		t.Helper()
		for _, name := range names {
			resp, body, err := srv.Get("/a/" + (&url.URL{Path: name}).EscapedPath())
			if err != nil {
				t.Errorf("%q: %v", name, err)
				continue
			}
			v, err := check(tr, name, "GET", resp, body)
			if err != nil || v.name == "" {
				t.Errorf("%q: %s: %v", name, resp.Status, err)
				continue
			}
			if a := (answer{status: resp.StatusCode, header: resp.Header}); !ok(a) {
				t.Errorf("%q is no %s: %s", name, want, a.cache())
			}
		}
	}
	all("miss", func(a answer) bool { return !a.hit() })
	all("hit", answer.hit)
	srv.Stop()
	srv.Restart(config)
	all("hit after a restart", answer.hit)
	if n := theCache(t, srv).Corrupt; n > 0 {
		t.Errorf("%d entries count as corrupt", n)
	}
}
