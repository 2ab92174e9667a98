package afs_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/job"
	sample "github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestMirrors has both mirrors from the build to the client: an update host whose jobs
// write what bandersnatch brings, and wheels that are built of that, into AFS volumes, and
// release them; two regional hosts with a cache each that serve them; and pip, which
// installs from both.
func TestMirrors(t *testing.T) {
	testcaddy.Need(t, "afsd.fuse", "python3", "pip3", "gcc")
	m := newMirrors(t)
	for _, step := range []struct {
		name string
		test func(*testing.T)
	}{
		{"released", m.released},
		{"unchanged", m.unchanged},
		{"bumped", m.bumped},
		{"paused", m.paused},
		{"flipped", m.flipped},
	} {
		if !t.Run(step.name, step.test) {
			t.FailNow()
		}
	}
}

// mirrors are an update host and two regional hosts.
type mirrors struct {
	c           *cell.Cell
	client      *afs.Client
	volumes     map[string]*cell.Volume
	fuse        *cell.Fuse
	upstream    *fakePyPI
	app         sample.Dist
	constraints string
	pypi, wheel runner
	regions     []region
}

func newMirrors(t *testing.T) *mirrors {
	c := cell.New(t, cell.Options{})
	m := &mirrors{c: c, client: newClient(t, c), volumes: map[string]*cell.Volume{}}
	for _, v := range []string{"pypi", "wheel"} {
		m.volumes[v] = newVolume(t, c, v, c.FS1, c.FS2)
	}
	f, err := c.Client.MountFuse(t.Context(), cell.FuseOptions{})
	try(t, err)
	t.Cleanup(func() { try(t, f.Unmount()) })
	m.fuse = f
	m.upstream = newPyPI(t, m.tree("pypi"))
	m.constraints = filepath.Join(t.TempDir(), "upper-constraints.txt")

	prefix := vosPrefix(t, c)
	const (
		// Dates are whole seconds: what is released in the second in which it was written
		// is released once more.
		second = "gate exec sleep 1.1\n"
		mounts = `mirror_cache {
			mount /pypi afs://CELL:pypi/web {
				format pypi
			}
			mount /wheel afs://CELL:wheel {
				format wheel
				browse
			}
		}`
	)
	serve := strings.ReplaceAll(mounts, "CELL", c.Name)
	jobs := `job pypi {
		directory ` + m.tree("pypi") + `
		sync bandersnatch ` + m.upstream.config() + ` {
			command ` + m.upstream.program() + `
		}
		` + second + `
		gate pypi {
			hash
		}
		` + releaseAFS(c, prefix, "pypi", "tries 1") + `
	}
	job wheel {
		directory ` + m.tree("wheel") + `
		sync wheels {
			constraints ` + m.constraints + `
			python /usr/bin/python3
			index http://{$ADDR}/pypi/simple/
			max_failures 0
		}
		` + second + `
		gate wheel
		` + releaseAFS(c, prefix, "wheel", "tries 1") + `
	}
	`
	update := startSite(t, strings.Replace(site(t, c, "", "", serve), "mirror {", "mirror {\n"+jobs, 1))
	m.pypi, m.wheel = runner{t, update, "pypi"}, runner{t, update, "wheel"}
	for range 2 {
		m.regions = append(m.regions, region{Server: startSite(t, site(t, c, "", "", serve))})
	}
	return m
}

// tree is where a volume is mounted at the update host, to be written to.
func (m *mirrors) tree(volume string) string {
	return filepath.Join(m.fuse.Dir, ".:mount", m.c.Name+":"+volume)
}

