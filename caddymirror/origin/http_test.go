package origin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

// loadHTTP provisions an origin of the upstream, of which settings are more JSON. It is
// cleaned up by what is returned, or in the end.
func loadHTTP(t *testing.T, settings string, urls ...string) (h *HTTP, cleanup func()) {
	t.Helper()
	h, cleanup, err := tryHTTP(settings, urls...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cleanup)
	return h, cleanup
}

func tryHTTP(settings string, urls ...string) (*HTTP, func(), error) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	list, _ := json.Marshal(urls)
	m, err := ctx.LoadModuleByID("mirror.origins.http", json.RawMessage(`{"upstreams": `+string(list)+settings+`}`))
	if err != nil {
		cancel()
		return nil, func() {}, err
	}
	return m.(*HTTP), sync.OnceFunc(func() { cancel() }), nil
}

// serveHTTP runs a server, and returns its URL.
func serveHTTP(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL
}

// readHTTP fetches an object and reads it to its end.
func readHTTP(t *testing.T, h *HTTP, r Request) (Reply, string, error) {
	t.Helper()
	reply, err := h.Fetch(t.Context(), r)
	if err != nil || reply.Body == nil {
		return reply, "", err
	}
	defer reply.Close()
	body, err := io.ReadAll(reply.Body)
	return reply, string(body), err
}

const digits = "0123456789"

// file answers with ten digits, as a server of files does.
func file(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(w, r, "", time.Unix(1700000000, 0), strings.NewReader(digits))
}

// TestHTTPFetch checks what a question becomes, and what an answer.
func TestHTTPFetch(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[http.Request]
	h, _ := loadHTTP(t, `, "user_agent": "mirror of us"`, serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r)
		switch r.URL.Path {
		case "/base/gone":
			http.NotFound(w, r)
		case "/base/elsewhere":
			http.Redirect(w, r, "http://other.example/x?y", http.StatusFound)
		case "/base/down":
			w.WriteHeader(http.StatusBadGateway)
		case "/base/weak":
			w.Header().Set("ETag", `W/"v1"`)
			fmt.Fprint(w, digits)
		default:
			file(w, r)
		}
	})+"/base")
	if !strings.HasSuffix(h.String(), "/base") {
		t.Error(h)
	}

	before := time.Now()
	reply, body, err := readHTTP(t, h, Request{
		Name: "@a%2Fb+c?d=%2F", Accept: "text/html", AcceptEncoding: "gzip", Authorization: "Basic YTpi", Refresh: true, Via: []string{"1.1 a"},
	})
	if err != nil || body != digits {
		t.Fatal(body, err)
	}
	r := got.Load()
	if r.RequestURI != "/base/@a%2Fb+c?d=%2F" {
		t.Error(r.RequestURI)
	}
	for name, want := range map[string]string{
		"Accept": "text/html", "Accept-Encoding": "gzip", "Authorization": "Basic YTpi", "Cache-Control": "no-cache",
		"User-Agent": "mirror of us", "Via": "1.1 a, 1.1 " + h.pseudonym, "If-None-Match": "", "Range": "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	switch resp := reply.Response; {
	case reply.Size != 10, reply.Validator != `"v1"`, reply.ETag != `"v1"`, reply.ModTime.Unix() != 1700000000, reply.Unchanged:
		t.Errorf("%+v", reply.Info)
	case resp.Status != 200, resp.Header.Get("ETag") != `"v1"`, resp.RequestTime.Before(before), resp.ResponseTime.Before(resp.RequestTime):
		t.Errorf("%+v", resp)
	case reply.Body.Info() != reply.Info:
		t.Errorf("%+v", reply.Body.Info())
	}

	have := &Have{Header: map[string][]string{"Etag": {`"v1"`}}}
	if reply, _, err := readHTTP(t, h, Request{Name: "x", Have: have}); err != nil || !reply.Unchanged || reply.Body != nil || reply.Response.Status != 304 {
		t.Errorf("%+v, %v", reply, err)
	}
	have.Header["Etag"] = []string{`"v0"`}
	if reply, body, err := readHTTP(t, h, Request{Name: "x", Have: have}); err != nil || reply.Unchanged || body != digits {
		t.Errorf("%+v, %v", reply, err)
	}
	if reply, _, err := readHTTP(t, h, Request{Name: "x", Head: true}); err != nil || reply.Size != 10 || reply.Body != nil || got.Load().Method != http.MethodHead {
		t.Errorf("%+v, %v", reply, err)
	}
	if reply, _, err := readHTTP(t, h, Request{Name: "weak"}); err != nil || reply.Validator != "" || reply.ETag != "" {
		t.Errorf("%+v, %v", reply, err)
	}
	if reply, _, err := readHTTP(t, h, Request{Name: "elsewhere"}); err != nil || reply.Response.Status != 302 || reply.Redirect.String() != "http://other.example/x?y" {
		t.Errorf("%+v, %v", reply, err)
	}
	for name, status := range map[string]int{"gone": 404, "down": 502} {
		if reply, _, err := readHTTP(t, h, Request{Name: name}); err != nil || reply.Response.Status != status {
			t.Errorf("%s: %+v, %v", name, reply.Response, err)
		}
	}
	if st := h.Status(); st.State != "up" || st.Reads != 6 || st.Stats != 2 || st.ReadBytes < 30 || st.Errors != 0 || st.LastError != "" ||
		len(st.Upstreams) != 1 || st.Upstreams[0] != (UpstreamStatus{URL: h.String(), State: "up"}) {
		t.Errorf("%+v", st)
	}
}

