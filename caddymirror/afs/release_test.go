package afs

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// page has a file in each of some directories, all of the same contents.
func page(v *fakeVolume, text string) {
	for _, name := range []string{"index", "a/index", "a/b/index"} {
		v.write(name, text)
	}
}

// torn gives a site what is half of two releases, under the date it has.
func torn(s *fakeSite, v *fakeVolume) {
	files := maps.Clone(s.files)
	for vnode, f := range v.head {
		if f.typ == wire.File {
			half := *f
			half.data = append([]byte(nil), f.data...)
			copy(half.data[len(half.data)/2:], strings.Repeat("?", len(half.data)))
			f = &half
		}
		files[vnode] = f
	}
	s.files = files
}

// TestReleaseFirst: the newest of all sites, though the older ones answer sooner.
func TestReleaseFirst(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	page(v, "two")
	v.release(firstDate+200, 0)
	c.files[0].on(func(string, wire.FID, int64) int32 {
		time.Sleep(30 * time.Millisecond)
		return 0
	})
	_, tree := c.start()
	for range 5 {
		wantFile(t, tree, "a/index", "two")
	}
}

// TestReleasePartial: two sites are online with different releases, and the
// database says nothing of it.
func TestReleasePartial(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	_, tree := c.start()
	wantFile(t, tree, "a/index", "one")
	c.do(func() {
		page(v, "two")
		v.release(firstDate+200, 0)
	})
	looked(t, tree)
	for range 20 {
		for _, name := range []string{"index", "a/index", "a/b/index"} {
			wantFile(t, tree, name, "two")
		}
	}
	// The new one is away for long: nothing is better than the old.
	c.do(func() { v.sites[0].fail = wire.VOffline })
	got, _, err := contents(within(t, 1200*time.Millisecond), tree, "a/index")
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("reads %q, %v, where only an older release is there", got, err)
	}
	c.do(func() { v.sites[0].fail = 0 })
	wantFile(t, tree, "a/index", "two")
}

// TestReleaseNeverBack: once the newer release was seen, a server that dies takes
// it along.
func TestReleaseNeverBack(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	page(v, "two")
	v.release(firstDate+200, 0)
	_, tree := c.start()
	wantFile(t, tree, "index", "two")
	before := tree.Release(within(t, 5*time.Second))
	c.files[0].silent.Store(true)
	for range 2 {
		if got, _, err := contents(within(t, 2500*time.Millisecond), tree, "index"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("reads %q, %v", got, err)
		}
	}
	looked(t, tree)
	after := tree.Last()
	if after.Token != before.Token || after.Seen.After(time.Now().Add(-2*time.Second)) && after.Seen.After(before.Seen) {
		t.Errorf("release is %+v, was %+v", after, before)
	}
	c.do(func() { v.release(firstDate+200, 1) })
	wantFile(t, tree, "index", "two")
}

// TestReleaseSites: sites that the database does not list for use are not asked,
// whatever they have.
func TestReleaseSites(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		flags [3]wire.SiteFlags
		use   [3]bool
	}{
		{"one not to be used", [3]wire.SiteFlags{wire.SiteRO, wire.SiteRO | wire.SiteDontUse, wire.SiteRO}, [3]bool{true, false, true}},
		{"one is new", [3]wire.SiteFlags{wire.SiteRO, wire.SiteRO | wire.SiteNewRelease, wire.SiteRO}, [3]bool{false, true, false}},
		{"one is new, one old", [3]wire.SiteFlags{wire.SiteRO | wire.SiteNewRelease, wire.SiteRO | wire.SiteDontUse, wire.SiteRO | wire.SiteDontUse}, [3]bool{true, false, false}},
		{"new and not to be used", [3]wire.SiteFlags{wire.SiteRO | wire.SiteNewRelease | wire.SiteDontUse, wire.SiteRO, wire.SiteRO}, [3]bool{false, true, true}},
		{"read-write is new", [3]wire.SiteFlags{wire.SiteRW | wire.SiteNewRelease, wire.SiteRO, wire.SiteRO}, [3]bool{false, true, true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newFakeCell(t, 3)
			v := c.vols["root.cell"]
			page(v, "good")
			v.release(firstDate + 100)
			page(v, "bad")
			for i, s := range v.sites {
				s.flags = test.flags[i]
				if !test.use[i] {
					v.release(firstDate+200, i)
				}
			}
			_, tree := c.start()
			for i := range 10 {
				wantFile(t, tree, "a/index", "good")
				if i == 5 {
					looked(t, tree)
				}
			}
			for i, s := range c.files {
				if got := s.calls() > 0; got != test.use[i] {
					t.Errorf("server %d was asked: %v, want %v", i, got, test.use[i])
				}
			}
		})
	}
}

