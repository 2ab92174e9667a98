package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// dial sends a request for a path. The connection that it returns ends with
// a reset, not with a FIN.
func dial(srv *testcaddy.Server, path string, header ...string) (net.Conn, error) {
	c, err := net.Dial("tcp", srv.Addr)
	if err != nil {
		return nil, err
	}
	if tc, ok := c.(*net.TCPConn); ok {
		tc.SetLinger(0)
		tc.SetReadBuffer(128 << 10)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, srv.Addr, strings.Join(append(header, ""), "\r\n"))
	// While there is a second request to read, the server does not see that
	// the client of the first one is gone until it writes.
	if _, err := io.WriteString(c, request+request); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// leave asks for a path, reads a little of the answer and is gone, without a
// word and with bytes still on their way.
func leave(srv *testcaddy.Server, path string, read int64, header ...string) error {
	c, err := dial(srv, path, header...)
	if err != nil {
		return err
	}
	defer c.Close()
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 4096), nil)
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, resp.Body, read)
	if err == io.EOF {
		err = nil
	}
	return err
}

// during runs f again and again in n goroutines for a while. An error of f
// fails the test and ends its goroutine; so does the end of the server.
func during(t *testing.T, srv *testcaddy.Server, d time.Duration, n int, f ...func() error) {
	t.Helper()
	stop := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(stop) })
	defer timer.Stop()
	done := srv.Done()
	var wg sync.WaitGroup
	for i := range n * len(f) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-done:
					return
				default:
				}
				if err := f[i%len(f)](); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case <-done:
		t.Error("the server has ended")
	default:
	}
}

// stay asks for a file and waits for all of it, which must come.
func stay(srv *testcaddy.Server, prefix string, tr *tree, name string, whole *atomic.Int64, header ...string) error {
	a, err := get(srv, prefix, tr, name, header...)
	switch {
	case errors.Is(err, errWrong):
		return err
	case err != nil:
		return fmt.Errorf("a client that stays is cut off: %w", err)
	case a.status != http.StatusOK && a.status != http.StatusPartialContent:
		return fmt.Errorf("%s: status %d", name, a.status)
	}
	whole.Add(1)
	return nil
}

// Clients that ask for several ranges and leave in the middle disturb nobody:
// not those who read the same object, not those who read another one.
func TestLeaveMultipleRanges(t *testing.T) {
	for _, tt := range []struct{ name, cache string }{
		{"bypassed", "max_object 1MiB"},
		{"cached", "max_size 1GiB"},
		{"evicted", "max_size 32MiB;max_object 16MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t)
			const files, size = 6, 8<<20 + 123
			name := func(n int) string { return fmt.Sprintf("file%d", n%files) }
			for n := range files {
				tr.add(t, name(n), size)
			}
			srv := testcaddy.Start(t, site("path "+t.TempDir()+";memory 1MiB;"+tt.cache, mount("/a", tr.dir, "ttl 1h")))
			srv.WaitReady(t)

			var left, whole atomic.Int64
			leaves := func() error {
				ranges := fmt.Sprintf("Range: bytes=%d-%d,%d-%d,-3000,-2000,-300000,-200000,-100000",
					rand.IntN(1<<20), 3<<20+rand.IntN(1<<20), 4<<20, 6<<20+rand.IntN(1<<20))
				if leave(srv, "/a/"+name(rand.IntN(files)), rand.Int64N(1<<20), ranges) == nil {
					left.Add(1)
				}
				return nil
			}
			stays := func() error {
				var header []string
				if rand.IntN(2) == 0 {
					header = []string{byteRange(rand.Int64N(size/2), 1+rand.Int64N(size/2))}
				}
				return stay(srv, "/a", tr, name(rand.IntN(files)), &whole, header...)
			}
			during(t, srv, 5*time.Second, 5, leaves, stays)
			t.Logf("%d clients left, %d did not", left.Load(), whole.Load())
			if left.Load() < 50 || whole.Load() < 50 {
				t.Error("that is too few to show anything")
			}
		})
	}
}

// The same where the origin is slow: then the mirror is reading from it when
// it learns that the client is gone.
func TestLeaveSlowOrigin(t *testing.T) {
	slow, fast := newTree(t), newTree(t)
	slow.add(t, "large", 64<<20)
	const files = 40
	for n := range files {
		fast.add(t, fmt.Sprintf("file%d", n), 1<<20+int64(n)*4321)
	}
	mnt := bind(t, slow.dir, "--multithreaded", "--read-rate=4M")
	srv := testcaddy.Start(t, site("path "+t.TempDir()+";max_object 512KiB",
		mount("/slow", mnt.dir, "ttl 1h"), mount("/fast", fast.dir, "ttl 1h")))
	srv.WaitReady(t)

	var left, whole atomic.Int64
	leaves := func() error {
		at := rand.Int64N(60 << 20)
		if leave(srv, "/slow/large", 64<<10, fmt.Sprintf("Range: bytes=%d-%d,0-0", at, at+4<<20)) == nil {
			left.Add(1)
		}
		return nil
	}
	stays := func() error {
		return stay(srv, "/fast", fast, fmt.Sprintf("file%d", rand.IntN(files)), &whole)
	}
	for n := 0; n < 6 && (left.Load() < 50 || whole.Load() < 50) && !t.Failed(); n++ {
		during(t, srv, 8*time.Second, 6, leaves, stays) // enough but on a busy machine
	}
	t.Logf("%d clients left, %d did not", left.Load(), whole.Load())
	if left.Load() < 50 || whole.Load() < 50 {
		t.Error("that is too few to show anything")
	}
}

// Parts that all end with the object, read from the origin one after the
// other, for clients that leave: the mirror may be between two reads, or in
// one, when it learns of that.
func TestLeaveManyRanges(t *testing.T) {
	tr := newTree(t)
	tr.add(t, "file", 4<<20)
	srv := testcaddy.Start(t, site("path "+t.TempDir()+";max_object 1MiB", mount("/a", tr.dir, "ttl 1h")),
		testcaddy.Env("GOMAXPROCS=3")) // so that goroutines overtake each other
	srv.WaitReady(t)
	ranges := "Range: bytes=-1000"
	for n := range 300 {
		ranges += fmt.Sprintf(",-%d", 1001+n)
	}
	var left atomic.Int64
	during(t, srv, 8*time.Second, 8, func() error {
		// If the server has ended, that is told elsewhere.
		if leave(srv, "/a/file", rand.Int64N(10_000), ranges) == nil {
			left.Add(1)
		}
		return nil
	})
	t.Logf("%d clients left", left.Load())
	if left.Load() < 300 {
		t.Error("that is too few to show anything")
	}
	mustGet(t, srv, "/a", tr, "file")
}
