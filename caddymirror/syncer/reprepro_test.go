package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// archive is a real repository made by reprepro, and the configuration of a mirror
// of it.
type archive struct {
	t       testing.TB
	dir     string // of the archive
	confdir string // of the mirror
	base    string
	out     string
}

func newArchive(t *testing.T) *archive {
	t.Helper()
	for _, program := range []string{"reprepro", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs ", program)
		}
	}
	if !exists("/usr/lib/apt/methods/file") {
		t.Skip("needs the methods of apt")
	}
	a := &archive{t: t, dir: t.TempDir(), base: t.TempDir(), out: t.TempDir(), confdir: t.TempDir()}
	const distribution = "Codename: test\nArchitectures: amd64\nComponents: main\n"
	write(t, filepath.Join(a.dir, "conf/distributions"), distribution)
	write(t, filepath.Join(a.confdir, "distributions"), distribution+"Update: upstream\n")
	write(t, filepath.Join(a.confdir, "updates"),
		"Name: upstream\nMethod: file:"+a.dir+"\nSuite: test\nVerifyRelease: blindtrust\nGetInRelease: no\n")
	return a
}

func (a *archive) reprepro(args ...string) {
	a.t.Helper()
	if out, err := exec.Command("reprepro", append([]string{"--basedir", a.dir}, args...)...).CombinedOutput(); err != nil {
		a.t.Fatalf("%v\n%s", err, out)
	}
}

// add puts a version of a package into the archive.
func (a *archive) add(name, version string) {
	a.t.Helper()
	dir := a.t.TempDir()
	write(a.t, filepath.Join(dir, "DEBIAN/control"), fmt.Sprintf(
		"Package: %s\nVersion: %s\nArchitecture: amd64\nSection: misc\nPriority: optional\nMaintainer: Test <test@example.org>\nDescription: test\n", name, version))
	deb := filepath.Join(a.t.TempDir(), name+".deb")
	if out, err := exec.Command("dpkg-deb", "--build", dir, deb).CombinedOutput(); err != nil {
		a.t.Fatalf("%v\n%s", err, out)
	}
	a.reprepro("includedeb", "test", deb)
}

func (a *archive) mirror() *Reprepro {
	return provision(a.t, &Reprepro{ConfDir: a.confdir, BaseDir: a.base, OutDir: a.out})
}

// has tells the packages that are in the pool of the mirror.
func (a *archive) has(want ...string) {
	a.t.Helper()
	files, err := filepath.Glob(filepath.Join(a.out, "pool/main/*/*/*.deb"))
	if err != nil {
		a.t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, strings.TrimSuffix(filepath.Base(f), "_amd64.deb"))
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		a.t.Errorf("in the pool is %v, want %v", got, want)
	}
}

func TestReprepro(t *testing.T) {
	a := newArchive(t)
	a.add("foo", "1")
	a.add("bar", "1")
	j := newJob(t)
	m := a.mirror()
	before := time.Now().Truncate(time.Second)
	time.Sleep(time.Until(before.Add(1100 * time.Millisecond))) // dates are whole seconds
	j.sync(m)
	j.wantChanged(new(true))
	a.has("bar_1", "foo_1")
	// Upstream's date, not that of when the tree was written.
	if up := j.Upstream; up.IsZero() || up.After(before) || time.Since(up) > time.Minute {
		t.Errorf("upstream is of %v", up)
	}
	j.sync(m)
	j.wantChanged(new(false))

	// What is no longer in the index is there for one more run.
	a.add("foo", "2")
	j.sync(m)
	a.has("bar_1", "foo_1", "foo_2")
	a.add("foo", "3")
	a.reprepro("remove", "test", "bar")
	j.sync(m)
	j.wantChanged(new(true))
	if names, _ := j.Changes.Names(); !slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, "/Packages.gz") }) ||
		!slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "pool/") }) {
		t.Errorf("changes are %q", names)
	}
	a.has("bar_1", "foo_2", "foo_3")
	if want := []string{"update", "deletions", "checks"}; !slices.Equal(j.stages, want) {
		t.Errorf("stages are %v", j.stages)
	}

	// Another job has another list.
	other := newJob(t)
	other.sync(m)
	a.has("bar_1", "foo_2", "foo_3")

	// What has come back stays.
	a.add("bar", "1")
	j.sync(m)
	a.has("bar_1", "foo_3")
	j.sync(m)
	j.wantChanged(new(false))
	a.has("bar_1", "foo_3")
}

