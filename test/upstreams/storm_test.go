package upstreams

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// gusts are what the upstream of TestStorm does, each as likely as the others.
var gusts = []faulty.Fault{
	faulty.Honest, faulty.Honest, faulty.Honest, faulty.Honest, faulty.Honest, faulty.Honest,
	faulty.Close, faulty.ResetBefore, faulty.ResetInHeader, faulty.NotHTTP, faulty.TrickledHeader(50 * time.Millisecond),
	faulty.ResetAt(0), faulty.ResetAt(10_000), faulty.ResetAt(stormSize - 1), faulty.Stall(20_000),
	faulty.TooShort(1), faulty.TooLong(100), faulty.TwoLengths, faulty.CutChunks, faulty.CutChunk, faulty.NoLastChunk, faulty.BadChunk,
	faulty.Trailers, faulty.Informational(2), faulty.Informational(100), faulty.Slow(10_000, 5*time.Millisecond),
	faulty.Status(http.StatusInternalServerError), faulty.Status(http.StatusServiceUnavailable), faulty.Status(http.StatusNotFound),
	faulty.Unasked304, faulty.Part("bytes 0-9999/60000"), faulty.RedirectToItself, faulty.Fields("Vary: *"), faulty.Fields("Vary: Accept"),
	faulty.Fields("Cache-Control: no-store"), faulty.Fields("Last-Modified:"), weakened(faulty.Honest), weakened(faulty.ResetAt(30_000)),
}

const stormSize = 60_000

// TestStorm has many clients fetch objects that change, from an upstream that breaks at
// random. Each answer is one version, whole, or the client sees that it is not; what says
// its ETag is of that version; and nobody waits for long.
func TestStorm(t *testing.T) {
	t.Parallel()
	const objects, clients, lasts = 20, 30, 8 * time.Second
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := newContents(t, stormSize)
	between := faulty.Start(t, c.URL)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0))
	between.Set(func(x *faulty.Exchange) bool {
		mu.Lock()
		f := gusts[r.IntN(len(gusts))]
		mu.Unlock()
		return f(x)
	})
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", between.URL, deadlines+";ttl 30ms")))

	end := time.Now().Add(lasts)
	var all sync.WaitGroup
	var whole, parts, failed atomic.Int64
	for n := range clients {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(n)+1))
			for time.Now().Before(end) {
				name := fmt.Sprintf("object%d", r.IntN(objects))
				var header []string
				from, to := 0, stormSize-1
				if r.IntN(3) == 0 {
					from = r.IntN(stormSize)
					to = min(stormSize-1, from+r.IntN(20_000))
					header = append(header, fmt.Sprintf("Range: bytes=%d-%d", from, to))
				}
				got := ask(srv, http.MethodGet, "/x/"+name, header...)
				if got.took > 6*readTime+headerTime+slack {
					t.Errorf("%s %q: %v", name, header, got)
				}
				switch {
				case got.Response == nil || got.err != nil || got.StatusCode >= http.StatusBadRequest || got.StatusCode >= 300 && got.StatusCode < 400:
					failed.Add(1)
					continue
				case got.StatusCode == http.StatusPartialContent:
					parts.Add(1)
				case got.StatusCode == http.StatusOK:
					from, to = 0, stormSize-1
					whole.Add(1)
				}
				v := versionOf(c, name, got, from, to)
				if v == 0 {
					t.Errorf("%s %q: %v: no version has these bytes; ETag %q", name, header, got, got.Header["Etag"])
				} else if etag := got.Header.Get("ETag"); etag != "" && etag != fmt.Sprintf(`"%s-%d"`, name, v) {
					t.Errorf("%s %q: %v: ETag %s on bytes of version %d", name, header, got, etag, v)
				}
			}
		})
	}
	all.Go(func() {
		r := rand.New(rand.NewPCG(seed, 1000))
		for time.Now().Before(end) {
			name := fmt.Sprintf("object%d", r.IntN(objects))
			switch r.IntN(4) {
			case 0:
				if _, err := srv.Purge("/x", "/"+name, ""); err != nil {
					t.Error(err)
				}
			case 1, 2:
				c.publish(name)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	all.Wait()
	t.Logf("%d answers were whole, %d parts, %d failed; %d requests to the upstream", whole.Load(), parts.Load(), failed.Load(), between.Count(""))
	if whole.Load() == 0 || parts.Load() == 0 || failed.Load() == 0 {
		t.Error("there was no storm: this test shows nothing")
	}

	// And then all is as it should be.
	between.Set(faulty.Honest)
	between.Cut()
	time.Sleep(50 * time.Millisecond)
	waitState(t, srv, "/x", "up")
	time.Sleep(500 * time.Millisecond)
	for i := range objects {
		name := fmt.Sprintf("object%d", i)
		var got reply
		for range 100 {
			if got = ask(srv, http.MethodGet, "/x/"+name); bytes.Equal(got.body, content(name, c.version(name), stormSize)) && got.status() == http.StatusOK {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if !bytes.Equal(got.body, content(name, c.version(name), stormSize)) {
			t.Errorf("%s, when the storm is over: %v", name, got)
		}
	}
}

// versionOf is the version that an answer's bytes are of, 0 if there is none.
func versionOf(c *contents, name string, got reply, from, to int) int {
	for v := c.version(name); v > 0; v-- {
		if bytes.Equal(got.body, content(name, v, stormSize)[from:to+1]) {
			return v
		}
	}
	return 0
}
