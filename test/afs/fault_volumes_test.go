package afs_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// What operators do to volumes, and what happens to the database that says where
// they are.
func TestVolumeFaults(t *testing.T) {
	t.Parallel() // it waits, mostly
	f := &volumeFaults{c: cell.New(t, cell.Options{Partitions: []string{"a", "b"}})}
	f.files.add(2000, "%02d", 10)
	f.setUp(t)
	// Most of it takes time only since others wait: one client cannot ask the
	// database all the while.
	cut := f.cutOff(t)
	for _, s := range []struct {
		name string
		test func(*testing.T)
	}{
		{"denied", f.denied},
		{"locked", f.locked},
		{"offline", f.offline},
		{"moved", f.moved},
		{"read-write moved", f.movedReadWrite},
		{"renumbered", f.renumbered},
		{"deleted", f.deleted},
		{"database", f.database},
		{"database, half of it", f.databaseHalf},
	} {
		t.Run(s.name, s.test)
	}
	t.Run("database, for long", cut)
}

type volumeFaults struct {
	c      *cell.Cell
	files  generations
	deep   generations
	secret generations
	rw     map[string]*cell.Volume
	srv    *testcaddy.Server
	of     map[string]*witness
}

func (f *volumeFaults) setUp(t *testing.T) {
	t.Helper()
	f.deep.add(1000, "deep%d/b/c/d/e/f/g/h/file", 3)
	f.secret.add(10, "secret/%02d", 40)
	f.rw, f.of = map[string]*cell.Volume{}, map[string]*witness{}
	volumes := []string{"plain", "offline", "moved", "renumbered", "deleted"}
	for _, name := range volumes {
		f.rw[name] = newVolume(t, f.c, name, f.c.FS1, f.c.FS2)
		f.files.write(t, f.rw[name], 1)
	}
	f.deep.write(t, f.rw["plain"], 1)
	try(t, f.rw["plain"].MountPoint(t.Context(), "to-offline", wire.Mount{Kind: '#', Volume: "offline"}))
	try(t, f.rw["plain"].MountPoint(t.Context(), "to-nothing", wire.Mount{Kind: '#', Volume: "nothing"}))
	f.secret.write(t, f.rw["plain"], 1)
	try(t, f.rw["plain"].SetACL(t.Context(), "secret", wire.AccessLookup|wire.AccessAdminister))
	f.rw["rw"] = newVolume(t, f.c, "rw")
	f.files.write(t, f.rw["rw"], 1)
	release(t, f.c, volumes...)

	mounts := []string{"/rw afs://" + f.c.Name + ":rw {\nread_write\n}"}
	for _, name := range volumes {
		mounts = append(mounts, "/"+name+" afs://"+f.c.Name+":"+name)
	}
	f.srv = startMirror(t, f.c, "", mounts...)
	for _, name := range append(volumes, "rw") {
		f.of[name] = newWitness(f.srv, "/"+name, &f.files)
		f.of[name].coldAll(t, f.files.names, http.StatusOK, 1)
	}
}

// vos runs a command that is to succeed.
func (f *volumeFaults) vos(t *testing.T, args ...string) {
	t.Helper()
	_, err := f.c.Vos(t.Context(), args...)
	try(t, err)
}

// cold and kept are the names of files that tests ask for when they are not cached,
// and of others.
func (f *volumeFaults) cold() []string { return f.files.names[:5] }
func (f *volumeFaults) kept() []string { return f.files.names[5:] }

// unavailable checks that what is not cached is refused, in time.
func (f *volumeFaults) unavailable(t *testing.T, w *witness) {
	t.Helper()
	d := w.coldAll(t, f.cold(), http.StatusServiceUnavailable, 0)
	t.Logf("%s: 503 after %v", w.mount, d)
	if d > timeout+time.Second {
		t.Errorf("%s: 503 after %v", w.mount, d)
	}
}

// available waits until what is not cached is served.
func (f *volumeFaults) available(t *testing.T, w *witness, gen int) {
	t.Helper()
	d := waitFor(t, 15*time.Second, "well again", func() bool { return w.cold(t, f.cold()[0]).gen == gen })
	t.Logf("%s: well again after %v", w.mount, d)
	w.coldAll(t, f.files.names, http.StatusOK, gen)
}

// denied asks for much that is not given. Servers that often have to say no answer
// late: that must not count as silence.
func (f *volumeFaults) denied(t *testing.T) {
	w, j := newWitness(f.srv, "/plain", &f.secret), newJournal(f.srv)
	for _, name := range f.secret.names {
		r := w.get(t, name)
		r.want(t, name, http.StatusForbidden, 0)
		if r.took > time.Second {
			t.Errorf("%s: denied after %v", name, r.took)
		}
	}
	if d := f.of["plain"].coldAll(t, f.cold(), http.StatusOK, 1); d > time.Second {
		t.Errorf("%v beside files that are denied", d)
	}
	j.brief(t, 1)
}

