package faulty

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

var text = strings.Repeat("0123456789", 1000)

// honest is the upstream behind the faults.
func honest(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Cache-Control", "max-age=60")
		http.ServeContent(w, r, "x.bin", time.Now().Add(-time.Hour), strings.NewReader(text))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// seen is what a client saw.
type seen struct {
	*http.Response
	body string
	err  error // of the request or of the body
}

func get(t *testing.T, c *http.Client, url string) seen {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return seen{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return seen{resp, string(body), err}
}

// TestFaults shows that each fault does what its name says, to Go's own client.
func TestFaults(t *testing.T) {
	t.Parallel()
	upstream := honest(t)
	const whole = -1
	for _, row := range []struct {
		name   string
		fault  Fault
		err    string // a part of the error's text, "": none
		status int    // 0: no answer
		bytes  int    // of the body
		check  func(s seen) bool
	}{
		{name: "honest", fault: Honest, status: 200, bytes: whole},
		{name: "silent", fault: Silent, err: "deadline"},
		{name: "close", fault: Close, err: "EOF"},
		{name: "reset before", fault: ResetBefore, err: "reset"},
		{name: "reset in header", fault: ResetInHeader, err: "broken"},
		{name: "slow header", fault: SlowHeader(200 * time.Millisecond), status: 200, bytes: whole},
		{name: "too slow header", fault: SlowHeader(5 * time.Second), err: "deadline"},
		{name: "trickled header", fault: TrickledHeader(10 * time.Millisecond), err: "deadline"},
		{name: "stall", fault: Stall(10), err: "deadline", status: 200, bytes: 10},
		{name: "trickle", fault: Trickle(10, time.Second), err: "deadline", status: 200, bytes: 10},
		{name: "slow", fault: Slow(5000, 50*time.Millisecond), status: 200, bytes: whole},
		{name: "reset in body", fault: ResetAt(4000), err: "reset", status: 200, bytes: 4000},
		{name: "too short", fault: TooShort(5), err: "unexpected EOF", status: 200, bytes: whole},
		{name: "too long", fault: TooLong(5), status: 200, bytes: whole},
		{name: "two lengths", fault: TwoLengths, err: "Content-Length"},
		{name: "until", fault: Until(7), status: 200, bytes: 7},
		{name: "cut chunks", fault: CutChunks, err: "unexpected EOF", status: 200, bytes: 5000},
		{name: "cut chunk", fault: CutChunk, err: "unexpected EOF", status: 200, bytes: 5000},
		{name: "no last chunk", fault: NoLastChunk, err: "unexpected EOF", status: 200, bytes: whole},
		{name: "bad chunk", fault: BadChunk, err: "invalid byte in chunk length", status: 200, bytes: 5000},
		{name: "trailers", fault: Trailers, status: 200, bytes: whole, check: func(s seen) bool {
			return s.Header.Get("ETag") == `"v1"` && s.Trailer.Get("ETag") == `"trailer"`
		}},
		{name: "endless chunks", fault: EndlessChunks(8 << 20), status: 200, bytes: 4 << 20},
		{name: "huge header", fault: HugeHeader(32 << 20), err: "exceeded"},
		{name: "long line", fault: LongLine(32 << 20), err: "exceeded"},
		{name: "some 1xx", fault: Informational(3), status: 200, bytes: whole},
		{name: "a huge header that is taken", fault: HugeHeader(1 << 20), status: 200, bytes: whole},
		{name: "not HTTP", fault: NotHTTP, err: "malformed"},
		{name: "status", fault: Status(429, "Retry-After: 7"), status: 429, bytes: 18, check: func(s seen) bool {
			return s.Header.Get("Retry-After") == "7"
		}},
		{name: "redirect", fault: Redirect("/%d"), err: "redirects"},
		{name: "redirect on", fault: RedirectOn, err: "redirects"},
		{name: "fields", fault: Fields("Vary: *", "ETag:"), status: 200, bytes: whole, check: func(s seen) bool {
			return s.Header.Get("Vary") == "*" && s.Header.Get("ETag") == ""
		}},
		{name: "dates", fault: Dates(-40 * 365 * 24 * time.Hour), status: 200, bytes: whole, check: func(s seen) bool {
			d, err := http.ParseTime(s.Header.Get("Date"))
			return err == nil && time.Since(d) > 39*365*24*time.Hour
		}},
		{name: "part", fault: Part("bytes 5-9/20"), status: 206, bytes: whole},
		{name: "first", fault: First(1, Status(503), Honest), status: 503, bytes: 18},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, upstream)
			s.Set(row.fault)
			transport := &http.Transport{DisableCompression: true}
			defer transport.CloseIdleConnections()
			got := get(t, &http.Client{Transport: transport}, s.URL+"/x")
			want := row.bytes
			if want == whole {
				want = len(text)
			}
			switch {
			case row.err == "" && got.err != nil, row.err != "" && (got.err == nil || !strings.Contains(got.err.Error(), row.err)):
				t.Errorf("error %v, want %q", got.err, row.err)
			case row.status == 0:
				if got.Response != nil {
					t.Errorf("status %d, want none", got.StatusCode)
				}
			case got.StatusCode != row.status || len(got.body) != want:
				t.Errorf("status %d with %d bytes, want %d with %d", got.StatusCode, len(got.body), row.status, want)
			case row.check != nil && !row.check(got):
				t.Errorf("%v, trailer %v", got.Header, got.Trailer)
			}
			if s.Count("/x") == 0 && row.name != "redirect on" {
				t.Error("no request was noted")
			}
		})
	}
}