// TestRepreproQuiet: what upstream dates anew without news changes nothing, and neither
// does what somebody has reprepro date anew here.
func TestRepreproQuiet(t *testing.T) {
	a := newArchive(t)
	a.add("foo", "1")
	j := newJob(t)
	m := a.mirror()
	j.sync(m)
	j.wantChanged(new(true))
	quiet := func(what string) {
		t.Helper()
		before := files(t, a.out)
		time.Sleep(1100 * time.Millisecond) // dates are whole seconds
		j.sync(m)
		j.wantChanged(new(false))
		j.wantChanges()
		if names := written(before, files(t, a.out)); len(names) > 0 {
			t.Errorf("%s: written are %q", what, names)
		}
	}
	quiet("nothing")
	a.reprepro("export")
	quiet("dated anew")
	quiet("nothing")
	l, err := m.layout(j.Dir)
	if err != nil {
		t.Fatal(err)
	}
	before, err := l.indexes()
	if err != nil {
		t.Fatal(err)
	}
	release := filepath.Join(a.out, "dists/test/Release")
	rewrite := func(old, now string) (changed bool, names []string) {
		t.Helper()
		text, err := os.ReadFile(release)
		if err != nil || !strings.Contains(string(text), old) {
			t.Fatalf("%s has no %q: %v", release, old, err)
		}
		write(t, release, strings.Replace(string(text), old, now, 1))
		after, err := l.indexes()
		if err != nil {
			t.Fatal(err)
		}
		changed = before.changed(after, func(name string) { names = append(names, name) })
		return changed, names
	}
	if changed, names := rewrite("Date: ", "Date: Thu, 01 Jan 1970 00:00:00 UTC\nDate: "); changed || names != nil {
		t.Errorf("another date changes %q", names)
	}
	if changed, names := rewrite("Codename: test", "Codename: test\nValid-Until: Thu, 01 Jan 1970 00:00:00 UTC"); !changed || !slices.Equal(names, []string{"dists/test/Release"}) {
		t.Errorf("another end changes %q", names)
	}

	a.add("foo", "2")
	j.sync(m)
	j.wantChanged(new(true))
	j.sync(m) // removes the old file
	j.wantChanged(new(true))
	j.wantChanges("pool/main/f/foo/foo_1_amd64.deb")
	quiet("old files are gone")
}

func TestRepreproFailures(t *testing.T) {
	a := newArchive(t)
	a.add("foo", "1")
	j := newJob(t)
	m := a.mirror()
	j.sync(m)
	a.add("foo", "2")
	j.sync(m)
	a.has("foo_1", "foo_2")

	// Upstream is away: nothing is deleted.
	away := a.dir + ".away"
	if err := os.Rename(a.dir, away); err != nil {
		t.Fatal(err)
	}
	j.fail(m, "update: ")
	a.has("foo_1", "foo_2")
	if len(j.commands) != 1 {
		t.Errorf("%d commands", len(j.commands))
	}
	if err := os.Rename(away, a.dir); err != nil {
		t.Fatal(err)
	}

	// Killed, reprepro leaves its lock.
	lock := filepath.Join(a.base, "db/lockfile")
	write(t, lock, "")
	j.fail(m, "it was killed: remove '"+lock+"'")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}

	// The list is kept until the deletion was done.
	run := j.Command
	j.Command = func(ctx context.Context, c step.Command) (step.Result, error) {
		if slices.Contains(c.Args, "deleteifunreferenced") {
			return step.Result{Code: 1}, errors.New("exit status 1")
		}
		return run(ctx, c)
	}
	j.fail(m, "deleteifunreferenced: exit status 1")
	a.has("foo_1", "foo_2")
	j.Command = run
	j.sync(m)
	a.has("foo_2")

	// A file is missing.
	pool := filepath.Join(a.out, "pool/main/f/foo/foo_2_amd64.deb")
	if err := os.Remove(pool); err != nil {
		t.Fatal(err)
	}
	j.fail(m, "checkpool: Missing file '"+pool+"'")
	unchecked := a.mirror()
	unchecked.NoCheck = true
	j.sync(unchecked)

	// What is wrong is said before the last line.
	write(t, pool, "x")
	j.fail(m, "checkpool: WRONG SIZE of '"+pool+"'")
	db := filepath.Join(a.base, "db/packages.db")
	write(t, db, "x")
	j.fail(m, "update: db_open("+db+")")
	j.fail(provision(t, &Reprepro{ConfDir: a.confdir, BaseDir: a.base, OutDir: a.out, Command: script(t, "echo Sorry; exit 1")}), "exit status 1: Sorry")
}

