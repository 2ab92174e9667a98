package afs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// whole waits until all of the client's budget has been given back.
func whole(t *testing.T, client *Client) {
	t.Helper()
	free := func() int64 {
		client.buffer.mu.Lock()
		defer client.buffer.mu.Unlock()
		return client.buffer.free
	}
	soon(t, 3*time.Second, "the budget is whole", func() bool { return free() >= maxReadAhead })
	if n := free(); n != maxReadAhead {
		t.Errorf("%d bytes more than there were", n-maxReadAhead)
	}
}

// TestReadSizes: files of all sizes about those of calls, from all offsets.
func TestReadSizes(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	v := c.vols["root.cell"]
	sizes := []int{0, 1, 1416, smallChunk, smallChunk + 1, chunk - 1, chunk, chunk + 1, 3*chunk + 7}
	for _, n := range sizes {
		v.write(fmt.Sprint(n), pattern(byte(n), n))
	}
	v.release(firstDate + 100)
	client, tree := c.start()
	for _, n := range sizes {
		name, want := fmt.Sprint(n), pattern(byte(n), n)
		wantFile(t, tree, name, want)
		f, err := tree.Open(within(t, 5*time.Second), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int{0, 1, n - 1, n, n + 1, chunk - 1} {
			if off < 0 {
				continue
			}
			rest := want[min(off, n):]
			r := f.Reader(int64(off))
			if err := iotest.TestReader(struct{ io.Reader }{r}, []byte(rest)); err != nil {
				t.Errorf("%d bytes from %d on: %v", n, off, err)
			}
			r.Close()
			if _, err := r.Read(make([]byte, 1)); err == nil {
				t.Error("a reader that is closed reads")
			}
			for _, size := range []int{0, 100, len(rest), len(rest) + 1} {
				b := make([]byte, size)
				got, err := f.ReadAt(within(t, 5*time.Second), b, int64(off))
				end := min(size, len(rest))
				if got != end || string(b[:got]) != rest[:end] || got < size && err != io.EOF || got == size && err != nil && err != io.EOF {
					t.Errorf("%d of %d bytes at %d: %d, %v", size, n, off, got, err)
				}
			}
		}
		f.Close()
	}
	whole(t, client)
}

// TestReadAhead: calls are made in order, more and more at a time, never beyond
// the end or the bounds; ReadAt asks for no more than it needs.
func TestReadAhead(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	const n = 40 * chunk
	v.write("large", pattern(1, n))
	v.release(firstDate + 100)
	client, tree := c.start()
	f, err := tree.Open(within(t, 5*time.Second), "large")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var mu sync.Mutex
	var offsets []int64
	var running, most int
	c.files[0].on(func(op string, _ wire.FID, off int64) int32 {
		if op != "data" {
			return 0
		}
		mu.Lock()
		offsets = append(offsets, off)
		running++
		most = max(most, running)
		mu.Unlock()
		time.Sleep(2 * time.Millisecond)
		mu.Lock()
		running--
		mu.Unlock()
		return 0
	})
	r := f.Reader(0)
	buf := make([]byte, 10000)
	if _, err := r.Read(buf); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	mu.Lock()
	if len(offsets) != 1 { // the first bytes are there already
		t.Errorf("%d calls after the first bytes", len(offsets))
	}
	mu.Unlock()
	got, err := io.ReadAll(r)
	if err != nil || len(got) != n-len(buf) || string(got) != pattern(1, n)[len(buf):] {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	r.Close()
	mu.Lock()
	if most < 4 || most > maxParallel {
		t.Errorf("%d calls at a time", most)
	}
	seen := map[int64]bool{}
	for i, off := range offsets {
		if seen[off] || off < chunk || off >= n || off > int64(i+1+maxParallel)*chunk {
			t.Errorf("call %d reads at %d", i, off)
		}
		seen[off] = true
	}
	offsets = nil
	mu.Unlock()

	if _, err := f.ReadAt(within(t, 5*time.Second), make([]byte, 1000), 5*chunk); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if len(offsets) != 1 || offsets[0] != 5*chunk {
		t.Errorf("ReadAt made calls at %d", offsets)
	}
	mu.Unlock()
	whole(t, client)
}

// TestReaderClose: in the middle, with calls in flight.
func TestReaderClose(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.write("large", pattern(1, 30*chunk))
	v.release(firstDate + 100)
	client, tree := c.start()
	f, err := tree.Open(within(t, 5*time.Second), "large")
	if err != nil {
		t.Fatal(err)
	}
	var started atomic.Int32
	gate := make(chan struct{})
	c.files[0].on(func(op string, _ wire.FID, off int64) int32 {
		if op == "data" && off > 0 {
			started.Add(1)
			<-gate
		}
		return 0
	})
	defer close(gate)
	readers := make([]*Reader, 3)
	for i := range readers {
		readers[i] = f.Reader(int64(i+1) * 4 * chunk)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := readers[i].ReadContext(ctx, make([]byte, 10))
		cancel()
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("a read that took too long: %v", err)
		}
	}
	if started.Load() == 0 {
		t.Fatal("no call is in flight")
	}
	start := time.Now()
	for _, r := range readers {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if d := time.Since(start); d > 100*time.Millisecond {
		t.Errorf("closing took %v", d)
	}
	f.Close()
	f.Close()
	whole(t, client)
}

// TestReaderError: what is in flight when a read fails is given back, and the
// error stays.
func TestReaderError(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.write("large", pattern(1, 10*chunk))
	v.release(firstDate + 100)
	client, tree := c.start()
	f, err := tree.Open(within(t, 5*time.Second), "large")
	if err != nil {
		t.Fatal(err)
	}
	c.files[0].on(func(op string, _ wire.FID, off int64) int32 {
		if op == "data" && off == 3*chunk {
			return int32(eaccess)
		}
		return 0
	})
	r := f.Reader(0)
	got, err := io.ReadAll(r)
	if len(got) != 3*chunk || err == nil || string(got) != pattern(1, 3*chunk) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, again := r.Read(make([]byte, 10)); again == nil || again == io.EOF {
		t.Errorf("read on after %v: %v", err, again)
	}
	r.Close()
	f.Close()
	whole(t, client)
}

// TestBudget: without any, reads go on in small steps, one at a time.
func TestBudget(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.write("large", pattern(1, 3*chunk+5))
	v.release(firstDate + 100)
	client, tree := c.start()
	if !client.buffer.take(maxReadAhead) {
		t.Fatal("no budget")
	}
	var most, running atomic.Int32
	c.files[0].on(func(op string, _ wire.FID, off int64) int32 {
		if op == "data" {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Millisecond)
			running.Add(-1)
		}
		return 0
	})
	before := c.total("data")
	wantFile(t, tree, "large", pattern(1, 3*chunk+5))
	if n := c.total("data") - before; n < 3*chunk/smallChunk || most.Load() > 1 {
		t.Errorf("%d calls, %d at a time", n, most.Load())
	}
	client.buffer.give(maxReadAhead)
	wantFile(t, tree, "large", pattern(1, 3*chunk+5))
	whole(t, client)
}

// TestManyReaders: a thousand cold readers at once.
func TestManyReaders(t *testing.T) {
	c := newFakeCell(t, 2)
	v := c.vols["root.cell"]
	const files = 20
	var all [files]string
	for i := range all {
		all[i] = pattern(byte(i), 5000)
		if i%4 == 0 {
			all[i] = pattern(byte(i), smallChunk+1000)
		}
		v.write(fmt.Sprint("file", i), all[i])
	}
	v.release(firstDate + 100)
	client, tree := c.start()
	base := runtime.NumGoroutine()
	var most atomic.Int64
	var heap atomic.Uint64
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			most.Store(max(most.Load(), int64(runtime.NumGoroutine()-base)))
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap.Store(max(heap.Load(), m.HeapInuse))
		}
	})
	var wg sync.WaitGroup
	var failed atomic.Int32
	for i := range 1000 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
			defer cancel()
			f, err := tree.Open(ctx, fmt.Sprint("file", i%files))
			if err != nil {
				failed.Add(1)
				t.Log(err)
				return
			}
			defer f.Close()
			r := f.Reader(int64(i%3) * 100)
			defer r.Close()
			want := all[i%files][i%3*100:]
			buf := make([]byte, 4096)
			for n := 0; n < len(want); {
				k, err := r.ReadContext(ctx, buf)
				if err != nil || string(buf[:k]) != want[n:n+k] {
					failed.Add(1)
					t.Log(n, k, err)
					return
				}
				n += k
			}
		})
	}
	wg.Wait()
	close(stop)
	watch.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of 1000 readers failed", failed.Load())
	}
	// A reader's own, two of calls ahead for each, and those of the fakes.
	if n := most.Load(); n > 8000 {
		t.Errorf("%d goroutines", n)
	}
	if n := heap.Load(); n > 400<<20 {
		t.Errorf("heap of %d MiB", n>>20)
	}
	t.Logf("%d goroutines, %d MiB, fakes included", most.Load(), heap.Load()>>20)
	whole(t, client)
	soon(t, 5*time.Second, "the goroutines have ended", func() bool { return runtime.NumGoroutine() < base+200 })
}

