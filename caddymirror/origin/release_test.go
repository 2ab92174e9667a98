package origin

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func checkEvery(every time.Duration) func(*Dir) {
	return func(d *Dir) { d.ReleaseCheck = caddy.Duration(every) }
}

func marker(name string) func(*Dir) {
	return func(d *Dir) { d.ReleaseMarker = name }
}

// release makes link a link to target, as releases are switched.
func release(t testing.TB, target, link string) {
	t.Helper()
	tmp := link + ".new"
	symlink(t, target, tmp)
	if err := os.Rename(tmp, link); err != nil {
		t.Fatal(err)
	}
}

// next waits for a token other than old.
func next(t testing.TB, d *Dir, old string) string {
	t.Helper()
	waitFor(t, "there is another token than "+old, func() bool { return d.Release(t.Context()).Token != old })
	return d.Release(t.Context()).Token
}

// stays makes sure that the token stays what it is over some looks.
func stays(t testing.TB, d *Dir, token string) {
	t.Helper()
	start := time.Now()
	waitFor(t, "two looks", func() bool { return d.Release(t.Context()).Seen.After(start) })
	start = time.Now()
	waitFor(t, "two looks", func() bool { return d.Release(t.Context()).Seen.After(start) })
	if got := d.Release(t.Context()).Token; got != token {
		t.Fatalf("token %q has become %q", token, got)
	}
}

func TestNoRelease(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	write(t, root, "f", "bytes")
	d := newDir(t, root, checkEvery(time.Millisecond))
	before := time.Now()
	if r := d.Release(t.Context()); r.Token != "" || r.Seen.Before(before) {
		t.Errorf("%+v", r)
	}
	stays(t, d, "")
	if s := d.Status(); s.Reads+s.Stats+s.Lists+s.Errors != 0 || s.Seen.IsZero() {
		t.Errorf("looks at the release are counted: %+v", s)
	}

	// A look that fails leaves the release as it was.
	if err := os.Rename(root, root+"-gone"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it is missed", func() bool { return d.Status().State == "away" })
	seen := d.Release(t.Context()).Seen
	time.Sleep(20 * time.Millisecond)
	if r := d.Release(t.Context()); !r.Seen.Equal(seen) {
		t.Errorf("seen %v, then %v", seen, r.Seen)
	}
	// Another directory in its place is noticed, also by who asks for nothing
	// that is missing.
	write(t, root, "f", "other bytes")
	waitFor(t, "it is back", func() bool { return d.Status().State == "up" })
	if got, err := read(d, "f", 0); got != "other bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	write(t, root+"-2", "f", "yet other bytes")
	if err := os.Rename(root, root+"-old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(root+"-2", root); err != nil {
		t.Fatal(err)
	}
	stays(t, d, "")
	if got, err := read(d, "f", 0); got != "yet other bytes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	waitFor(t, "the old directories are closed", func() bool { return openFiles(t, root) == 1 })
}

func TestFirstRelease(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	d := newDir(t, root, timeout(100*time.Millisecond))
	if r := d.Release(t.Context()); r != (Release{}) {
		t.Errorf("missing root: %+v", r)
	}

	write(t, root+"2", "f", "")
	d = newDir(t, root+"2", timeout(300*time.Millisecond))
	h := newHang(t, d)
	h.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if r := d.Release(ctx); r != (Release{}) || ctx.Err() == nil {
		t.Errorf("%+v, %v", r, ctx.Err())
	}
	start := time.Now()
	if r := d.Release(context.Background()); r != (Release{}) || time.Since(start) > 2*time.Second {
		t.Errorf("%+v after %v", r, time.Since(start))
	}
	start = time.Now()
	d.Release(context.Background())
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("another call took %v", took)
	}
}

