package upstreams

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// slowly sends a body of 2 MiB in some four seconds.
var slowly = faulty.Slow(32<<10, 60*time.Millisecond)

const slowSize = 2 << 20

// TestFirstByte shows that the first bytes of a miss arrive as soon as they have come in.
func TestFirstByte(t *testing.T) {
	t.Parallel()
	between := faulty.Start(t, newContents(t, slowSize).URL)
	between.Set(slowly)
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", between.URL, "ttl 1h")))
	start := time.Now()
	resp, err := srv.Client.Get(srv.URL + "/x/object")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 16<<10)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 1500*time.Millisecond {
		t.Errorf("the first bytes took %v", took)
	}
	rest, err := io.ReadAll(resp.Body)
	want := content("object", 1, slowSize)
	if err != nil || !bytes.Equal(first, want[:len(first)]) || !bytes.Equal(rest, want[len(first):]) {
		t.Errorf("%d bytes, %v", len(first)+len(rest), err)
	}
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("all took %v: the upstream is not slow, this test shows nothing", took)
	}
}

// TestPartOfCold shows that the head of an object that is not cached, and parts of it, are
// answered without waiting for all of it: only for what comes within two seconds, which is
// one request less. The whole takes sixteen.
func TestPartOfCold(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	between := faulty.Start(t, newContents(t, size).URL)
	between.Set(func(x *faulty.Exchange) bool {
		if x.Request.Header.Get("Range") != "" {
			return faulty.Honest(x)
		}
		return slowly(x)
	})
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", between.URL, "ttl 1h")))
	head := ask(srv, http.MethodHead, "/x/head")
	if head.status() != http.StatusOK || head.ContentLength != size || head.took > atOnce+slack {
		t.Errorf("HEAD: %v", head)
	}
	for name, r := range map[string][2]int{"begin": {0, 999}, "middle": {1 << 20, 1<<20 + 99}, "end": {size - 100, size - 1}} {
		got := ask(srv, http.MethodGet, "/x/"+name, fmt.Sprintf("Range: bytes=%d-%d", r[0], r[1]))
		want := content(name, 1, size)[r[0] : r[1]+1]
		if got.status() != http.StatusPartialContent || !bytes.Equal(got.body, want) || got.took > atOnce+slack ||
			got.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", r[0], r[1], size) {
			t.Errorf("%s: %v, Content-Range %q", name, got, got.Header.Get("Content-Range"))
		}
	}
}

// TestLeaves shows that a client that leaves ends nothing: others get all of the object, and
// it is stored.
func TestLeaves(t *testing.T) {
	t.Parallel()
	between := faulty.Start(t, newContents(t, slowSize).URL)
	between.Set(slowly)
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", between.URL, "ttl 1h")))
	resp, err := srv.Client.Get(srv.URL + "/x/object")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 100_000); err != nil {
		t.Error(err)
	}
	other := make(chan reply)
	go func() { other <- ask(srv, http.MethodGet, "/x/object") }()
	time.Sleep(100 * time.Millisecond)
	resp.Body.Close()
	want := content("object", 1, slowSize)
	if got := <-other; got.err != nil || !bytes.Equal(got.body, want) {
		t.Errorf("the other: %v", got)
	}
	if got := ask(srv, http.MethodGet, "/x/object"); !got.cache().Hit || !bytes.Equal(got.body, want) {
		t.Errorf("afterwards: %v", got)
	}
	if n := between.Count(""); n != 1 {
		t.Errorf("%d requests to the upstream, want 1", n)
	}
}

// TestNextUpstream shows that the second upstream of a mount answers where the first is
// away or fails, and goes on with a body that has broken off there.
func TestNextUpstream(t *testing.T) {
	t.Parallel()
	c := newContents(t, objectSize)
	first, second := faulty.Start(t, c.URL), faulty.Start(t, c.URL)
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", first.URL+" "+second.URL, deadlines+";ttl 1h")))
	for i, row := range []struct {
		name  string
		fault faulty.Fault
		moved bool // the answer is the second upstream's
	}{
		{"honest", faulty.Honest, false},
		{"silent", faulty.Silent, true},
		{"closed", faulty.Close, true},
		{"reset in the header", faulty.ResetInHeader, true},
		{"500", faulty.Status(http.StatusInternalServerError), true},
		{"503", faulty.Status(http.StatusServiceUnavailable), true},
		{"reset in the body", faulty.ResetAt(5000), true},
		{"chunks that are cut", faulty.CutChunks, true},
		{"429", faulty.Status(http.StatusTooManyRequests, "Retry-After: 1"), true},
	} {
		first.Set(faulty.Honest)
		askedAgain(t, srv, first)
		first.Set(row.fault)
		first.Forget()
		second.Forget()
		name := fmt.Sprintf("object%d", i)
		path := "/x/" + name
		got := ask(srv, http.MethodGet, path)
		if got.status() != http.StatusOK || got.err != nil || !bytes.Equal(got.body, content(name, 1, objectSize)) {
			t.Errorf("%s: %v", row.name, got)
		}
		if again := ask(srv, http.MethodGet, path); !again.cache().Hit {
			t.Errorf("%s, again: %v, want a hit", row.name, again)
		}
		if moved := second.Count("") > 0; moved != row.moved {
			t.Errorf("%s: %d requests to the second upstream, %d to the first", row.name, second.Count(""), first.Count(""))
		}
	}
	// A 404 is an answer.
	first.Set(faulty.Honest)
	askedAgain(t, srv, first)
	first.Set(faulty.Status(http.StatusNotFound))
	second.Forget()
	if got := ask(srv, http.MethodGet, "/x/nowhere"); got.status() != http.StatusNotFound || second.Count("") > 0 {
		t.Errorf("%v, %d requests to the second upstream, want the 404 of the first", got, second.Count(""))
	}
}

// askedAgain waits until an upstream is asked for what is not cached: its breaker may be open
// still, or its pause not over.
func askedAgain(t *testing.T, srv *testcaddy.Server, u *faulty.Server) {
	t.Helper()
	for n := range 400 {
		name := fmt.Sprintf("/probe%d-%d", n, time.Now().UnixNano())
		ask(srv, http.MethodGet, "/x"+name)
		if u.Count(name) > 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the upstream is not asked any more")
}

// TestUnreachable shows that what cannot be connected to is 502 or 504, in time.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	sealed := faulty.Start(t, newContents(t, 1000).URL, faulty.TLS(faulty.NewCertificate(t).Certificate))
	open := faulty.Start(t, newContents(t, 1000).URL)
	mounts := []string{
		mount("/untrusted", sealed.URL, deadlines),
		mount("/name", "http://no-such-host.invalid", deadlines),
		mount("/protocol", "https://"+open.Addr, deadlines), // speaks no TLS
		mount("/mute", "http://"+blackHole(t), deadlines),
	}
	srv := startMirror(t, site("path "+t.TempDir(), mounts...))
	for _, path := range []string{"/untrusted/x", "/name/x", "/protocol/x", "/mute/x"} {
		got := ask(srv, http.MethodGet, path)
		if !slices.Contains([]int{http.StatusBadGateway, http.StatusGatewayTimeout}, got.status()) || got.took > headerTime+slack {
			t.Errorf("%s: %v, want 502 or 504", path, got)
		}
	}
	if n := sealed.Count(""); n > 0 {
		t.Errorf("%d requests to a server that is not trusted", n)
	}
}

// blackHole is an address that takes connections and never answers.
func blackHole(t *testing.T) string {
	t.Helper()
	s := faulty.Start(t, "")
	s.Set(faulty.Silent)
	return s.Addr
}
