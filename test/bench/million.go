package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
)

const (
	maxBytesPerEntry = 300
	maxFirstHit      = 2 * time.Second
)

// millionResult is what a cache of many entries costs a fresh process.
type millionResult struct {
	Entries       int           `json:"entries"`
	FileSystem    string        `json:"file_system"`
	FillsPerSec   float64       `json:"fills_per_second"`
	BytesPer      float64       `json:"resident_bytes_per_entry"`
	BytesGoal     *goal         `json:"resident_goal"`
	PeakPer       float64       `json:"peak_bytes_per_entry"`
	FirstHit      time.Duration `json:"first_hit_ns"`
	FirstHitGoal  *goal         `json:"first_hit_goal"`
	Ready         time.Duration `json:"ready_ns"`
	ColdPerSec    float64       `json:"lookups_per_second"`
	HotPerSec     float64       `json:"hot_lookups_per_second"`
	MissingPerSec float64       `json:"missing_lookups_per_second"`
}

// million fills a cache in one child process and opens it in another, so that
// nothing but the cache is in the memory measured.
func (b *bench) million(ctx context.Context, rep *report) (err error) {
	parent, fsType, err := b.millionParent()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "mirror-bench-million-")
	if err != nil {
		return err
	}
	defer func() {
		progress("million: removing it")
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	progress("million: filling a cache with %d entries in %s (%s)", b.entries, parent, fsType)
	var filled filledCache
	if err := runChild(ctx, childFill, dir, b.entries, &filled); err != nil {
		return err
	}
	progress("million: opening it")
	var m measuredCache
	if err := runChild(ctx, childMeasure, dir, b.entries, &m); err != nil {
		return err
	}
	n := float64(b.entries)
	r := &millionResult{
		Entries:       b.entries,
		FileSystem:    fsType,
		FillsPerSec:   n / filled.Time.Seconds(),
		BytesPer:      float64(m.Resident) / n,
		PeakPer:       float64(m.Peak) / n,
		FirstHit:      m.FirstHit,
		FirstHitGoal:  atMost(maxFirstHit.Seconds(), m.FirstHit.Seconds()),
		Ready:         m.Ready,
		ColdPerSec:    m.Cold,
		HotPerSec:     m.Hot,
		MissingPerSec: m.Missing,
	}
	r.BytesGoal = atMost(maxBytesPerEntry, r.BytesPer)
	rep.Million = r
	return nil
}

// millionParent is where the cache of the million goes: as asked for, else to
// memory (/dev/shm) if that has room, else to a disk. What is measured is the
// cache, not the disk: all files are in the page cache, too, right after the
// fill. But a disk may take minutes to make and to remove a million files.
func (b *bench) millionParent() (dir, fsType string, err error) {
	dirs := []string{b.millionDir}
	if b.millionDir == "" {
		dirs = []string{"/dev/shm", b.dir}
	}
	const perEntry = 8 * kib // twice the block, for inodes and directories
	need := uint64(b.entries) * perEntry
	for _, dir := range dirs {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			continue
		}
		fsType = "disk"
		free := st.Bavail * uint64(st.Bsize)
		if st.Type == unix.TMPFS_MAGIC {
			fsType = "tmpfs"
			memory, err := availableMemory()
			if err != nil {
				return "", "", err
			}
			free = min(free, memory/2)
		}
		if free >= need && st.Ffree >= 2*uint64(b.entries) {
			return dir, fsType, nil
		}
	}
	return "", "", fmt.Errorf("no room for %s in any of %s (see -million-dir, -entries)",
		mebibytes(int64(need)), strings.Join(dirs, ", "))
}

// A child is this program with the arguments childArg, what to do, the cache's
// directory, the number of entries, and the time it was started.
const (
	childArg     = "child-of-million"
	childFill    = "fill"
	childMeasure = "measure"
)

func runChild(ctx context.Context, what, dir string, entries int, result any) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, childArg, what, dir,
		strconv.Itoa(entries), strconv.FormatInt(time.Now().UnixNano(), 10))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("child to %s the cache: %w", what, err)
	}
	return json.Unmarshal(out, result)
}

// millionChild returns what to do if this process is a child.
func millionChild(args []string) (do func() error, ok bool) {
	if len(args) != 5 || args[0] != childArg {
		return nil, false
	}
	return func() error {
		entries, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		started, err := strconv.ParseInt(args[4], 10, 64)
		if err != nil {
			return err
		}
		var result any
		if args[1] == childFill {
			result, err = fillCache(args[2], entries)
		} else {
			result, err = measureCache(args[2], entries, time.Unix(0, started))
		}
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}, true
}

// limitsFor lets n small entries in.
func limitsFor(n int) diskcache.Limits {
	return diskcache.Limits{MaxSize: int64(n)*16*kib + gib, Memory: 64 * mib}
}

// entryKey has a name of a common length.
func entryKey(n int) diskcache.Key {
	return diskcache.Key{
		Group: "/pypi",
		Name:  fmt.Sprintf("packages/%02x/%02x/package_%07d-1.0.0-py3-none-any.whl", n&0xff, n>>8&0xff, n),
	}
}

// entryBody is short, so that an entry is one block on disk.
func entryBody(n int) []byte { return fmt.Appendf(nil, "entry %d, and nothing else\n", n) }

type filledCache struct{ Time time.Duration }

