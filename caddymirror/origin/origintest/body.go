package origintest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

// sizes lie around those that implementations read by.
var sizes = []int{0, 1, 1000, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 18, 1<<18 + 1, 1<<20 + 3}

func putSizes(t *testing.T, tree *Tree) map[string][]byte {
	files := map[string][]byte{}
	for n, size := range sizes {
		files["f"+strconv.Itoa(size)] = pattern(n, size)
	}
	tree.Put(t, files)
	return files
}

func testOffsets(t *testing.T, tree *Tree) {
	for name, want := range putSizes(t, tree) {
		size := int64(len(want))
		for _, off := range []int64{0, 1, size / 2, size - 1, size, size + 1, size + 1<<20, 1 << 60} {
			if off < 0 {
				continue
			}
			rest := want[min(off, size):]
			got, info, err := read(t.Context(), tree, name, off)
			if err != nil || !bytes.Equal(got, rest) || info.Size != size {
				t.Errorf("%s at %d: %d bytes, or others than the %d wanted; %+v, %v", name, off, len(got), len(rest), info, err)
			}
		}
		b, err := tree.Open(t.Context(), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := b.Read(nil); n != 0 || err != nil && (err != io.EOF || size > 0) {
			t.Errorf("%s: a read of nothing: %d, %v", name, n, err)
		}
		if err := iotest.TestReader(noSeek{b}, want); err != nil && size < 1<<17 { // it reads byte by byte
			t.Errorf("%s: %v", name, err)
		}
		if _, err := io.Copy(io.Discard, noSeek{b}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for range 2 {
			if n, err := b.Read(make([]byte, 10)); n != 0 || err != io.EOF {
				t.Errorf("%s: a read at the end: %d, %v", name, n, err)
			}
		}
		b.Close()
	}
}

// noSeek is a Body by its Read only.
type noSeek struct{ io.Reader }

func testWriteTo(t *testing.T, tree *Tree) {
	errFull := errors.New("no room")
	for name, want := range putSizes(t, tree) {
		for _, begun := range []int{0, 1, len(want) / 2} {
			b, err := tree.Open(t.Context(), name, 0)
			if err != nil {
				t.Fatal(err)
			}
			w, ok := b.(io.WriterTo)
			if !ok {
				b.Close()
				return // it has none
			}
			var got bytes.Buffer
			first, err := io.CopyN(&got, noSeek{b}, int64(min(begun, len(want))))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			n, err := w.WriteTo(&got)
			if err != nil || first+n != int64(got.Len()) || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s: after %d, WriteTo gives %d bytes, or others; %v", name, first, n, err)
			}
			b.Close()
		}
		if len(want) == 0 {
			continue
		}
		// What the writer says is not the origin's failure.
		b, err := tree.Open(t.Context(), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		if w, ok := b.(io.WriterTo); ok {
			if _, err := w.WriteTo(iotest.TruncateWriter(brokenWriter{errFull}, 0)); err != nil {
				t.Errorf("a writer that takes all: %v", err)
			}
		}
		b.Close()
		if b, err = tree.Open(t.Context(), name, 0); err != nil {
			t.Fatal(err)
		}
		if n, err := b.(io.WriterTo).WriteTo(brokenWriter{errFull}); !errors.Is(err, errFull) || errors.Is(err, origin.ErrAway) || n != 0 {
			t.Errorf("%s: a writer that fails: %d, %v", name, n, err)
		}
		b.Close()
	}
	if s := tree.Status(); s.Errors != 0 {
		t.Errorf("%+v", s)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func testClose(t *testing.T, tree *Tree) {
	tree.Put(t, map[string][]byte{"f": pattern(1, 1<<20)})
	for _, reads := range []int{0, 1, 3} {
		b, err := tree.Open(t.Context(), "f", 0)
		if err != nil {
			t.Fatal(err)
		}
		for range reads {
			if _, err := b.Read(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if n, err := b.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("a read after Close: %d, %v", n, err)
		}
		_ = b.Close() // whatever it says
		if b.Info().Size != 1<<20 {
			t.Errorf("Info after Close: %+v", b.Info())
		}
	}
	if s := tree.Status(); s.Errors != 0 {
		t.Errorf("reads after Close are errors of the origin: %+v", s)
	}
}

// testVersions: a validator is that of one sequence of bytes, and an ETag, too.
//
// A twin is only told from what it has replaced: an inode number may be that of a
// file from before, which nothing else tells from it.
func testVersions(t *testing.T, tree *Tree) {
	for _, size := range []int{10, 1<<20 + 10} {
		name := "f" + strconv.Itoa(size)
		var last origin.Info
		check := func(body []byte, twin bool) {
			t.Helper()
			got, info, err := read(t.Context(), tree, name, 0)
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%s: %d bytes, or others; %v", name, len(got), err)
			}
			for range 3 { // it stays
				i, err := tree.Stat(t.Context(), name)
				if err != nil || i.Validator != info.Validator || i.ETag != info.ETag {
					t.Errorf("%s: Stat says %+v, %v, and Open %+v", name, i, err, info)
				}
			}
			// The validator of a large twin may be the same: it says what need not be
			// copied anew.
			if info.Same(last) && (!twin || size < 1<<20) {
				t.Errorf("%s: two versions have the validator %s", name, info.Validator)
			}
			if info.ETag == last.ETag && info.ETag != "" {
				t.Errorf("%s: two versions have the ETag %s", name, info.ETag)
			}
			last = info
		}
		for version := range 3 {
			body := pattern(version, size+version)
			tree.Put(t, map[string][]byte{name: body})
			check(body, false)
		}
		for version := range 3 {
			body := pattern(10+version, size+2)
			tree.Twin(t, name, body)
			check(body, true)
		}
		// What has not changed keeps both.
		tree.Put(t, map[string][]byte{"other": []byte(name)})
		if i, err := tree.Stat(t.Context(), name); err != nil || !i.Same(last) || i.ETag != last.ETag {
			t.Errorf("%s: %+v, and after a change of another file %+v, %v", name, last, i, err)
		}
	}
}

// testChanged: a body gives bytes of the version that it was opened in, or none.
func testChanged(t *testing.T, tree *Tree) {
	const size = 3 << 20
	for version := range 3 {
		old := pattern(2*version, size)
		tree.Put(t, map[string][]byte{"f": old})
		b, err := tree.Open(t.Context(), "f", 0)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := io.CopyN(&got, noSeek{b}, 1000); err != nil {
			t.Fatal(err)
		}
		if version == 2 {
			tree.Twin(t, "f", pattern(2*version+1, size))
		} else {
			tree.Put(t, map[string][]byte{"f": pattern(2*version+1, size+version*10)})
		}
		_, err = io.Copy(&got, noSeek{b})
		if !bytes.HasPrefix(old, got.Bytes()) {
			t.Errorf("%d bytes are not all of the old version", got.Len())
		}
		if err == nil && got.Len() != size {
			t.Errorf("%d of %d bytes, and no error", got.Len(), size)
		}
		b.Close()
	}
}

func testConcurrency(t *testing.T, tree *Tree) {
	files := putSizes(t, tree)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for name, want := range files {
				off := int64(n * len(want) / 8)
				got, _, err := read(t.Context(), tree, name, off)
				if err != nil || !bytes.Equal(got, want[off:]) {
					t.Errorf("%s at %d: %d bytes, or others; %v", name, off, len(got), err)
				}
				if _, err := tree.Stat(t.Context(), name); err != nil {
					t.Error(err)
				}
				if infos, err := list(t.Context(), tree, "."); err != nil || len(infos) != len(files) {
					t.Errorf("%d entries, %v", len(infos), err)
				}
			}
		})
	}
	wg.Wait()
}

// testContexts: who has left gets nothing, soon, and it is not the origin's failure.
func testContexts(t *testing.T, tree *Tree) {
	tree.Put(t, map[string][]byte{"f": pattern(1, 1<<20), "d/f": nil})
	before := tree.Status()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{canceled, expired} {
		for range 10 {
			start := time.Now()
			_, serr := tree.Stat(ctx, "f")
			b, oerr := tree.Open(ctx, "f", 0)
			if oerr == nil {
				b.Close()
			}
			_, lerr := list(ctx, tree, "d")
			for call, err := range map[string]error{"Stat": serr, "Open": oerr, "ReadDir": lerr} {
				if err == nil {
					continue // it was known
				}
				if !errors.Is(err, origin.ErrAway) || !errors.Is(err, ctx.Err()) {
					t.Errorf("%s with %v: %v", call, ctx.Err(), err)
				}
				onlyOne(t, err)
			}
			tree.Release(ctx)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("with %v the calls took %v", ctx.Err(), took)
			}
		}
		if s := tree.Status(); s.State != "up" || ctx == canceled && s.Errors != before.Errors {
			t.Errorf("with %v: %+v", ctx.Err(), s)
		}
	}
	// ctx bounds the opening, not the reading.
	ctx, cancel := context.WithCancel(t.Context())
	b, err := tree.Open(ctx, "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cancel()
	if got, err := io.ReadAll(b); err != nil || len(got) != 1<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func testRelease(t *testing.T, tree *Tree) {
	tree.Put(t, map[string][]byte{"f": []byte("one")})
	first := tree.Release(t.Context())
	if tree.Releases != (first.Token != "") || first.Token != "" && first.Seen.IsZero() {
		t.Errorf("%+v", first)
	}
	for range 3 {
		if _, _, err := read(t.Context(), tree, "f", 0); err != nil {
			t.Fatal(err)
		}
		if r := tree.Release(t.Context()); r.Token != first.Token || r.Seen.Before(first.Seen) {
			t.Errorf("%+v, then %+v", first, r)
		}
	}
	tree.Put(t, map[string][]byte{"f": []byte("two")})
	if r := tree.Release(t.Context()); tree.Releases && r.Token == first.Token {
		t.Errorf("the token is still %s", r.Token)
	}
	if s := tree.Status(); tree.Releases && s.Release == first.Token {
		t.Errorf("%+v", s)
	}
}

// testPanics: a bug that one object brings out fails that, and nothing else.
func testPanics(t *testing.T, tree *Tree) {
	if tree.Panic == nil {
		t.Skip("there is no way to have it panic")
	}
	tree.Put(t, map[string][]byte{"bad": []byte("bad"), "good": []byte("good")})
	open, err := tree.Open(t.Context(), "bad", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	mend := tree.Panic("bad")
	contained := func(call string, err error) {
		t.Helper()
		if p, ok := errors.AsType[*panics.Error](err); !ok || !errors.Is(err, origin.ErrAway) || len(p.Stack) == 0 {
			t.Errorf("%s: %v", call, err)
		}
		onlyOne(t, err)
	}
	for range 10 {
		_, err := tree.Stat(t.Context(), "bad")
		contained("Stat", err)
		_, err = tree.Open(t.Context(), "bad", 0)
		contained("Open", err)
		if got, _, err := read(t.Context(), tree, "good", 0); err != nil || string(got) != "good" {
			t.Errorf("beside it: %q, %v", got, err)
		}
	}
	_, err = open.Read(make([]byte, 10))
	contained("Read", err)
	if s := tree.Status(); s.State != "up" || s.Panics < 20 || s.Panics > s.Errors {
		t.Errorf("%+v", s)
	}
	mend()
	if got, _, err := read(t.Context(), tree, "bad", 0); err != nil || string(got) != "bad" {
		t.Errorf("after that: %q, %v", got, err)
	}
}
