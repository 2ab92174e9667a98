package upstreams

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

const (
	largeSize  = 4 << 30
	largeBlock = 1 << 20
)

// makeLarge makes a file of largeSize bytes that takes little on disk: each block begins
// with its number, the rest is zero.
func makeLarge(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(largeSize); err != nil {
		t.Fatal(err)
	}
	for n := range int64(largeSize / largeBlock) {
		if _, err := f.WriteAt(binary.BigEndian.AppendUint64(nil, uint64(n)+1), n*largeBlock); err != nil {
			t.Fatal(err)
		}
	}
}

// checkLarge reads what should be the large file from an offset on, a multiple of
// largeBlock, and returns how many bytes were right.
func checkLarge(r io.Reader, offset int64) (int64, error) {
	zero, block := make([]byte, largeBlock-8), make([]byte, largeBlock)
	for at := offset; ; at += largeBlock {
		n, err := io.ReadFull(r, block)
		if err == io.EOF {
			return at - offset, nil
		}
		if err != nil {
			return at - offset + int64(n), err
		}
		if got := binary.BigEndian.Uint64(block); got != uint64(at/largeBlock)+1 || !bytes.Equal(block[8:], zero) {
			return at - offset, fmt.Errorf("wrong bytes behind %d", at)
		}
	}
}

// TestLarge has an object of 4 GiB go through a cache of 1 GiB: all its bytes arrive, the
// cache stays within its size, and memory within bounds. A part of it comes at once.
func TestLarge(t *testing.T) {
	tree, cache := t.TempDir(), t.TempDir()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(cache, &disk); err != nil || int64(disk.Bavail)*disk.Bsize < 8<<30 {
		t.Skipf("less than 8 GiB are free: %v", err)
	}
	makeLarge(t, filepath.Join(tree, "large.bin"))
	backdate(t, tree)
	u := startNginx(t, tree)
	srv := startMirror(t, site("path "+cache+";max_size 1GiB", mount("/x", u.url, "ttl 1h")))

	part := ask(srv, http.MethodGet, "/x/large.bin", fmt.Sprintf("Range: bytes=%d-%d", 3<<30, 3<<30+2*largeBlock-1))
	if part.Response == nil || part.StatusCode != http.StatusPartialContent || part.took > atOnce+slack {
		t.Fatalf("a part: %v", part)
	}
	if n, err := checkLarge(bytes.NewReader(part.body), 3<<30); n != 2*largeBlock || err != nil {
		t.Errorf("a part: %d bytes, %v", n, err)
	}

	start := time.Now()
	resp, err := srv.Client.Get(srv.URL + "/x/large.bin")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := time.Since(start)
	var most int64
	watched := &watch{Reader: resp.Body, each: 256 << 20, look: func() { most = max(most, resident(t, srv)) }}
	n, err := checkLarge(watched, 0)
	if n != largeSize || err != nil || resp.ContentLength != largeSize {
		t.Errorf("%d bytes of %d, %v", n, resp.ContentLength, err)
	}
	took := time.Since(start)
	t.Logf("first byte after %v, all after %v (%d MiB/s), %d MiB resident", first, took, int64(largeSize>>20)*int64(time.Second)/int64(took), most>>20)
	if first > atOnce+slack {
		t.Errorf("the first byte took %v", first)
	}
	if most > 300<<20 {
		t.Errorf("%d MiB are resident", most>>20)
	}
	if used := diskUsage(t, cache); used > 1<<30+64<<20 {
		t.Errorf("the cache takes %d MiB on disk", used>>20)
	}
}

// watch looks at something each time that so many bytes were read.
type watch struct {
	io.Reader
	each, n int64
	look    func()
}

func (w *watch) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	before := w.n / w.each
	w.n += int64(n)
	if w.n/w.each != before {
		w.look()
	}
	return n, err
}

// resident is the memory that the server takes, in bytes.
func resident(t *testing.T, srv *testcaddy.Server) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", srv.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no RssAnon in /proc/PID/status")
	return 0
}

func diskUsage(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return total
}