// TestHTTPParts checks that a part is of the version that it must be of, and never more or
// less than was asked for, whatever the server makes of ranges.
func TestHTTPParts(t *testing.T) {
	t.Parallel()
	whole := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		fmt.Fprint(w, digits)
	}
	status := func(code int, fields ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(fields); i += 2 {
				w.Header().Set(fields[i], fields[i+1])
			}
			w.WriteHeader(code)
			fmt.Fprint(w, "not the object")
		}
	}
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		ask    Request
		body   string
		err    error
		status int // that is answered, 0: any
	}{
		{"a part", file, Request{Offset: 4}, "456789", nil, 206},
		{"some bytes", file, Request{Offset: 4, Length: 3}, "456", nil, 206},
		{"the first bytes", file, Request{Length: 3}, "012", nil, 206},
		{"of the version", file, Request{Offset: 4, Length: 3, Only: `"v1"`}, "456", nil, 206},
		{"the whole, of the version", file, Request{Only: `"v1"`}, digits, nil, 200},
		{"of another version", file, Request{Offset: 4, Only: `"v0"`}, "", ErrChanged, 0},
		{"the whole, of another version", file, Request{Only: `"v0"`}, "", ErrChanged, 0},
		{"behind the end", file, Request{Offset: 10}, "", ErrChanged, 0},
		{"no ranges", whole, Request{Offset: 4}, "456789", nil, 200},
		{"no ranges, some bytes", whole, Request{Offset: 4, Length: 3}, "456", nil, 200},
		{"no ranges, the first bytes", whole, Request{Length: 3}, "012", nil, 200},
		{"no ranges, of the version", whole, Request{Offset: 4, Length: 3, Only: `"v1"`}, "456", nil, 200},
		{"no ranges, far in", whole, Request{Offset: maxSkip + 1}, "", ErrChanged, 0},
		{"no ranges, the head", whole, Request{Offset: maxSkip + 1, Head: true}, "", nil, 200},
		{"gone", status(404), Request{Offset: 4}, "not the object", nil, 404},
		{"failed", status(503), Request{Offset: 4, Length: 3}, "not the object", nil, 503},
		{"of the version, gone", status(404), Request{Only: `"v1"`}, "", ErrChanged, 0},
		{"of the version, failed", status(500), Request{Only: `"v1"`}, "", ErrAway, 0},
		{"of the version, too often", status(429, "Retry-After", "7"), Request{Only: `"v1"`}, "", ErrBusy, 0},
		{"before the beginning", file, Request{Offset: -1}, "", fs.ErrInvalid, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h, _ := loadHTTP(t, "", serveHTTP(t, row.answer))
			row.ask.Name = "x"
			reply, body, err := readHTTP(t, h, row.ask)
			if !errors.Is(err, row.err) || body != row.body {
				t.Errorf("%q, %v", body, err)
			}
			if err == nil && reply.Response.Status != row.status {
				t.Errorf("status %d", reply.Response.Status)
			}
			if row.err == ErrChanged && errors.Is(err, ErrAway) {
				t.Errorf("%v is away, too", err)
			}
			if pause, ok := errors.AsType[*PauseError](err); row.err == ErrBusy && (!ok || time.Until(pause.Until) < 5*time.Second) {
				t.Errorf("%v until %+v", err, pause)
			}
		})
	}
}

