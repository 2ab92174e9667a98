package diskcache

import (
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

var scaleEntries = flag.Int("scale.entries", 100_000, "entries of TestScale")

func scaleKey(n int) Key { return Key{"/scale", "some/directory/package-" + strconv.Itoa(n) + ".txt"} }

// generate makes a directory of n entries of a few bytes, past Cache.
func generate(t testing.TB, dir string, n int) {
	t.Helper()
	for s := range shards {
		if err := os.MkdirAll(filepath.Join(dir, "objects", shardName(s)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for k := w; k < n; k += 4 {
				body := strconv.AppendInt(nil, int64(k), 10)
				line, err := encodeMeta(scaleKey(k), Meta{})
				if err != nil {
					t.Error(err)
					return
				}
				head := withRoom(line)
				b := append(encodeHeader(head, int64(len(body)), Freshness{At: time.Now()}), head...)
				b = append(append(b, body...), encodeSums([]uint32{crc32.Checksum(body, castagnoli)})...)
				// Links do for the scan, and are quicker to make.
				path := fileOf(dir, scaleKey(k))
				if k >= 4_000 && n <= 100_000 {
					err = os.Link(fileOf(dir, scaleKey(w)), path)
				} else {
					err = os.WriteFile(path, b, 0o600)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// resident is the memory of this process that is no file's.
func resident() (n int64) {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "RssAnon:" {
			n, _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
	return n << 10
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// scaleRole opens a large cache and prints what that took.
func scaleRole(dir string) {
	heap0, rss0 := heap(), resident()
	start := time.Now()
	c, err := Open(dir, Limits{MaxSize: 1 << 40}, zap.NewNop())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	e, ok := c.Get(scaleKey(1234))
	hit := time.Since(start)
	if !ok || e.Meta().Size != 4 {
		fmt.Println("no hit")
		os.Exit(1)
	}
	e.Close()
	for c.Stats().State == Scanning {
		time.Sleep(time.Millisecond)
	}
	scan, rss := time.Since(start), resident()
	s := c.Stats()
	const lookups = 200_000
	start = time.Now()
	for n := range lookups {
		c.Get(Key{"/scale", strconv.Itoa(n)})
	}
	lookup := time.Since(start) / lookups
	fmt.Println(s.Entries, hit.Microseconds(), scan.Microseconds(), heap()-heap0, rss-rss0, lookup.Nanoseconds())
}

func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// TestScale opens a large cache in a new process. -scale.entries sets how
// large; a million takes some minutes to make.
func TestScale(t *testing.T) {
	t.Parallel()
	n := *scaleEntries
	dir := t.TempDir()
	generate(t, dir, n)
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), roleVar+"=scale")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var entries int
	var hit, scan, heap, rss, lookup int64
	if _, err := fmt.Sscan(string(out), &entries, &hit, &scan, &heap, &rss, &lookup); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%d entries: first hit after %v, all read after %v; an entry has %d bytes of heap, %d resident; a miss takes %v",
		entries, time.Duration(hit)*time.Microsecond, time.Duration(scan)*time.Microsecond,
		heap/int64(n), rss/int64(n), time.Duration(lookup))
	if entries != n {
		t.Errorf("%d entries of %d", entries, n)
	}
	if raceEnabled() {
		return // it has memory of its own
	}
	// A few MB are the process's own.
	if heap > int64(n)*200+2<<20 || rss > int64(n)*300+16<<20 {
		t.Errorf("%d bytes of heap, %d resident", heap, rss)
	}
	if hit > 2e6 {
		t.Errorf("the first hit took %d µs", hit)
	}
}