// TestReleaseStruckOff: a site that is struck off after it has answered did not
// answer: directories, links, small files and statuses come from another one.
func TestReleaseStruckOff(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"index", "a/index", "link"} { // a file, one in a directory, and a link
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 8 { // for the site is chosen by chance
				c := newFakeCell(t, 2)
				v := c.vols["root.cell"]
				page(v, "one")
				v.link("link", "a/index")
				v.release(firstDate + 100)
				_, tree := c.start()
				if _, err := tree.Stat(within(t, 5*time.Second), "."); err != nil {
					t.Fatal(err)
				}
				c.do(func() {
					page(v, "two")
					v.write("a/more", "two")
					v.link("link", "a/more")
					torn(v.sites[1], v)
					c.files[1].hook = func(op string, _ wire.FID, _ int64) int32 {
						if op == "data" {
							c.do(func() { v.sites[1].flags |= wire.SiteDontUse })
						}
						return 0
					}
				})
				wantFile(t, tree, name, "one")
				if i, err := tree.Stat(within(t, 5*time.Second), "a/more"); err == nil {
					t.Fatalf("a name of no release is there: %+v", i)
				}
			}
		})
	}
}

// TestReleaseTornStatus: what a torn site has said of a file is forgotten when it
// is struck off.
func TestReleaseTornStatus(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	client, tree := c.start()
	ctx := within(t, 10*time.Second)
	if _, err := tree.Stat(ctx, "."); err != nil {
		t.Fatal(err)
	}
	c.do(func() {
		page(v, "three")
		v.write("a/more", "three")
		torn(v.sites[1], v)
		v.sites[0].fail = wire.VBusy // so that the torn one is asked
	})
	for _, name := range []string{"index", "a"} {
		if _, err := tree.Stat(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	// Now it is known.
	c.do(func() {
		v.sites[0].fail = 0
		v.sites[1].flags |= wire.SiteDontUse
	})
	expire(client)
	looked(t, tree)
	if i, err := tree.Stat(ctx, "index"); err != nil || i.Size != 3 {
		t.Errorf("index has %d bytes, %v, want 3", i.Size, err)
	}
	if _, err := tree.ReadDir(ctx, "a"); err != nil {
		t.Errorf("listing: %v", err)
	}
	wantFile(t, tree, "a/index", "one")
}

// TestReleaseStruckWhileRead: a file that was opened before its site was struck off
// is read to its end; from a site that is written to already it is not.
func TestReleaseStruckWhileRead(t *testing.T) {
	t.Parallel()
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprintf("half written %v", half), func(t *testing.T) {
			t.Parallel()
			c := newFakeCell(t, 1)
			v := c.vols["root.cell"]
			v.write("large", pattern(1, 3*chunk))
			v.release(firstDate + 100)
			_, tree := c.start()
			var once sync.Once
			c.files[0].on(func(op string, _ wire.FID, off int64) int32 {
				if op == "data" && off >= 2*chunk {
					once.Do(func() {
						c.do(func() { v.sites[0].flags |= wire.SiteDontUse })
						if half {
							v.write("large", pattern(2, 3*chunk))
							c.do(func() { torn(v.sites[0], v) })
						}
					})
				}
				return 0
			})
			ctx := within(t, 5*time.Second)
			f, err := tree.Open(ctx, "large")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b := make([]byte, 3*chunk)
			_, err = f.ReadAt(ctx, b, 0)
			switch {
			case half && !errors.Is(err, ErrChanged):
				t.Errorf("read from a torn site: %v", err)
			case !half && (err != nil || string(b) != pattern(1, 3*chunk)):
				t.Errorf("not what was opened: %v", err)
			}
		})
	}
}

