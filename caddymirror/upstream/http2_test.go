package upstream

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var quiet = log.New(io.Discard, "", 0)

// TestHTTP2 has what can go wrong in HTTP/2 only: each row is one answer.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	abort := func(w http.ResponseWriter) {
		w.(http.Flusher).Flush()
		time.Sleep(50 * time.Millisecond)
		panic(http.ErrAbortHandler)
	}
	for _, row := range []struct {
		name    string
		class   error
		body    string
		handler func(w http.ResponseWriter, r *http.Request, n int32)
	}{
		{"honest", nil, ten, func(w http.ResponseWriter, r *http.Request, _ int32) { fmt.Fprint(w, ten) }},
		{"reset in front of the header", ErrAway, "", func(http.ResponseWriter, *http.Request, int32) { panic(http.ErrAbortHandler) }},
		{"reset in the body", ErrAway, "0123", func(w http.ResponseWriter, _ *http.Request, _ int32) {
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, ten[:4])
			abort(w)
		}},
		{"reset in the body of unknown length", ErrAway, "0123", func(w http.ResponseWriter, _ *http.Request, _ int32) {
			fmt.Fprint(w, ten[:4])
			abort(w)
		}},
		{"reset in the body, and resumed", nil, ten, func(w http.ResponseWriter, r *http.Request, n int32) {
			w.Header().Set("ETag", `"v1"`)
			if n > 1 {
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader(ten))
				return
			}
			fmt.Fprint(w, ten[:4])
			abort(w)
		}},
		{"no header", ErrAway, "", func(_ http.ResponseWriter, r *http.Request, _ int32) { <-r.Context().Done() }},
		{"a body that stops", ErrAway, "0123", func(w http.ResponseWriter, r *http.Request, _ int32) {
			fmt.Fprint(w, ten[:4])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
		{"a large header", ErrLying, "", func(w http.ResponseWriter, _ *http.Request, _ int32) {
			for i := range 400 {
				w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("a", 1000))
			}
		}},
		{"a flood of 1xx", ErrLying, "", func(w http.ResponseWriter, r *http.Request, _ int32) {
			for i := 0; i < 10000 && r.Context().Err() == nil; i++ {
				w.WriteHeader(http.StatusEarlyHints)
			}
		}},
		{"trailers", nil, ten, func(w http.ResponseWriter, _ *http.Request, _ int32) {
			fmt.Fprint(w, ten)
			w.Header().Set(http.TrailerPrefix+"ETag", `"late"`)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 2 {
					t.Error(r.Proto)
				}
				row.handler(w, r, n.Add(1))
			}))
			s.Config.ErrorLog = quiet
			s.EnableHTTP2 = true
			s.StartTLS()
			defer s.Close()
			tr := NewTransport()
			tr.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
			u := use(t, Config{URL: s.URL, Transport: tr})
			resp, body, err := get(t, u, Request{Target: "/a%2Fb+c"})
			if classOf(t, err) != row.class || body != row.body {
				t.Errorf("%q, %v, want %q, %v", body, err, row.body, row.class)
			}
			if resp != nil && (resp.Header.Get("Etag") == `"late"` || resp.Unframed) {
				t.Errorf("%+v", resp)
			}
			u.Close()
		})
	}
}