// TestHTTPErrors checks the classes of errors, and that their texts say more.
func TestHTTPErrors(t *testing.T) {
	t.Parallel()
	url := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		case "/lies":
			w.Header().Set("Content-Range", "bytes 3-9/10")
			fmt.Fprint(w, digits)
		case "/cut":
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, digits[:4])
		case "/slow":
			<-r.Context().Done()
		case "/often":
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			panic(http.ErrAbortHandler)
		}
	})
	h, _ := loadHTTP(t, `, "header_timeout": "200ms"`, url)
	for _, row := range []struct {
		ask   Request
		class []error
		text  string
	}{
		{Request{Name: "circle"}, []error{ErrLoop, upstream.ErrLoop}, "circle"},
		{Request{Name: "mine", Via: []string{"1.1 a, 1.1 " + h.pseudonym}}, []error{ErrLoop}, "has been here"},
		{Request{Name: "lies"}, []error{ErrAway, upstream.ErrLying}, "Content-Range"},
		{Request{Name: "cut"}, []error{ErrAway, upstream.ErrAway}, "after 4 bytes"},
		{Request{Name: "slow"}, []error{ErrAway, upstream.ErrAway}, "200ms"},
		{Request{Name: "a b"}, []error{fs.ErrInvalid, upstream.ErrTarget}, "a b"},
		{Request{Name: "../b"}, []error{fs.ErrInvalid, upstream.ErrTarget}, ".."},
	} {
		_, _, err := readHTTP(t, h, row.ask)
		for _, class := range row.class {
			if !errors.Is(err, class) {
				t.Errorf("%s: %v is not %v", row.ask.Name, err, class)
			}
		}
		if err != nil && !strings.Contains(err.Error(), row.text) {
			t.Errorf("%s: %v", row.ask.Name, err)
		}
		if away := slices.Contains(row.class, ErrAway); errors.Is(err, ErrAway) != away {
			t.Errorf("%s: %v is away", row.ask.Name, err)
		}
	}
	if st := h.Status(); st.Errors != 3 || !strings.Contains(st.LastError, "200ms") {
		t.Errorf("%+v", st)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Fetch(ctx, Request{Name: "x"}); !errors.Is(err, context.Canceled) || h.Status().Errors != 3 {
		t.Error(err)
	}

	// What one was told holds for all.
	if reply, _, err := readHTTP(t, h, Request{Name: "often"}); err != nil || reply.Response.Status != 429 {
		t.Error(reply, err)
	}
	_, _, err := readHTTP(t, h, Request{Name: "x"})
	pause, ok := errors.AsType[*PauseError](err)
	if !ok || !errors.Is(err, ErrBusy) || time.Until(pause.Until) < time.Second {
		t.Error(err)
	}
	if st := h.Status(); st.State != "away" || st.Upstreams[0].State != "paused" || !st.Upstreams[0].PausedUntil.Equal(pause.Until) || st.Busy != 1 {
		t.Errorf("%+v", st)
	}
}

