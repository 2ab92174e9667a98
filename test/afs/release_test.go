package afs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestRelease publishes volumes while they are read. What takes time is vos, which
// sleeps: so all this goes on at once.
func TestRelease(t *testing.T) {
	c := sharedCell(t)
	var wg sync.WaitGroup
	for _, s := range []struct {
		name string
		test func(*testing.T, *cell.Cell)
	}{
		{"under load", testUnderLoad},
		{"what changed", testWhatChanged},
		{"mount points", testMountPoints},
		{"polling", testPolling},
		{"long reads", testLongReads},
	} {
		// Not with t.Parallel, which is for tests that need a processor each.
		wg.Go(func() { t.Run(s.name, func(t *testing.T) { s.test(t, c) }) })
	}
	wg.Wait()
}

// setSizes are the sizes of the files of a consistent set.
var setSizes = []int{1 << 10, 4 << 10, 1400, 64 << 10, 64<<10 + 1, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 5, 2 << 20, 3<<20 + 7, 4 << 20}

const setHeader = sha256.Size + 16

// member is a file of a set: a checksum of the rest, the generation of the set, and
// which of its files it is.
func member(generation uint64, n int) []byte {
	b := make([]byte, setSizes[n])
	binary.BigEndian.PutUint64(b[sha256.Size:], generation)
	binary.BigEndian.PutUint64(b[sha256.Size+8:], uint64(n))
	copy(b[setHeader:], content(fmt.Sprintf("set %d.%d", generation, n), len(b)-setHeader))
	sum := sha256.Sum256(b[sha256.Size:])
	copy(b, sum[:])
	return b
}

// generation is that of a file of a set, unless a byte of it is wrong.
func generation(b []byte, n int) (uint64, error) {
	if len(b) != setSizes[n] {
		return 0, fmt.Errorf("%d bytes, want %d", len(b), setSizes[n])
	}
	if sum := sha256.Sum256(b[sha256.Size:]); !bytes.Equal(sum[:], b[:sha256.Size]) || binary.BigEndian.Uint64(b[sha256.Size+8:]) != uint64(n) {
		return 0, errors.New("the bytes are not of one generation")
	}
	return binary.BigEndian.Uint64(b[sha256.Size:]), nil
}

func writeSet(ctx context.Context, v *cell.Volume, generation uint64) error {
	for n := range setSizes {
		if err := v.WriteFile(ctx, fmt.Sprintf("f%d", n), member(generation, n), cell.Attr{}); err != nil {
			return err
		}
	}
	return nil
}

const (
	releases = 6
	readers  = 8
)

