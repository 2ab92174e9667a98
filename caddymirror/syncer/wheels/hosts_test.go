package wheels

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestDoor: a build comes to the hosts that it may reach, by http and https, and to no other.
func TestDoor(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.URL, len(body))
	})
	plain, secure, other := httptest.NewServer(hello), httptest.NewTLSServer(hello), httptest.NewTLSServer(hello)
	defer plain.Close()
	defer secure.Close()
	defer other.Close()
	index, err := url.Parse(plain.URL + "/simple/")
	if err != nil {
		t.Fatal(err)
	}
	h := newHosts(index, []string{strings.TrimPrefix(secure.URL, "https://"), "127.0.0.2"})
	socket := filepath.Join(t.TempDir(), "s")
	var n atomic.Int64
	d, err := openDoor(t.Context(), socket, h, &n)
	if err != nil {
		t.Fatal(err)
	}
	transport := secure.Client().Transport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy"})
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	ask := func(u string) string {
		resp, err := client.Post(u, "text/plain", strings.NewReader(strings.Repeat("x", 100_000))) //nolint:noctx // it has a time limit
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	for u, want := range map[string]string{
		plain.URL + "/x?y=z":        "/x?y=z 100000",
		secure.URL + "/x":           "/x 100000",
		other.URL + "/x":            "Forbidden",
		"http://127.0.0.1:1/":       "see allow_hosts",
		"http://metadata.example/x": "builds may not reach metadata.example:80",
		"http://127.0.0.2:1/":       "refused",     // allowed, and not there
		"https://127.0.0.2:1/":      "Bad Gateway", // the same
	} {
		if got := ask(u); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", u, got, want)
		}
	}
	if want := []string{"127.0.0.1:1", strings.TrimPrefix(other.URL, "https://"), "metadata.example:80"}; !slices.Equal(d.turnedAway(), slices.Sorted(slices.Values(want))) {
		t.Errorf("turned away %q", d.turnedAway())
	}
	transport.CloseIdleConnections()
	d.close()
	if n.Load() == 0 {
		t.Error("no bytes are counted")
	}
	if got := ask(plain.URL); !strings.Contains(got, "no such file") && !strings.Contains(got, "refused") {
		t.Errorf("after its end: %q", got)
	}
}

func TestAllowURL(t *testing.T) {
	index, err := url.Parse("https://pypi.example.org/simple/")
	if err != nil {
		t.Fatal(err)
	}
	h := newHosts(index, []string{"Mirror.example.org"})
	for _, u := range []string{"git+https://git.example.org/x+y", "http://files.example.org/a:b", "ssh://s.example.org/x", "https://[2001:db8::1]:8443/x", "x"} {
		h.allowURL(u)
	}
	for at, want := range map[string]bool{
		"pypi.example.org:443": true, "PyPI.example.org:443": true, "pypi.example.org:22": false,
		"git.example.org:443": true, "files.example.org:80": true, "files.example.org:443": false, "s.example.org:22": true,
		"[2001:db8::1]:8443": true, "mirror.example.org:1": true, "example.org:443": false, "mirror.example.org": false, "": false,
	} {
		if h.allows(at) != want {
			t.Errorf("%q: %v", at, !want)
		}
	}
}