// TestHTTPSeveral checks that a second upstream answers where the first does not, and that
// they are one origin.
func TestHTTPSeveral(t *testing.T) {
	t.Parallel()
	dead := serveHTTP(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	good := serveHTTP(t, file)
	h, _ := loadHTTP(t, "", dead, good)
	if h.String() != dead+" "+good {
		t.Error(h)
	}
	for range breaker.Threshold {
		if _, body, err := readHTTP(t, h, Request{Name: "x"}); err != nil || body != digits {
			t.Error(body, err)
		}
	}
	if st := h.Status(); st.State != "up" || st.Upstreams[0].State != "away" || st.Upstreams[1].State != "up" {
		t.Errorf("%+v", st)
	}
}

// TestHTTPReload checks what the next config knows from the one before: counters, pauses
// and breakers, if it asks in the same way.
func TestHTTPReload(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	url := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusTooManyRequests)
	})
	old, cleanup := loadHTTP(t, "", url)
	if reply, _, err := readHTTP(t, old, Request{Name: "x"}); err != nil || reply.Response.Status != 429 {
		t.Fatal(reply, err)
	}
	next, _ := loadHTTP(t, `, "header_timeout": "7s"`, url)
	cleanup()
	if _, _, err := readHTTP(t, next, Request{Name: "x"}); !errors.Is(err, ErrBusy) || asked.Load() != 1 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
	if st := next.Status(); st.Reads+st.Stats != 1 || st.Busy != 1 {
		t.Errorf("%+v", st)
	}
	// Who has other credentials may be let in.
	other, _ := loadHTTP(t, `, "header_up": {"Authorization": ["Bearer x"]}`, url)
	if reply, _, err := readHTTP(t, other, Request{Name: "x"}); err != nil || reply.Response.Status != 429 || asked.Load() != 2 {
		t.Errorf("%v, %v after %d requests", reply, err, asked.Load())
	}
	// Requests under way go on with the config that they came with, and new ones with it.
	if _, _, err := readHTTP(t, old, Request{Name: "x"}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}

	dead := serveHTTP(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	old, cleanup = loadHTTP(t, "", dead)
	for range breaker.Threshold {
		readHTTP(t, old, Request{Name: "x"})
	}
	next, _ = loadHTTP(t, "", dead)
	cleanup()
	if st := next.Status(); st.State != "away" || st.Upstreams[0].State != "away" || st.Errors != breaker.Threshold {
		t.Errorf("%+v", st)
	}
}

// TestHTTPForgets checks that nothing is left of a config that has gone, or has failed.
func TestHTTPForgets(t *testing.T) {
	url := serveHTTP(t, file)
	held := func() (n int) {
		count := func(any, any) bool { n++; return true }
		healths.Range(count)
		limits.Range(count)
		return n
	}
	before, goroutines := held(), runtime.NumGoroutine()
	h, cleanup := loadHTTP(t, `, "limit": {"requests": 1}, "health_uri": "/x", "health_interval": "1ms"`, url)
	if _, _, err := readHTTP(t, h, Request{Name: "x"}); err != nil {
		t.Error(err)
	}
	if _, _, err := tryHTTP(`, "limit": {"requests": 1}, "follow": ["a b"]`, url); err == nil {
		t.Error("it can follow to nowhere")
	}
	if n := held(); n != before+2 {
		t.Errorf("%d are shared, %d were", n, before)
	}
	cleanup()
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
	if n := held(); n != before {
		t.Errorf("%d are left, %d were", n, before)
	}
	for range 100 {
		if runtime.NumGoroutine() <= goroutines+2 { // of the server
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	buf := make([]byte, 1<<16)
	t.Errorf("goroutines are left over:\n%s", buf[:runtime.Stack(buf, true)])
}

// TestHTTPSecrets checks where header_up goes to, and where it does not.
func TestHTTPSecrets(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_ORIGIN_KEY", "from-env")
	var got atomic.Pointer[http.Header]
	url := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(&r.Header)
		w.Header().Set("Content-Range", r.Header.Get("Authorization")+r.Header.Get("X-Key"))
		fmt.Fprint(w, digits)
	})
	h, _ := loadHTTP(t, `, "header_up": {"Authorization": ["Bearer {file.`+token+`}"], "X-Key": ["{env.HTTP_ORIGIN_KEY}"]}`, url)
	_, _, err := readHTTP(t, h, Request{Name: "x"})
	if sent := got.Load(); sent.Get("Authorization") != "Bearer from-a-file" || sent.Get("X-Key") != "from-env" {
		t.Error(sent)
	}
	config, jsonErr := json.Marshal(h)
	if err == nil || jsonErr != nil {
		t.Fatal(err, jsonErr)
	}
	status, jsonErr := json.Marshal(h.Status())
	if jsonErr != nil || !strings.Contains(string(status), "redacted") {
		t.Error(string(status), jsonErr)
	}
	for _, text := range []string{err.Error(), h.String(), string(status), string(config)} {
		if strings.Contains(text, "from-a-file") || strings.Contains(text, "from-env") {
			t.Error(text)
		}
	}
}

