package diskcache

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// updated is metadata of an entry that tells the release that it was validated in,
// with a field of pad bytes.
func updated(e *Entry, release uint64, pad int) Meta {
	m := *e.Meta()
	m.Header = map[string][]string{"X-Release": {strconv.FormatUint(release, 10)}, "X-Pad": {strings.Repeat("p", pad)}}
	return m
}

// releaseOf is the release that metadata was validated in: see updated, and runFill.
func releaseOf(m *Meta) uint64 {
	told, _, _ := strings.Cut(m.Validator, " ")
	release, _ := strconv.ParseUint(cmp.Or(m.Get("X-Release"), told), 10, 64)
	return release
}

// checkCurrent makes sure that an entry is not taken for validated for what was said
// of other metadata.
func checkCurrent(e *Entry) error {
	now := e.Current()
	if !now.Fresh.At.IsZero() && releaseOf(now.Meta) != now.Fresh.Release {
		return fmt.Errorf("%v: metadata is of release %d, its validation of %d", e.Key(), releaseOf(now.Meta), now.Fresh.Release)
	}
	return nil
}

// TestUpdate gives entries metadata that fits in their files, and such that does not.
func TestUpdate(t *testing.T) {
	t.Parallel()
	first := Freshness{At: time.UnixMilli(1e12), Release: 1}
	second := Freshness{At: time.UnixMilli(2e12), Release: 2}
	for _, size := range []int{0, 1000, 3 << 20} {
		line, err := encodeMeta(key(1), metaOf(1, size))
		if err != nil {
			t.Fatal(err)
		}
		bare, err := encodeMeta(key(1), Meta{Size: int64(size), Header: map[string][]string{"X": {""}}})
		if err != nil {
			t.Fatal(err)
		}
		most := len(withRoom(line)) - 1 - len(bare)
		for _, tc := range []struct {
			what string
			pad  int
			fits bool
		}{{"less", 0, true}, {"more", most - 50, true}, {"all there is room for", most, true}, {"a byte too much", most + 1, false}, {"more than any file", maxMeta, false}} {
			for _, then := range []string{"cool", "save", "close"} {
				t.Run(fmt.Sprintf("%d/%s/%s", size, tc.what, then), func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					c := open(t, dir, small)
					if err := fill(c, key(1), 1, size, true); err != nil {
						t.Fatal(err)
					}
					e, ok := c.Get(key(1))
					if !ok {
						t.Fatal("not found")
					}
					e.Refresh(first)
					old := e.Meta()
					was := e.Current()
					was.SetMemo("old")
					if e.Current().Memo() != "old" {
						t.Errorf("memo %v", e.Current().Memo())
					}
					e.Update(Meta{Size: 77, Header: map[string][]string{"X": {strings.Repeat("x", tc.pad)}}}, second)
					want := Meta{Size: int64(size), Header: map[string][]string{"X": {strings.Repeat("x", tc.pad)}}}
					if now := e.Current(); !reflect.DeepEqual(*now.Meta, want) || now.Fresh != second {
						t.Errorf("at once: size %d, validator %q, %v", now.Meta.Size, now.Meta.Validator, now.Fresh)
					}
					if was.SetMemo("old"); e.Current().Memo() != nil {
						t.Error("a memo of the old metadata is found")
					}
					body, err := io.ReadAll(io.NewSectionReader(e, 0, int64(size)))
					if err != nil || !bytes.Equal(body, bodyOf(key(1), *old)) {
						t.Errorf("the body has changed: %v", err)
					}
					e.Close()
					switch then {
					case "cool":
						coolIdle(c, e)
					case "save":
						c.save()
						coolIdle(c, e)
					case "close":
						c.Close()
						c = open(t, dir, small)
					}
					again, ok := c.Get(key(1))
					if !ok {
						t.Fatal("not found again")
					}
					if again == e {
						t.Fatal("it was not read from its file")
					}
					wantFresh := second
					if !tc.fits {
						want, wantFresh = metaOf(1, size), Freshness{}
					}
					if now := again.Current(); !reflect.DeepEqual(*now.Meta, want) || now.Fresh != wantFresh {
						t.Errorf("later: size %d, validator %q, %v", now.Meta.Size, now.Meta.Validator, now.Fresh)
					}
					again.Close()
					if n := c.Stats().Corrupt; n != 0 {
						t.Errorf("%d corrupt", n)
					}
					checkIdle(t, c)
					checkSize(t, c, dir)
				})
			}
		}
	}
}

