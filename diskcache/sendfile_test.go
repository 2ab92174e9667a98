package diskcache

import (
	"bytes"
	"io"
	"os"
	"sync"
	"testing"
)

// TestFile: what File lends is the body, for any number of readers at once,
// also after the entry is gone.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Limits{MaxSize: 64 << 20})
	bodies := map[Key][]byte{}
	for n, size := range []int{1, 5000, 1 << 20, 3<<20 + 77} {
		bodies[key(n)] = random(size, uint64(n))
		if err := put(t, c, key(n), bodies[key(n)]); err != nil {
			t.Fatal(err)
		}
	}
	check := func(e *Entry, want []byte) {
		t.Helper()
		f := e.File()
		if f == nil {
			t.Error("no file")
			return
		}
		defer e.Return(f)
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
		}
	}
	all := func() {
		t.Helper()
		for k, want := range bodies {
			e, ok := c.Get(k)
			if !ok {
				t.Fatalf("%v is not there", k)
			}
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() { check(e, want) })
			}
			wg.Wait()
			e.Close()
		}
	}
	all()
	c.Close()
	c = open(t, dir, Limits{MaxSize: 64 << 20})
	all()

	e, _ := c.Get(key(3))
	e.Remove()
	check(e, bodies[key(3)])
	e.Close()
	e, _ = c.Get(key(2))
	defer e.Close()
	f, err := os.OpenFile(fileOf(dir, key(2)), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if e.File() != nil {
		t.Error("a file that somebody made longer is lent")
	}
}

// TestFileOfUnknownSize: its body does not end where the file does.
func TestFileOfUnknownSize(t *testing.T) {
	c := open(t, t.TempDir(), Limits{MaxSize: 64 << 20})
	body := random(2<<20, 1)
	f, _ := c.Fill(key(1))
	if err := f.Start(Meta{Size: -1}, Freshness{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Leave()
	if got := get(t, c, key(1)); !bytes.Equal(got, body) {
		t.Errorf("got %d bytes", len(got))
	}
	e, _ := c.Get(key(1))
	defer e.Close()
	if e.File() != nil {
		t.Error("the file is lent")
	}
}
