package origin

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

// TestHTTPPass checks what becomes of a request that is passed on, and that the limit and
// the rules of loops hold for it, too.
func TestHTTPPass(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[http.Request]
	h, _ := loadHTTP(t, `, "limit": {"requests": 1}, "header_timeout": "300ms"`, serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r)
		if r.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusAccepted)
		io.Copy(w, r.Body)
	}))
	var passer Passer = h
	ask := func() PassRequest {
		return PassRequest{
			Method: http.MethodPost, Name: "-/npm/v1/security?x=%2F", Header: http.Header{"Content-Type": {"a/b"}, "Cookie": {"c"}},
			Body: strings.NewReader(digits), Size: 10, Authorization: "Bearer x", Via: []string{"1.1 a"},
		}
	}
	reply, err := passer.Pass(t.Context(), ask())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := passer.Pass(t.Context(), ask()); !errors.Is(err, ErrBusy) {
		t.Errorf("beyond the limit: %v", err)
	}
	body, err := io.ReadAll(reply.Body)
	if err != nil || string(body) != digits || reply.Response.Status != http.StatusAccepted || reply.Response.Header.Get("Content-Type") != "a/b" {
		t.Error(string(body), err, reply.Response)
	}
	reply.Close()
	r := got.Load()
	if r.RequestURI != "/-/npm/v1/security?x=%2F" || r.Header.Get("Authorization") != "Bearer x" || r.Header.Get("Cookie") != "" || !h.Looped(r.Header["Via"]) {
		t.Error(r.RequestURI, r.Header)
	}

	looped, large, cut, get := ask(), ask(), ask(), ask()
	looped.Via = r.Header["Via"]
	large.Limit = 9
	cut.Name = "cut"
	get.Method = http.MethodGet
	if _, err := passer.Pass(t.Context(), looped); !errors.Is(err, ErrLoop) {
		t.Error(err)
	}
	_, err = passer.Pass(t.Context(), large)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); !ok || tooLarge.Limit != 9 || !errors.Is(err, fs.ErrInvalid) || errors.Is(err, ErrAway) {
		t.Error(err)
	}
	if _, err := passer.Pass(t.Context(), cut); !errors.Is(err, ErrAway) {
		t.Error(err)
	}
	if _, err := passer.Pass(t.Context(), get); !errors.Is(err, fs.ErrInvalid) || !errors.Is(err, upstream.ErrTarget) {
		t.Error(err)
	}
	if st := h.Status(); st.Errors != 1 || st.Busy != 1 {
		t.Errorf("%+v", st)
	}
}
