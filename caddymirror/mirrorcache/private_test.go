package mirrorcache

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestWebPrivate: who waits for the answer to another's request is not given that if it is
// not to be shared, also if the other has left.
func TestWebPrivate(t *testing.T) {
	for _, field := range []string{"Authorization", "Accept"} {
		t.Run(field, func(t *testing.T) {
			goOn := make(chan struct{})
			s, u := newWeb(t, `, "pass_authorization": true`, func(w http.ResponseWriter, r *http.Request) {
				<-goOn
				w.Header().Set("Vary", field)
				w.Header().Set("Cache-Control", "private")
				fmt.Fprintf(w, "for %s", r.Header.Get(field))
			})
			ctx, leave := context.WithCancel(t.Context())
			first, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/w/f", nil)
			if err != nil {
				t.Fatal(err)
			}
			first.Header.Set(field, "one/user")
			left := make(chan struct{})
			go func() {
				defer close(left)
				if resp, err := http.DefaultTransport.RoundTrip(first); err == nil {
					resp.Body.Close()
				}
			}()
			for u.asks() == 0 {
				time.Sleep(time.Millisecond)
			}
			var others sync.WaitGroup
			for range 3 {
				others.Go(func() {
					s.ask(t, "GET", "/w/f", field+": another/user").want(t, 200, []byte("for another/user"), "")
				})
			}
			time.Sleep(100 * time.Millisecond) // until they wait
			leave()
			<-left
			time.Sleep(100 * time.Millisecond)
			close(goOn)
			others.Wait()
		})
	}
}

// TestWebPrivateParts: a part of what only one user may have is asked for in that one's
// name, and in what the user accepts.
func TestWebPrivateParts(t *testing.T) {
	body := strings.Repeat("0123456789", 10_000)
	s, _ := newWeb(t, `, "pass_authorization": true`, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Basic user" || r.Header.Get("Accept") != "a/b" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		give(200, body, `Etag: "1"`, "Cache-Control: private")(w, r)
	})
	for range 2 {
		s.ask(t, "GET", "/w/f", "Authorization: Basic user", "Accept: a/b", "Range: bytes=50000-50009").want(t, 206, []byte("0123456789"), "")
		s.settle(t)
	}
}
