package mirrorcache

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// TestFormatIsNewToTheCache: entries from before the mount had its format get the
// fields that it reads out of them.
func TestFormatIsNewToTheCache(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html")
	s := newSite(t, mount("/pypi", `, "ttl": "1h"`, tree))
	m := s.h.Mounts[0]
	s.ask(t, "GET", "/pypi/simple/p/").wantStatus(t, 200)
	s.settle(t)
	m.format, m.formatName, m.inspector = new(format.Pypi), "pypi", new(format.Pypi)
	m.plans = newPlans(new(format.Pypi), m.hidden)
	for _, status := range []string{"fwd=stale", "hit"} {
		a := s.ask(t, "GET", "/pypi/simple/p/")
		a.want(t, 200, nil, status)
		if got := a.header.Get("X-PyPI-Last-Serial"); got != "5" {
			t.Errorf("%s: the serial is %q", status, got)
		}
		s.settle(t)
	}
}

// TestLargePage: of a page that is not read as a whole before it is stored, too, the
// fields are known with its first byte.
func TestLargePage(t *testing.T) {
	tree := t.TempDir()
	link := `{"filename": "a-1.tar.gz", "yanked": "\"meta\": {\"_last-serial\": 1}"},`
	write(t, tree, "simple/p/index.v1_json", fmt.Appendf(nil, `{"files": [%s {}], "meta": {"api-version": "1.1", "_last-serial": "77"}, "name": "p", "versions": [%s "1"]}`,
		strings.Repeat(link, 60_000), strings.Repeat(`"1.0.0", `, 5_000)))
	write(t, tree, "simple/index.v1_json", fmt.Appendf(nil, `{"meta": {"_last-serial": 78, "api-version": "1.1"}, "projects": [%s {}]}`,
		strings.Repeat(`{"name": "x"},`, 200_000)))
	write(t, tree, "simple/p/index.html", fmt.Appendf(nil, "<!--SERIAL 1-->%s<!--SERIAL 79-->\n", strings.Repeat("<a href=x>y</a>\n", 100_000)))
	s := newSite(t, mount("/pypi", pypiFormat, tree))
	for _, way := range []string{"cold", "warm"} {
		for _, tc := range []struct{ path, accept, serial string }{
			{"/pypi/simple/p/", pipAccept, "77"},
			{"/pypi/simple/", pipAccept, "78"},
			{"/pypi/simple/p/", "Accept: text/html", "79"},
		} {
			a := s.ask(t, "GET", tc.path, tc.accept)
			a.wantStatus(t, 200)
			if got := a.header.Get("X-PyPI-Last-Serial"); got != tc.serial {
				t.Errorf("%s %s, %s: serial %q, want %s", tc.path, tc.accept, way, got, tc.serial)
			}
		}
		s.settle(t)
	}
}

// twoVersions is an origin whose files change between two calls.
type twoVersions struct {
	origin.Tree
	n atomic.Int64
}

func (o *twoVersions) Stat(ctx context.Context, name string) (origin.Info, error) {
	info, err := o.Tree.Stat(ctx, name)
	info.Validator += fmt.Sprint(o.n.Add(1))
	return info, err
}

// TestPageChangesWhileInspected: HEAD answers all the same, and tells no serial that may
// be of another version.
func TestPageChangesWhileInspected(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html")
	s := newSite(t, mount("/pypi", pypiFormat, tree))
	m := s.h.Mounts[0]
	m.origins[0].Tree = &twoVersions{Tree: m.origins[0].Tree}
	a := s.ask(t, "HEAD", "/pypi/simple/p/", "Accept: text/html")
	a.wantStatus(t, 200)
	if got := a.header.Get("X-PyPI-Last-Serial"); got != "" {
		t.Errorf("the serial is %s", got)
	}
}
