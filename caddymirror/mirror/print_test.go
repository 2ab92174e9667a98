package mirror

import (
	"fmt"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// TestPrintIndex prints what is to be said of an index, and not without an end.
func TestPrintIndex(t *testing.T) {
	i := &origin.IndexStatus{State: "reading", Projects: 7, Files: 9, Unread: 3, LeftOut: 40}
	for n := range 40 {
		i.Remarks = append(i.Remarks, origin.IndexRemark{Name: fmt.Sprintf("f/foo-%d.whl", n), Reason: "is corrupt"})
	}
	s := Status{Mounts: []MountStatus{{Prefix: "/wheel", Origins: []origin.Status{{Origin: "/srv/wheel", State: "up", Index: i}}}}}
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
}