func fillCache(dir string, entries int) (r filledCache, err error) {
	start := time.Now()
	c, err := diskcache.Open(dir, limitsFor(entries), zap.NewNop())
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := w; n < entries && errs[w] == nil; n += workers {
				errs[w] = fillEntry(c, n)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return r, err
	}
	if got := c.Stats().Entries; got != entries {
		return r, fmt.Errorf("the cache has %d entries of %d", got, entries)
	}
	r.Time = time.Since(start)
	return r, nil
}

func fillEntry(c *diskcache.Cache, n int) error {
	f, begun := c.Fill(entryKey(n))
	defer f.Leave()
	if !begun {
		return fmt.Errorf("entry %d is being filled already", n)
	}
	body := entryBody(n)
	err := f.Start(diskcache.Meta{
		Size:      int64(len(body)),
		ModTime:   time.Unix(1_700_000_000, 0),
		Validator: strconv.Itoa(n),
	}, diskcache.Freshness{At: time.Now()})
	if err == nil {
		_, err = f.Write(body)
	}
	if err != nil {
		f.Fail(err)
		return fmt.Errorf("filling entry %d: %w", n, err)
	}
	return f.Commit()
}

type measuredCache struct {
	Resident, Peak     int64 // bytes above those before the cache was opened
	FirstHit, Ready    time.Duration
	Cold, Hot, Missing float64 // lookups per second
}

func measureCache(dir string, entries int, started time.Time) (m measuredCache, err error) {
	debug.FreeOSMemory()
	before, err := readMemory(os.Getpid())
	if err != nil {
		return m, err
	}
	watch, err := watchMemory(os.Getpid())
	if err != nil {
		return m, err
	}
	defer watch.stop()
	c, err := diskcache.Open(dir, limitsFor(entries), zap.NewNop())
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()

	if err := lookUp(c, entries/2); err != nil {
		return m, fmt.Errorf("first hit: %w", err)
	}
	m.FirstHit = time.Since(started)
	for s := c.Stats(); s.State != diskcache.Ready; s = c.Stats() {
		if s.State != diskcache.Scanning || time.Since(started) > 5*time.Minute {
			return m, fmt.Errorf("the cache is %s after %v: %s", s.State, time.Since(started), s.Why)
		}
		time.Sleep(5 * time.Millisecond)
	}
	m.Ready = time.Since(started)
	if got := c.Stats().Entries; got != entries {
		return m, fmt.Errorf("the cache has %d entries of %d", got, entries)
	}
	peak, err := watch.growth()
	if err != nil {
		return m, err
	}
	m.Peak = peak.rss
	debug.FreeOSMemory()
	after, err := readMemory(os.Getpid())
	if err != nil {
		return m, err
	}
	m.Resident = after.rss - before.rss

	if m.Cold, err = lookupRate(func() error { return lookUp(c, rand.IntN(entries)) }); err != nil {
		return m, err
	}
	// So few that all of them stay in memory.
	few := min(entries, 1000)
	for n := range few {
		if err := lookUp(c, n); err != nil {
			return m, err
		}
	}
	if m.Hot, err = lookupRate(func() error { return lookUp(c, rand.IntN(few)) }); err != nil {
		return m, err
	}
	m.Missing, err = lookupRate(func() error {
		n := entries + rand.IntN(entries)
		if e, ok := c.Get(entryKey(n)); ok {
			e.Close()
			return fmt.Errorf("entry %d is there and should not be", n)
		}
		return nil
	})
	return m, err
}

// lookUp finds an entry and reads its body.
func lookUp(c *diskcache.Cache, n int) error {
	e, ok := c.Get(entryKey(n))
	if !ok {
		return fmt.Errorf("entry %d is not there", n)
	}
	defer e.Close()
	want := entryBody(n)
	got := make([]byte, len(want))
	if _, err := e.ReadAt(got, 0); err != nil && err != io.EOF {
		return fmt.Errorf("reading entry %d: %w", n, err)
	}
	if e.Meta().Size != int64(len(want)) || string(got) != string(want) {
		return fmt.Errorf("entry %d is %q instead of %q", n, got, want)
	}
	return nil
}

// lookupRate repeats a lookup for two seconds, in one goroutine.
func lookupRate(lookup func() error) (float64, error) {
	const span = 2 * time.Second
	start := time.Now()
	n := 0
	for time.Since(start) < span {
		for range 100 {
			if err := lookup(); err != nil {
				return 0, err
			}
		}
		n += 100
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

func (r *millionResult) print(w io.Writer) {
	fmt.Fprintf(w, "\nA cache of %d entries on a %s, opened by a fresh process.\n\n", r.Entries, r.FileSystem)
	t := table{{"", "found", "goal"}}
	t.row("resident bytes per entry", figure(r.BytesPer), r.BytesGoal.text("300"))
	t.row("resident bytes per entry, at the peak of the scan", figure(r.PeakPer), "-")
	t.row("time from start to the first hit", millis(r.FirstHit), r.FirstHitGoal.text("2 s"))
	t.row("time from start until all is known", millis(r.Ready), "-")
	t.row("lookups/s, one goroutine: any of them, file opened and read", figure(r.ColdPerSec), "-")
	t.row("lookups/s, one goroutine: of 1000 in memory", figure(r.HotPerSec), "-")
	t.row("lookups/s, one goroutine: of what is not there", figure(r.MissingPerSec), "-")
	t.row("fills/s", figure(r.FillsPerSec), "-")
	t.print(w)
}
