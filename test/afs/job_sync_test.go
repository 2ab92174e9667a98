package afs_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/caddymirror/syncer/syncertest"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// testSync: rsync and reprepro fill read-write volumes that OpenAFS' own client has
// mounted, gates look at them, and what is released gets to clients, and only that.
func testSync(t *testing.T) {
	for _, program := range []string{"afsd.fuse", "rsync", "reprepro", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			testcaddy.Missing(t, program+" is not installed (make deps installs it)")
		}
	}
	c := cell.New(t, cell.Options{})
	s := &synced{c: c, client: newClient(t, c), upstream: t.TempDir(), archive: newAptArchive(t)}
	newVolume(t, c, "set", c.FS1, c.FS2)
	s.deb = newVolume(t, c, "deb", c.FS2) // which takes no time to release
	newVolume(t, c, "pypi", c.FS2)
	f, err := c.Client.MountFuse(t.Context(), cell.FuseOptions{})
	try(t, err)
	t.Cleanup(func() { try(t, f.Unmount()) })
	s.fuse = f
	prefix := vosPrefix(t, c)
	s.hold = filepath.Join(t.TempDir(), "hold")
	// Dates are whole seconds: what is released in the second in which it was written
	// is released once more.
	const second = "gate exec sleep 1.1\n"
	// This client can set no times of files, so they are told apart by what is in them.
	jobs := `job set {
		directory ` + s.tree("set") + `
		sync rsync ` + s.upstream + ` {
			args --no-times --checksum
		}
		` + second + `
		gate exists f0 f11
		` + releaseAFS(c, prefix, "set", "tries 1") + `
	}
	job deb {
		directory ` + s.tree("deb") + `
		sync reprepro ` + s.archive.confdir + ` {
			basedir ` + t.TempDir() + `
			outdir  ` + s.tree("deb") + `
		}
		` + second + `
		gate exec sh -c "while [ -e ` + s.hold + ` ]; do sleep 0.05; done"
		gate apt
		` + releaseAFS(c, prefix, "deb", "tries 1") + `
	}
	job pypi {
		directory ` + s.tree("pypi") + `
		sync bandersnatch ` + s.bandersnatch(t) + ` {
			command ` + s.conf + `/bandersnatch
		}
		` + second + `
		` + releaseAFS(c, prefix, "pypi", "tries 1") + `
	}
	`
	s.srv = startSite(t, jobSite(t, c, jobs, "set", "deb", "pypi"))
	s.readers.srv = s.srv
	var wg sync.WaitGroup
	for name, test := range map[string]func(*testing.T){"rsync": s.rsync, "reprepro": s.reprepro, "bandersnatch": s.quiet} {
		wg.Go(func() { t.Run(name, test) })
	}
	wg.Wait()
	t.Run("truncated", s.truncated)
}

// synced is a cell with a volume for rsync and one for reprepro, set and deb.
type synced struct {
	c        *cell.Cell
	client   *afs.Client
	deb      *cell.Volume
	fuse     *cell.Fuse
	srv      *testcaddy.Server
	readers  setReaders
	upstream string // of rsync
	archive  *aptArchive
	hold     string // a file: the gates of deb wait while it is there
	conf     string // a directory: of bandersnatch's stand-in
}

// tree is where a volume is mounted, to be written to.
func (s *synced) tree(volume string) string {
	return filepath.Join(s.fuse.Dir, ".:mount", s.c.Name+":"+volume)
}

// release runs a job that has something to release, and one more time.
func (s *synced) release(t *testing.T, name string) {
	t.Helper()
	r := runner{t, s.srv, name}
	r.want(job.Released, "")
	v := volumeState(t, s.client, s.c, name)
	if ok, why := v.Published(); !ok {
		t.Errorf("volume %s: %s", name, why)
	}
	r.want(job.Unchanged, "")
	if again := volumeState(t, s.client, s.c, name); !again.Released().Equal(v.Released()) {
		t.Errorf("volume %s is released at %v, and again at %v without a change", name, v.Released(), again.Released())
	}
}

