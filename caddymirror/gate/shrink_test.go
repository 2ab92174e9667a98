package gate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// hundred makes a tree with 100 entries of 10 bytes each, but for 10 directories.
func hundred(t *testing.T) *step.Run {
	dir := t.TempDir()
	for i := range 10 {
		for j := range 9 {
			put(t, dir, fmt.Sprintf("d%d/f%d", i, j), "0123456789")
		}
	}
	return newRun(t, dir)
}

func released(t *testing.T, g Recorder, r *step.Run) {
	t.Helper()
	passes(t, g, r)
	if err := g.Released(r); err != nil {
		t.Fatal(err)
	}
}

func TestShrinkDeletions(t *testing.T) {
	r := hundred(t)
	g := provision(t, &Shrink{Deletions: "5%"})
	released(t, g, r)
	for j := range 5 {
		rm(t, r.Dir, fmt.Sprintf("d0/f%d", j))
		put(t, r.Dir, fmt.Sprintf("d0/new%d", j), "0123456789") // renamed, that is
	}
	passes(t, g, r)
	rm(t, r.Dir, "d9/f8")
	v := fails(t, g, r, "", "6 of 100 entries are gone, 5 may be: d0/f0, d0/f1, d0/f2, d0/f3, d0/f4 and 1 more")
	index := filepath.Join(r.State, shrinkIndex)
	if !strings.Contains(v.Reason, index) || v.Count != 1 {
		t.Errorf("%d: %v", v.Count, v)
	}

	// A run that was not released changes nothing.
	fails(t, g, r, "", "6 of 100")

	// As the verdict says.
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	released(t, g, r)
	passes(t, g, r)
}

func TestShrinkEntries(t *testing.T) {
	r := hundred(t)
	g := provision(t, &Shrink{Entries: "11"})
	released(t, g, r)
	rm(t, r.Dir, "d5")
	put(t, r.Dir, "e/x", "x")
	put(t, r.Dir, "d5", "no directory any more")
	passes(t, g, r) // 9 gone, 2 new
	rm(t, r.Dir, "d6")
	rm(t, r.Dir, "e")
	rm(t, r.Dir, "d5")
	fails(t, g, r, "", "there are 80 entries and were 100, 11 may be lost; gone are d5, d5/f0")
}

func TestShrinkBytes(t *testing.T) {
	r := hundred(t)
	put(t, r.Dir, "big", strings.Repeat("x", 1000))
	g := provision(t, &Shrink{Bytes: "10%"})
	released(t, g, r)
	put(t, r.Dir, "big", strings.Repeat("x", 811))
	passes(t, g, r)
	put(t, r.Dir, "big", strings.Repeat("x", 810))
	rm(t, r.Dir, "d0/f0")
	fails(t, g, r, "big", "may be lost; this file lost most")
}

// TestBudget checks that a percentage means what it says, though no float does.
func TestBudget(t *testing.T) {
	for n := range int64(10_001) {
		b, err := parseBudget(fmt.Sprintf("%d.%02d%%", n/100, n%100), false)
		if got := b.of(10_000); err != nil || got != n {
			t.Errorf("%d.%02d%% of 10000 are %d, %v", n/100, n%100, got, err)
		}
		if got := b.of(9_999); got > n || n < 10_000 && got == n && n > 0 {
			t.Errorf("%d.%02d%% of 9999 are %d", n/100, n%100, got)
		}
	}
	for text, want := range map[string]int64{"29%": 29, "33.3%": 33, "100%": 100, "0%": 0, "29": 29} {
		if b, err := parseBudget(text, false); err != nil || b.of(100) != want {
			t.Errorf("%s of 100 are %d, %v", text, b.of(100), err)
		}
	}
}

func TestShrinkAll(t *testing.T) {
	r := hundred(t)
	g := provision(t, &Shrink{Entries: "0%", Bytes: "0%", Deletions: "0%"})
	released(t, g, r)
	passes(t, g, r)
	for i := range 10 {
		rm(t, r.Dir, fmt.Sprintf("d%d", i))
	}
	v := fails(t, g, r, "", "100 of 100 entries are gone")
	if v.Count != 3 || len(v.More) != 2 {
		t.Errorf("%+v", v)
	}
}

