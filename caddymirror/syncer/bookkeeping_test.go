package syncer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestRsyncBookkeeping: what upstream writes though it has nothing new changes nothing, and
// is copied all the same.
func TestRsyncBookkeeping(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	beat := func(n int) {
		for _, name := range []string{
			"project/trace/ftp-master.example.org", "project/trace/_hierarchy", "debian/project/trace/x", "lastupdate", "rpm/TIME",
			"rpm/9/timestamp.txt", "mirror.info", "Archive-Update-in-Progress-a.example.org", "last-modified",
		} {
			write(t, filepath.Join(up, name), fmt.Sprintf("%0*d", n+1, n))
		}
	}
	beat(1)
	j := newJob(t)
	s := provision(t, &Rsync{Sources: []string{up}, DeleteAfter: new(int)})
	j.sync(s)
	j.wantChanged(new(true))
	j.wantChanges("dists/stable/InRelease", "dists/stable/main/Packages.gz", "pool/a_1.deb", "pool/sub/b_1.deb", "rpm/c.rpm", "rpm/repodata/repomd.xml")

	quiet := func(what string, want int) {
		t.Helper()
		before := files(t, j.Dir)
		j.sync(s)
		j.wantChanged(new(false))
		j.wantChanges()
		names := written(before, files(t, j.Dir))
		if len(names) != want {
			t.Errorf("%s: written are %q", what, names)
		}
		for _, name := range names {
			if !j.Bookkeeping(name) {
				t.Errorf("%s: %s is no bookkeeping", what, name)
			}
		}
	}
	quiet("nothing", 0)
	for n := 2; n < 5; n++ {
		beat(n)
		quiet("bookkeeping", 9)
	}
	if err := os.Remove(filepath.Join(up, "project/trace/_hierarchy")); err != nil {
		t.Fatal(err)
	}
	quiet("a trace is gone", 1)

	beat(6)
	write(t, filepath.Join(up, "pool/trace/x"), "new")
	write(t, filepath.Join(up, "rpm/c.rpm"), "c2 is longer")
	j.sync(s)
	j.wantChanged(new(true))
	j.wantChanges("pool/trace/x", "rpm/c.rpm")
	if err := os.Remove(filepath.Join(up, "rpm/c.rpm")); err != nil {
		t.Fatal(err)
	}
	j.sync(s)
	j.wantChanged(new(true))
	j.wantChanges("rpm/c.rpm")

	// By what the operator says, and nothing else.
	s.Bookkeeping = []string{"/rpm/c.*", "clock/", "*.beat"}
	j.sync(s)
	beat(7)
	write(t, filepath.Join(up, "rpm/c.rpm"), "c3 is longer still")
	write(t, filepath.Join(up, "clock/a/b"), "1")
	write(t, filepath.Join(up, "rpm/x.beat"), "1")
	write(t, filepath.Join(up, "clock.rpm"), "1")
	j.sync(s)
	j.wantChanged(new(true))
	j.wantChanges("Archive-Update-in-Progress-a.example.org", "clock.rpm", "debian/project/trace/x", "last-modified", "lastupdate", "mirror.info",
		"project/trace/_hierarchy", "project/trace/ftp-master.example.org", "rpm/9/timestamp.txt", "rpm/TIME")
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true},
		{"a", "x/a", true},
		{"a", "a/x", false},
		{"/a", "a", true},
		{"/a", "x/a", false},
		{"x/a", "x/a", true},
		{"x/a", "y/x/a", false},
		{"*.t", "x/y.t", true},
		{"/*/y", "x/y", true},
		{"/*", "x/y", false},
		{"a/", "a/b/c", true},
		{"a/", "x/a/b", true},
		{"a/", "a", false},
		{"/a/", "x/a/b", false},
		{"/a/", "a/b", true},
		{"x/a/", "x/a/b", true},
	} {
		if got := fits(c.pattern, c.name); got != c.want {
			t.Errorf("%s fits %s: %v", c.pattern, c.name, got)
		}
	}
	for _, pattern := range []string{"", "/", "[", " / "} {
		if err := (&Rsync{Sources: []string{"a"}, Bookkeeping: []string{pattern}}).Provision(caddy.Context{}); err == nil {
			t.Errorf("%q is taken for a pattern", pattern)
		}
	}
}
