package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestWire checks what goes out, byte for byte.
func TestWire(t *testing.T) {
	t.Parallel()
	s := serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	u := use(t, Config{URL: s.url() + "/base%2Fdir/", Pseudonym: "mirror.example.org", UserAgent: "agent/1", Header: http.Header{
		"Authorization": {"Bearer s3cret"}, "x-key": {"k"}, "Host": {"other.example.org"},
	}})
	if _, _, err := get(t, u, Request{
		Target: "/@scope%2fpkg/-/a%253ab+c?q=%2F+x", Accept: "application/json", AcceptEncoding: "gzip",
		Conditions: http.Header{"If-None-Match": {`"a", W/"b"`}, "If-Modified-Since": {"Sat, 28 Nov 2026 03:00:00 GMT"}, "Cookie": {"c"}},
		Offset:     4, Only: `"v1"`, Refresh: true, Via: []string{"1.1 first (a, b)", "2 second"},
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"GET /base%2Fdir/@scope%2fpkg/-/a%253ab+c?q=%2F+x HTTP/1.1",
		"Host: other.example.org",
		"User-Agent: agent/1",
		"Accept: application/json",
		"Accept-Encoding: gzip",
		"Authorization: Bearer s3cret",
		"Cache-Control: no-cache",
		"If-Modified-Since: Sat, 28 Nov 2026 03:00:00 GMT",
		`If-None-Match: "a", W/"b"`,
		`If-Range: "v1"`,
		"Pragma: no-cache",
		"Range: bytes=4-",
		"Via: 1.1 first (a, b), 2 second, 1.1 mirror.example.org",
		"X-Key: k",
	}
	if got := s.heads()[0]; got != strings.Join(want, "\r\n")+"\r\n" {
		t.Errorf("sent\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}

	u = use(t, Config{URL: s.url()})
	if _, _, err := get(t, u, Request{Target: "/"}); err != nil {
		t.Fatal(err)
	}
	if got, want := s.heads()[1], "GET / HTTP/1.1\r\nHost: "+s.Addr().String()+
		"\r\nUser-Agent: caddymirror\r\nAccept-Encoding: identity\r\nVia: 1.1 caddymirror\r\n"; got != want {
		t.Errorf("sent\n%s\nwant\n%s", got, want)
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	s := serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	u := use(t, Config{URL: s.url()})
	for _, target := range []string{
		"/", "/a/", "//a//b", "/a%2Fb", "/a%2fb", "/%253a", "/a+b", "/a%20b", "/a?", "/a?b?c", "/a?b=%2F+%zz", "/a|b", `/a"b`, "/a^{}`",
		"/\xff", "/é", "/%C3%A9", "/a/./b", "/a/...", "/a;b=c", "/a:b@c", "/a/%2e", "/*", "/a=b&c",
	} {
		if _, _, err := get(t, u, Request{Target: target}); err != nil {
			t.Errorf("%q: %v", target, err)
			continue
		}
		heads := s.heads()
		if line, _, _ := strings.Cut(heads[len(heads)-1], "\r\n"); line != "GET "+target+" HTTP/1.1" {
			t.Errorf("%q went out as %q", target, line)
		}
	}
	before := len(s.heads())
	for _, target := range []string{
		"", "a", "?a", "http://other/", "/a b", "/a\r\nX: y", "/a\x00", "/a\x7f", "/a#b", "/..", "/../a", "/a/../b", "/a/%2e%2E/b",
		"/a%2f..%2fb", `/a/..\b`, "/a/..;x/b", "/%zz", "/a%", "/a%2",
	} {
		if _, _, err := get(t, u, Request{Target: target}); classOf(t, err) != ErrTarget {
			t.Errorf("%q: %v", target, err)
		}
	}
	for _, r := range []Request{
		{Target: "/", Offset: 1, Length: -1},
		{Target: "/", Offset: -1, Length: 1},
		{Target: "/", Offset: 1 << 62, Length: 1 << 62},
		{Target: "/", Accept: "a\r\nb: c"},
		{Target: "/", Only: "\n"},
		{Target: "/", Only: `W/"v1"`},
		{Target: "/", Via: []string{"\n"}},
		{Target: "/", Conditions: http.Header{"If-None-Match": {"\n"}}},
	} {
		if _, _, err := get(t, u, r); classOf(t, err) != ErrTarget {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if len(s.heads()) != before {
		t.Error("some went out:", s.heads()[before:])
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	s := serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	u := use(t, Config{URL: s.url()})
	for _, c := range []struct {
		r    Request
		want string
	}{
		{Request{}, ""},
		{Request{Offset: 1}, "bytes=1-"},
		{Request{Offset: 1, Length: 1}, "bytes=1-1"},
		{Request{Length: 7}, "bytes=0-6"},
		{Request{Offset: -8}, "bytes=-8"},
		{Request{Offset: 1, Head: true}, ""},
	} {
		c.r.Target = "/"
		if _, _, err := get(t, u, c.r); err != nil {
			t.Fatal(err)
		}
		heads := s.heads()
		x := exchange{head: heads[len(heads)-1]}
		if got := x.field("Range"); got != c.want || x.field("If-Range") != "" {
			t.Errorf("%+v: Range %q, want %q", c.r, got, c.want)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{
		{},
		{URL: "ftp://a"},
		{URL: "http:a"},
		{URL: "http://"},
		{URL: "http://user:pass@a/"},
		{URL: "http://a/?b"},
		{URL: "http://a/#b"},
		{URL: "http://a:pass word"},
		{URL: "http://a", Pseudonym: "a b"},
		{URL: "http://a", Pseudonym: "a,b"},
		{URL: "http://a", Pseudonym: "a\n"},
		{URL: "http://a", Header: http.Header{"Range": {"bytes=0-"}}},
		{URL: "http://a", Header: http.Header{"if-match": {"*"}}},
		{URL: "http://a", Header: http.Header{"a b": {"c"}}},
		{URL: "http://a", Header: http.Header{"Authorization": {"s3cret\n"}}},
		{URL: "http://a", Follow: []string{""}},
		{URL: "http://a", Follow: []string{"http://b"}},
		{URL: "http://a", Follow: []string{"b/c"}},
		{URL: "http://a", Follow: []string{"*"}},
		{URL: "http://a", Follow: []string{"a.*.b"}},
	} {
		if _, err := New(c); err == nil || strings.Contains(err.Error(), "pass word") || strings.Contains(err.Error(), ":pass@") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []Config{
		{URL: "http://a"}, {URL: "https://a:1/b%2Fc"}, {URL: "http://[::1]:80/"}, {URL: "http://a", Follow: []string{"b", "b:80", "*.c.d", "[::1]:80"}},
	} {
		if u, err := New(c); err != nil || u.String() != c.URL {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestNetworkProxy checks that a proxy of the network is sent the URL as it was received.
func TestNetworkProxy(t *testing.T) {
	t.Parallel()
	s := serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	tr := NewTransport()
	tr.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(s.url()) }
	u := use(t, Config{URL: "http://public.example/base", Transport: tr})
	if _, body, err := get(t, u, Request{Target: "/@a%2fb+c?d=%2F"}); err != nil || body != ten {
		t.Fatal(body, err)
	}
	if head := s.heads()[0]; !strings.HasPrefix(head, "GET http://public.example/base/@a%2fb+c?d=%2F HTTP/1.1\r\n") {
		t.Error(head)
	}
}

// TestSecrets checks that no error shows the values of header fields, not even if the
// upstream echoes them.
func TestSecrets(t *testing.T) {
	t.Parallel()
	s := serve(t, func(x *exchange) bool { x.send("HTTP/%s\n\n", x.field("Authorization")); return false })
	u := use(t, Config{URL: s.url(), Header: http.Header{"Authorization": {"Bearer s3cret-s3cret"}, "X-Key": {"s3cret"}}})
	_, _, err := get(t, u, Request{Target: "/"})
	if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "[redacted]") {
		t.Error(err)
	}

	long := serve(t, func(x *exchange) bool { x.send("HTTP/%s\n\n", strings.Repeat("é", 5000)); return false })
	if _, _, err := get(t, use(t, Config{URL: long.url()}), Request{Target: "/"}); err == nil || len(err.Error()) > 400 {
		t.Error(err)
	}
}

func TestLooped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		via  []string
		want bool
	}{
		{nil, false},
		{[]string{"1.1 me"}, true},
		{[]string{"HTTP/1.1 ME (caddy)"}, true},
		{[]string{"1.1 other", "2 a (x, 1.1 b), 1.1 me"}, true},
		{[]string{"1.1 a (x, 1.1 me)"}, false},
		{[]string{`1.1 a (\), 1.1 me)`}, false},
		{[]string{"1.1 a (x, 1.1 me"}, true}, // no comment that ends
		{[]string{"1.1 me.example.org, 1.1 notme"}, false},
		{[]string{"me"}, false},
		{[]string{via([]string{"1.1 a"}, "me")}, true},
		{[]string{via([]string{strings.Repeat("x", 5000)}, "me")}, true},
	} {
		if got := Looped(c.via, "me"); got != c.want {
			t.Errorf("%q: %v", c.via, got)
		}
	}
}