// TestRefreshAfterUpdate validates metadata that the entry's file does not have.
func TestRefreshAfterUpdate(t *testing.T) {
	t.Parallel()
	for _, pad := range []int{10, 10_000} {
		for _, save := range []bool{false, true} {
			dir := t.TempDir()
			c := open(t, dir, small)
			if err := fill(c, key(1), 1, 100, true); err != nil {
				t.Fatal(err)
			}
			e, _ := c.Get(key(1))
			e.Update(updated(e, 2, pad), Freshness{time.Now(), 2})
			if save {
				c.save()
			}
			e.Refresh(Freshness{time.UnixMilli(3e12), 2})
			if fresh := e.Fresh(); fresh.Release != 2 || fresh.At != time.UnixMilli(3e12) {
				t.Errorf("pad %d: %v", pad, fresh)
			}
			e.Close()
			c.Close()
			c = open(t, dir, small)
			e, ok := c.Get(key(1))
			if !ok {
				t.Fatalf("pad %d: not found", pad)
			}
			if err := checkCurrent(e); err != nil {
				t.Errorf("pad %d: %v", pad, err)
			}
			if fits := e.Fresh().At.Equal(time.UnixMilli(3e12)); fits != (pad == 10) {
				t.Errorf("pad %d: %v", pad, e.Fresh())
			}
			// What is in the file can be validated again.
			e.Refresh(Freshness{time.Now(), releaseOf(e.Meta())})
			e.Close()
			c.Close()
			c = open(t, dir, small)
			if e, ok = c.Get(key(1)); !ok || e.Fresh().At.IsZero() {
				t.Errorf("pad %d: found %t, never validated", pad, ok)
			}
			if ok {
				e.Close()
			}
		}
	}
}

// TestUpdateVersion1 makes a file of version 1 one of this version.
func TestUpdateVersion1(t *testing.T) {
	t.Parallel()
	dir, k := t.TempDir(), Key{"/g", "caf\xe9.tar"}
	path := place(t, dir, k, golden(t, "cmirror1"))
	c := open(t, dir, small)
	e, ok := c.Get(k)
	if !ok {
		t.Fatal("not found")
	}
	want := Meta{Size: e.Meta().Size, Header: map[string][]string{"A": {"1", "2"}}}
	fresh := Freshness{time.UnixMilli(2e12), 8}
	e.Update(want, fresh)
	e.Close()
	c.Close()
	if file, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(file, []byte(magic)) {
		t.Errorf("it begins with %q, %v", file[:min(len(file), 8)], err)
	}
	c = open(t, dir, small)
	if e, ok = c.Get(k); !ok {
		t.Fatal("not found again")
	}
	defer e.Close()
	if now := e.Current(); !reflect.DeepEqual(*now.Meta, want) || now.Fresh != fresh || string(e.Bytes()) != "The object's bytes.\n" {
		t.Errorf("%+v, %v, %q", *now.Meta, now.Fresh, e.Bytes())
	}
}