// TestInformational counts responses with status 103 as a client sees them.
func TestInformational(t *testing.T) {
	t.Parallel()
	s := Start(t, honest(t))
	s.Set(Informational(1000))
	came := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		came++
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK || came != 1000 {
		t.Errorf("%v, %v, %d times 103", resp, err, came)
	}
}

func TestBomb(t *testing.T) {
	t.Parallel()
	s := Start(t, "")
	s.Set(Bomb(256 << 20))
	got := get(t, &http.Client{Transport: &http.Transport{DisableCompression: true}}, s.URL+"/x")
	if got.err != nil || len(got.body) > 1<<20 {
		t.Fatalf("%d bytes, %v", len(got.body), got.err)
	}
	z, err := gzip.NewReader(strings.NewReader(got.body))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, z); n != 256<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestSwitch shows that faults are chosen by path and can be changed, that connections are
// refused and taken again, and that requests are noted.
func TestSwitch(t *testing.T) {
	t.Parallel()
	s := Start(t, honest(t))
	s.SetPath("/bad", Status(500))
	s.SetPath("/bad/good", Honest)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]int{"/x": 200, "/bad?q=%2F": 500, "/bad/good": 200} {
		if got := get(t, c, s.URL+path); got.err != nil || got.StatusCode != want {
			t.Errorf("%s: %+v, want %d", path, got, want)
		}
		if n := s.Count(path); n != 1 {
			t.Errorf("%s: %d requests", path, n)
		}
	}
	s.SetPath("/bad", nil)
	if got := get(t, c, s.URL+"/bad"); got.err != nil || got.StatusCode != http.StatusOK {
		t.Errorf("%+v", got)
	}
	s.Refuse()
	if got := get(t, c, s.URL+"/x"); got.err == nil || !strings.Contains(got.err.Error(), "refused") {
		t.Errorf("%+v", got)
	}
	s.Accept()
	if got := get(t, c, s.URL+"/x"); got.err != nil {
		t.Error(got.err)
	}
	if n := s.Count(""); n != 5 {
		t.Errorf("%d requests", n)
	}
	s.Forget()
	if n := len(s.Seen()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestHTTP2Faults is TestFaults over HTTP/2 and TLS.
func TestHTTP2Faults(t *testing.T) {
	t.Parallel()
	cert := NewCertificate(t)
	body := []byte(text)
	for _, row := range []struct {
		name   string
		fault  StreamFault
		err    string
		status int
		bytes  int
		asked  int // 0: once
	}{
		{"honest", Answered, "", 200, len(body), 0},
		{"reset", StreamReset(http2.ErrCodeInternal), "INTERNAL_ERROR", 0, 0, 0},
		{"refused stream", StreamReset(http2.ErrCodeRefusedStream), "", 0, 0, -1},
		{"reset in body", StreamResetAt(4000, http2.ErrCodeCancel), "CANCEL", 200, 4000, 0},
		{"go away", GoAway, "", 0, 0, -1},
		{"go away in body", GoAwayAt(4000, http2.ErrCodeInternal), "GOAWAY", 200, 4000, 0},
		{"go away, kindly", GoAwayKindly, "", 200, len(body), 0},
		{"end early", EndEarly(4000), "unexpected EOF", 200, 4000, 0},
		{"end late", EndLate(10), "more than declared", 200, -1, 0},
		{"some 1xx", StreamInformational(5), "", 200, len(body), 0},
		{"trailers", StreamTrailers, "", 200, len(body), 0},
		{"huge header", StreamHugeHeader(16 << 20), "", 0, 0, -1},
		{"silent", StreamSilent, "deadline", 0, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := StartHTTP2(t, cert.Certificate, body)
			s.Set(row.fault)
			transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: cert.Pool, MinVersion: tls.VersionTLS12}}
			defer transport.CloseIdleConnections()
			got := get(t, &http.Client{Transport: transport}, s.URL+"/x")
			if wrong := row.err != "" || row.status == 0; wrong != (got.err != nil) || wrong && !strings.Contains(got.err.Error(), row.err) {
				t.Errorf("error %v, want %q", got.err, row.err)
			}
			switch {
			case row.status == 0 && got.Response != nil, row.status != 0 && (got.Response == nil || got.StatusCode != row.status):
				t.Errorf("%+v, want status %d", got.Response, row.status)
			case row.bytes >= 0 && len(got.body) != row.bytes:
				t.Errorf("%d bytes, want %d", len(got.body), row.bytes)
			}
			if n := s.Count("/x"); row.asked == 0 && n != 1 || n == 0 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestLeaves shows that a client that leaves is noticed, and nothing is left over.
func TestLeaves(t *testing.T) {
	t.Parallel()
	s := Start(t, "")
	s.Set(Silent)
	for range 3 {
		if got := get(t, &http.Client{Transport: &http.Transport{}}, s.URL+"/x"); !errors.Is(got.err, context.DeadlineExceeded) {
			t.Error(got.err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); s.Open() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(fmt.Sprint(s.Open(), " connections are open"))
		}
	}
}