func (s *synced) rsync(t *testing.T) {
	writeSetDir(t, s.upstream, 1)
	s.release(t, "set")
	served(t, &s.readers, 1)
	check := reading(t, &s.readers)
	writeSetDir(t, s.upstream, 2)
	s.release(t, "set")
	served(t, &s.readers, 2)
	check()
}

func (s *synced) reprepro(t *testing.T) {
	s.archive.add(t, 0)
	s.release(t, "deb")
	s.served(t, 0)
	s.archive.add(t, 1)
	runner{t, s.srv, "deb"}.want(job.Released, "")
	s.served(t, 1)
	s.release(t, "deb") // without the old package
	s.served(t, 1)
}

// bandersnatch makes a stand-in of bandersnatch, and returns its configuration.
func (s *synced) bandersnatch(t *testing.T) (config string) {
	t.Helper()
	s.conf = t.TempDir()
	config = filepath.Join(s.conf, "conf")
	try(t, os.WriteFile(filepath.Join(s.conf, "bandersnatch"), []byte(syncertest.Bandersnatch), 0o755))
	try(t, os.WriteFile(config, []byte("[mirror]\ndirectory = "+s.tree("pypi")+"\n"), 0o644))
	return config
}

// quiet: a volume is written to in each run of bandersnatch, and released only if that
// has brought something, or somebody else has written to it.
func (s *synced) quiet(t *testing.T) {
	do := func(settings string) {
		t.Helper()
		try(t, os.WriteFile(filepath.Join(s.conf, "do"), []byte(settings+"\n"), 0o644))
	}
	r := runner{t, s.srv, "pypi"}
	do("serial=7 packages='foo bar'")
	r.want(job.Released, "")
	before := volumeState(t, s.client, s.c, "pypi")
	do("serial=7 packages=")
	for range 5 {
		time.Sleep(1100 * time.Millisecond) // dates are whole seconds
		r.want(job.Unchanged, "")
	}
	after := volumeState(t, s.client, s.c, "pypi")
	if !after.Released().Equal(before.Released()) {
		t.Errorf("a quiet index was released at %v, and at %v", before.Released(), after.Released())
	}
	if at := after.ReadWrite().Info.Updated; !at.After(after.Released()) {
		t.Errorf("the volume was last written to at %v: the stand-in is none", at)
	}
	time.Sleep(1100 * time.Millisecond)
	try(t, os.WriteFile(filepath.Join(s.tree("pypi"), "web/robots.txt"), []byte("by hand"), 0o644))
	r.want(job.Released, "")
	r.want(job.Unchanged, "")
	if _, body, err := s.srv.Get("/pypi/web/robots.txt"); err != nil || string(body) != "by hand" {
		t.Errorf("what was written by hand is served as %q, %v", body, err)
	}
	do("serial=8 packages=bar")
	r.want(job.Released, "")
	do("serial=8 packages=")
	r.want(job.Unchanged, "")
}

// served waits until an index is served that has a version of the package, which is
// served, too.
func (s *synced) served(t *testing.T, version int) {
	t.Helper()
	var index string
	waitFor(t, 10*time.Second, fmt.Sprintf("served: an index of version %d", version), func() bool {
		index = string(s.get(t, "dists/test/main/binary-amd64/Packages"))
		return strings.Contains(index, fmt.Sprintf("Version: %d\n", version))
	})
	for line := range strings.Lines(index) {
		if name, ok := strings.CutPrefix(line, "Filename: "); ok {
			if got := len(s.get(t, strings.TrimSpace(name))); !strings.Contains(index, fmt.Sprintf("\nSize: %d\n", got)) {
				t.Errorf("%d bytes are served of what this index lists:\n%s", got, index)
			}
		}
	}
}

