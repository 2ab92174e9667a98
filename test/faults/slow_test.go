package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// sip reads a file of a tree in little pieces, with pauses, for a while, and
// returns how much came. Its last pieces it drinks in one go.
func sip(srv *testcaddy.Server, prefix string, tr *tree, name string, d time.Duration) (int64, error) {
	c, err := net.Dial("tcp", srv.Addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if tc, ok := c.(*net.TCPConn); ok {
		tc.SetReadBuffer(16 << 10)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(c, "GET %s/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", prefix, name, srv.Addr); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 4096), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	v := tr.newest(name)
	if resp.StatusCode != http.StatusOK || resp.ContentLength != v.size {
		return 0, fmt.Errorf("%s: %d bytes", resp.Status, resp.ContentLength)
	}
	buf := make([]byte, 256<<10)
	var off int64
	for end := time.Now().Add(d); ; {
		p := buf
		if time.Now().Before(end) {
			time.Sleep(20 * time.Millisecond)
			p = buf[:8<<10]
		}
		n, err := resp.Body.Read(p)
		if at := v.differs(p[:n], off); at >= 0 {
			return off, fmt.Errorf("%w: from byte %d on", errWrong, at)
		}
		off += int64(n)
		if err == io.EOF && off == v.size {
			return off, nil
		}
		if err != nil {
			return off, err
		}
	}
}

// Readers that take their time get what is right, even of entries that are
// long evicted or replaced; they slow down neither the fill that they follow
// nor each other.
func TestSlowReaders(t *testing.T) {
	tr := newTree(t)
	tr.add(t, "large", 12<<20)
	const files = 60
	for n := range files {
		tr.add(t, fmt.Sprintf("file%d", n), 1<<20+int64(n))
	}
	cache := t.TempDir()
	srv := testcaddy.Start(t, site("path "+cache+";memory 1MiB;max_size 24MiB;max_object 16MiB", mount("/a", tr.dir, "ttl 1h")))
	srv.WaitReady(t)
	for _, kind := range []string{"filled", "cached"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "cached" {
				waitHit(t, srv, "/a", tr, "large", 10*time.Second)
			} else if _, err := srv.Purge("/a", "/large", ""); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var slow atomic.Int64
			for range 6 {
				wg.Go(func() {
					n, err := sip(srv, "/a", tr, "large", 4*time.Second)
					if err != nil {
						t.Errorf("a slow reader, after %d bytes: %v", n, err)
						return
					}
					slow.Add(1)
				})
			}
			time.Sleep(200 * time.Millisecond)
			// One in a hurry.
			a := mustGet(t, srv, "/a", tr, "large")
			if a.took > 3*time.Second {
				t.Errorf("a reader in a hurry took %v", a.took)
			}
			waitQuiet(t, srv)
			// Others drive the entry out.
			for n := range files {
				mustGet(t, srv, "/a", tr, fmt.Sprintf("file%d", n))
			}
			if slow.Load() > 0 {
				t.Error("the slow readers were not slow")
			}
			wg.Wait()
		})
	}
	sound(t, srv, cache)

	// Past the cache, and while the file is replaced: then the rest cannot be
	// had, and the answer must not look whole.
	t.Run("replaced", func(t *testing.T) {
		ended := make(chan error, 1)
		tr.add(t, "changing", 40<<20) // more than max_object
		go func() {
			_, err := sip(srv, "/a", tr, "changing", 1500*time.Millisecond)
			ended <- err
		}()
		time.Sleep(500 * time.Millisecond)
		if err := tr.putNow("changing", 40<<20); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; errors.Is(err, errWrong) {
			t.Error(err)
		}
	})
}

// A fill ends well when all who wanted it have left.
func TestFillOutlives(t *testing.T) {
	tr := newTree(t)
	tr.add(t, "large", 12<<20)
	for n := range 5 {
		tr.add(t, fmt.Sprintf("small%d", n), 200_000)
	}
	slow := bind(t, tr.dir, "--multithreaded", "--read-rate=6M")
	cache := t.TempDir()
	srv := testcaddy.Start(t, site("path "+cache, mount("/a", slow.dir, "ttl 1h")))
	srv.WaitReady(t)
	together(8, func(n int) {
		var header []string
		if n%2 == 0 {
			header = []string{"Range: bytes=0-,5-8"}
		}
		if err := leave(srv, "/a/large", 5000, header...); err != nil {
			t.Error(err)
		}
		if n < 5 {
			if err := leave(srv, fmt.Sprintf("/a/small%d", n), 0); err != nil {
				t.Error(err)
			}
		}
	})
	if s := theCache(t, srv); s.Filling == 0 {
		t.Error("the fill was over before its clients left")
	}
	wait(t, 20*time.Second, "six entries", func() bool { s := theCache(t, srv); return s.Filling == 0 && s.Entries == 6 })
	before := srv.Touches(t, "/a")
	for _, name := range tr.names() {
		if a := mustGet(t, srv, "/a", tr, name); !a.hit() {
			t.Errorf("%s: %s", name, a.cache())
		}
	}
	if n := srv.Touches(t, "/a"); n != before {
		t.Errorf("the origin was touched %d times", n-before)
	}
	if o := srv.Origins(t, "/a")[0]; o.ReadBytes > 30<<20 {
		t.Errorf("%d bytes were read", o.ReadBytes)
	}
	sound(t, srv, cache)
}
