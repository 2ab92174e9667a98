package job

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
)

// TestPlaces: what is the same by another name, or lies in it.
func TestPlaces(t *testing.T) {
	top := t.TempDir()
	if err := os.MkdirAll(filepath.Join(top, "data/sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("data", filepath.Join(top, "alias")); err != nil {
		t.Fatal(err)
	}
	job := func(dir string, targets ...string) *Job {
		return testJob(t, "x", Job{Directory: dir}, none).with(fakeReleaser{targets: targets})
	}
	in := func(name string) string { return filepath.Join(top, name) }
	for _, c := range []struct {
		what string
		a, b *Job
		want bool
	}{
		{"the same", job(in("data")), job(in("data")), true},
		{"by a link", job(in("data")), job(in("alias")), true},
		{"within", job(in("data/sub")), job(in("data")), true},
		{"within what is not there yet", job(in("alias/new/x")), job(in("data/new")), true},
		{"beside", job(in("data")), job(in("data2")), false},
		{"a tree", job(""), testJob(t, "x", Job{}, none), false},
		{"the tree of a snapshot", job(in("data")), testJob(t, "x", Job{}, none).with(&releaser.Snapshot{Tree: in("alias"), Link: in("ro")}), true},
		{"a target", job("", "afs:c:v"), job("", "afs:c:w", "afs:c:v"), true},
		{"other targets", job("", "afs:c:v"), job("", "afs:c:w"), false},
		{"a link by a link", job("", "dir:"+in("data/ro")), job("", "dir:"+in("alias/ro")), true},
	} {
		if a, b := c.a.places(), c.b.places(); a.meets(b) != c.want || b.meets(a) != c.want {
			t.Errorf("%s: %v and %v", c.what, a, b)
		}
	}
}

func (j *Job) with(r releaser.Releaser) *Job {
	j.releases = append(j.releases, r)
	return j
}