func (f *volumeFaults) locked(t *testing.T) {
	f.vos(t, "lock", "plain")
	f.of["plain"].coldAll(t, f.cold(), http.StatusOK, 1)
	newWitness(f.mirror(t, "/plain afs://"+f.c.Name+":plain"), "/plain", &f.files).coldAll(t, f.cold(), http.StatusOK, 1)
	f.vos(t, "unlock", "plain")
}

func (f *volumeFaults) mirror(t *testing.T, mounts ...string) *testcaddy.Server {
	t.Helper()
	return startMirror(t, f.c, "", mounts...)
}

func (f *volumeFaults) offline(t *testing.T) {
	w, j := f.of["offline"], newJournal(f.srv)
	f.vos(t, "offline", f.c.FS1.Addr.String(), "a", "offline.readonly")
	if d := w.coldAll(t, f.cold(), http.StatusOK, 1); d > failover {
		t.Errorf("with one site offline: %v", d)
	}
	f.vos(t, "offline", f.c.FS2.Addr.String(), "a", "offline.readonly")
	stop := f.beside(t)
	f.unavailable(t, w)
	w.cachedAll(t, f.kept(), 1)
	stop()
	j.tells(t, 0, 1, `"origin is away","origin":"afs://`+f.c.Name+`:offline/"`)
	f.vos(t, "online", f.c.FS1.Addr.String(), "a", "offline.readonly")
	f.available(t, w, 1)
	f.vos(t, "online", f.c.FS2.Addr.String(), "a", "offline.readonly")
	waitFor(t, 15*time.Second, "well again", func() bool {
		_, body, err := f.srv.Get("/plain/to-offline/00")
		return err == nil && strings.HasPrefix(string(body), "1\n")
	})
	j.brief(t, 10)
}

// beside asks for files of another volume of the same servers, where a mount point
// leads to the volume that is offline, and one to none. The one must not suffer,
// and that the others fail is nothing new for each of those who ask.
func (f *volumeFaults) beside(t *testing.T) (stop func()) {
	t.Helper()
	w, end := f.of["plain"], make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			r := w.cold(t, f.cold()[n%5])
			if r.want(t, "beside a volume that is offline", http.StatusOK, 1); r.took > time.Second {
				t.Errorf("beside a volume that is offline: %v", r.took)
			}
			w.get(t, "to-nothing/00").want(t, "in a volume that is not", http.StatusNotFound, 0)
			select {
			case <-end:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	for n := range 10 {
		wg.Go(func() {
			time.Sleep(time.Duration(n) * 200 * time.Millisecond)
			w.get(t, fmt.Sprintf("to-offline/%02d", n)).
				want(t, "in a volume that is offline", http.StatusServiceUnavailable, 0)
		})
	}
	return func() { close(end); wg.Wait() }
}

// moved takes a site away and adds another, under load.
func (f *volumeFaults) moved(t *testing.T) {
	w := f.of["moved"]
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if r := w.cold(t, f.files.names[n%10]); r.status != http.StatusOK {
				t.Errorf("while a site is moved: status %d after %v", r.status, r.took)
			}
		}
	})
	stop := sync.OnceFunc(func() { close(end); wg.Wait() })
	t.Cleanup(stop)
	try(t, f.c.RemoveSite(t.Context(), "moved", f.c.FS2, "a"))
	f.files.write(t, f.rw["moved"], 2)
	try(t, f.c.AddSite(t.Context(), "moved", f.c.FS2, "b"))
	release(t, f.c, "moved")
	f.available(t, w, 2)
	stop()
	// It is really there.
	f.vos(t, "offline", f.c.FS1.Addr.String(), "a", "moved.readonly")
	w.coldAll(t, f.files.names, http.StatusOK, 2)
	f.vos(t, "online", f.c.FS1.Addr.String(), "a", "moved.readonly")
}

func (f *volumeFaults) movedReadWrite(t *testing.T) {
	w := f.of["rw"]
	f.vos(t, "move", "rw", f.c.FS1.Addr.String(), "a", f.c.FS2.Addr.String(), "b")
	f.available(t, w, 1)
	v, err := f.c.Open(t.Context(), "rw")
	try(t, err)
	f.files.write(t, v, 2)
	f.available(t, w, 2)
}

// remove removes a volume, all of it.
func (f *volumeFaults) remove(t *testing.T, name string) {
	t.Helper()
	for _, h := range []*cell.Host{f.c.FS1, f.c.FS2} {
		try(t, f.c.RemoveSite(t.Context(), name, h, "a"))
	}
	f.vos(t, "remove", "-id", name)
}

