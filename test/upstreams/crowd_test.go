package upstreams

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// front is how clients come to the mirror.
type front struct {
	name  string
	proto string // as http.Response.Proto has it
	url   string
	rt    http.RoundTripper
}

// crowd has n clients fetch objects at once, of which a third wants a part only, and
// compares every byte. Client i wants object i modulo objects.
func crowd(t *testing.T, f front, prefix string, n, objects, size int) {
	t.Helper()
	var all sync.WaitGroup
	begin := make(chan struct{})
	faults := make(chan string, n)
	for i := range n {
		all.Go(func() {
			<-begin
			if err := member(f, prefix, i, i%objects, size); err != nil {
				faults <- fmt.Sprintf("client %d: %v", i, err)
			}
		})
	}
	close(begin)
	all.Wait()
	close(faults)
	shown := 0
	for fault := range faults {
		if shown++; shown <= 10 {
			t.Error(fault)
		}
	}
	if shown > 10 {
		t.Errorf("and %d more", shown-10)
	}
}

// member is one client of a crowd.
func member(f front, prefix string, i, object, size int) error {
	name := fmt.Sprintf("object%d", object)
	want := content(name, 1, size)
	req, err := http.NewRequest(http.MethodGet, f.url+prefix+"/"+name, nil)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if i%3 == 1 {
		from := rand.IntN(size)
		to := min(size-1, from+rand.IntN(size/2))
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to))
		want, status = want[from:to+1], http.StatusPartialContent
	}
	resp, err := f.rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != status || !bytes.Equal(body, want):
		return fmt.Errorf("%s %q: status %d, %d bytes, want %d, %d; Cache-Status %q", name, req.Header["Range"], resp.StatusCode, len(body), status, len(want), resp.Header["Cache-Status"])
	case resp.Proto != f.proto:
		return fmt.Errorf("it came over %s", resp.Proto)
	}
	return nil
}

// plain is HTTP/1.1 in front.
func plain(srv *testcaddy.Server) front {
	return front{"HTTP/1.1", "HTTP/1.1", srv.URL, &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}}
}

// TestCrowdOnOne shows that 200 clients, ranges among them, that want one object which is
// not cached are one request to the upstream, and 1,000 are, too.
func TestCrowdOnOne(t *testing.T) {
	for _, n := range []int{200, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			const size = 2 << 20
			between := faulty.Start(t, newContents(t, size).URL)
			between.Set(faulty.Slow(256<<10, 0))
			srv := startMirror(t, site("path "+t.TempDir(), mount("/x", between.URL, "ttl 1h")))
			crowd(t, plain(srv), "/x", n, 1, size)
			if asked := between.Count(""); asked != 1 {
				t.Errorf("%d clients were %d requests to the upstream, want 1", n, asked)
				for _, r := range between.Seen()[:min(asked, 10)] {
					t.Logf("%s %s %q", r.Method, r.Target, r.Header["Range"])
				}
			}
		})
	}
}

// TestCrowdOnMany is 1,000 clients on 200 and on 1,000 objects: each object is asked for
// once.
func TestCrowdOnMany(t *testing.T) {
	for _, objects := range []int{200, 1000} {
		t.Run(fmt.Sprint(objects), func(t *testing.T) {
			const size = 50_000
			between := faulty.Start(t, newContents(t, size).URL)
			srv := startMirror(t, site("path "+t.TempDir(), mount("/x", between.URL, "ttl 1h")))
			crowd(t, plain(srv), "/x", 1000, objects, size)
			for i := range objects {
				if n := between.Count(fmt.Sprintf("/object%d", i)); n != 1 {
					t.Errorf("object %d was asked for %d times, want once", i, n)
				}
			}
		})
	}
}
