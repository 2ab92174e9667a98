package job

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
)

// TestMerge: what can no longer be looked at is as it was, and says so.
func TestMerge(t *testing.T) {
	one, two := time.Unix(1, 0), time.Unix(2, 0)
	rw := releaser.Copy{Target: "v", Stage: "rw", Site: "a", At: two}
	a := releaser.Copy{Target: "v", Stage: "ro", Site: "a", At: one}
	b := releaser.Copy{Target: "v", Stage: "ro", Site: "b", At: two}
	other := releaser.Copy{Target: "w", Stage: "ro", Site: "b", At: one}
	all := []releaser.Copy{rw, a, b, other}
	away := func(c releaser.Copy, at time.Time) releaser.Copy {
		c.At, c.Error = at, "away"
		return c
	}
	none := time.Time{}
	for _, test := range []struct {
		name           string
		old, now, want []releaser.Copy
	}{
		{"first", nil, all, all},
		{"new", []releaser.Copy{away(rw, one)}, all, all},
		{"a site is away", all, []releaser.Copy{rw, a, away(b, none), other}, []releaser.Copy{rw, a, away(b, two), other}},
		{"a site was never seen", []releaser.Copy{rw}, []releaser.Copy{rw, away(b, none)}, []releaser.Copy{rw, away(b, none)}},
		{
			"a volume is away", all,
			[]releaser.Copy{{Target: "v", Stage: "rw", Error: "away"}, other},
			[]releaser.Copy{away(rw, two), away(a, one), away(b, two), other},
		},
		{"a volume was never seen", nil, []releaser.Copy{{Target: "v", Stage: "rw", Error: "away"}}, []releaser.Copy{{Target: "v", Stage: "rw", Error: "away"}}},
		{"a site is no more", all, []releaser.Copy{rw, a}, []releaser.Copy{rw, a}},
	} {
		if got := merge(test.old, test.now); !slices.Equal(got, test.want) {
			t.Errorf("%s:\n%v, want\n%v", test.name, got, test.want)
		}
	}
	if at := oldest(all, "ro"); !at.Equal(one) {
		t.Errorf("the oldest is of %v", at)
	}
}

// TestHangingDisk: when the state can not be written for a disk that hangs, the status
// is there all the same.
func TestHangingDisk(t *testing.T) {
	e := testEngine(t, t.TempDir())
	e.join(testJob(t, "x", Job{}, none))
	r := e.Runner("x")
	fifo := filepath.Join(r.dir, stateName+".tmp")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	id := begin(t, r)
	await(t, "the run is known", func() bool { return r.Status(time.Now()).State == "running" })
	if run, ok := r.Find(id); !ok || run.Outcome != "" {
		t.Errorf("the run is %+v", run)
	}
	// The disk is well again.
	f, err := os.OpenFile(fifo, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(fifo); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if run := ended(t, r, id); run.Outcome != Unchanged {
		t.Errorf("the run is %+v", run)
	}
}
