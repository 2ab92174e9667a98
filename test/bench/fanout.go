package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

const maxAnonGrowth = 64 * mib

// fanoutResult is what many clients on one cold object cost.
type fanoutResult struct {
	Clients     int           `json:"clients"`
	Bytes       int64         `json:"bytes"`
	OriginRatio float64       `json:"origin_bytes_per_object_byte"`
	OriginGoal  *goal         `json:"origin_goal"`
	AloneFirst  time.Duration `json:"first_byte_alone_ns"`
	MedianFirst time.Duration `json:"first_byte_median_ns"`
	MaxFirst    time.Duration `json:"first_byte_max_ns"`
	AloneTime   time.Duration `json:"alone_ns"`
	Time        time.Duration `json:"time_ns"`
	RSSGrowth   int64         `json:"rss_growth"`
	AnonGrowth  int64         `json:"anon_growth"`
	AnonGoal    *goal         `json:"anon_goal"`
}

// fanout lets one client fetch a cold object, then many at once another one.
// Memory is compared with that of the server before its first request.
func (b *bench) fanout(ctx context.Context, rep *report) error {
	defer b.stopAll()
	tree := filepath.Join(b.dir, "fanout")
	alone := object{name: "alone.bin", size: b.fanoutSize}
	crowd := object{name: "crowd.bin", size: b.fanoutSize}
	progress("fanout: making two objects of %s", mebibytes(b.fanoutSize))
	for i, o := range []*object{&alone, &crowd} {
		if err := o.write(tree, byte(100+i)); err != nil {
			return err
		}
	}
	defer os.RemoveAll(tree) // not needed by what comes next, which wants space too
	if err := b.give(tree); err != nil {
		return err
	}
	srv, err := b.startServer(ctx, kindOf(ourName), site{tree: tree, maxSize: 4*b.fanoutSize + gib})
	if err != nil {
		return err
	}
	unpin, err := b.pin()
	if err != nil {
		return err
	}
	defer unpin()

	m, err := watchMemory(srv.pid())
	if err != nil {
		return err
	}
	defer m.stop()
	progress("fanout: one client")
	one, err := fetchAll(ctx, srv.addr, []object{alone})
	if err != nil {
		return fmt.Errorf("one client: %w", err)
	}
	before, err := srv.originTouches(ctx)
	if err != nil {
		return err
	}
	progress("fanout: %d clients", b.fanoutClients)
	all, err := fetchAll(ctx, srv.addr, slices.Repeat([]object{crowd}, b.fanoutClients))
	if err != nil {
		return fmt.Errorf("%d clients: %w", b.fanoutClients, errors.Join(err, srv.alive()))
	}
	after, err := srv.originTouches(ctx)
	if err != nil {
		return err
	}
	growth, err := m.growth()
	if err != nil {
		return err
	}

	r := &fanoutResult{
		Clients:     b.fanoutClients,
		Bytes:       b.fanoutSize,
		OriginRatio: float64(after.ReadBytes-before.ReadBytes) / float64(b.fanoutSize),
		AloneFirst:  one.first[0],
		MedianFirst: median(all.first),
		MaxFirst:    slices.Max(all.first),
		AloneTime:   one.time,
		Time:        all.time,
		RSSGrowth:   growth.rss,
		AnonGrowth:  growth.anon,
		AnonGoal:    atMost(maxAnonGrowth, float64(growth.anon)),
	}
	r.OriginGoal = &goal{Bound: 1, Met: after.ReadBytes-before.ReadBytes == b.fanoutSize}
	rep.Fanout = r
	return nil
}

// object is what a client asks for: a file, or a part of it.
type object struct {
	name string
	part string // as in Range; empty: the whole
	size int64  // of the body, like sum
	sum  uint32 // CRC-32C
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (o *object) write(tree string, seed byte) error {
	if err := os.MkdirAll(filepath.Join(tree, "files"), 0o755); err != nil {
		return err
	}
	h := crc32.New(castagnoli)
	if err := writeRandom(filepath.Join(tree, "files", o.name), o.size, seed, h); err != nil {
		return fmt.Errorf("making %s: %w", o.name, err)
	}
	o.sum = h.Sum32()
	return nil
}

// fetched is what a number of clients saw.
type fetched struct {
	first []time.Duration // from a client's request to the first byte of its body
	time  time.Duration   // until the last client had all
}

// fetchAll connects a client for each object, lets all of them ask at once, and checks
// what each of them gets.
func fetchAll(ctx context.Context, addr string, objects []object) (fetched, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conns := make([]*net.TCPConn, len(objects))
	for i := range conns {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return fetched{}, err
		}
		defer c.Close()
		conns[i] = c.(*net.TCPConn)
	}
	stop := context.AfterFunc(ctx, func() {
		for _, c := range conns {
			_ = c.SetDeadline(time.Now())
		}
	})
	defer stop()

	f := fetched{first: make([]time.Duration, len(objects))}
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i, c := range conns {
		wg.Go(func() {
			<-begin
			first, err := fetch(c, addr, objects[i])
			if err != nil {
				cancel(fmt.Errorf("client %d: %w", i, err))
			}
			f.first[i] = first
		})
	}
	start := time.Now()
	close(begin)
	wg.Wait()
	f.time = time.Since(start)
	return f, context.Cause(ctx)
}

