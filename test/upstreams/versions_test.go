package upstreams

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// trust are the options of a mount whose upstream has this certificate.
func trust(cert faulty.Certificate) string {
	return "transport http {;\ttls_trust_pool file " + cert.CertFile + ";}"
}

// secureSite is a site that is served over TLS, too, at addr.
func secureSite(cache, addr string, cert faulty.Certificate, mounts ...string) string {
	config := strings.Replace(site(cache, mounts...), "{\n", "{\n\tauto_https disable_redirects\n", 1)
	_, block, _ := strings.Cut(config, "http://{$ADDR} {\n")
	return config + fmt.Sprintf("https://%s {\n\ttls %s %s\n%s", addr, cert.CertFile, cert.KeyFile, block)
}

// fronts are all versions of HTTP that clients speak with the mirror.
func fronts(t *testing.T, srv *testcaddy.Server, addr string, cert faulty.Certificate) []front {
	config := func(protos ...string) *tls.Config {
		return &tls.Config{RootCAs: cert.Pool, MinVersion: tls.VersionTLS12, NextProtos: protos}
	}
	h3 := &http3.Transport{TLSClientConfig: config("h3")}
	t.Cleanup(func() { h3.Close() })
	return []front{
		plain(srv),
		{"HTTP/1.1 over TLS", "HTTP/1.1", "https://" + addr, &http.Transport{TLSClientConfig: config("http/1.1"), MaxIdleConnsPerHost: 64}},
		{"HTTP/2", "HTTP/2.0", "https://" + addr, &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: config("h2")}},
		{"HTTP/3", "HTTP/3.0", "https://" + addr, h3},
	}
}