// TestHTTPConfig checks that what cannot be is refused, without values of header fields.
func TestHTTPConfig(t *testing.T) {
	t.Setenv("HTTP_ORIGIN_BAD", "s3cret\nX: y")
	for settings, want := range map[string]string{
		`, "upstreams": []`:                                                    "no upstreams",
		`, "upstreams": ["http://a.example?b"]`:                                "query",
		`, "upstreams": ["http://u:s3cret@a.example"]`:                         "not into the URL",
		`, "upstreams": ["http://{env.HTTP_ORIGIN_UNSET}/"]`:                   "HTTP_ORIGIN_UNSET",
		`, "header_timeout": -1`:                                               "header_timeout",
		`, "read_timeout": -1`:                                                 "read_timeout",
		`, "health_interval": 5`:                                               "health_uri",
		`, "health_uri": "x"`:                                                  "slash",
		`, "health_uri": "/x", "health_interval": -5`:                          "health_interval",
		`, "limit": {"requests": -1}`:                                          "limit",
		`, "user_agent": "a\nb"`:                                               "user agent",
		`, "follow": ["http://a.example"]`:                                     "HOST",
		`, "header_up": {"Via": ["x"]}`:                                        "Via",
		`, "header_up": {"Authorization": ["{env.HTTP_ORIGIN_BAD}"]}`:          "Authorization",
		`, "header_up": {"Authorization": ["{env.HTTP_ORIGIN_UNSET}"]}`:        "HTTP_ORIGIN_UNSET",
		`, "header_up": {"Authorization": ["{file./nowhere/s3}"]}`:             "/nowhere/s3",
		`, "transport": {"protocol": "nonsense"}`:                              "nonsense",
		`, "transport": {"protocol": "http", "proxy_protocol": "v1"}`:          "proxy_protocol",
		`, "transport": {"protocol": "http", "versions": ["0.9"]}`:             "0.9",
		`, "transport": {"protocol": "http", "tls": {"server_name": "{x.y}"}}`: "server name",
	} {
		_, cleanup, err := tryHTTP(settings, "http://a.example")
		cleanup()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", settings, err)
		}
	}
}