// TestInfo: what is known of a file is what the server said.
func TestInfo(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.write("dir/file", strings.Repeat("x", 12345))
	v.edit("dir/file", func(f *fakeFile) { f.mtime, f.mode, f.version = 1234567890, 0o640, 1<<40+7 })
	v.release(firstDate + 100)
	_, tree := c.start()
	info, err := tree.Stat(within(t, 5*time.Second), "dir/file")
	if err != nil || info.Name != "file" || info.Size != 12345 || info.ModTime.Unix() != 1234567890 ||
		info.Mode != 0o640 || info.DataVersion != 1<<40+7 || info.Dir() || info.Symlink {
		t.Errorf("%+v, %v", info, err)
	}
	f, err := tree.Open(within(t, 5*time.Second), "dir/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Info() != info {
		t.Errorf("opened as %+v, known as %+v", f.Info(), info)
	}
	if tag := info.ETag(); len(tag) < 4 || tag[0] != '"' || tag[len(tag)-1] != '"' || strings.ContainsAny(tag[1:len(tag)-1], "\" \x7f") {
		t.Errorf("tag %s", tag)
	}
	if d, err := tree.Stat(within(t, 5*time.Second), "dir"); err != nil || !d.Dir() {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestNext: pieces that are not copied are the file, from any offset on and mixed
// with reads that copy.
func TestNext(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	want := pattern(1, 5*chunk+17)
	v.write("large", want)
	v.release(firstDate + 100)
	client, tree := c.start()
	ctx := within(t, 10*time.Second)
	f, err := tree.Open(ctx, "large")
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, chunk + 5, int64(len(want))} {
		r := f.Reader(off)
		var got []byte
		for n := 0; ; n++ {
			var data []byte
			var err error
			if n%2 == 1 {
				data = make([]byte, 1000)
				n, rerr := r.ReadContext(ctx, data)
				data, err = data[:n], rerr
			} else {
				data, err = r.Next(ctx)
			}
			got = append(got, data...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != want[off:] {
			t.Errorf("from %d on: %d bytes that are not those of the file", off, len(got))
		}
		r.Close()
	}
	f.Close()
	whole(t, client)
}