func TestReleaseLink(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "current")
	write(t, top, "A/f", "A", "B/f", "B", "A/only-a", "A")
	symlink(t, "A", root)
	d := newDir(t, root, checkEvery(time.Millisecond), marker("f")) // the link wins
	a := d.Release(t.Context()).Token
	if !strings.HasPrefix(a, "A@") {
		t.Fatalf("token %q", a)
	}
	stays(t, d, a)
	open, err := d.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()

	release(t, "B", root)
	b := next(t, d, a)
	if got, err := read(d, "f", 0); got != "B" || err != nil || !strings.HasPrefix(b, "B@") {
		t.Errorf("%q: %q, %v", b, got, err)
	}
	if got, err := io.ReadAll(open); string(got) != "A" || err != nil {
		t.Errorf("what was open before: %q, %v", got, err)
	}

	// Back to A, which may have been rebuilt: a release of its own.
	release(t, "A", root)
	a2 := next(t, d, b)
	if a2 == a {
		t.Errorf("token %q again", a)
	}
	stays(t, d, a2)
	time.Sleep(2 * tick) // the new link must have another time
	release(t, "A", root)
	a2 = next(t, d, a2)
	// Another process finds the same token.
	if w, err := findWay(root); err != nil || w.links != a2 {
		t.Errorf("%q, %v", w.links, err)
	}
	if s := d.Status(); s.Release != a2 || s.Seen.IsZero() {
		t.Errorf("%+v", s)
	}
	waitFor(t, "the old tree is closed", func() bool { return openFiles(t, filepath.Join(top, "B")) == 0 })
}

// TestReleaseLinkLeads: what counts is where the links lead in the end.
func TestReleaseLinkLeads(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "www", "root")
	write(t, top, "releases/1/f", "1", "releases/2/f", "2", "www/", "")
	symlink(t, filepath.Join(top, "stable/"), root)
	symlink(t, "releases/1/", filepath.Join(top, "stable"))
	d := newDir(t, root, checkEvery(time.Millisecond))
	one := d.Release(t.Context()).Token
	if !strings.Contains(one, "releases/1") {
		t.Fatalf("token %q", one)
	}
	if got, err := read(d, "f", 0); got != "1" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	release(t, "releases/2", filepath.Join(top, "stable"))
	next(t, d, one)
	if got, err := read(d, "f", 0); got != "2" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestReleaseAbove: a root may lie below the link to a snapshot.
func TestReleaseAbove(t *testing.T) {
	const first, second = "000001-20260301T120000.000000001Z", "000002-20260301T130000.000000002Z"
	for _, test := range []struct {
		name, root string
		target     func(top string) string // where the link to the first leads, but for its name
	}{
		{"below", "x.ro/d", nil},
		{"far below", "x.ro/d/e/f", nil},
		{"unclean", "x.ro//d/./e/", nil},
		{"itself", "x.ro", nil},
		{"absolute", "x.ro/d", func(top string) string { return filepath.Join(top, "x.ro.releases") }},
		{"by another link", "www/pub/e", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			top := t.TempDir()
			for _, name := range []string{first, second} {
				for _, dir := range []string{"", "/d", "/d/e", "/d/e/f"} {
					write(t, top, "x.ro.releases/"+name+dir+"/which", name)
				}
			}
			target := "x.ro.releases"
			if test.target != nil {
				target = test.target(top)
			}
			link := filepath.Join(top, "x.ro")
			symlink(t, target+"/"+first, link)
			write(t, top, "www/", "")
			symlink(t, "../www/../x.ro/d", filepath.Join(top, "www/pub"))

			d := newDir(t, filepath.Join(top, test.root), checkEvery(time.Hour), marker("which"))
			a := d.Release(t.Context()).Token
			if !strings.HasPrefix(a, target+"/"+first+"@") {
				t.Fatalf("token %q", a)
			}
			release(t, target+"/"+second, link)
			if strings.HasPrefix(test.root, "www/") {
				LookAt(d.String()) // it goes by names only
			} else {
				LookAt(link)
			}
			b := next(t, d, a)
			if got, err := read(d, "which", 0); got != second || err != nil || !strings.HasPrefix(b, target+"/"+second+"@") {
				t.Errorf("%q: %q, %v", b, got, err)
			}
			// Back, to what may have been rebuilt.
			release(t, target+"/"+first, link)
			LookAt(d.String())
			if c := next(t, d, b); c == a {
				t.Errorf("token %q again", a)
			}
		})
	}
}