// TestVersions has 200 clients over each version of HTTP fetch 50 objects that are not
// cached, from an upstream over each version: each object is asked for once.
func TestVersions(t *testing.T) {
	const size, objects = 50_000, 50
	cert := faulty.NewCertificate(t)
	c := newContents(t, size)
	h2 := newContentsHTTP2(t, size, cert)
	tree := t.TempDir()
	for n := range objects {
		name := fmt.Sprintf("object%d", n)
		if err := os.WriteFile(filepath.Join(tree, name), content(name, 1, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	backdate(t, tree)
	nginx := startNginxTLS(t, tree, cert)
	open, sealed := faulty.Start(t, c.URL), faulty.Start(t, c.URL, faulty.TLS(cert.Certificate))
	backs := []struct {
		name, url, options string
		count              func(target string) int
		forget             func()
	}{
		{"HTTP/1.1", open.URL, "", open.Count, open.Forget},
		{"HTTP/1.1 over TLS", sealed.URL, trust(cert), sealed.Count, sealed.Forget},
		{"HTTP/2", h2.URL, trust(cert), h2.count, h2.forget},
		{"nginx, HTTP/2", nginx.url, trust(cert), func(string) int { return 1 }, func() {}}, // it does not count
	}
	var mounts []string
	for i, b := range backs {
		mounts = append(mounts, mount(fmt.Sprintf("/%d", i), b.url, "ttl 1h;"+b.options))
	}
	addr := testcaddy.FreeAddr(t)
	srv := startMirror(t, secureSite("path "+t.TempDir(), addr, cert, mounts...))
	for _, f := range fronts(t, srv, addr, cert) {
		for i, b := range backs {
			t.Run(f.name+" in front, "+b.name+" behind", func(t *testing.T) {
				if _, err := srv.Purge(fmt.Sprintf("/%d", i), "", "/"); err != nil {
					t.Fatal(err)
				}
				b.forget()
				crowd(t, f, fmt.Sprintf("/%d", i), 200, objects, size)
				for n := range objects {
					if asked := b.count(fmt.Sprintf("/object%d", n)); asked != 1 {
						t.Errorf("object %d was asked for %d times, want once", n, asked)
					}
				}
			})
		}
	}
	if got := h2.protos(); len(got) != 1 || got[0] != "HTTP/2.0" {
		t.Errorf("the upstream that speaks HTTP/2 was asked over %v", got)
	}
}

// TestHTTP2Faults is the table of what upstreams do wrong over HTTP/2.
func TestHTTP2Faults(t *testing.T) {
	t.Parallel()
	cert := faulty.NewCertificate(t)
	body := content("h2", 1, 40_000)
	var mounts []string
	var ups []*faulty.HTTP2
	for i := range http2Table {
		u := faulty.StartHTTP2(t, cert.Certificate, body)
		ups = append(ups, u)
		for _, kind := range []string{"cold;ttl 1h", "stale;ttl 1ms"} {
			prefix, ttl, _ := strings.Cut(kind, ";")
			mounts = append(mounts, mount(fmt.Sprintf("/%s/%d", prefix, i), u.URL, deadlines+";"+ttl+";"+trust(cert)))
		}
	}
	srv := startMirror(t, site("path "+t.TempDir(), mounts...))
	for i, row := range http2Table {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := &rowRun{faultRow: faultRow{name: row.name}}
			ups[i].Set(row.fault)
			cold := ask(srv, http.MethodGet, fmt.Sprintf("/cold/%d/object", i))
			r.judge("cold", cold, row.cold, body, nil, row.within)
			ups[i].Set(faulty.StreamStatus(http.StatusServiceUnavailable))
			again := ask(srv, http.MethodGet, fmt.Sprintf("/cold/%d/object", i))
			if stored := row.cold == current && !row.unstored; stored != (again.status() == http.StatusOK) {
				t.Errorf("cold, again: %v, stored: %v", again, stored)
			}

			ups[i].Set(faulty.Answered)
			path := fmt.Sprintf("/stale/%d/object", i)
			// The breaker may be open.
			for try := 0; ; try++ {
				if got := ask(srv, http.MethodGet, path); r.isCurrent(got, body) {
					break
				} else if try == 50 {
					t.Fatalf("to begin with: %v", got)
				}
				pause()
			}
			pause()
			ups[i].Set(row.fault)
			if got := ask(srv, http.MethodGet, path); !r.isCurrent(got, body) && !r.isBroken(got, body) || row.headerOnly && !r.isCurrent(got, body) {
				t.Errorf("stale: %v", got)
			}
			ups[i].Set(faulty.StreamStatus(http.StatusServiceUnavailable))
			if got := ask(srv, http.MethodGet, path); !r.isCurrent(got, body) {
				t.Errorf("stale, again: %v", got)
			}
			for _, e := range r.errs {
				t.Error(e)
			}
		})
	}
}

// http2Table has the faults over HTTP/2. The upstream has one version only.
var http2Table = []struct {
	name       string
	fault      faulty.StreamFault
	cold       outcome
	within     time.Duration
	headerOnly bool // it never comes to a body: an entry answers
	unstored   bool // what is current is not stored, for it may be less than all
}{
	{"honest", faulty.Answered, current, atOnce, true, false},
	{"stream reset", faulty.StreamReset(http2.ErrCodeInternal), broken, atOnce, true, false},
	{"stream refused", faulty.StreamReset(http2.ErrCodeRefusedStream), broken, headerTime, true, false},
	{"stream reset in the body", faulty.StreamResetAt(20_000, http2.ErrCodeInternal), broken, 4 * time.Second, false, false},
	{"stream reset after the body", faulty.StreamResetAt(40_000, http2.ErrCodeInternal), current, 4 * time.Second, false, false},
	{"GOAWAY", faulty.GoAway, broken, headerTime, true, false},
	{"GOAWAY in the body", faulty.GoAwayAt(20_000, http2.ErrCodeInternal), broken, 4 * time.Second, false, false},
	{"GOAWAY in the body, and the rest", faulty.GoAwayKindly, current, atOnce, true, false},
	{"a stream that ends early", faulty.EndEarly(20_000), broken, 4 * time.Second, false, false},
	{"a stream that ends late", faulty.EndLate(10), current, 4 * time.Second, false, true},
	{"100 MB of header", faulty.StreamHugeHeader(100 << 20), broken, headerTime, true, false},
	{"flood of 1xx", faulty.StreamInformational(1_000_000), broken, headerTime, true, false},
	{"some 1xx", faulty.StreamInformational(3), current, atOnce, true, false},
	{"trailers", faulty.StreamTrailers, current, atOnce, true, false},
	{"silent", faulty.StreamSilent, broken, headerTime, true, false},
}
