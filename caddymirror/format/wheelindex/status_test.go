package wheelindex

import (
	"strings"
	"testing"
	"time"
)

// TestStatusOfRelease: a status tells the index of the release that it names. While
// nobody asks for anything but the status, a new release is "listing" until it was listed,
// and its index is completed all the same.
func TestStatusOfRelease(t *testing.T) {
	s := newSite(t, true)
	s.putWheel("", "one", "1.0")
	s.start()
	if n := s.complete().Files; n != 1 {
		t.Fatalf("%d files, want 1", n)
	}
	s.from.slow = 100 * time.Millisecond
	s.release(func() { s.putWheel("", "two", "1.0") })
	listing := false
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		st := s.x.Status()
		state, files := st.Index.State, st.Index.Files
		switch {
		case time.Now().After(end):
			t.Fatalf("the release is not complete: %s, %+v", st.Release, st.Index)
		case !strings.HasPrefix(st.Release, "r2@"):
			continue
		case state == "listing":
			listing = true
		case files != 2:
			t.Fatalf("%s is %s, with %d files", st.Release, state, files)
		case state == "complete":
			if !listing {
				t.Error("the release was complete before it was listed")
			}
			return
		}
	}
}

// TestStatusUnasked: a status has no index that nobody has asked for.
func TestStatusUnasked(t *testing.T) {
	s := newSite(t, true).start()
	if i := s.x.Status().Index; i != nil {
		t.Errorf("there is an index: %+v", i)
	}
}