// TestReleaseStruckWhileOpened: a site that is struck off by the time it has told of
// a file is not believed.
func TestReleaseStruckWhileOpened(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	v.write("large", pattern(1, 3*chunk))
	v.release(firstDate + 100)
	_, tree := c.start()
	c.files[0].on(func(op string, _ wire.FID, _ int64) int32 {
		if op == "data" {
			c.do(func() { v.sites[0].flags |= wire.SiteDontUse })
		}
		return 0
	})
	if _, err := tree.Open(within(t, 2*time.Second), "large"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("opened: %v", err)
	}
}

// TestReleaseToldAtOnce: who sees that a volume has a new release does not find the
// tree in the old one, whatever the tree is busy with.
func TestReleaseToldAtOnce(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	client, tree := c.start()
	was := tree.Release(within(t, 5*time.Second)).Token
	wantFile(t, tree, "index", "one")
	vol := client.cell(c.name).volume("root.cell", wire.ReadOnly)
	tree.Last() // it is put together now

	tree.mu.Lock()
	advanced := make(chan struct{})
	go func() {
		defer close(advanced)
		vol.advance(vol.order(0)[0].server, firstDate+200)
	}()
	for end := time.Now().Add(5 * time.Second); vol.current() != firstDate+200 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	is := make(chan string, 1)
	go func() { is <- tree.Last().Token }()
	time.Sleep(50 * time.Millisecond)
	tree.mu.Unlock()
	if token := <-is; token == was {
		t.Errorf("the tree is still in %s", token)
	}
	<-advanced
}

// TestReleaseRegress: an older release is taken for meant when all sites have had
// it for long, and nobody works on the volume.
func TestReleaseRegress(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate + 100)
	older := [2]fakeFiles{v.sites[0].files, v.sites[1].files}
	page(v, "two")
	v.release(firstDate + 200)
	client, tree := c.start()
	wantFile(t, tree, "index", "two")
	before := tree.Release(within(t, 5*time.Second)).Token
	vol := client.cell(c.name).volume("root.cell", wire.ReadOnly)
	back := func(i int) {
		c.do(func() { v.sites[i].files, v.sites[i].date = older[i], firstDate+100 })
	}
	long := func() {
		vol.mu.Lock()
		defer vol.mu.Unlock()
		if !vol.olds.IsZero() {
			vol.olds = vol.olds.Add(-2 * regressAfter)
		}
	}
	refused := func(why string) {
		t.Helper()
		for range 2 {
			looked(t, tree)
			long()
		}
		looked(t, tree)
		if got, _, err := contents(within(t, 700*time.Millisecond), tree, "index"); got == "one" || vol.current() != firstDate+200 {
			t.Errorf("%s: reads %q, %v, of %d", why, got, err, vol.current())
		}
	}
	back(0)
	refused("one site has it")
	back(1)
	c.do(func() { v.flags |= wire.LockedForRelease })
	expire(client)
	refused("the volume is locked")
	c.do(func() { v.flags &^= wire.LockedForRelease })
	expire(client)
	looked(t, tree)
	if vol.current() != firstDate+200 {
		t.Error("went back at once")
	}
	long()
	looked(t, tree)
	looked(t, tree)
	wantFile(t, tree, "index", "one")
	if after := tree.Last(); after.Token == before || after.Seen.IsZero() {
		t.Errorf("release is %+v, was %s", after, before)
	}
}

