package mirrorcache

import "testing"

// TestWebPastIsBounded: answers that are not stored count among what is read past the
// cache, also where they come by a fill.
func TestWebPastIsBounded(t *testing.T) {
	s, u := newWeb(t, "", give(200, "private", "Cache-Control: private"))
	m := s.h.Mounts[0]
	m.past.Store(maxPast)
	s.ask(t, "GET", "/w/f").want(t, 503, nil, "fwd=bypass")
	s.ask(t, "GET", "/w/f").want(t, 503, nil, "fwd=bypass")
	if n := u.asks(); n != 1 {
		t.Errorf("%d requests", n)
	}
	m.past.Store(maxPast - 1)
	for range 3 {
		s.ask(t, "GET", "/w/f").want(t, 200, []byte("private"), "fwd=bypass")
		s.ask(t, "GET", "/w/g").want(t, 200, []byte("private"), "")
	}
	if n := m.past.Load(); n != maxPast-1 {
		t.Errorf("%d are counted", n)
	}
}