// TestNoReleaseAbove: other links on the way to a root say nothing of what is in it.
func TestNoReleaseAbove(t *testing.T) {
	const release1 = "000001-20260301T120000.000000001Z"
	for link, target := range map[string]string{
		"disk":  "other",
		"ro":    "ro.releases/today",
		"x":     "y.releases/" + release1,
		"z":     "z.releases/" + release1 + "/sub",
		"plain": release1,
	} {
		t.Run(link, func(t *testing.T) {
			top := t.TempDir()
			write(t, top, target+"/d/f", "bytes")
			symlink(t, target, filepath.Join(top, link))
			d := newDir(t, filepath.Join(top, link, "d"))
			if r := d.Release(t.Context()); r.Token != "" || r.Seen.IsZero() {
				t.Errorf("%+v", r)
			}
		})
	}

	// One release does not wake those next to it.
	top := t.TempDir()
	write(t, top, "a-b/f", "bytes", "a/f", "bytes")
	next, below := newDir(t, filepath.Join(top, "a-b"), checkEvery(time.Hour)), newDir(t, filepath.Join(top, "a"), checkEvery(time.Hour))
	was := next.Release(t.Context()).Seen
	start := time.Now()
	below.Release(t.Context())
	LookAt(filepath.Join(top, "a"))
	waitFor(t, "a look", func() bool { return below.Release(t.Context()).Seen.After(start) })
	if seen := next.Release(t.Context()).Seen; !seen.Equal(was) {
		t.Errorf("looked at %v after %v", seen, was)
	}
}

func TestLinksLoop(t *testing.T) {
	top := t.TempDir()
	symlink(t, "b", filepath.Join(top, "a"))
	symlink(t, "a", filepath.Join(top, "b"))
	for _, path := range []string{"a", "a/d", "none", "none/d"} {
		if w, err := findWay(filepath.Join(top, path)); err == nil {
			t.Errorf("%s: %q", path, w.links)
		}
	}
	if w, err := findWay("/"); w.links != "" || err != nil {
		t.Errorf("%q, %v", w.links, err)
	}
}

// TestReleaseOrder: who has seen a token never reads what was before it.
// Releases come in bursts, so that many are switched during one look, with
// pauses in which a wrong one would be read.
func TestReleaseOrder(t *testing.T) {
	const bursts, burst = 10, 80
	top := t.TempDir()
	for i := range bursts*burst + 1 {
		write(t, top, strconv.Itoa(i)+"/f", strconv.Itoa(i))
	}
	number := func(s string) int {
		s, _, _ = strings.Cut(s, "@")
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	for _, name := range []string{"watched", "renewed by others too"} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(top, "current")
			os.Remove(root)
			symlink(t, "0", root)
			d := newDir(t, root, checkEvery(2*time.Millisecond))
			waitFor(t, "the first release is seen", func() bool { return d.Release(t.Context()).Token != "" })
			var stop atomic.Bool
			var wg sync.WaitGroup
			defer func() { stop.Store(true); wg.Wait() }()
			var reads atomic.Int32
			seen := make(map[int]bool)
			for i := range 2 {
				wg.Go(func() {
					for !stop.Load() {
						r := number(d.Release(t.Context()).Token)
						if i == 0 {
							seen[r] = true
						}
						got, err := read(d, "f", 0)
						switch {
						case errors.Is(err, ErrAway): // it was switched too often meanwhile
						case err != nil:
							t.Error(err)
						case number(got) < r:
							t.Errorf("release %d was seen, but %s read", r, got)
						case i == 0:
							reads.Add(1)
						}
						if name == "watched" {
							continue
						}
						// Something missing has the tree renewed.
						if _, err := d.Stat(t.Context(), "nope"); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrAway) {
							t.Error(err)
						}
					}
				})
			}
			for i := range bursts {
				for j := range burst {
					release(t, strconv.Itoa(i*burst+j+1), root)
				}
				time.Sleep(20 * time.Millisecond)
				before := reads.Load()
				waitFor(t, "some reads in a pause", func() bool { return reads.Load() >= before+3 })
			}
			waitFor(t, "the last release is seen", func() bool { return number(d.Release(t.Context()).Token) == bursts*burst })
			stop.Store(true)
			wg.Wait()
			t.Logf("%d reads, %d releases seen", reads.Load(), len(seen))
			if reads.Load() < 20 || len(seen) < 3 {
				t.Error("too few")
			}
			waitFor(t, "the old trees are closed", func() bool { return openFiles(t, top) <= 1 })
			d.Cleanup()
		})
	}
}