// TestHTTPTransport checks that each upstream has a transport of its own, as it is
// configured, with HTTP/2 and guarded.
func TestHTTPTransport(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName) }
	var urls []string
	var roots []string
	for range 2 {
		s := httptest.NewUnstartedServer(http.HandlerFunc(answer))
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		urls = append(urls, s.URL)
		roots = append(roots, `"`+base64.StdEncoding.EncodeToString(s.Certificate().Raw)+`"`)
	}
	t.Setenv("HTTP_ORIGIN_NAME", "example.com")
	tls := `, "transport": {"protocol": "http"%s, "tls": {"server_name": %q, "ca": {"provider": "inline", "trusted_ca_certs": [` + strings.Join(roots, ",") + `]}}}`
	for _, row := range []struct{ name, settings, want string }{
		{"untrusted", "", ""},
		{"trusted", fmt.Sprintf(tls, "", ""), "HTTP/2.0 "},
		{"a server name", fmt.Sprintf(tls, "", "{env.HTTP_ORIGIN_NAME}"), "HTTP/2.0 example.com"},
		{"HTTP/1.1", fmt.Sprintf(tls, `, "versions": ["1.1"]`, ""), "HTTP/1.1 "},
	} {
		h, _ := loadHTTP(t, row.settings, urls...)
		for skip := range urls {
			_, body, err := readHTTP(t, h, Request{Name: "x", Skip: skip})
			if body != row.want || (err == nil) != (row.want != "") {
				t.Errorf("%s: %q, %v", row.name, body, err)
			}
		}
	}

	// The rules for private addresses hold: that which the name of a redirect has is seen.
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	h := &HTTP{TransportRaw: json.RawMessage(`{"protocol": "http", "dial_timeout": "1s"}`)}
	rt, err := h.loadTransport(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rt.(*http.Transport).DialContext(t.Context(), "tcp", strings.TrimPrefix(urls[0], "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if name := fmt.Sprintf("%T", conn); name != "*upstream.orderedConn" {
		t.Errorf("connections are %s", name)
	}
	if tr := rt.(*http.Transport); !tr.DisableCompression || tr.MaxResponseHeaderBytes == 0 || tr.TLSHandshakeTimeout == 0 || tr.HTTP2.SendPingTimeout == 0 {
		t.Errorf("%+v", tr)
	}
}

// TestHTTPLimitRequests checks that no more requests are under way than may be, that others
// wait in order, and that who waits too long is told so.
func TestHTTPLimitRequests(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	goOn := make(chan struct{})
	url := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		w.(http.Flusher).Flush()
		select {
		case <-goOn:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, digits)
	})
	h, cleanup := loadHTTP(t, `, "limit": {"requests": 2}, "header_timeout": "300ms"`, url)
	var under [2]Reply
	for i := range under {
		var err error
		if under[i], err = h.Fetch(t.Context(), Request{Name: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	// A reload gives nobody more.
	h, _ = loadHTTP(t, `, "limit": {"requests": 2}, "header_timeout": "300ms"`, url)
	cleanup()
	start := time.Now()
	_, err := h.Fetch(t.Context(), Request{Name: "x"})
	if took := time.Since(start); !errors.Is(err, ErrBusy) || took < 200*time.Millisecond {
		t.Errorf("%v after %v", err, took)
	}
	if st := h.Status(); st.Busy != 1 || st.Errors != 0 || st.State != "up" {
		t.Errorf("%+v", st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Fetch(ctx, Request{Name: "x"}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	under[0].Close() // as one that was read to its end
	under[0].Close()
	close(goOn)
	if body, err := io.ReadAll(under[1].Body); err != nil || string(body) != digits {
		t.Error(string(body), err)
	}
	// Nobody has closed the second yet, and it takes no place any more.
	for i := range under {
		var err error
		if under[i], err = h.Fetch(t.Context(), Request{Name: "x"}); err != nil {
			t.Fatal(err)
		}
		defer under[i].Close()
	}
	for i := range under {
		under[i].Close()
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, body, err := readHTTP(t, h, Request{Name: "x"}); err != nil || body != digits {
				t.Error(body, err)
			}
		})
	}
	all.Wait()
	if most.Load() > 3 { // that which was closed may not have seen it yet
		t.Errorf("%d requests at once", most.Load())
	}
}

// TestHTTPLimitBandwidth checks that all bodies of an origin together come as fast as they
// may, and that closing one ends its waiting.
func TestHTTPLimitBandwidth(t *testing.T) {
	t.Parallel()
	const size = 100_000
	url := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) })
	h, _ := loadHTTP(t, `, "limit": {"bandwidth": 400000}`, url)
	start := time.Now()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, body, err := readHTTP(t, h, Request{Name: "x"}); err != nil || len(body) != size {
				t.Error(len(body), err)
			}
		})
	}
	all.Wait()
	if took := time.Since(start); took < 600*time.Millisecond || took > 5*time.Second {
		t.Errorf("%v for %d bytes", took, 3*size)
	}

	slow, _ := loadHTTP(t, `, "limit": {"bandwidth": 1000}`, url)
	reply, err := slow.Fetch(t.Context(), Request{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { reply.Close() })
	start = time.Now()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, reply.Body, make([]byte, minBurst)) // each takes 4 s
	if took := time.Since(start); !errors.Is(err, context.Canceled) || took > 3*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	if st := slow.Status(); st.Errors != 0 {
		t.Errorf("%+v", st)
	}
}

// TestHTTPHealth checks that health checks are made if asked for.
func TestHTTPHealth(t *testing.T) {
	t.Parallel()
	url := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/-/ping" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		file(w, r)
	})
	h, _ := loadHTTP(t, `, "health_uri": "/-/ping", "health_interval": "20ms"`, url)
	if _, body, err := readHTTP(t, h, Request{Name: "x"}); err != nil || body != digits {
		t.Error(body, err)
	}
	for range 200 {
		if h.Status().State == "away" {
			if _, _, err := readHTTP(t, h, Request{Name: "x"}); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "status 500") {
				t.Error(err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it is still up")
}

// TestHTTPLoops checks that only the origin that a request came from takes it for its own.
func TestHTTPLoops(t *testing.T) {
	t.Parallel()
	var via atomic.Value
	a, _ := loadHTTP(t, "", serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		via.Store(r.Header["Via"])
		file(w, r)
	}))
	b, _ := loadHTTP(t, "", "http://b.example")
	again, _ := loadHTTP(t, "", a.String())
	if _, _, err := readHTTP(t, a, Request{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	sent := via.Load().([]string)
	if !a.Looped(sent) || !again.Looped(sent) || b.Looped(sent) || a.Looped(nil) {
		t.Errorf("%q", sent)
	}
	if name := a.pseudonym; strings.Contains(name, "127.0.0.1") {
		t.Error(name)
	}
}