// TestTornUpdate tears the writing of metadata and of validations, at each byte, and
// at any sectors of the disk: there is never metadata but the old and the new, and
// none is validated by what was said of the other.
func TestTornUpdate(t *testing.T) {
	t.Parallel()
	k := Key{"/g", "caf\xe9.tar"}
	long := Meta{Validator: "1", Header: map[string][]string{"A": {strings.Repeat("x", 2000)}}}
	files := map[string][]byte{
		"1":       golden(t, "cmirror1"),
		"2 short": encode(t, k, Meta{Validator: "1"}, Freshness{time.UnixMilli(1e12), 7}, []byte("The body.")),
		"2 long":  encode(t, k, long, Freshness{time.UnixMilli(1e12), 7}, []byte("The body.")),
	}
	changes := map[string]unsaved{
		"metadata":   {Freshness: Freshness{time.UnixMilli(2e12), 8}, change: new(change)},
		"validation": {Freshness: Freshness{time.UnixMilli(2e12), 8}},
		"none":       {},
	}
	for name, old := range files {
		for what, u := range changes {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				was, err := readContents(bytes.NewReader(old), int64(len(old)))
				if err != nil {
					t.Fatal(err)
				}
				want := was.meta
				if u.change != nil {
					want.Meta = Meta{Size: want.Size, Header: map[string][]string{"A": {strings.Repeat("y", len(want.Header["A"])*2000)}, "B": {"1", "2"}}}
					line, err := encodeMeta(k, want.Meta)
					if err != nil {
						t.Fatal(err)
					}
					u.change = &change{&want.Meta, line}
				}
				after := rewritten(t, old, u)
				end := int(was.bodyOff)
				if !bytes.Equal(old[end:], after[end:]) {
					t.Fatal("more was written to than the metadata")
				}
				is, err := readContents(bytes.NewReader(after), int64(len(after)))
				if err != nil || !reflect.DeepEqual(is.meta, want) || is.fresh != u.Freshness {
					t.Fatalf("whole: %v, %+v", err, is)
				}
				whole := 0
				check := func(how string, file []byte) {
					got, err := readContents(bytes.NewReader(file), int64(len(file)))
					if errors.Is(err, errCorrupt) {
						return
					}
					none := Freshness{}
					isOld := reflect.DeepEqual(got.meta, was.meta) && (got.fresh == was.fresh || got.fresh == none)
					isNew := reflect.DeepEqual(got.meta, want) && (got.fresh == u.Freshness || got.fresh == none)
					if err != nil || !isOld && !isNew {
						t.Errorf("%s: %v, %+v", how, err, got)
					}
					whole++
				}
				for n := range end + 1 {
					check(fmt.Sprintf("new up to %d", n), slices.Concat(after[:n], old[n:]))
					check(fmt.Sprintf("old up to %d", n), slices.Concat(old[:n], after[n:]))
				}
				for to := range headerLen + 1 {
					for from := range to {
						check(fmt.Sprintf("new from %d to %d", from, to), slices.Concat(old[:from], after[from:to], old[to:]))
						check(fmt.Sprintf("old from %d to %d", from, to), slices.Concat(after[:from], old[from:to], after[to:]))
					}
				}
				const sector = 512
				for set := range 1 << ((end + sector - 1) / sector) {
					file := bytes.Clone(old)
					for n := 0; n*sector < end; n++ {
						if set>>n&1 == 1 {
							copy(file[n*sector:], after[n*sector:min((n+1)*sector, end)])
						}
					}
					check(fmt.Sprintf("new in sectors %b", set), file)
				}
				if whole < 4 {
					t.Errorf("only %d files were readable, and those whole", whole)
				}
			})
		}
	}
}

