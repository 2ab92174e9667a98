package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) string { return noon.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		status int
		values []string
		date   string
		want   time.Duration
	}{
		{429, nil, "", defaultPause},
		{429, []string{"x"}, "", defaultPause},
		{429, []string{"0"}, "", 0},
		{429, []string{" 7 "}, "", 7 * time.Second},
		{429, []string{"-7"}, "", defaultPause},
		{429, []string{"1.5"}, "", defaultPause},
		{429, []string{"99999999999999999999"}, "", maxPause},
		{429, []string{"3601"}, "", maxPause},
		{429, []string{"5", "7", "6"}, "", 7 * time.Second},
		{503, nil, "", 0},
		{503, []string{"7"}, "", 7 * time.Second},
		{503, []string{at(time.Minute)}, "", time.Minute},
		{503, []string{at(-time.Minute)}, "", 0},
		{503, []string{at(20 * 365 * 24 * time.Hour)}, "", maxPause},
		{503, []string{"Saturday, 28-Nov-26 12:01:00 GMT"}, "", time.Minute},
		{503, []string{"Sat Nov 28 12:01:00 2026"}, "", time.Minute},
		{503, []string{at(time.Hour + time.Minute)}, at(time.Hour), time.Minute}, // its clock is an hour ahead
		{200, []string{"7"}, "", 0},
		{500, []string{"7"}, "", 0},
	} {
		h := http.Header{"Retry-After": c.values}
		if c.date != "" {
			h.Set("Date", c.date)
		}
		if got := RetryAfter(c.status, h, noon); got != c.want {
			t.Errorf("%d %q: %v, want %v", c.status, c.values, got, c.want)
		}
	}
}

// TestBusy checks that an upstream that asks for a pause gets one.
func TestBusy(t *testing.T) {
	t.Parallel()
	s := serve(t, func(x *exchange) bool {
		if x.n == 1 {
			return x.send("HTTP/1.1 429 Too Many Requests\nRetry-After: 1\nContent-Length: 4\n\nlate") == nil
		}
		return x.send(ok10+ten) == nil
	})
	u := use(t, Config{URL: s.url()})
	if !u.NotBefore().IsZero() {
		t.Error(u.NotBefore())
	}
	resp, body, err := get(t, u, Request{Target: "/"})
	if err != nil || resp.Status != 429 || body != "late" || resp.NotBefore != u.NotBefore() {
		t.Fatalf("%+v, %q, %v", resp, body, err)
	}
	for range 100 {
		_, _, err := get(t, u, Request{Target: "/"})
		var busy *BusyError
		if classOf(t, err) != ErrBusy || !errors.As(err, &busy) || busy.Until != u.NotBefore() {
			t.Fatal(err)
		}
	}
	if n := s.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	time.Sleep(time.Until(u.NotBefore()))
	if _, body, err := get(t, u, Request{Target: "/"}); err != nil || body != ten {
		t.Error(body, err)
	}
}

func TestPausesAreBounded(t *testing.T) {
	t.Parallel()
	var p pauses
	for i := range 10 * maxHosts {
		p.set(fmt.Sprint(i), noon.Add(time.Minute), noon)
	}
	if len(p.until) != maxHosts {
		t.Error(len(p.until))
	}
	p.set("0", noon.Add(time.Second), noon) // never sooner
	if !p.get("0").Equal(noon.Add(time.Minute)) {
		t.Error(p.get("0"))
	}
	p.set("new", noon.Add(time.Hour), noon.Add(2*time.Minute))
	if len(p.until) != 1 {
		t.Error(p.until)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "1", "-1", "1e3", "99999999999999999999", "Sat, 28 Nov 2026 12:00:00 GMT", "Sat Nov 28 12:01:00 2026"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		h := http.Header{"Retry-After": {value}, "Date": {date}}
		if d := RetryAfter(429, h, noon); d < 0 || d > maxPause {
			t.Errorf("%q: %v", value, d)
		}
	})
}

func FuzzSpan(f *testing.F) {
	f.Add("bytes 4-9/10", int64(6), int64(4), int64(0), 206)
	f.Add("bytes 0-9/10", int64(10), int64(0), int64(0), 200)
	f.Add("bytes */10", int64(0), int64(4), int64(9223372036854775807), 416)
	f.Add("bytes 9223372036854775806-9223372036854775807/*", int64(-1), int64(-5), int64(0), 206)
	f.Fuzz(func(t *testing.T, value string, length, offset, want int64, status int) {
		r := Request{Target: "/", Offset: offset, Length: want}
		if !r.valid() {
			return
		}
		resp := &http.Response{
			StatusCode: status, ContentLength: max(length, -1), Header: http.Header{"Content-Range": {value}},
			Request: &http.Request{Method: http.MethodGet},
		}
		s, err := spanOf(r, resp)
		if err != nil {
			return
		}
		if s.start < 0 || s.end >= 0 && s.start > s.end || s.size >= 0 && s.end > s.size && status != 416 {
			t.Errorf("%+v of %q", s, value)
		}
		if status == 206 && (offset >= 0 && s.start != offset || s.end <= s.start) {
			t.Errorf("%+v of %q for %+v", s, value, r)
		}
	})
}

func FuzzVia(f *testing.F) {
	f.Add("1.1 a (b, c), 1.1 me")
	f.Add(`\`)
	f.Fuzz(func(t *testing.T, line string) {
		Looped([]string{line}, "me")
		if len(line) < maxVia && !Looped([]string{via([]string{line}, "me")}, "me") {
			t.Errorf("%q hides a loop", line)
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/a%2Fb", "//a", "/a|b?c", "/..", "/%2e%2e"} {
		f.Add(s)
	}
	u, err := New(Config{URL: "http://a/b"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		to, ok := resolve(u.base, target)
		if ok && (to.RequestURI() != "/b"+target || to.Host != "a") {
			t.Errorf("%q becomes %q", target, to.RequestURI())
		}
	})
}