func TestShrinkReleased(t *testing.T) {
	r := hundred(t)
	g := provision(t, &Shrink{Deletions: "0"})
	if err := g.Released(r); err == nil {
		t.Error("what was never checked is released")
	}
	passes(t, g, r)
	second := newRun(t, r.Dir)
	second.ID, second.State = "run-2", r.State
	if err := g.Released(second); err == nil || !strings.Contains(err.Error(), "run-1") {
		t.Errorf("what another run checked is released: %v", err)
	}
	if err := g.Released(r); err != nil {
		t.Fatal(err)
	}
	// A second shrink gate in the job.
	if err := g.Released(r); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(r.State, "*"))
	if len(left) != 1 {
		t.Errorf("in the state: %v", left)
	}
}

// TestShrinkBroken checks that a gate that can not read what was released says so.
func TestShrinkBroken(t *testing.T) {
	r := hundred(t)
	g := provision(t, &Shrink{Deletions: "5%"})
	released(t, g, r)
	whole := get(t, r.State, shrinkIndex)
	for name, text := range map[string]string{
		"empty":     "",
		"header":    whole[:100],
		"cut off":   whole[:len(whole)-20],
		"garbage":   whole[:headerLen] + strings.Repeat("garbage", 50),
		"no body":   whole[:headerLen],
		"format":    strings.Replace(whole, `"format":1`, `"format":2`, 1),
		"more":      strings.Replace(whole, `"entries":100`, `"entries":101`, 1),
		"no header": strings.Repeat("x", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			put(t, r.State, shrinkIndex, text)
			blind(t, g, r, "what was released last")
		})
	}
	rm(t, r.State, shrinkIndex)
	r.State = filepath.Join(r.State, "none")
	blind(t, g, r, "keeping what the tree has")
}

// TestIndexOrder checks names in the order of a walk, which is not that of their
// bytes.
func TestIndexOrder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/x", "a/y/z", "a-b", "a.c/d", "a b", "ab", "\x01", "\xff\xfe"} {
		put(t, dir, name, name)
	}
	tr, err := openTree(newRun(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	file := filepath.Join(t.TempDir(), "index")
	w, err := createIndex(file)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var sum total
	err = tr.walk(t.Context(), func(e entry) error {
		names = append(names, e.name)
		sum.entries++
		sum.bytes += e.size
		return w.add(e)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.finish("run", sum); err != nil {
		t.Fatal(err)
	}
	if len(names) != 11 || !slices.IsSortedFunc(names, compareNames) {
		t.Errorf("%q", names)
	}
	x, err := openIndex(file)
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	for _, want := range names {
		e, err := x.next()
		if err != nil || e.name != want {
			t.Fatalf("%q, %v; want %q", e.name, err, want)
		}
	}
}

func FuzzShrinkIndex(f *testing.F) {
	file := filepath.Join(f.TempDir(), "index")
	w, err := createIndex(file)
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"a", "a/b", "a/c", "b"} {
		if err := w.add(entry{name, 5}); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.finish("x", total{4, 20}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := newIndexReader("index", io.NopCloser(bytes.NewReader(b)))
		if err != nil {
			return
		}
		defer x.close()
		last := ""
		for range 100_000 {
			e, err := x.next()
			if err != nil {
				return
			}
			if compareNames(last, e.name) >= 0 || e.size < 0 {
				t.Fatalf("%q after %q", e.name, last)
			}
			last = e.name
		}
	})
}

// TestIndexLeftBehind checks that a check that was left behind, and ends late, does no harm
// to what the next one writes.
func TestIndexLeftBehind(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.next")
	write := func(w *indexWriter, prefix string) {
		for i := range 100_000 {
			if err := w.add(entry{fmt.Sprintf("%s-%06d-%x", prefix, i, i*i*7919), 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	create := func() *indexWriter {
		w, err := createIndex(name)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	old := create()
	write(old, "old")
	w := create()
	write(w, "new")
	write(old, "oldest")
	old.abandon()
	if err := w.finish("1", total{100_000, 1}); err != nil {
		t.Fatal(err)
	}
	w.abandon()
	r, err := openIndex(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for i := range 100_000 {
		if e, err := r.next(); err != nil || !strings.HasPrefix(e.name, "new") {
			t.Fatalf("entry %d: %q, %v", i, e.name, err)
		}
	}
	if left, _ := filepath.Glob(name + ".*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
