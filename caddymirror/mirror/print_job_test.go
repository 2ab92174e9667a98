package mirror

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func TestBar(t *testing.T) {
	for done, want := range map[float64]string{-1: "", 0: "[------------------------]", 0.5: "[############------------]", 1: "[########################]", 1.1: ""} {
		if got := bar(&step.Progress{Done: done}); got != want {
			t.Errorf("%v: %q", done, got)
		}
	}
	if got := bar(nil); got != "" {
		t.Errorf("none: %q", got)
	}
}

// TestCounts: the counts of a run are in its line.
func TestCounts(t *testing.T) {
	var out bytes.Buffer
	s := jobStatus{job.Status{Name: "wheels", Runs: []job.Run{{ID: "1", Ended: time.Now(), Counts: map[string]int{"built": 3, "failed": 1}, Notes: map[string]string{"serial": "7"}}}}}
	if err := s.print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "serial 7 built 3 failed 1") {
		t.Errorf("%s", &out)
	}
}

// TestPending: what waits is in the table of jobs, and by name in that of one job.
func TestPending(t *testing.T) {
	now := time.Now()
	s := jobStatus{job.Status{Name: "pypi", State: "idle", Serial: 77, Seen: now.Add(-time.Minute), Pending: &job.Backlog{
		Since: now.Add(-time.Hour), Due: now.Add(3*time.Hour + time.Minute), Changes: 12, Names: []string{"a", "b\x1b"}, Why: "12 of 512 changes",
	}}}
	printed := func() string {
		var out bytes.Buffer
		if err := s.print(&out); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out.String()), " ")
	}
	for _, want := range []string{
		"to be released: 12 of 512 changes, the first 1 hour ago; at the latest 3 hours from now",
		"12 of 512 changes 1 hour ago 3 hours from now a, b? and 10 more",
		"serial 77, last seen 1 minute ago",
	} {
		if got := printed(); !strings.Contains(got, want) {
			t.Errorf("there is no %q in %s", want, got)
		}
	}
	s.Pending.Why, s.Pending.Due = "", time.Time{}
	if got := printed(); strings.Contains(got, "to be released:") || !strings.Contains(got, "to be released 1 hour ago - a, b? and 10 more") {
		t.Errorf("of a run that failed: %s", got)
	}
}

// TestOneLine: what commands print does not upset a terminal.
func TestOneLine(t *testing.T) {
	if got := oneLine("a\x1b[2Jb\x00\r\n\tc  d é\u202e"); got != "a?[2Jb? c d é?" {
		t.Errorf("%q", got)
	}
}