func TestReleaseMarker(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "bytes")
	d := newDir(t, root, checkEvery(time.Millisecond), marker("meta/timestamp.txt"))
	stays(t, d, "")
	path := filepath.Join(root, "meta/timestamp.txt")
	old := time.Now().Add(-time.Hour)
	mark := func(content string, mtime time.Time) {
		t.Helper()
		write(t, root, "mark.new", content, "meta/", "")
		if err := os.Chtimes(filepath.Join(root, "mark.new"), mtime, mtime); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(root, "mark.new"), path); err != nil {
			t.Fatal(err)
		}
	}
	mark("one", old)
	one := next(t, d, "")
	stays(t, d, one)
	mark("two", old)
	two := next(t, d, one)
	mark("two", old.Add(time.Second))
	three := next(t, d, two)
	mark("two.", old.Add(time.Second))
	four := next(t, d, three)
	mark("one", old)
	if again := next(t, d, four); again != one {
		t.Errorf("%q, want %q: nothing differs", again, one)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next(t, d, one)
	stays(t, d, "")

	// A marker that leads out of the tree is none.
	symlink(t, "/etc/passwd", path)
	stays(t, d, "")
	if s := d.Status(); s.Reads+s.Stats+s.Lists+s.Errors != 0 {
		t.Errorf("%+v", s)
	}

	// That everything is gone is no release.
	mark("one", old)
	next(t, d, "")
	if err := os.RemoveAll(filepath.Join(root, "meta")); err != nil {
		t.Fatal(err)
	}
	next(t, d, one)
	mark("one", old)
	next(t, d, "")
	empty := t.TempDir()
	if err := os.Rename(root, root+"-gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(empty, root); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it is missed", func() bool { return d.Status().State == "away" })
	if r := d.Release(t.Context()); r.Token != one {
		t.Errorf("%+v", r)
	}
}

// TestMovedAway: a root that is no longer at its path is away, though its tree
// is still open, and back when it is.
func TestMovedAway(t *testing.T) {
	root := filepath.Join(t.TempDir(), "tree")
	write(t, root, "f", "f")
	d := newDir(t, root, func(d *Dir) { d.ReleaseCheck = caddy.Duration(10 * time.Millisecond) })
	d.Release(t.Context())
	answers := func(want error) func() bool {
		return func() bool {
			_, err := d.Stat(t.Context(), "f")
			return errors.Is(err, want)
		}
	}
	waitFor(t, "the tree to be there", answers(nil))
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the tree to be away", answers(ErrAway))
	if err := os.Rename(root+".away", root); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the tree to be back", answers(nil))
}

// TestReleaseOfTreeAtOnce: who is given anything of a new tree finds it released from
// then on, before the next look and also when the tree has gone.
func TestReleaseOfTreeAtOnce(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "r1"), "f", "one")
	write(t, filepath.Join(base, "r2"), "f", "two")
	write(t, filepath.Join(base, "r2"), "new", "two")
	root := filepath.Join(base, "current")
	release(t, "r1", root)
	d := newDir(t, root, checkEvery(time.Hour))
	was := d.Release(t.Context()).Token
	if _, err := d.Stat(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	release(t, "r2", root)
	start := time.Now()
	// What is missing has the root looked at.
	if _, err := d.Stat(t.Context(), "new"); err != nil {
		t.Fatal(err)
	}
	is := d.Release(t.Context())
	if is.Token == was || is.Seen.Before(start) {
		t.Errorf("a file of the new tree was seen, and the release is %+v", is)
	}
	if s := d.Status(); s.Release != is.Token {
		t.Errorf("the status tells of release %s", s.Release)
	}
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat(t.Context(), "missing"); !errors.Is(err, ErrAway) {
		t.Errorf("the root is gone: %v", err)
	}
	if got := d.Release(t.Context()); got.Token != is.Token {
		t.Errorf("with the root the release is gone: %+v", got)
	}
}
