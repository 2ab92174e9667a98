package mirrorcache

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

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

// TestPastPanics: what panics takes no place.
func TestPastPanics(t *testing.T) {
	m := new(Mount)
	func() {
		defer func() { recover() }()
		_, _ = m.enter(func() (origin.Body, error) { panic("index out of range") })
	}()
	if n := m.past.Load(); n != 0 {
		t.Errorf("%d are counted", n)
	}
}

// TestWebUnstoredVariants: a variant that is not stored is known for that, too: nobody waits
// for the answer to another's request.
func TestWebUnstoredVariants(t *testing.T) {
	both := make(chan struct{})
	var asked sync.WaitGroup
	s, u := newWeb(t, "", nil)
	answer := func(control string, before func()) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			before()
			w.Header().Set("Vary", "Accept")
			w.Header().Set("Cache-Control", control)
			fmt.Fprint(w, r.Header.Get("Accept"))
		}
	}
	u.set(answer("max-age=60", func() {}))
	s.ask(t, "GET", "/w/f", "Accept: a/b").want(t, 200, []byte("a/b"), "")
	s.settle(t)
	u.set(answer("no-store", func() {}))
	s.ask(t, "GET", "/w/f", "Accept: c/d").want(t, 200, []byte("c/d"), "")
	s.settle(t)

	asked.Add(2)
	go func() {
		asked.Wait()
		close(both)
	}()
	u.set(answer("no-store", func() {
		asked.Done()
		select {
		case <-both:
		case <-time.After(5 * time.Second):
			t.Error("one waits for the other")
		}
	}))
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() { s.ask(t, "GET", "/w/f", "Accept: c/d").want(t, 200, []byte("c/d"), "") })
	}
	clients.Wait()
	s.ask(t, "GET", "/w/f", "Accept: a/b").want(t, 200, []byte("a/b"), "hit")
}