func (s *synced) get(t *testing.T, name string) []byte {
	t.Helper()
	resp, body, err := s.srv.Get("/deb/" + name)
	try(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", name, resp.Status)
	}
	return body
}

// aptArchive is a repository of Debian packages, and the configuration of a mirror
// of it.
type aptArchive struct {
	dir, confdir string
}

func newAptArchive(t *testing.T) *aptArchive {
	t.Helper()
	a := &aptArchive{t.TempDir(), t.TempDir()}
	try(t, os.Mkdir(filepath.Join(a.dir, "conf"), 0o755))
	const distribution = "Codename: test\nArchitectures: amd64\nComponents: main\n"
	for name, text := range map[string]string{
		a.dir + "/conf/distributions": distribution,
		a.confdir + "/distributions":  distribution + "Update: upstream\n",
		a.confdir + "/updates": "Name: upstream\nMethod: file:" + a.dir +
			"\nSuite: test\nVerifyRelease: blindtrust\nGetInRelease: no\n",
	} {
		try(t, os.WriteFile(name, []byte(text), 0o644))
	}
	return a
}

// add puts a version of the package into the archive.
func (a *aptArchive) add(t *testing.T, version int) {
	t.Helper()
	dir := t.TempDir()
	try(t, os.Mkdir(filepath.Join(dir, "DEBIAN"), 0o755))
	try(t, os.WriteFile(filepath.Join(dir, "DEBIAN/control"), []byte("Package: foo\nVersion: "+strconv.Itoa(version)+
		"\nArchitecture: amd64\nSection: misc\nPriority: optional\nMaintainer: Test <test@example.org>\nDescription: test\n"), 0o644))
	try(t, os.WriteFile(filepath.Join(dir, "data"), content(fmt.Sprint("foo ", version), 300_000), 0o644))
	deb := filepath.Join(t.TempDir(), "foo.deb")
	for _, argv := range [][]string{
		{"dpkg-deb", "--build", dir, deb},
		{"reprepro", "--basedir", a.dir, "includedeb", "test", deb},
	} {
		if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
	}
}

// truncated: a file in the volume is shorter than the index says, as a client leaves
// it that has not stored the end of it yet. That is not published, nor what comes with
// it, until it is whole.
func (s *synced) truncated(t *testing.T) {
	const version, file = 2, "pool/main/f/foo/foo_2_amd64.deb"
	before := volumeState(t, s.client, s.c, "deb").Released()
	s.archive.add(t, version)
	whole, err := os.ReadFile(filepath.Join(s.archive.dir, file))
	try(t, err)

	deb := runner{t, s.srv, "deb"}
	try(t, os.WriteFile(s.hold, nil, 0o600))
	id := deb.begin()
	waitFor(t, 20*time.Second, "before the gate", func() bool {
		run := deb.status().Current
		return run != nil && run.Stage == "gate exec"
	})
	try(t, s.deb.WriteFile(t.Context(), file, whole[:len(whole)-1000], cell.Attr{}))
	try(t, os.Remove(s.hold))
	check(t, deb.wait(id), job.Held, "gate apt", file)
	// The next run finds the same, before or at the gate.
	if run := deb.run(); run.Outcome != job.Failed && run.Outcome != job.Held {
		t.Errorf("it is as before: %+v", run)
	}
	if at := volumeState(t, s.client, s.c, "deb").Released(); !at.Equal(before) {
		t.Errorf("a file is truncated, and the volume was released at %v", at)
	}
	s.served(t, version-1)

	try(t, s.deb.WriteFile(t.Context(), file, whole, cell.Attr{}))
	waitFor(t, 5*time.Second, "seen to be whole", func() bool { // its size is cached for a second
		fi, err := os.Stat(filepath.Join(s.tree("deb"), file))
		return err == nil && fi.Size() == int64(len(whole))
	})
	deb.want(job.Released, "")
	s.served(t, version)
}
