package faults

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// together runs f in n goroutines that begin at one moment.
func together(n int, f func(n int)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	wg.Wait()
}

// same reads all of r and compares it with want.
func same(r io.Reader, want []byte) error {
	buf := make([]byte, 256<<10)
	for at := 0; ; {
		n, err := r.Read(buf)
		if n > len(want)-at || !bytes.Equal(buf[:n], want[at:at+n]) {
			return fmt.Errorf("%w between %d and %d of %d", errWrong, at, at+n, len(want))
		}
		at += n
		if err == io.EOF && at == len(want) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", at, len(want), err)
		}
	}
}

// However many clients ask for an object that the cache does not have, the
// origin is read once.
func TestOneFill(t *testing.T) {
	tr := newTree(t)
	const large = 64 << 20
	tr.add(t, "large", large)
	const small = 150
	for n := range small {
		tr.add(t, fmt.Sprintf("small%d", n), 3000)
	}
	srv := testcaddy.Start(t, site("path "+t.TempDir()+";max_size 1GiB", mount("/a", tr.dir, "ttl 1h")))
	srv.WaitReady(t)

	t.Run("large", func(t *testing.T) {
		want := tr.newest("large").bytes()
		together(200, func(int) {
			resp, err := srv.Client.Get(srv.URL + "/a/large")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if err := same(resp.Body, want); err != nil {
				t.Errorf("%s: %v", resp.Status, err)
			}
		})
		if o := srv.Origins(t, "/a")[0]; o.ReadBytes != large || o.Reads != 1 {
			t.Errorf("the origin was opened %d times, and %d bytes were read, for 200 clients of %d bytes", o.Reads, o.ReadBytes, large)
		}
	})

	// Small ones are filled while other clients are just about to join.
	t.Run("small", func(t *testing.T) {
		before := srv.Origins(t, "/a")[0]
		for n := range small {
			together(30, func(int) {
				if a, err := get(srv, "/a", tr, fmt.Sprintf("small%d", n)); err != nil || a.status != 200 {
					t.Errorf("status %d: %v", a.status, err)
				}
			})
		}
		after := srv.Origins(t, "/a")[0]
		if reads := after.Reads - before.Reads; reads != small {
			t.Errorf("the origin was opened %d times for %d objects", reads, small)
		}
		if n := after.ReadBytes - before.ReadBytes; n != small*3000 {
			t.Errorf("%d bytes were read for %d", n, small*3000)
		}
	})
}
