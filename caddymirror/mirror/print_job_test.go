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

// TestOneLine: what commands print does not upset a terminal.
func TestOneLine(t *testing.T) {
	if got := oneLine("a\x1b[2Jb\x00\r\n\tc  d é\u202e"); got != "a?[2Jb? c d é?" {
		t.Errorf("%q", got)
	}
}