// rewritten is what becomes of an entry's file when u is written to it.
func rewritten(t *testing.T, file []byte, u unsaved) []byte {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := rewrite((*sysFile)(f), int64(len(file)), u); err != nil {
		t.Fatal(err)
	}
	file, err = os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestUnsavedBound updates more than may wait to be written.
func TestUnsavedBound(t *testing.T) {
	t.Parallel()
	const entries, pad, most = 70, 20_000, 1 << 20
	dir := t.TempDir()
	c := open(t, dir, small)
	c.mu.Lock()
	c.mostUnsaved = most
	c.mu.Unlock()
	c.saving.Lock() // the maintainer does not
	save := sync.OnceFunc(c.saving.Unlock)
	defer save()
	for n := range entries {
		f, _ := c.Fill(key(n))
		m := Meta{Validator: "1", Header: map[string][]string{"X-Pad": {strings.Repeat("o", pad)}}}
		if err := errors.Join(f.Start(m, Freshness{time.Now(), 1}), f.Commit()); err != nil {
			t.Fatal(err)
		}
		f.Leave()
		e, _ := c.Get(key(n))
		e.Update(updated(e, 2, pad-100), Freshness{time.Now(), 2})
		e.Close()
		if c.unsavedMeta > most {
			t.Fatalf("%d bytes wait", c.unsavedMeta)
		}
	}
	if c.unsavedMeta < most-2*pad {
		t.Fatalf("only %d bytes wait", c.unsavedMeta)
	}
	save()
	c.save()
	if c.unsavedMeta != 0 || len(c.unsaved)+len(c.changed) > 0 {
		t.Errorf("%d bytes of %d entries are unsaved still", c.unsavedMeta, len(c.unsaved))
	}
	c.Close()
	c = open(t, dir, small)
	old := 0
	for n := range entries {
		e, ok := c.Get(key(n))
		if !ok {
			t.Fatalf("%d is not there", n)
		}
		if err := checkCurrent(e); err != nil {
			t.Error(err)
		}
		if e.Fresh().At.IsZero() {
			old++
		}
		e.Close()
	}
	if old == 0 || old > entries/2 {
		t.Errorf("%d entries have old metadata", old)
	}
}

// TestPutOff saves nothing to a file that others read, and reads none that is saved
// to.
func TestPutOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	if err := fill(c, key(1), 1, 100, true); err != nil {
		t.Fatal(err)
	}
	e, _ := c.Get(key(1))
	e.Update(updated(e, 2, 10), Freshness{time.Now(), 2})
	e.Close()
	onDisk := func() string {
		b, err := os.ReadFile(fileOf(dir, key(1)))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	i := key(1).id()
	c.mu.Lock()
	c.peek(i)
	c.mu.Unlock()
	c.save()
	if strings.Contains(onDisk(), "X-Release") {
		t.Error("a file was written to while it was read")
	}
	c.unpeek(i)
	c.save()
	if !strings.Contains(onDisk(), "X-Release") {
		t.Error("what was put off was not saved")
	}

	coolIdle(c, e)
	c.mu.Lock()
	c.rewriting = i
	c.mu.Unlock()
	through := make(chan string, 2)
	go func() {
		if e, ok := c.Get(key(1)); ok {
			e.Close()
		}
		through <- "Get"
	}()
	go func() {
		c.Purge(key(1).Group, func(string) bool { return false })
		through <- "Purge"
	}()
	select {
	case who := <-through:
		t.Errorf("%s reads a file that is being written to", who)
	case <-time.After(100 * time.Millisecond):
	}
	c.endRewrite()
	<-through
	<-through

	// Close is the last chance, and waits.
	e, _ = c.Get(key(1))
	e.Update(updated(e, 3, 20), Freshness{time.Now(), 3})
	e.Close()
	c.mu.Lock()
	c.peek(i)
	c.mu.Unlock()
	time.AfterFunc(50*time.Millisecond, func() { c.unpeek(i) })
	c.Close()
	if !strings.Contains(onDisk(), `"X-Release":["3"]`) {
		t.Error("Close has not saved what another read")
	}
}

// TestSaveGoesOn puts other things in the place of an entry's file: the others are
// saved all the same.
func TestSaveGoesOn(t *testing.T) {
	t.Parallel()
	for what, damage := range damages(t) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const size = 3<<20 + 12345
			dir := t.TempDir()
			c := open(t, dir, small)
			for n := 1; n <= 2; n++ {
				if err := fill(c, key(n), 1, size, true); err != nil {
					t.Fatal(err)
				}
			}
			for n := 1; n <= 2; n++ {
				e, _ := c.Get(key(n))
				e.Update(updated(e, 2, 10), Freshness{time.Now(), 2})
				e.Close()
			}
			damage(fileOf(dir, key(1)))
			c.save()
			if b, err := os.ReadFile(fileOf(dir, key(2))); err == nil && !bytes.Contains(b, []byte("X-Release")) {
				t.Errorf("the other was not saved: %v", err)
			}
			if st := c.Stats().State; st != Ready {
				t.Errorf("cache is %s", st)
			}
			c.mu.Lock()
			left := len(c.unsaved)
			c.mu.Unlock()
			if left > 0 {
				t.Errorf("%d entries are unsaved", left)
			}
		})
	}
}