// A run without news leaves what is published as it is.
func TestRepreproNothingNew(t *testing.T) {
	a := newArchive(t)
	a.add("foo", "1")
	j := newJob(t)
	j.Dir = a.out
	m := a.mirror()
	j.sync(m)
	state := func() (all []string) {
		for _, name := range append(walk(t, a.out), "") {
			fi, err := os.Lstat(filepath.Join(a.out, name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(name, fi.ModTime(), fi.Sys().(*syscall.Stat_t).Ino))
		}
		return all
	}
	before := state()
	j.sync(m)
	j.wantChanged(new(false))
	if after := state(); !slices.Equal(after, before) {
		t.Errorf("there is %v, there was %v", after, before)
	}
}

// What reprepro has for itself must not be published: it writes there in every run.
func TestRepreproPublished(t *testing.T) {
	fake := script(t, "")
	top := t.TempDir()
	dir, conf, away := filepath.Join(top, "tree"), filepath.Join(top, "conf"), filepath.Join(top, "away")
	write(t, filepath.Join(dir, "conf/distributions"), "")
	write(t, filepath.Join(conf, "distributions"), "")
	write(t, filepath.Join(away, "db/version"), "")
	if err := errors.Join(
		os.Symlink(filepath.Join(away, "db"), filepath.Join(dir, "db2")),
		os.Symlink(dir, filepath.Join(top, "link")),
	); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		m       Reprepro
		options string
		dir     string // of the job, else dir
		want    string // what of it is published
	}{
		{want: dir + "/db"},
		{m: Reprepro{ConfDir: dir + "/conf", BaseDir: away, OutDir: dir}, want: dir + "/conf"},
		{m: Reprepro{ConfDir: "conf", BaseDir: away, OutDir: "."}, want: dir + "/conf"},
		{m: Reprepro{DBDir: away + "/db"}, want: dir + "/lists"},
		{m: Reprepro{DBDir: away + "/db", ListDir: away + "/lists"}},
		{m: Reprepro{BaseDir: away, OutDir: dir}},
		{m: Reprepro{BaseDir: away}, want: away + "/db"},
		{m: Reprepro{OutDir: dir}, dir: away},
		{m: Reprepro{OutDir: dir}, want: dir + "/db"},
		{m: Reprepro{OutDir: dir + "/www"}, want: dir + "/db"}, // all of dir is released
		{m: Reprepro{BaseDir: top, OutDir: "+b/tree"}},
		{m: Reprepro{BaseDir: top, OutDir: "+b/tree/www", DBDir: "+o/db"}, dir: dir + "/www", want: dir + "/www/db"},
		{m: Reprepro{BaseDir: away, OutDir: top + "/link", ListDir: "lists"}, want: dir + "/lists"},
		{m: Reprepro{DBDir: "db2", ListDir: "+c/lists"}}, // a link
		{m: Reprepro{BaseDir: away, OutDir: dir}, dir: top + "/link"},
		{options: "outdir " + dir, dir: away},
		{options: "verbose\n  outdir\t +b/tree \nbasedir " + top},
		{options: "basedir " + away + "\noutdir " + dir},
		{m: Reprepro{OutDir: dir}, options: "basedir " + away + "\noutdir " + away + "\n"},
		{options: "basedir " + away + "\noutdir " + dir + "\nlistdir " + dir + "/lists", want: dir + "/lists"},
		{options: "outdir " + top + "/other\noutdir .", want: dir + "/db"},
		{m: Reprepro{DBDir: away, ListDir: away}, options: "dbdir +b/db\nlistdir +b/lists\n"},
	} {
		write(t, filepath.Join(conf, "options"), test.options)
		test.m.Command = fake
		test.m.ConfDir = cmp.Or(test.m.ConfDir, conf)
		m := provision(t, &test.m)
		j := newJob(t)
		j.Dir = cmp.Or(test.dir, dir)
		if err := os.MkdirAll(j.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err := m.Sync(t.Context(), j.Run)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), ", "+test.want+", would be published with ")) {
			t.Errorf("%+v: %v, want %q", test, err, test.want)
		}
		if test.want != "" && len(j.commands) != 0 {
			t.Errorf("%+v: reprepro was run", test)
		}
	}
}