// buffers are shared by the clients: one holds a buffer only while there is
// something to read, so that the clients need next to no memory and cache.
var buffers = sync.Pool{New: func() any { return new([256 * kib]byte) }}

// fetch asks for an object and reads the answer to its end. It returns the time
// to the body's first byte.
func fetch(c *net.TCPConn, host string, o object) (first time.Duration, err error) {
	start := time.Now()
	var part string
	if o.part != "" {
		part = "Range: " + o.part + "\r\n"
	}
	if _, err := fmt.Fprintf(c, "GET /files/%s HTTP/1.1\r\nHost: %s\r\n%s\r\n", o.name, host, part); err != nil {
		return 0, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var (
		head []byte
		got  int64
		sum  uint32
		in   = false // the body
	)
	for !in || got < o.size {
		var n int
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			buf := buffers.Get().(*[256 * kib]byte)
			defer buffers.Put(buf)
			for {
				n, rerr = syscall.Read(int(fd), buf[:])
				if rerr != syscall.EINTR {
					break
				}
			}
			if rerr == syscall.EAGAIN {
				return false
			}
			if rerr != nil || n == 0 {
				return true
			}
			p := buf[:n]
			if !in {
				head = append(head, p...)
				i := bytes.Index(head, []byte("\r\n\r\n"))
				if i < 0 {
					return true
				}
				in, p = true, head[i+4:]
				head = head[:i+4]
			}
			if got == 0 && len(p) > 0 {
				first = time.Since(start)
			}
			got += int64(len(p))
			sum = crc32.Update(sum, castagnoli, p)
			return true
		})
		switch {
		case err != nil:
			return 0, err
		case rerr != nil:
			return 0, rerr
		case n == 0:
			return 0, fmt.Errorf("after %d bytes of the body: %w", got, io.ErrUnexpectedEOF)
		case len(head) > 0 && in:
			if err := checkHead(head, o); err != nil {
				return 0, err
			}
			head = nil
		case len(head) > 64*kib:
			return 0, errors.New("no end of the header")
		}
	}
	if got != o.size || sum != o.sum {
		return 0, fmt.Errorf("wrong body: %d bytes, CRC-32C %08x instead of %d, %08x", got, sum, o.size, o.sum)
	}
	return first, nil
}

func checkHead(head []byte, o object) error {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		return err
	}
	want := http.StatusOK
	if o.part != "" {
		want = http.StatusPartialContent
	}
	if resp.StatusCode != want || resp.ContentLength != o.size {
		return fmt.Errorf("answer is %s with Content-Length %d instead of %d with %d", resp.Status, resp.ContentLength, want, o.size)
	}
	return nil
}

// memoryWatch samples the memory of a process, or of several.
type memoryWatch struct {
	base memory
	peak memory
	err  error
	quit chan struct{}
	done chan struct{}
	once sync.Once
}

func watchMemory(pid int) (*memoryWatch, error) {
	return watchMemoryBy(func() (memory, error) { return readMemory(pid) })
}

// watchMemoryBy samples what read returns.
func watchMemoryBy(read func() (memory, error)) (*memoryWatch, error) {
	base, err := read()
	if err != nil {
		return nil, err
	}
	w := &memoryWatch{base: base, peak: base, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				return
			case <-tick.C:
			}
			m, err := read()
			if err != nil {
				w.err = err
				return
			}
			w.peak.rss = max(w.peak.rss, m.rss)
			w.peak.anon = max(w.peak.anon, m.anon)
		}
	}()
	return w, nil
}

func (w *memoryWatch) stop() {
	w.once.Do(func() { close(w.quit) })
	<-w.done
}

// growth ends the watch and returns how far memory rose above its beginning.
func (w *memoryWatch) growth() (memory, error) {
	w.stop()
	return memory{rss: w.peak.rss - w.base.rss, anon: w.peak.anon - w.base.anon}, w.err
}

func (r *fanoutResult) print(w io.Writer) {
	fmt.Fprintf(w, "\nFan-out: %d clients at once on one cold object of %s; every body was right.\n\n", r.Clients, mebibytes(r.Bytes))
	t := table{{"", "found", "goal"}}
	t.row("origin bytes read / object", fmt.Sprintf("%.4f", r.OriginRatio), r.OriginGoal.text("1.00"))
	t.row("time to first byte: one client alone", millis(r.AloneFirst), "-")
	t.row("time to first byte: median of all", millis(r.MedianFirst), "-")
	t.row("time to first byte: the last of all", millis(r.MaxFirst), "-")
	t.row("time to the end: one client alone", millis(r.AloneTime), "-")
	t.row("time to the end: all", millis(r.Time), "-")
	t.row("throughput of all", fmt.Sprintf("%.0f MB/s", float64(r.Bytes)*float64(r.Clients)/1e6/r.Time.Seconds()), "-")
	t.row("growth of anonymous memory (RssAnon)", mebibytes(r.AnonGrowth), r.AnonGoal.text("64 MiB"))
	t.row("growth of resident memory (VmRSS), files included", mebibytes(r.RSSGrowth), "-")
	t.print(w)
}