// renumbered makes a volume anew, under its name.
func (f *volumeFaults) renumbered(t *testing.T) {
	w, j := f.of["renumbered"], newJournal(f.srv)
	f.remove(t, "renumbered")
	f.unavailable(t, w)
	w.cachedAll(t, f.kept(), 1)
	v := newVolume(t, f.c, "renumbered", f.c.FS1)
	f.files.write(t, v, 2)
	release(t, f.c, "renumbered")
	f.available(t, w, 2)
	j.tells(t, 0, 1, "another number", "renumbered")
	j.brief(t, 6)
}

func (f *volumeFaults) deleted(t *testing.T) {
	w, j := f.of["deleted"], newJournal(f.srv)
	f.remove(t, "deleted")
	f.unavailable(t, w)
	w.cachedAll(t, f.kept(), 1)
	j.tells(t, 0, 1, "origin is away", "deleted", "no such volume")
	time.Sleep(6 * time.Second) // a look for releases or two
	w.cachedAll(t, f.kept(), 1)
	f.unavailable(t, w)
	j.brief(t, 6)
}

// database stops the volume location server: those who know the way go on, others
// cannot begin.
func (f *volumeFaults) database(t *testing.T) {
	w := f.of["plain"]
	try(t, f.c.DB.Vlserver().Pause())
	defer func() { try(t, f.c.DB.Vlserver().Continue()) }()
	d := w.coldAll(t, f.cold(), http.StatusOK, 1)
	t.Logf("known files: %v", d)
	if d > failover {
		t.Errorf("a file that is not cached, while the database is away: %v, want %v at most", d, failover)
	}
	for _, name := range f.kept() {
		w.get(t, name).want(t, name, http.StatusOK, 1)
	}
	deep := newWitness(f.srv, "/plain", &f.deep)
	d = deep.coldAll(t, f.deep.names, http.StatusOK, 1)
	t.Logf("files that nobody has asked for: %v", d)

	srv := f.mirror(t, "/plain afs://"+f.c.Name+":plain")
	fresh, j := newWitness(srv, "/plain", &f.files), newJournal(srv)
	f.unavailable(t, fresh)
	j.tells(t, 0, 1, "origin is away", "no volume location server", f.c.Name)
	try(t, f.c.DB.Vlserver().Continue())
	f.available(t, fresh, 1)
	j.tells(t, 0, 1, "origin is back")
	f.available(t, w, 1)
}

// databaseHalf has one of two volume location servers that does not answer.
func (f *volumeFaults) databaseHalf(t *testing.T) {
	config := site(t, f.c, "", "", "mirror_cache {\nmount /plain afs://"+f.c.Name+":plain\n}")
	nobody := f.c.DB.Addr.Next()
	config = strings.Replace(config, f.c.DB.Addr.String(), nobody.String()+" "+f.c.DB.Addr.String(), 1)
	srv := testcaddy.Start(t, config)
	srv.WaitReady(t)
	w := newWitness(srv, "/plain", &f.files)
	if d := w.coldAll(t, f.cold(), http.StatusOK, 1); d > failover {
		t.Errorf("the first time: %v", d)
	}
	if d := w.coldAll(t, f.cold(), http.StatusOK, 1); d > time.Second {
		t.Errorf("then: %v", d)
	}
}

// cutOff lets a client of its own learn where a volume is, and nothing more. What it
// knows is old when the test is run that is returned.
func (f *volumeFaults) cutOff(t *testing.T) func(*testing.T) {
	t.Helper()
	conn, err := f.c.Client.ListenUDP(0)
	try(t, err)
	tree := newTree(t, f.c, newClientAs(t, f.c, afs.Config{Conn: conn}), afs.Root{Volume: "plain"})
	read := func(t *testing.T, name string) time.Duration {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		start := time.Now()
		file, err := tree.Open(ctx, name)
		if err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
			return time.Since(start)
		}
		defer file.Close()
		b := make([]byte, file.Info().Size)
		if _, err = file.ReadAt(ctx, b, 0); err == nil {
			_, err = f.files.generation(name, b)
		}
		if err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		return time.Since(start)
	}
	tree.Release(t.Context())
	read(t, f.files.names[0])
	try(t, f.c.Client.DropFrom(f.c.DB))
	begin := time.Now()
	return func(t *testing.T) {
		time.Sleep(time.Until(begin.Add(35 * time.Second)))
		for _, name := range f.files.names[:3] {
			d := read(t, name)
			t.Logf("a file, %v after the database was last asked: %v", time.Since(begin).Round(time.Second), d)
			if d > 2*failover {
				t.Errorf("%v is too long", d)
			}
		}
		try(t, f.c.Client.Heal())
		waitFor(t, 15*time.Second, "well again", func() bool { return read(t, f.files.names[1]) < 500*time.Millisecond })
	}
}