// testUnderLoad has a set of files released over and over, while it is read from the
// cache and past it.
func testUnderLoad(t *testing.T, c *cell.Cell) {
	v := newVolume(t, c, "set", c.FS1, c.FS2)
	try(t, writeSet(t.Context(), v, 1))
	release(t, c, "set")
	root := "afs://" + c.Name + ":set"
	config := site(t, c, "", "", `mirror_cache {
		mount /cached `+root+`
		mount /through `+root+` {
			cache small
		}
	}`)
	small := "cache small {\npath " + t.TempDir() + "\nmax_object 1\n}"
	srv := startSite(t, strings.Replace(config, "mirror {", "mirror {\n"+small, 1))

	var r setReaders
	r.srv = srv
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for n := range readers {
		prefix := "/cached"
		if n < 2 {
			prefix = "/through"
		}
		wg.Go(func() { r.read(ctx, prefix) })
	}
	for g := uint64(2); g <= releases+1; g++ {
		err := writeSet(t.Context(), v, g)
		if err == nil {
			err = c.Release(t.Context(), "set")
		}
		if err != nil {
			t.Error(err)
			break
		}
		done := time.Now()
		for r.newest.Load() < g {
			if time.Since(done) > 10*time.Second {
				t.Errorf("generation %d is not served %v after its release", g, time.Since(done))
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	stop()
	wg.Wait()
	for _, e := range r.errs {
		t.Error(e)
	}
	if r.failed > len(r.errs) {
		t.Errorf("%d of %d reads failed", r.failed, r.reads.Load())
	}
	t.Logf("%d releases, %d reads, %d of them past the cache, %d cut; status %v", releases, r.reads.Load(), r.past.Load(), r.cut, &r.results)
	if r.cut > releases {
		t.Errorf("%d reads past the cache were cut by %d releases", r.cut, releases)
	}
	if r.reads.Load() < 1000 || r.past.Load() < 100 {
		t.Errorf("only %d reads, %d of them past the cache", r.reads.Load(), r.past.Load())
	}
}

// setReaders read the files of a set.
type setReaders struct {
	srv    *testcaddy.Server
	newest atomic.Uint64 // generation that anybody got anything of
	reads  atomic.Int64
	past   atomic.Int64

	mu      sync.Mutex
	failed  int
	cut     int // reads past the cache
	errs    []error
	results results
}

// results counts values of Cache-Status.
type results map[string]int

func (r *setReaders) read(ctx context.Context, prefix string) {
	for ctx.Err() == nil {
		for _, n := range rand.Perm(len(setSizes)) {
			if ctx.Err() != nil {
				return
			}
			err := r.readOne(prefix, n)
			switch {
			case err == nil:
			case prefix == "/through" && errors.Is(err, io.ErrUnexpectedEOF):
				// Both sites had the next release before the file was read. What is
				// left of the old one is nowhere.
				r.mu.Lock()
				r.cut++
				r.mu.Unlock()
			default:
				r.mu.Lock()
				if r.failed++; len(r.errs) < 20 {
					r.errs = append(r.errs, fmt.Errorf("%v %s/f%d: %w", time.Now().Format("05.000"), prefix, n, err))
				}
				r.mu.Unlock()
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// readOne reads a file: it is all of one generation, which is no older than any that
// somebody had got before it was asked for.
func (r *setReaders) readOne(prefix string, n int) error {
	floor := r.newest.Load()
	resp, body, err := r.srv.Get(fmt.Sprintf("%s/f%d", prefix, n))
	if err != nil {
		return err
	}
	status := resp.Header.Get("Cache-Status")
	r.reads.Add(1)
	if strings.Contains(status, "bypass") {
		r.past.Add(1)
	}
	r.mu.Lock()
	if r.results == nil {
		r.results = results{}
	}
	status, _, _ = strings.Cut(status, "; detail")
	r.results[fmt.Sprint(resp.StatusCode, " ", status)]++
	r.mu.Unlock()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s, %s", resp.Status, status)
	}
	g, err := generation(body, n)
	if err != nil {
		return fmt.Errorf("%s: %w", status, err)
	}
	for {
		newest := r.newest.Load()
		if g <= newest || r.newest.CompareAndSwap(newest, g) {
			break
		}
	}
	if g < floor {
		return fmt.Errorf("%s: generation %d after somebody had got %d", status, g, floor)
	}
	return nil
}

// testLongReads reads a file past the cache, for longer than a release takes. It does
// not change, so none of the readers may notice, wherever their bytes come from.
func testLongReads(t *testing.T, c *cell.Cell) {
	const name, size, rate = "long", 24 << 20, 6 << 20 // bytes, and a second
	v := newVolume(t, c, name, c.FS1, c.FS2)
	want := content(name, size)
	try(t, v.WriteFile(t.Context(), "file", want, cell.Attr{}))
	release(t, c, name)
	srv := startMirror(t, c, "max_object 1MiB", "/x afs://"+c.Name+":"+name)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var reads atomic.Int64
	for n := range 6 {
		wg.Go(func() {
			time.Sleep(time.Duration(n) * 500 * time.Millisecond)
			for ctx.Err() == nil {
				got, err := readAt(srv, "/x/file", rate)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				reads.Add(1)
			}
		})
	}
	for n := range 2 {
		// It takes a moment to bring the second site up to date.
		err := v.WriteFile(t.Context(), "other", content(fmt.Sprint(n), 60<<20), cell.Attr{})
		if err == nil {
			err = c.Release(t.Context(), name)
		}
		if err != nil {
			t.Error(err)
			break
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d reads", reads.Load())
}

// readAt gets a file with so many bytes a second, once the buffers on the way are full.
func readAt(srv *testcaddy.Server, path string, rate int) ([]byte, error) {
	resp, err := srv.Client.Get(srv.URL + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var got bytes.Buffer
	for step := int64(rate / 50); ; time.Sleep(time.Second / 50) {
		if _, err := io.CopyN(&got, resp.Body, step); err == io.EOF {
			return got.Bytes(), nil
		} else if err != nil {
			return got.Bytes(), err
		}
	}
}

// testWhatChanged releases a volume without any change, and with one.
func testWhatChanged(t *testing.T, c *cell.Cell) {
	const name, count, size = "thousand", 1000, 2000
	v := newVolume(t, c, name, c.FS1)
	var all []file
	for n := range count {
		all = append(all, file{name: fmt.Sprintf("d%d/f%d", n%7, n), size: size, mode: 0o644, mtime: time.Unix(1e9, 0)})
	}
	writeFiles(t, v, all)
	release(t, c, name)
	srv := startMirror(t, c, "", "/x afs://"+c.Name+":"+name)
	get := func(all []file, cached string) {
		t.Helper()
		atATime(t, 8, all, func(f file) error { return f.get(srv, "/x/", cached) })
	}
	origin := func() testcaddy.Origin { return srv.Origins(t, "/x")[0] }
	get(all, "miss")
	before := origin()
	if before.Reads != count || before.ReadBytes != count*size {
		t.Errorf("%d files of %d bytes are cached, and %d bytes of %d were read", count, size, before.ReadBytes, before.Reads)
	}

	for _, change := range []int{0, 1} {
		// Releases are told apart by the second.
		time.Sleep(1100 * time.Millisecond)
		was := origin().Release
		changed := all[500]
		if change == 1 {
			changed.size, changed.mtime = size+1, time.Unix(2e9, 0)
			try(t, v.WriteFile(t.Context(), changed.name, changed.content(), cell.Attr{ModTime: changed.mtime}))
			all[500] = changed
		}
		release(t, c, name)
		waitFor(t, 10*time.Second, "seen to be released", func() bool { return origin().Release != was })
		get(all, "")
		now := origin()
		reads, bytes := now.Reads-before.Reads, now.ReadBytes-before.ReadBytes
		if reads != uint64(change) || bytes != uint64(change*changed.size) {
			t.Errorf("after %d files changed, %d bytes of %d files were read again", change, bytes, reads)
		}
		t.Logf("%d changed: %d opened, %d bytes read, %d looked up", change, reads, bytes, now.Stats-before.Stats)
		before = now
	}
}

// testMountPoints releases volumes that are mounted in each other. It waits before it
// releases one again: releases are told apart by the second.
func testMountPoints(t *testing.T, c *cell.Cell) {
	ctx := t.Context()
	names := []string{"mounts", "mounts.in", "mounts.in.in"}
	var volumes []*cell.Volume
	for _, name := range names {
		v := newVolume(t, c, name, c.FS1)
		try(t, v.WriteFile(ctx, "file", []byte(name), cell.Attr{}))
		volumes = append(volumes, v)
	}
	try(t, volumes[0].Mount(ctx, "in", names[1]))
	try(t, volumes[1].Mount(ctx, "in", names[2]))
	release(t, c, names...)
	mounted(t, c, names[0])
	srv := startMirror(t, c, "", "/x afs://"+c.Name+"/"+names[0])
	paths := []string{"/x/file", "/x/in/file", "/x/in/in/file"}
	want := slices.Clone(names)
	all := func() {
		t.Helper()
		for n, p := range paths {
			resp, body, err := srv.Get(p)
			if err != nil || resp.StatusCode != http.StatusOK || string(body) != want[n] {
				t.Errorf("%s: %v, %d, %q, want %q", p, err, status0(resp), body, want[n])
			}
		}
	}
	all()
	origin := func() testcaddy.Origin { return srv.Origins(t, "/x")[0] }
	for n, v := range slices.Backward(volumes) {
		was := origin()
		time.Sleep(1100 * time.Millisecond)
		want[n] = "new " + names[n]
		try(t, v.WriteFile(ctx, "file", []byte(want[n]), cell.Attr{}))
		release(t, c, v.Name)
		waitFor(t, 10*time.Second, "seen that "+v.Name+" is released", func() bool { return origin().Release != was.Release })
		all()
		if reads := origin().Reads - was.Reads; reads != 1 {
			t.Errorf("%d files were read again after %s was released, want 1", reads, v.Name)
		}
	}

	// A mount point is replaced: what is behind it is of another volume, of which
	// nothing was known.
	other := newVolume(t, c, "mounts.other", c.FS1)
	want[1], want[2] = "other", "other in"
	try(t, other.WriteFile(ctx, "file", []byte(want[1]), cell.Attr{}))
	try(t, other.MkdirAll(ctx, "in"))
	try(t, other.WriteFile(ctx, "in/file", []byte(want[2]), cell.Attr{}))
	try(t, volumes[0].Remove(ctx, "in"))
	try(t, volumes[0].Mount(ctx, "in", "mounts.other"))
	was := origin().Release
	time.Sleep(1100 * time.Millisecond)
	release(t, c, "mounts.other", names[0])
	waitFor(t, 10*time.Second, "seen that there is another mount point", func() bool { return origin().Release != was })
	all()

	// It is removed.
	try(t, volumes[0].Remove(ctx, "in"))
	time.Sleep(1100 * time.Millisecond)
	was = origin().Release
	release(t, c, names[0])
	waitFor(t, 10*time.Second, "seen that there is no mount point", func() bool { return origin().Release != was })
	if resp, _, err := srv.Get("/x/in/file"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("behind a mount point that is gone: %v, %d", err, status0(resp))
	}
}

// deaf is a socket on which callbacks do not say what they are about: they are made
// probes, and answered as those. What is left is polling.
type deaf struct{ net.PacketConn }

func (d deaf) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := d.PacketConn.ReadFrom(b)
	const (
		header, flags, fromClient = 28, 21, 1 // Rx
		probe                     = 206
	)
	if err == nil && n >= header+4 && b[flags]&fromClient != 0 && wire.ReadCallbackOp(b[header:n]) == wire.OpCallBack {
		binary.BigEndian.PutUint32(b[header:], probe)
	}
	return n, from, err
}

// testPolling measures how long after its release the contents of a volume are to be
// had, if no callback tells of it.
func testPolling(t *testing.T, c *cell.Cell) {
	ctx := t.Context()
	const volumes, rounds, limit = 8, 3, 6 * time.Second
	conn, err := net.ListenPacket("udp4", netAddr(c))
	try(t, err)
	client := newClientAs(t, c, afs.Config{Conn: deaf{conn}})
	var names []string
	var vs []*cell.Volume
	for n := range volumes {
		names = append(names, fmt.Sprintf("poll%d", n))
		vs = append(vs, newVolume(t, c, names[n], c.FS1))
		try(t, vs[n].WriteFile(ctx, "file", []byte("0"), cell.Attr{}))
	}
	release(t, c, names...)
	var trees []*afs.Tree
	for _, n := range names {
		tree := newTree(t, c, client, afs.Root{Volume: n})
		trees = append(trees, tree)
		tree.Release(ctx)
		time.Sleep(limit / volumes) // not all at the same moment
	}
	var mu sync.Mutex
	var took []time.Duration
	for round := 1; round <= rounds; round++ {
		want := fmt.Sprint(round)
		var wg sync.WaitGroup
		for n, v := range vs {
			wg.Go(func() {
				was := trees[n].Last().Token
				err := v.WriteFile(ctx, "file", []byte(want), cell.Attr{})
				if err == nil {
					err = c.Release(ctx, v.Name)
				}
				if err != nil {
					t.Error(err)
					return
				}
				start := time.Now()
				for trees[n].Last().Token == was && time.Since(start) < 2*limit {
					time.Sleep(10 * time.Millisecond)
				}
				got, err := readAll(ctx, trees[n], "file")
				if err != nil || string(got) != want {
					t.Errorf("%s %v after release %s: %q, %v", v.Name, time.Since(start), want, got, err)
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(start))
			})
		}
		wg.Wait()
	}
	slices.Sort(took)
	// Of so few, the largest is the 99th percentile.
	t.Logf("served after vos release ended, of %d, with polling alone: median %v, most %v", len(took), took[len(took)/2], took[len(took)-1])
	if most := took[len(took)-1]; most > limit {
		t.Errorf("%v from the end of vos release to the new file", most)
	}
}

// netAddr is any UDP address in the namespace of c.Self.
func netAddr(c *cell.Cell) string { return c.Self.Addr.String() + ":0" }

// readAll reads a file of a tree.
func readAll(ctx context.Context, tree *afs.Tree, name string) ([]byte, error) {
	f, err := tree.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := f.Reader(0)
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, err
}