// Where reprepro has what it has is known, so nothing that args or the environment say
// may make it different.
func TestRepreproArgs(t *testing.T) {
	for args, want := range map[string]string{
		"-b /x": "basedir", "-b/x": "basedir", "-vVb /x": "basedir", "--basedir /x": "basedir", "--basedir=/x": "basedir", "--ba /x": "basedir",
		"--outdir /x": "outdir", "--dbdir=/x": "dbdir", "--silent --listdir /x": "listdir", "--listd=x": "listdir",
		"--confdir /x": "the argument of reprepro", "--gnupghome /x --conf=/x": "the argument of reprepro",
		"": "", "--gnupghome /x": "", "--silent -VV --export=changed": "", "-C b": "", "-Cb": "", "-vAb": "", "--listskip x --outhook=/x": "", "--": "", "-": "",
	} {
		err := (&Reprepro{ConfDir: "/c", Args: strings.Fields(args)}).Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}

func TestRepreproEnvironment(t *testing.T) {
	a := newArchive(t)
	a.add("foo", "1")
	t.Setenv("REPREPRO_BASE_DIR", a.out)
	t.Setenv("REPREPRO_CONFIG_DIR", a.out)
	j := newJob(t)
	j.Dir = a.base
	j.sync(provision(t, &Reprepro{ConfDir: a.confdir, OutDir: a.out}))
	a.has("foo_1")
	if exists(filepath.Join(a.out, "db")) || !exists(filepath.Join(a.base, "db")) {
		t.Error("the database is published")
	}

	// Relative to the base directory, as reprepro has it.
	base := t.TempDir()
	if err := os.CopyFS(filepath.Join(base, "conf"), os.DirFS(a.confdir)); err != nil {
		t.Fatal(err)
	}
	j = newJob(t)
	j.sync(provision(t, &Reprepro{ConfDir: "+b/conf", BaseDir: base, OutDir: j.Dir}))
	if !exists(filepath.Join(j.Dir, "dists/test/Release")) {
		t.Error("there is no repository")
	}
	j.fail(provision(t, &Reprepro{ConfDir: "+b/conf", BaseDir: base, OutDir: "+x/out"}), "update: Error: outdir is not allowed to start with '+x/'")
}

func TestRepreproReady(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	for name, want := range map[string]string{
		dir: "", filepath.Join(dir, "none"): "no such file", filepath.Join(dir, "file"): "not a directory",
		"later": "", "+b/conf": "", // relative to the job's directory
	} {
		err := (&Reprepro{ConfDir: name, Command: "true"}).Ready()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestRepreproInterrupted(t *testing.T) {
	a := newArchive(t)
	for i := range 3 {
		a.add(fmt.Sprintf("p%d", i), "1")
	}
	for _, at := range []string{"update", "dumpunreferenced", "deleteifunreferenced", "checkpool", "check"} {
		a.base, a.out = t.TempDir(), t.TempDir()
		m := a.mirror()
		j := newJob(t)
		if at == "deleteifunreferenced" {
			j.sync(m)
			a.add("p0", "2")
			j.sync(m)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		run := j.Command
		j.Command = func(ctx context.Context, c step.Command) (step.Result, error) {
			if slices.Contains(c.Args, at) {
				cancel(why)
			}
			return run(ctx, c)
		}
		if err := m.Sync(ctx, j.Run); !errors.Is(err, why) {
			t.Errorf("%s: %v", at, err)
		}
		j.Command = run
		j.sync(m)
	}
}

// Many names are told in several commands, none of them too long, and nothing that
// reprepro says otherwise is taken for one.
func TestRepreproMany(t *testing.T) {
	fake := script(t, `for last; do :; done
case "$last" in
dumpunreferenced) echo 'Warning: pool/ is old'; echo pool/not a name; i=0; while [ $i -lt 5000 ]; do echo pool/main/l/long-name-of-a-package/long-name-of-a-package_$i.deb; i=$((i+1)); done;;
esac`)
	j := newJob(t)
	m := provision(t, &Reprepro{ConfDir: "/none", BaseDir: "/none", OutDir: j.Dir, Command: fake})
	j.sync(m)
	if len(j.commands) != 4 {
		t.Errorf("%d commands", len(j.commands))
	}
	j.sync(m)
	names := map[string]bool{}
	for _, c := range j.commands {
		i := slices.Index(c.Args, "deleteifunreferenced")
		if i < 0 {
			continue
		}
		if n := len(strings.Join(c.Args, " ")); n > 100<<10 {
			t.Errorf("%d bytes of arguments", n)
		}
		for _, name := range c.Args[i+1:] {
			names[name] = strings.HasPrefix(name, "pool/main/l/long")
		}
	}
	if len(names) != 5000 || names["pool/not a name"] || len(j.commands) < 7 {
		t.Errorf("%d names in %d commands", len(names), len(j.commands))
	}
	for name, ok := range names {
		if !ok {
			t.Errorf("%q is no name", name)
		}
	}
}

// TestRepreproUpstream checks that a list of the future is not taken for the newest.
func TestRepreproUpstream(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().UTC().Truncate(time.Second)
	for name, date := range map[string]time.Time{"a_Release": now.Add(-48 * time.Hour), "b_InRelease": now.Add(-24 * time.Hour), "c_Release": now.Add(24 * time.Hour)} {
		text := "Origin: x\nDate: " + date.Format(time.RFC1123) + "\nSuite: x\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := (&layout{lists: dir}).upstream(), now.Add(-24*time.Hour); !got.Equal(want) {
		t.Errorf("upstream is of %v, want %v", got, want)
	}
}

// TestRepreproDate checks that dates with one digit for the day are read.
func TestRepreproDate(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a_Release"), []byte("Date: Tue, 3 Mar 2026 10:00:00 UTC\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := (&layout{lists: dir}).upstream(), time.Date(2026, 3, 3, 10, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("upstream is of %v, want %v", got, want)
	}
}
