package afs_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// sipper reads a file slowly, 10 KiB a second, until it is told to hurry.
type sipper struct {
	conn  net.Conn
	hurry atomic.Bool

	// When done is closed: what came, of so many bytes, and why it ended.
	done chan struct{}
	got  []byte
	size int64
	err  error
}

func sip(t *testing.T, srv *testcaddy.Server, path string) *sipper {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Addr)
	try(t, err)
	try(t, conn.(*net.TCPConn).SetReadBuffer(16<<10))
	try(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	s := &sipper{conn: conn, done: make(chan struct{})}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, srv.Addr)
	try(t, err)
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 4<<10), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %d", path, err, status0(resp))
	}
	s.size = resp.ContentLength
	go func() {
		defer close(s.done)
		defer conn.Close()
		p := make([]byte, 256<<10)
		for s.err == nil {
			b := p
			if !s.hurry.Load() {
				time.Sleep(100 * time.Millisecond)
				b = p[:1<<10]
			}
			var n int
			n, s.err = resp.Body.Read(b)
			s.got = append(s.got, b[:n]...)
		}
	}()
	return s
}

// finish has the rest read, and returns what came.
func (s *sipper) finish() ([]byte, error) {
	_ = s.conn.(*net.TCPConn).SetReadBuffer(4 << 20)
	s.hurry.Store(true)
	<-s.done
	if s.err == io.EOF && int64(len(s.got)) == s.size {
		return s.got, nil
	}
	return s.got, s.err
}

// TestSlowReaders releases a volume while clients read a large file of it, slowly and
// not from the cache. A file server that is read from cannot release a volume, so
// that nobody may read from it for as long as a client takes.
func TestSlowReaders(t *testing.T) {
	c := sharedCell(t)
	ctx := t.Context()
	const name, size, most = "slow", 64 << 20, 2 * time.Second
	v := newVolume(t, c, name, c.FS1)
	old, now := content("old", size), content("new", size)
	try(t, v.WriteFile(ctx, "large", old, cell.Attr{}))
	release(t, c, name)

	timed := func(n int, pause time.Duration) time.Duration {
		t.Helper()
		var worst time.Duration
		for i := range n {
			try(t, v.WriteFile(ctx, "small", fmt.Append(nil, i), cell.Attr{}))
			start := time.Now()
			release(t, c, name)
			worst = max(worst, time.Since(start))
			time.Sleep(pause)
		}
		return worst
	}
	before := timed(3, 0)

	root := "afs://" + c.Name + ":" + name
	config := site(t, c, "", "filesystem cell afs "+root, `mirror_cache {
		mount /cached `+root+`
		mount /through `+root+` {
			cache small
		}
	}
	handle_path /fs/* {
		file_server {
			fs cell
		}
	}`)
	small := "cache small {\npath " + t.TempDir() + "\nmax_object 1MiB\n}"
	srv := startSite(t, strings.Replace(config, "mirror {", "mirror {\n"+small, 1))
	var all []*sipper
	prefixes := []string{"/cached/", "/through/", "/fs/"}
	for _, p := range slices.Repeat(prefixes, 3) {
		all = append(all, sip(t, srv, p+"large"))
	}
	// Others read it as fast as they can. While the volume's only site is away for a
	// moment, they wait.
	fast, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var hasty atomic.Int64
	for range 2 {
		wg.Go(func() {
			for fast.Err() == nil {
				resp, body, err := srv.Get("/through/large")
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(body, old) {
					t.Errorf("/through/large while it was released: %v, %d, %d bytes", err, status0(resp), len(body))
				}
				hasty.Add(1)
			}
		})
	}
	after := timed(5, 700*time.Millisecond)
	stop()
	wg.Wait()
	t.Logf("a release takes %v, and %v with %d slow readers and %d fast reads", before, after, len(all), hasty.Load())
	if after > before+most {
		t.Errorf("a release takes %v with slow readers, and %v without", after, before)
	}

	// One of each goes on, over all the releases: the file has not changed.
	for i, p := range prefixes {
		wg.Go(func() {
			if got, err := all[i].finish(); err != nil || !bytes.Equal(got, old) {
				t.Errorf("%slarge: %d bytes, %v, after it was released and had not changed", p, len(got), err)
			}
		})
	}
	wg.Wait()

	// The file changes under the others: they get no byte of the new one.
	try(t, v.WriteFile(ctx, "large", now, cell.Attr{}))
	start := time.Now()
	release(t, c, name)
	if took := time.Since(start); took > before+most {
		t.Errorf("a release takes %v with slow readers, and %v without", took, before)
	}
	for i, s := range all[len(prefixes):] {
		wg.Go(func() {
			p := prefixes[i%len(prefixes)]
			got, err := s.finish()
			if !bytes.HasPrefix(old, got) {
				t.Errorf("%slarge: bytes that are not of the version that it began with", p)
			}
			if err == nil && len(got) != size || err != nil && p == "/cached/" {
				t.Errorf("%slarge: ended after %d bytes: %v", p, len(got), err)
			}
			if n := len(got); i < len(prefixes) {
				t.Logf("%slarge, changed while it was read: %d bytes, %v", p, n, err)
			}
		})
	}
	wg.Wait()
	for _, p := range prefixes {
		// What the cache knows of the release is what anybody has seen.
		waitFor(t, 10*time.Second, "new at "+p, func() bool {
			_, body, err := srv.Get(p + "large")
			return err == nil && bytes.Equal(body, now)
		})
	}
}

// TestMountedAFS has a directory served that is AFS as OpenAFS' own client mounts it,
// with the releases that the file servers tell of.
func TestMountedAFS(t *testing.T) {
	c := sharedCell(t)
	if _, err := exec.LookPath("afsd.fuse"); err != nil {
		testcaddy.Missing(t, "afsd.fuse is not installed (make deps installs openafs-fuse)")
	}
	ctx := t.Context()
	const name, limit = "fused", 20 * time.Second
	v := newVolume(t, c, name, c.FS1)
	try(t, v.MkdirAll(ctx, "dir"))
	try(t, v.WriteFile(ctx, "dir/file", []byte("0"), cell.Attr{}))
	release(t, c, name)
	mounted(t, c, name)
	f, err := c.Client.MountFuse(ctx, cell.FuseOptions{})
	try(t, err)
	defer func() { try(t, f.Unmount()) }()

	srv := startMirror(t, c, "", "/x "+f.Path(c.Name, name)+" {\nrelease_volume afs://"+c.Name+":"+name+"\nttl 1h\n}")
	get := func() (string, error) {
		resp, body, err := srv.Get("/x/dir/file")
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return string(body), err
	}
	origin := func() testcaddy.Origin { return srv.Origins(t, "/x")[0] }
	if got, err := get(); err != nil || got != "0" {
		t.Fatalf("%q, %v", got, err)
	}
	waitFor(t, limit, "seen to have a release", func() bool { return origin().Release != "" })
	for _, want := range []string{"1", "22"} {
		was := origin().Release
		try(t, v.WriteFile(ctx, "dir/file", []byte(want), cell.Attr{ModTime: time.Unix(1e9+int64(len(want)), 0)}))
		time.Sleep(1100 * time.Millisecond) // releases are told apart by it
		release(t, c, name)
		told := waitFor(t, limit, "told of the release", func() bool { return origin().Release != was })
		took := waitFor(t, limit, "served as released", func() bool { got, err := get(); return err == nil && got == want })
		t.Logf("release %s: told after %v, served %v later; %s", want, told, took, origin().Release)
	}
}