// TestSaveOneFails cannot write to one file: the others are saved, and it is tried
// again.
func TestSaveOneFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	for n := range 3 {
		if err := fill(c, key(n), 1, 100, true); err != nil {
			t.Fatal(err)
		}
		e, _ := c.Get(key(n))
		e.Update(updated(e, 2, 10), Freshness{time.Now(), 2})
		e.Close()
	}
	// A program that runs cannot be written to, not even by root.
	path := fileOf(dir, key(0))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(path, program, 0o700), os.Chmod(path, 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, t.TempDir())
	cmd.Env = append(os.Environ(), roleVar+"=hold")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // it holds until that ends
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	bufio.NewReader(out).ReadString('\n') // it runs
	c.save()
	for n := 1; n < 3; n++ {
		if b, err := os.ReadFile(fileOf(dir, key(n))); err != nil || !bytes.Contains(b, []byte("X-Release")) {
			t.Errorf("%d was not saved: %v", n, err)
		}
	}
	if len(c.unsaved) != 1 {
		t.Errorf("%d entries are unsaved", len(c.unsaved))
	}
	cmd.Process.Kill()
	cmd.Wait()
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	c.save()
	if b, err := os.ReadFile(path); err != nil || !bytes.Contains(b, []byte("X-Release")) || len(c.unsaved) > 0 {
		t.Errorf("it was not saved later: %v; %d are unsaved", err, len(c.unsaved))
	}
}

// TestUpdateRaces updates entries while everything else that can become of them
// does.
func TestUpdateRaces(t *testing.T) {
	t.Parallel()
	const keys = 40
	dir := t.TempDir()
	l := Limits{MaxSize: 6 << 20, Memory: 1 << 20}
	c := open(t, dir, l)
	for n := range keys {
		fill(c, key(n), 1, 300_000, true) // more than there is room for
	}
	var alone [keys]sync.Mutex // who validates does so alone
	var version atomic.Uint64
	var wg sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	work := func(workers int, f func(n int)) {
		for range workers {
			wg.Go(func() {
				for time.Now().Before(end) {
					f(rand.IntN(keys))
				}
			})
		}
	}
	with := func(n int, f func(e *Entry)) {
		if e, ok := c.Get(key(n)); ok {
			f(e)
			if err := errors.Join(checkCurrent(e), checkEntry(e, 100_000)); err != nil {
				t.Error(err)
			}
			e.Close()
		}
	}
	updates := atomic.Int64{}
	work(2, func(n int) {
		with(n, func(e *Entry) {
			alone[n].Lock()
			defer alone[n].Unlock()
			release := version.Add(1)
			e.Update(updated(e, release, rand.IntN(500)), Freshness{time.Now(), release})
			updates.Add(1)
		})
	})
	work(1, func(n int) {
		with(n, func(e *Entry) {
			alone[n].Lock()
			defer alone[n].Unlock()
			e.Refresh(Freshness{time.Now(), releaseOf(e.Meta())})
		})
	})
	work(1, func(n int) {
		with(n, func(e *Entry) {
			now := e.Current()
			told := now.Meta.Get("X-Release")
			if v := now.Memo(); v != nil && v != told {
				t.Errorf("memo %v, of metadata of %v", v, told)
			}
			now.SetMemo(told)
		})
	})
	work(1, func(n int) {
		var idle *Entry
		with(n, func(e *Entry) { idle = e })
		coolIdle(c, idle)
	})
	work(1, func(int) { c.save() })
	work(1, func(n int) { fill(c, key(n), int(version.Add(1)), rand.IntN(400_000), true) })
	work(1, func(n int) {
		time.Sleep(10 * time.Millisecond)
		switch rand.IntN(4) {
		case 0:
			c.PurgeKey(key(n))
		case 1:
			c.Purge(key(n).Group, func(name string) bool { return name == key(n).Name })
		case 2:
			with(n, func(e *Entry) { e.Remove() })
		default:
			c.scrubAll(1 << 40)
		}
	})
	wg.Wait()
	checkIdle(t, c)
	checkSize(t, c, dir)
	corrupt, evicted := c.Stats().Corrupt, c.Stats().Evictions
	c.Close()
	c = open(t, dir, l)
	found := 0
	for n := range keys {
		with(n, func(*Entry) { found++ })
	}
	if corrupt+c.Stats().Corrupt > 0 {
		t.Errorf("%d and %d corrupt", corrupt, c.Stats().Corrupt)
	}
	if found == 0 || evicted == 0 || updates.Load() == 0 {
		t.Errorf("%d found, %d evicted, %d updates: nothing was tested", found, evicted, updates.Load())
	}
	t.Logf("%d updates, %d evicted, %d found", updates.Load(), evicted, found)
}
