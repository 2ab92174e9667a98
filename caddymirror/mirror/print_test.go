package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// TestPrintIndex prints what is to be said of an index, and not without an end.
func TestPrintIndex(t *testing.T) {
	i := &origin.IndexStatus{State: "reading", Projects: 7, Files: 9, Unread: 3, LeftOut: 40}
	for n := range 40 {
		i.Remarks = append(i.Remarks, origin.IndexRemark{Name: fmt.Sprintf("f/foo-%d.whl", n), Reason: "is corrupt"})
	}
	s := Status{Mounts: []MountStatus{
		{Prefix: "/wheel", Origins: []origin.Status{
			{Origin: "/srv/wheel", State: "up", Index: i},
			{Origin: "/srv/w", State: "away", LastError: "it hangs"},
		}},
		{Prefix: "/f", Origins: []origin.Status{{Origin: "/srv/files", State: "up"}}},
	}}
	var b strings.Builder
	if err := s.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"index reading: 7 projects, 9 files, 3 to be read, 40 left out\n", "  f/foo-9.whl is corrupt\n", "see --json for more"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "foo-10.whl") {
		t.Error(b.String())
	}

	// What is between the lines of the table does not move its columns.
	for _, want := range []string{
		"MOUNT   ORIGIN      STATE  RELEASE", "\n/wheel  /srv/wheel  up     -", "\n        index reading", "\n          f/foo-1.whl",
		"\n        /srv/w      away   -", "\n        it hangs\n", "\n/f      /srv/files  up     -",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

// TestPrintUpstreams prints the upstreams that are not up.
func TestPrintUpstreams(t *testing.T) {
	until := time.Date(2026, 11, 28, 8, 9, 10, 0, time.Local)
	s := Status{Mounts: []MountStatus{{Prefix: "/r", Origins: []origin.Status{{Origin: "http://a http://b http://c", State: "up", Upstreams: []origin.UpstreamStatus{
		{URL: "http://a", State: "away"}, {URL: "http://b", State: "paused", PausedUntil: until}, {URL: "http://c", State: "up"},
	}}}}}}
	var b strings.Builder
	if err := s.print(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "\n       http://a is away\n       http://b wants no requests before 08:09:10\n") || strings.Contains(b.String(), " http://c is") {
		t.Error(b.String())
	}
}