// TestReleaseValidators: those of files that a release did not change stay.
func TestReleaseValidators(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	v := c.vols["root.cell"]
	v.write("same", "same")
	v.write("changed", "one")
	v.write("made anew", "one")
	v.write("touched", "one")
	v.release(firstDate + 100)
	_, tree := c.start()
	names := []string{"same", "changed", "made anew", "touched"}
	before := map[string]Info{}
	for _, n := range names {
		i, err := tree.Stat(within(t, 5*time.Second), n)
		if err != nil {
			t.Fatal(err)
		}
		before[n] = i
	}
	token := tree.Release(within(t, 5*time.Second)).Token
	c.do(func() {
		v.write("changed", "two")
		v.remove("made anew")
		v.write("made anew", "two")
		v.edit("touched", func(f *fakeFile) { f.mtime++ })
		v.release(firstDate + 200)
	})
	looked(t, tree)
	if now := tree.Last().Token; now == token {
		t.Errorf("token is still %s", now)
	}
	for _, n := range names {
		i, err := tree.Stat(within(t, 5*time.Second), n)
		if err != nil {
			t.Fatal(err)
		}
		if same := i.Validator() == before[n].Validator() && i.ETag() == before[n].ETag(); same != (n == "same") {
			t.Errorf("%s: %s and %s", n, before[n].Validator(), i.Validator())
		}
		opened := wantFile(t, tree, n, map[bool]string{true: "same", false: map[string]string{
			"changed": "two", "made anew": "two", "touched": "one",
		}[n]}[n == "same"])
		if opened.Validator() != i.Validator() {
			t.Errorf("%s: %s by Stat, %s by Open", n, i.Validator(), opened.Validator())
		}
	}
	// Nothing changes: nothing else does.
	bytes, token := c.total("data"), tree.Last().Token
	c.do(func() { v.release(firstDate + 300) })
	looked(t, tree)
	if now := tree.Last().Token; now == token {
		t.Errorf("token is still %s", now)
	}
	for _, n := range names {
		if _, err := tree.Stat(within(t, 5*time.Second), n); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.total("data") - bytes; n != 0 {
		t.Errorf("%d reads after a release of nothing", n)
	}
}

// TestReleaseWhileWalking: names and files are of one release.
func TestReleaseWhileWalking(t *testing.T) {
	t.Parallel()
	for _, at := range []struct{ op, name string }{
		{"data", "a"}, {"data", "a/b"}, {"data", "a/b/index"}, {"status", "a"}, {"status", "a/b"},
	} {
		t.Run(at.op+" of "+at.name, func(t *testing.T) {
			t.Parallel()
			c := newFakeCell(t, 2)
			v := c.vols["root.cell"]
			page(v, "one")
			v.release(firstDate + 100)
			_, tree := c.start()
			vnode := v.find(at.name).fid.Vnode
			var once sync.Once
			for _, s := range c.files {
				s.on(func(op string, fid wire.FID, _ int64) int32 {
					if op == at.op && fid.Vnode == vnode {
						once.Do(func() {
							c.do(func() {
								// What is named as before is something else.
								v.remove("a/b/index")
								v.remove("a/b")
								v.remove("a")
								v.write("a/b/other", "two")
								v.write("a/b/index", "two")
								v.release(firstDate + 200)
							})
						})
					}
					return 0
				})
			}
			wantFile(t, tree, "a/b/index", "two")
		})
	}
}

// TestReleaseOverAndOver: volumes that never rest do not hang anybody.
func TestReleaseOverAndOver(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	page(v, "one")
	v.release(firstDate)
	_, tree := c.start()
	var date atomic.Uint32
	date.Store(firstDate)
	c.files[0].on(func(op string, fid wire.FID, _ int64) int32 {
		if op != "hello" && op != "bye" {
			c.do(func() {
				page(v, fmt.Sprint(date.Load()))
				v.release(date.Add(1))
			})
		}
		return 0
	})
	start := time.Now()
	_, err := tree.Stat(within(t, 5*time.Second), "a/b/index")
	if err != nil && !errors.Is(err, ErrUnavailable) || time.Since(start) > 5500*time.Millisecond {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// TestReleaseAcrossVolumes: each volume on a way has releases of its own.
func TestReleaseAcrossVolumes(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	root, sub := c.vols["root.cell"], c.volume("sub")
	root.mount("sub", "#sub.")
	root.write("index", "root one")
	root.release(firstDate + 500)
	page(sub, "sub one")
	sub.release(firstDate + 100)
	_, tree := c.start()
	wantFile(t, tree, "sub/a/index", "sub one")
	one := tree.Release(within(t, 5*time.Second))
	for _, part := range []string{fmt.Sprint(root.ids[1], "@", firstDate+500), fmt.Sprint(sub.ids[1], "@", firstDate+100)} {
		if !strings.Contains(strings.ReplaceAll(one.Token, " ", ""), strings.ReplaceAll(part, " ", "")) {
			t.Errorf("token %q does not have %s", one.Token, part)
		}
	}
	c.do(func() {
		page(sub, "sub two")
		sub.release(firstDate + 200)
	})
	looked(t, tree)
	if two := tree.Last(); two.Token == one.Token || two.Seen.Before(one.Seen) {
		t.Errorf("release is %+v, was %+v", two, one)
	}
	wantFile(t, tree, "sub/a/index", "sub two")
	wantFile(t, tree, "index", "root one")
	// The other way round: the mount point leads elsewhere.
	other := c.volume("other")
	c.do(func() {
		page(other, "other")
		other.release(firstDate + 50)
		root.remove("sub")
		root.mount("sub", "#other.")
		root.release(firstDate + 600)
	})
	looked(t, tree)
	wantFile(t, tree, "sub/a/index", "other")
}

// TestReleaseWhileReading: a file that takes many calls is of one version.
func TestReleaseWhileReading(t *testing.T) {
	t.Parallel()
	const size = 6*chunk + 1000
	one, two := pattern(1, size), pattern(2, size)
	for _, test := range []struct {
		name   string
		change func(c *fakeCell, v *fakeVolume)
		want   string // one: all of it is the first; changed: ErrChanged; or either
	}{
		{"changed", func(_ *fakeCell, v *fakeVolume) {
			v.write("large", two)
			v.release(firstDate + 200)
		}, "changed"},
		{"removed", func(_ *fakeCell, v *fakeVolume) {
			v.remove("large")
			v.release(firstDate + 200)
		}, "changed"},
		{"one site still has it", func(_ *fakeCell, v *fakeVolume) {
			v.write("large", two)
			v.release(firstDate+200, 0)
		}, "one"},
		{"removed, one site still has it", func(_ *fakeCell, v *fakeVolume) {
			v.remove("large")
			v.release(firstDate+200, 0)
		}, "either"},
		{"not changed", func(_ *fakeCell, v *fakeVolume) {
			v.write("other", "two")
			v.release(firstDate + 200)
		}, "one"},
		{"one site is offline", func(_ *fakeCell, v *fakeVolume) {
			v.sites[0].fail = wire.VOffline
		}, "one"},
		{"shorter", func(_ *fakeCell, v *fakeVolume) {
			v.write("large", two[:chunk])
			v.release(firstDate + 200)
		}, "changed"},
		{"torn under the old date", func(_ *fakeCell, v *fakeVolume) {
			v.write("large", two)
			for _, s := range v.sites {
				torn(s, v)
			}
		}, "changed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newFakeCell(t, 2)
			v := c.vols["root.cell"]
			v.write("large", one)
			v.release(firstDate + 100)
			_, tree := c.start()
			var once sync.Once
			for _, s := range c.files {
				s.on(func(op string, _ wire.FID, off int64) int32 {
					if op == "data" && off >= 3*chunk {
						once.Do(func() { c.do(func() { test.change(c, v) }) })
					}
					return 0
				})
			}
			got, _, err := contents(within(t, 8*time.Second), tree, "large")
			if !strings.HasPrefix(one, got) {
				t.Fatalf("%d bytes are not of the first version", len(got))
			}
			switch {
			case test.want == "changed" && !errors.Is(err, ErrChanged):
				t.Errorf("%d bytes, %v, want ErrChanged", len(got), err)
			case test.want == "either" && errors.Is(err, ErrChanged):
			case test.want != "changed" && (err != nil || len(got) != size):
				t.Errorf("%d bytes, %v, want all", len(got), err)
			}
		})
	}
}

// TestReleaseBulk: a listing during which the volume goes offline is not taken
// for one of files that nobody may see.
func TestReleaseBulk(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	for i := range 20 {
		v.write(fmt.Sprintf("file%02d", i), "one")
	}
	v.release(firstDate + 100)
	_, tree := c.start()
	var tries atomic.Int32
	c.files[0].changing(func(op string, _ wire.FID, _ int64, reply []byte) []byte {
		if op == "bulk" && tries.Add(1) == 1 {
			// As real servers do: each file is looked at by itself.
			for i := 5; i < 20; i++ {
				copy(reply[4+84*i:], failedStatus(nil, wire.VOffline))
			}
		}
		return reply
	})
	list, err := tree.ReadDir(within(t, 5*time.Second), ".")
	if err != nil || len(list) != 20 {
		t.Fatalf("%d files, %v", len(list), err)
	}
	for _, i := range list {
		if i.Denied || i.Size != 3 {
			t.Errorf("%s is %+v", i.Name, i)
		}
	}
}
