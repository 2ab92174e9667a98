package mirror

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

// statusMount is a mount of which only the status is asked.
type statusMount struct{ MountStatus }

func (m statusMount) Status() MountStatus             { return m.MountStatus }
func (statusMount) Purge(string, string) (int, error) { return 0, nil }

// TestOriginErrors: each kind of error is a series of its own, and counted once.
func TestOriginErrors(t *testing.T) {
	panics.New(nil, "test_metrics", "x")
	a := new(App)
	a.AddMount("/m", statusMount{MountStatus{Prefix: "/m", Origins: []origin.Status{
		{Origin: "/o", State: "up", Errors: 10, Timeouts: 4, Panics: 1, Busy: 7},
	}}})
	want := `
# HELP caddy_mirror_origin_errors_total Calls to the origin that it did not answer.
# TYPE caddy_mirror_origin_errors_total counter
caddy_mirror_origin_errors_total{kind="busy",mount="/m",origin="/o"} 7
caddy_mirror_origin_errors_total{kind="error",mount="/m",origin="/o"} 5
caddy_mirror_origin_errors_total{kind="panic",mount="/m",origin="/o"} 1
caddy_mirror_origin_errors_total{kind="timeout",mount="/m",origin="/o"} 4
`
	if err := testutil.CollectAndCompare(collector{a}, strings.NewReader(want), "caddy_mirror_origin_errors_total"); err != nil {
		t.Error(err)
	}
	// Other tests of the process have panics of their own.
	if n, all := testutil.CollectAndCount(collector{a}, "caddy_mirror_panics_total"), len(panics.Counts()); n == 0 || n != all {
		t.Errorf("panics have %d series, want %d", n, all)
	}
}

// TestCountsOfJobs: what the run under way counts is shown, and else what the last has.
func TestCountsOfJobs(t *testing.T) {
	j := job.Status{Last: &job.Run{Counts: map[string]int{"built": 1}}}
	if got := counts(j); got["built"] != 1 {
		t.Errorf("of the last run: %v", got)
	}
	j.Current = &job.Run{Counts: map[string]int{"built": 2}}
	if got := counts(j); got["built"] != 2 {
		t.Errorf("of the run under way: %v", got)
	}
}