// want writes the constraints.
func (m *mirrors) want(t *testing.T, lines ...string) {
	t.Helper()
	try(t, os.WriteFile(m.constraints, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

// run runs a job, which must end like that, and be the only one to release anything.
func (m *mirrors) run(t *testing.T, r runner, outcome job.Outcome, counts map[string]int) {
	t.Helper()
	r.t = t
	before := volumeState(t, m.client, m.c, r.job).Released()
	run := r.want(outcome, "")
	if run.Outcome == job.Failed {
		logs, err := filepath.Glob(filepath.Join(r.srv.Home, "data/caddy/mirror/jobs", r.job, "wheels.logs/*"))
		try(t, err)
		for _, name := range logs {
			text, err := os.ReadFile(name)
			try(t, err)
			t.Logf("%s:\n%s", filepath.Base(name), text)
		}
		t.FailNow()
	}
	v := volumeState(t, m.client, m.c, r.job)
	if ok, why := v.Published(); !ok && outcome == job.Released {
		t.Errorf("volume %s: %s", r.job, why)
	}
	if released := !v.Released().Equal(before); released != (outcome == job.Released) {
		t.Errorf("volume %s: released is %t: %v, and before %v", r.job, released, v.Released(), before)
	}
	for state, n := range run.Counts {
		if n == 0 {
			delete(run.Counts, state)
		}
	}
	if !maps.Equal(run.Counts, counts) {
		t.Errorf("job %s counts %v, want %v\n%s", r.job, run.Counts, counts, r.log(run.ID))
	}
}

// built is a wheel that the update host has built.
func (m *mirrors) built(t *testing.T, platform, project, version string) []byte {
	t.Helper()
	name := strings.ReplaceAll(project, "-", "_") + "-" + version + "-*.whl"
	found, err := filepath.Glob(filepath.Join(m.tree("wheel"), platform, project[:1], project, name))
	try(t, err)
	if len(found) != 1 {
		t.Fatalf("there are %d wheels %s: %q", len(found), name, found)
	}
	data, err := os.ReadFile(found[0])
	try(t, err)
	return data
}

// platform is the directory of the wheels.
func (m *mirrors) platform(t *testing.T) string {
	t.Helper()
	all, err := os.ReadDir(m.tree("wheel"))
	try(t, err)
	if len(all) != 1 {
		t.Fatalf("the volume of wheels has %v", all)
	}
	return all[0].Name()
}

// install installs from a region what the mirrors should have, and runs it.
func (m *mirrors) install(t *testing.T, r region, native string) {
	t.Helper()
	requirements := pinned("mirror-app", "1.0", m.app.Data) +
		pinned("mirror-native", native, m.built(t, r.platform, "mirror-native", native)) +
		pinned("mirror-pure", "2.0", m.built(t, r.platform, "mirror-pure", "2.0"))
	const program = "import mirror_app, mirror_native, mirror_pure; print(mirror_app.version, mirror_native.version(), mirror_pure.version())"
	if got, want := r.install(t, requirements, program), "1.0 "+native+" 2.0"; got != want {
		t.Errorf("what was installed prints %q, want %q", got, want)
	}
}

// follow waits until a page that a region serves has a text.
func (r region) follow(t *testing.T, page, text string) {
	t.Helper()
	waitFor(t, 10*time.Second, page+" with "+text, func() bool {
		_, body, err := r.Get(page, "Accept: text/html")
		try(t, err)
		return strings.Contains(string(body), text)
	})
}

// released: what is new is released, and both regions serve it.
func (m *mirrors) released(t *testing.T) {
	m.app = dist(t, sample.Wheel{Name: "mirror-app", Version: "1.0", Files: map[string]string{"mirror_app.py": "version = \"1.0\"\n"}})
	m.upstream.add(t, debianWheel(t, "setuptools"), debianWheel(t, "wheel"), m.app, nativeSdist(t, "1.0"), pureSdist(t, "2.0"))
	m.want(t, "# of all branches", "mirror-app===1.0", "Mirror.Native===1.0", "mirror-pure===2.0;python_version>='3.0'")
	m.run(t, m.pypi, job.Released, nil)
	m.run(t, m.wheel, job.Released, map[string]int{"built": 2, "upstream": 1})
	platform := m.platform(t)
	for i := range m.regions {
		m.regions[i].platform = platform
		m.install(t, m.regions[i], "1.0")
	}
}

// unchanged: runs that bring nothing release nothing.
func (m *mirrors) unchanged(t *testing.T) {
	m.run(t, m.pypi, job.Unchanged, nil)
	m.run(t, m.wheel, job.Unchanged, map[string]int{"published": 2, "upstream": 1})
}

// bumped: of a constraint that is bumped one wheel is built, and the index reads one.
func (m *mirrors) bumped(t *testing.T) {
	m.upstream.add(t, nativeSdist(t, "1.1"))
	m.want(t, "mirror-app===1.0", "mirror-native===1.1", "mirror-pure===2.0")
	m.run(t, m.pypi, job.Released, nil)
	var before []testcaddy.Origin
	for _, r := range m.regions {
		before = append(before, r.Origins(t, "/wheel")[0])
	}
	m.run(t, m.wheel, job.Released, map[string]int{"built": 1, "published": 1, "upstream": 1})
	for i, r := range m.regions {
		bumped := m.built(t, r.platform, "mirror-native", "1.1")
		r.follow(t, "/wheel/"+r.platform+"/mirror-native/", fmt.Sprintf("sha256=%x", sha256.Sum256(bumped)))
		now := r.Origins(t, "/wheel")[0]
		if reads, bytes := now.Reads-before[i].Reads, now.ReadBytes-before[i].ReadBytes; reads != 1 || bytes != uint64(len(bumped)) {
			t.Errorf("the index has read %d files, %d bytes, and one of %d is new", reads, bytes, len(bumped))
		}
		m.install(t, r, "1.1")
	}
}

// paused: whichever file server is silent, a region that has nothing in its cache installs.
func (m *mirrors) paused(t *testing.T) {
	r := m.regions[0]
	for _, h := range []*cell.Host{m.c.FS1, m.c.FS2} {
		for _, mount := range []string{"/pypi", "/wheel"} {
			n, err := r.Purge(mount, "", "/")
			try(t, err)
			if n == 0 {
				t.Errorf("%s has nothing in the cache", mount)
			}
		}
		try(t, h.Fileserver().Pause())
		m.install(t, r, "1.1")
		try(t, h.Fileserver().Continue())
		time.Sleep(3 * time.Second) // until it is asked again
	}
}

// flipped: nothing is found wrong with both hosts, until a bit of a file is flipped in the
// volume, for the host that does not have the file in its cache.
func (m *mirrors) flipped(t *testing.T) {
	checked := func(r region) (code int, out string) {
		stdout, stderr, code := r.Exec("mirror", "check", r.URL, "--pypi", "/pypi", "--wheel", "/wheel", "--all")
		return code, stdout + stderr
	}
	for _, r := range m.regions {
		if code, out := checked(r); code != 0 || strings.Count(out, "good") != 2 {
			t.Errorf("status %d:\n%s", code, out)
		}
	}
	var name string
	try(t, filepath.WalkDir(m.tree("pypi"), func(path string, d os.DirEntry, err error) error {
		if d != nil && d.Name() == m.app.Filename {
			name, err = filepath.Rel(m.tree("pypi"), path)
		}
		return err
	}))
	data := []byte(string(m.app.Data))
	data[len(data)/2] ^= 1
	try(t, m.volumes["pypi"].WriteFile(t.Context(), name, data, cell.Attr{}))
	before := m.regions[0].Origins(t, "/pypi")[0].Release
	m.pypi.t = t
	m.pypi.want(job.Held, "gate pypi", m.app.Filename)
	release(t, m.c, "pypi")
	for i, r := range m.regions {
		waitFor(t, 10*time.Second, fmt.Sprint("the release at ", i), func() bool { return r.Origins(t, "/pypi")[0].Release != before })
	}
	n, err := m.regions[1].Purge("/pypi", "/"+strings.TrimPrefix(name, "web/"), "")
	try(t, err)
	if n != 1 {
		t.Errorf("%d entries are purged", n)
	}
	if code, out := checked(m.regions[0]); code != 0 {
		t.Errorf("it has all files in its cache, and status %d:\n%s", code, out)
	}
	if code, out := checked(m.regions[1]); code != 1 || !strings.Contains(out, m.app.Filename+" its sha256 is") {
		t.Errorf("status %d:\n%s", code, out)
	}
}
