package syncer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func needRsync(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skip("needs rsync")
	}
}

// upstream makes a tree like that of a mirror.
func upstream(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pool/a_1.deb"), "a1")
	write(t, filepath.Join(dir, "pool/sub/b_1.deb"), "b1")
	write(t, filepath.Join(dir, "dists/stable/InRelease"), "1")
	write(t, filepath.Join(dir, "dists/stable/main/Packages.gz"), "a1 b1")
	write(t, filepath.Join(dir, "rpm/repodata/repomd.xml"), "1")
	write(t, filepath.Join(dir, "rpm/c.rpm"), "c")
	return dir
}

func walk(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); rel != "." {
			if d.IsDir() {
				rel += "/"
			}
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func sameTree(t *testing.T, got, want string, but ...string) {
	t.Helper()
	a, b := walk(t, got), append(walk(t, want), but...)
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		t.Errorf("there is %q, want %q", a, b)
	}
	for _, name := range walk(t, want) {
		if fi, err := os.Lstat(filepath.Join(want, name)); err != nil || !fi.Mode().IsRegular() {
			continue
		}
		x, _ := os.ReadFile(filepath.Join(got, name))
		y, _ := os.ReadFile(filepath.Join(want, name))
		if string(x) != string(y) {
			t.Errorf("%q differs", name)
		}
	}
}

func TestRsync(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	for _, name := range []string{"pool/new\nline", "pool/odd\xff\x01 \r", `pool/\#012`, "pool/ü", "-rf", " "} {
		write(t, filepath.Join(up, name), name)
	}
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "x")
	for name, target := range map[string]string{"pool/abs": outside, "pool/up": "../../x", "pool/in": "../rpm/c.rpm", "pool/dangling": "none"} {
		if err := os.Symlink(target, filepath.Join(up, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		syscall.Mkfifo(filepath.Join(up, "fifo"), 0o644),
		os.Chmod(filepath.Join(up, "pool/a_1.deb"), 0o600|fs.ModeSetuid),
		os.Chmod(filepath.Join(up, "pool"), 0o770|fs.ModeSetgid),
		os.Chmod(filepath.Join(up, "rpm/c.rpm"), 0o777),
	); err != nil {
		t.Fatal(err)
	}
	j := newJob(t)
	s := provision(t, &Rsync{Sources: []string{up}})
	j.sync(s)
	j.wantChanged(new(true))
	for _, name := range []string{"fifo", "pool/abs", "pool/up"} {
		if exists(filepath.Join(j.Dir, name)) {
			t.Errorf("%s was copied", name)
		}
		if err := os.Remove(filepath.Join(up, name)); err != nil {
			t.Fatal(err)
		}
	}
	sameTree(t, j.Dir, up)
	for name, want := range map[string]fs.FileMode{"pool/a_1.deb": 0o644, "pool": 0o755 | fs.ModeDir, "rpm/c.rpm": 0o755} {
		if fi, err := os.Stat(filepath.Join(j.Dir, name)); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
	if want := []string{"packages", "indexes", "deletions"}; !slices.Equal(j.stages, want) {
		t.Errorf("stages are %v", j.stages)
	}
	if exists(filepath.Join(j.State, "rsync-partial")) {
		t.Error("the directory of partial files is there")
	}

	// Bytes are those of the contents.
	j.sync(s)
	j.wantChanged(new(false))
	if j.Bytes != 0 {
		t.Errorf("%d bytes", j.Bytes)
	}
	write(t, filepath.Join(up, "big"), strings.Repeat("x", 1234567))
	j.sync(s)
	j.wantChanged(new(true))
	if j.Bytes != 1234567 {
		t.Errorf("%d bytes", j.Bytes)
	}

	// What changes without a file: a link, a mode.
	if err := errors.Join(os.Remove(filepath.Join(up, "pool/in")), os.Symlink("none", filepath.Join(up, "pool/in"))); err != nil {
		t.Fatal(err)
	}
	j.sync(s)
	j.wantChanged(new(true))
	if err := os.Chmod(filepath.Join(up, "big"), 0o755); err != nil {
		t.Fatal(err)
	}
	j.sync(s)
	j.wantChanged(new(true))
	j.sync(s)
	j.wantChanged(new(false))
}

// A directory that becomes a link, and one that becomes a file, stop nothing.
func TestRsyncReplaced(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	j := newJob(t)
	s := provision(t, &Rsync{Sources: []string{up}})
	j.sync(s)
	if err := errors.Join(
		os.Rename(filepath.Join(up, "pool"), filepath.Join(up, "pool2")),
		os.Symlink("pool2", filepath.Join(up, "pool")),
		os.RemoveAll(filepath.Join(up, "rpm")),
		os.WriteFile(filepath.Join(up, "rpm"), nil, 0o644),
	); err != nil {
		t.Fatal(err)
	}
	j.sync(s)
	sameTree(t, j.Dir, up)
	j.wantChanged(new(true))
}

// A large directory that becomes a file is more than may be deleted, however often it
// is tried.
func TestRsyncReplacedMuch(t *testing.T) {
	needRsync(t)
	for _, onePhase := range []bool{false, true} {
		up := upstream(t)
		j := newJob(t)
		s := provision(t, &Rsync{Sources: []string{up}, OnePhase: onePhase, DeleteAfter: new(-1)})
		for i := range 400 {
			write(t, filepath.Join(up, "many", fmt.Sprint(i)), "x")
		}
		j.sync(s)
		if err := os.RemoveAll(filepath.Join(up, "many")); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(up, "many"), "x")
		before := walk(t, j.Dir)
		for range 3 {
			j.fail(s, "which is more than max_delete (50%): nothing is deleted")
			j.wantChanged(nil)
		}
		if after := walk(t, j.Dir); !slices.Equal(after, before) {
			t.Errorf("there is %v", after)
		}
		s.MaxDelete = "399"
		j.fail(provision(t, s), "max_delete (399)")
		s.MaxDelete = "400"
		j.sync(provision(t, s))
		sameTree(t, j.Dir, up)
		j.wantChanged(new(true))
		if j.Bytes != 1 {
			t.Errorf("%d bytes", j.Bytes)
		}
	}
}

// What is deleted at once and what is deleted at the end are limited together.
func TestRsyncReplacedAndGone(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	write(t, filepath.Join(up, "Release/x"), "x")
	j := newJob(t)
	s := provision(t, &Rsync{Sources: []string{up}, DeleteAfter: new(0), MaxDelete: "3"})
	j.sync(s)
	for _, name := range []string{"pool", "Release"} { // in the first phase, and in the second
		if err := os.RemoveAll(filepath.Join(up, name)); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(up, name), "x")
	}
	j.fail(s, "indexes: 4 files and directories")
	if exists(filepath.Join(j.Dir, "pool/a_1.deb")) || !exists(filepath.Join(j.Dir, "Release/x")) {
		t.Errorf("there is %v", walk(t, j.Dir))
	}
	write(t, filepath.Join(j.Dir, "gone"), "x")
	s.MaxDelete = "1"
	j.fail(provision(t, s), "deletions: 2 of ")
	sameTree(t, j.Dir, up, "gone")
	j.sync(s)
	sameTree(t, j.Dir, up)
}

// Directories that have the names of indexes hold packages.
func TestRsyncIndexes(t *testing.T) {
	needRsync(t)
	up := t.TempDir()
	packages := []string{"rpm/Packages/a.rpm", "rpm/Packages/a/b.rpm", "Sources/a", "Release/a", "core.db/a", "rpm/Packages.old/a"}
	indexes := []string{"rpm/repodata/repomd.xml", "rpm/repodata/Packages/a", "rpm/Packages/repodata/repomd.xml", "dists/a/main/Packages", "Release/Release"}
	for _, name := range slices.Concat(packages, indexes) {
		write(t, filepath.Join(up, name), "x")
	}
	first := func(s *Rsync, packages, indexes []string) {
		t.Helper()
		j := newJob(t)
		run, n := j.Command, 0
		j.Command = func(ctx context.Context, c step.Command) (step.Result, error) {
			res, err := run(ctx, c)
			if n++; n == 1 {
				for i, name := range slices.Concat(packages, indexes) {
					if exists(filepath.Join(j.Dir, name)) != (i < len(packages)) {
						t.Errorf("%s: after the packages it is there: %v", name, i >= len(packages))
					}
				}
			}
			return res, err
		}
		j.sync(s)
		sameTree(t, j.Dir, up)
	}
	first(provision(t, &Rsync{Sources: []string{up}}), packages, indexes)
	// One's own patterns are those of rsync.
	first(provision(t, &Rsync{Sources: []string{up}, Indexes: []string{"repodata", "Packages/"}}),
		append([]string{"dists/a/main/Packages"}, packages[2:]...), append([]string{"rpm/Packages/a.rpm"}, indexes[:3]...))

	// What is excluded is not shown again by that.
	s := provision(t, &Rsync{Sources: []string{up}, Excludes: []string{"Release/"}, Args: []string{"--exclude=Sources/", "--exclude=/rpm/Packages/a/**"}})
	j := newJob(t)
	j.sync(s)
	for _, name := range []string{"Release", "Sources", "rpm/Packages/a/b.rpm"} {
		if exists(filepath.Join(j.Dir, name)) {
			t.Errorf("%s was copied", name)
		}
	}
	for range 2 {
		j.sync(s)
		j.wantChanged(new(false))
	}
}

// The job's own timestamp is neither deleted nor overwritten.
func TestRsyncTimestamp(t *testing.T) {
	needRsync(t)
	for _, name := range []string{"stamp.txt", "meta/st[a]mp*\\.txt", "pool/{a}?"} {
		up := upstream(t)
		j := newJob(t)
		j.Timestamp = name
		s := provision(t, &Rsync{Sources: []string{up}, Includes: []string{"*"}, DeleteAfter: new(0)})
		j.sync(s)
		stamp := filepath.Join(j.Dir, name)
		write(t, stamp, "now")
		write(t, filepath.Join(j.Dir, "pool", filepath.Base(name)+"x"), "x")
		j.sync(s)
		j.wantChanged(new(true)) // the other one
		for range 3 {
			j.sync(s)
			j.wantChanged(new(false))
		}
		// Upstream may write one, too.
		write(t, filepath.Join(up, name), "then")
		j.sync(s)
		if data, _ := os.ReadFile(stamp); string(data) != "now" {
			t.Errorf("the timestamp is %q", data)
		}
	}
}

// Packages come before the indexes that name them, and what indexes no longer name
// is there for one more run.
func TestRsyncOrder(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	j := newJob(t)
	s := provision(t, &Rsync{Sources: []string{up}})
	j.sync(s)

	write(t, filepath.Join(up, "pool/a_2.deb"), "a2")
	write(t, filepath.Join(up, "dists/stable/main/Packages.gz"), "a2 b1 longer")
	write(t, filepath.Join(up, "rpm/repodata/repomd.xml"), "newer")
	gone := filepath.Join(up, "pool/a_1.deb")
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	run := j.Command
	seen := 0
	j.Command = func(ctx context.Context, c step.Command) (step.Result, error) {
		res, err := run(ctx, c)
		data, _ := os.ReadFile(filepath.Join(j.Dir, "dists/stable/main/Packages.gz"))
		if seen++; seen == 1 && (string(data) != "a1 b1" || !exists(filepath.Join(j.Dir, "pool/a_2.deb"))) {
			t.Errorf("after the packages, the index is %q", data)
		}
		if !exists(filepath.Join(j.Dir, "pool/a_1.deb")) {
			t.Error("a file was deleted too early")
		}
		return res, err
	}
	j.sync(s)
	if seen != 3 {
		t.Errorf("%d commands", seen)
	}
	sameTree(t, j.Dir, up, "pool/a_1.deb")

	// It is deleted after all else.
	j.sync(s)
	sameTree(t, j.Dir, up)
	j.wantChanged(new(true))
	if !strings.Contains(j.printed(), `deleted "pool/a_1.deb"`) {
		t.Errorf("the log says nothing:\n%s", j.printed())
	}
	j.Command = run
	j.sync(s)
	j.wantChanged(new(false))
}

func TestRsyncDeletions(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "keep/f"), "x")
	j := newJob(t)
	s := provision(t, &Rsync{Sources: []string{up}, Excludes: []string{"/excluded"}})
	j.sync(s)

	extra := []string{"old/", "old/dir/", "old/dir/f", "old/new\nline\xff", "excluded", "out"}
	for _, name := range []string{"old/dir/f", "old/new\nline\xff", "excluded", "timestamp.txt", ".f.deb.Ab3dEf"} {
		write(t, filepath.Join(j.Dir, name), "x")
	}
	if err := os.Symlink(outside, filepath.Join(j.Dir, "out")); err != nil {
		t.Fatal(err)
	}
	// What rsync has left behind when it was killed goes at once, and timestamp.txt is
	// kept.
	j.sync(s)
	sameTree(t, j.Dir, up, append(extra, "timestamp.txt")...)

	// A failed run deletes nothing, whatever failed, and forgets nothing.
	broken := 0
	run := j.Command
	j.Command = func(ctx context.Context, c step.Command) (step.Result, error) {
		if broken--; broken == 0 {
			return step.Result{Code: 23}, errors.New("rsync: exit status 23")
		}
		return run(ctx, c)
	}
	for n := 1; n <= 3; n++ {
		broken = n
		j.fail(s, "exit status 23")
		sameTree(t, j.Dir, up, append(extra, "timestamp.txt")...)
	}
	broken = 0

	// What has come back upstream stays.
	write(t, filepath.Join(up, "old/dir/f"), "back")
	write(t, filepath.Join(j.Dir, "old/new2"), "x")
	j.sync(s)
	sameTree(t, j.Dir, up, "timestamp.txt", "old/new2")
	if !exists(filepath.Join(outside, "keep/f")) {
		t.Error("a deletion has followed a link out of the tree")
	}
	j.sync(s)
	sameTree(t, j.Dir, up, "timestamp.txt")
}

// delete_after counts runs that find it gone.
func TestRsyncDeleteAfter(t *testing.T) {
	needRsync(t)
	for after := -1; after < 4; after++ {
		up := upstream(t)
		j := newJob(t)
		s := provision(t, &Rsync{Sources: []string{up}, DeleteAfter: new(after), OnePhase: after%2 == 0})
		j.sync(s)
		write(t, filepath.Join(j.Dir, "x"), "x")
		for i := range 5 {
			unfinished := filepath.Join(j.Dir, "pool/.b_1.deb.Ab3dEf")
			write(t, unfinished, "b")
			j.sync(s)
			if exists(unfinished) {
				t.Errorf("delete_after %d: what a killed rsync has left is there", after)
			}
			if want := after < 0 || i < after; exists(filepath.Join(j.Dir, "x")) != want {
				t.Errorf("delete_after %d: in run %d it is there: %v", after, i, !want)
			}
		}
	}
}

func TestRsyncMaxDelete(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	j := newJob(t)
	s := provision(t, &Rsync{Sources: []string{up}, MaxDelete: "2"})
	for i := range 3 {
		write(t, filepath.Join(j.Dir, fmt.Sprint(i)), "x")
	}
	j.sync(s)
	j.fail(s, "max_delete (2): nothing is deleted")
	sameTree(t, j.Dir, up, "0", "1", "2")
	s = provision(t, &Rsync{Sources: []string{up}, MaxDelete: "3"})
	j.sync(s)
	sameTree(t, j.Dir, up)

	// An upstream that has lost its disk.
	for i := range 200 {
		write(t, filepath.Join(up, "many", fmt.Sprint(i)), "x")
	}
	s = provision(t, &Rsync{Sources: []string{up}})
	j.sync(s)
	if err := os.RemoveAll(filepath.Join(up, "many")); err != nil {
		t.Fatal(err)
	}
	before := walk(t, j.Dir)
	j.sync(s)
	j.fail(s, "more than max_delete (50%)")
	if after := walk(t, j.Dir); !slices.Equal(after, before) {
		t.Errorf("there is %v", after)
	}
	for _, test := range []struct {
		limit  string
		n, all int
		want   bool
	}{
		{"25%", 101, 400, false},
		{"25%", 101, 404, true},
		{"29%", 29, 100, true},
		{"50%", 1, 2, true},
		{"50%", 2, 3, false},
		{"0%", 0, 3, true},
		{"0%", 1, 1000, false},
		{"100%", 3, 3, true},
		{"5", 5, 5, true},
	} {
		if l, err := parseLimit(test.limit); err != nil || l.allows(test.n, test.all) != test.want {
			t.Errorf("%+v: %v, %v", test, !test.want, err)
		}
	}

	// One that is small.
	if err := os.RemoveAll(up); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(up, "a"), "a")
	j = newJob(t)
	j.sync(s)
	for i := range 80 {
		write(t, filepath.Join(j.Dir, fmt.Sprint(i)), "x")
	}
	j.sync(s)
	j.fail(s, "more than max_delete (50%)")
	if n := len(walk(t, j.Dir)); n != 81 {
		t.Errorf("%d files are left", n)
	}
}

// No name that is given leads a deletion out of its directory.
func TestRemove(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "f"), "x")
	write(t, filepath.Join(dir, "real/f"), "x")
	if err := errors.Join(
		os.Symlink(outside, filepath.Join(dir, "out")),
		os.Symlink("real", filepath.Join(dir, "in")),
	); err != nil {
		t.Fatal(err)
	}
	r, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for _, name := range []string{"out/f", "in/f", "../" + filepath.Base(outside) + "/f", outside + "/f", "real/../real/f", "real//f", "./real/f", ".."} {
		if removed, err := r.remove(name); removed {
			t.Errorf("%s: removed, %v", name, err)
		}
	}
	if !exists(filepath.Join(outside, "f")) || !exists(filepath.Join(dir, "real/f")) {
		t.Fatal("a file is gone")
	}
	for _, test := range []struct {
		name string
		want bool
	}{{"real/", false}, {"real/none", false}, {"none/f", false}, {"real/f", true}, {"out", true}, {"in", true}, {"real/", true}, {"real/", false}} {
		if removed, err := r.remove(test.name); removed != test.want || err != nil {
			t.Errorf("%s: removed %v, %v", test.name, removed, err)
		}
	}
}

func TestRsyncDamagedState(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	for _, text := range []string{"", "x", "gone upstream from \"/other\"\n1\x00x\x00", "\x00\x00\x00"} {
		j := newJob(t)
		s := provision(t, &Rsync{Sources: []string{up}})
		j.sync(s)
		write(t, filepath.Join(j.Dir, "x"), "x")
		write(t, filepath.Join(j.State, goneFile), text)
		j.sync(s)
		if !exists(filepath.Join(j.Dir, "x")) {
			t.Errorf("%q: deleted too early", text)
		}
		j.sync(s)
		sameTree(t, j.Dir, up)
	}
}

// daemon is a real rsync server on the loopback interface.
func daemon(t *testing.T, dir string) (url string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	conf := filepath.Join(t.TempDir(), "rsyncd.conf")
	write(t, conf, fmt.Sprintf("use chroot = no\nuid = %d\ngid = %d\nlog file = /dev/null\n[mirror]\npath = %s\n[busy]\npath = %[3]s\nmax connections = -1\n", os.Geteuid(), os.Getegid(), dir))
	if os.Geteuid() != 0 {
		data, _ := os.ReadFile(conf)
		write(t, conf, strings.Replace(strings.Replace(string(data), "uid", "#uid", 1), "gid", "#gid", 1))
	}
	cmd := exec.Command("rsync", "--daemon", "--no-detach", "--config="+conf, "--address=127.0.0.1", fmt.Sprintf("--port=%d", port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for range 200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return "rsync://" + addr, stop
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the rsync server does not answer")
	return "", nil
}

func TestRsyncDaemon(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	url, stop := daemon(t, up)
	j := newJob(t)
	j.sync(provision(t, &Rsync{Sources: []string{url + "/mirror"}}))
	sameTree(t, j.Dir, up)
	if j.Bytes != 2+2+1+5+1+1 {
		t.Errorf("%d bytes", j.Bytes)
	}

	// What is away, of another kind, or not there is gone past.
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "rsync://" + dead.Addr().String() + "/mirror"
	dead.Close()
	rude, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer rude.Close()
	go func() {
		for {
			c, err := rude.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	fallbacks := []string{
		refused, "rsync://" + rude.Addr().String() + "/mirror", "rsync://" + silent.Addr().String() + "/mirror",
		url + "/none", url + "/mirror/none", url + "/mirror",
	}
	write(t, filepath.Join(up, "pool/fallback"), "x")
	s := provision(t, &Rsync{Sources: fallbacks, Timeout: 1e9, ConnectTimeout: 1e9})
	j.sync(s)
	sameTree(t, j.Dir, up)
	if len(j.commands) != len(fallbacks)-1+3 {
		t.Errorf("%d commands", len(j.commands))
	}
	if got := j.Notes["source"]; got != url+"/mirror" {
		t.Errorf("the source is %q", got)
	}

	// None is there.
	j.Notes = nil
	j.fail(provision(t, &Rsync{Sources: fallbacks[:2]}), "no upstream: packages from "+refused)
	j.wantChanged(nil)
	if _, ok := j.Notes["source"]; ok {
		t.Error(j.Notes)
	}

	// One that breaks off under way: the next begins from the beginning.
	other := upstream(t)
	write(t, filepath.Join(other, "pool/other"), "x")
	write(t, filepath.Join(up, "pool/fallback2"), "x")
	url2, _ := daemon(t, other)
	run := j.Command
	n := 0
	j.Command = func(ctx context.Context, c step.Command) (step.Result, error) {
		if n++; n == 2 {
			stop()
		}
		return run(ctx, c)
	}
	j.sync(provision(t, &Rsync{Sources: []string{url + "/mirror", url2 + "/mirror"}}))
	if n != 5 || !exists(filepath.Join(j.Dir, "pool/other")) || !exists(filepath.Join(j.Dir, "pool/fallback2")) {
		t.Errorf("%d commands", n)
	}
}

// Whatever is interrupted, the next run mends it, and a file that was begun is gone on
// with.
func TestRsyncInterrupted(t *testing.T) {
	needRsync(t)
	t.Parallel()
	for _, stage := range []string{"packages", "indexes", "deletions"} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel() // they wait, for rsync to be slow
			up := upstream(t)
			url, _ := daemon(t, up)
			j := newJob(t)
			s := provision(t, &Rsync{Sources: []string{url + "/mirror", url + "/mirror"}, BWLimit: "2m"})
			write(t, filepath.Join(j.Dir, "gone"), "x")
			j.sync(s)
			big := filepath.Join(up, map[string]string{"packages": "pool/big", "indexes": "dists/big", "deletions": "pool/x"}[stage])
			size := 8 << 20
			if stage == "deletions" {
				size = 10
			}
			write(t, big, strings.Repeat("0123456789abcdef", size/16))
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			report := j.Report
			j.Report = func(p step.Progress) {
				report(p)
				if p.Stage == stage && (stage == "deletions" || strings.Contains(p.Detail, " bytes") && !strings.HasPrefix(p.Detail, "0 ")) {
					cancel(why)
				}
			}
			j.stages = nil
			j.Notes = nil
			if err := s.Sync(ctx, j.Run); !errors.Is(err, why) {
				t.Fatalf("%v, %s", err, j.printed())
			}
			if got := j.Notes["source"]; got != url+"/mirror" {
				t.Errorf("the source is %q", got)
			}
			j.Report = report
			if !exists(filepath.Join(j.Dir, "gone")) {
				t.Error("a run that was interrupted has deleted")
			}
			if stage != "deletions" {
				if exists(filepath.Join(j.Dir, strings.TrimPrefix(big, up))) {
					t.Error("half a file is there")
				}
				if n := len(walk(t, filepath.Join(j.State, "rsync-partial"))); n != 1 {
					t.Errorf("%d partial files", n)
				}
			}
			j.sync(provision(t, &Rsync{Sources: []string{url + "/mirror"}}))
			sameTree(t, j.Dir, up)
			if stage != "deletions" && j.Bytes >= int64(size) {
				t.Errorf("all of it was fetched anew: %d bytes", j.Bytes)
			}
		})
	}
}

func TestRsyncProgress(t *testing.T) {
	needRsync(t)
	up := t.TempDir()
	for i := range 4 {
		write(t, filepath.Join(up, fmt.Sprint(i)), strings.Repeat("x", 1<<20))
	}
	j := newJob(t)
	var got []step.Progress
	j.Report = func(p step.Progress) { got = append(got, p) }
	j.sync(provision(t, &Rsync{Sources: []string{up}, BWLimit: "2m"}))
	last := -1.0
	for _, p := range got {
		if p.Stage != "packages" || p.Done < 0 {
			continue
		}
		if p.Done < last {
			t.Errorf("went back: %v", got)
		}
		last = p.Done
	}
	if last != 1 || len(got) < 6 {
		t.Errorf("progress is %v", got)
	}
}

// Files that vanish upstream between its list and their turn.
func TestRsyncVanished(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	j := newJob(t)
	s := provision(t, &Rsync{Sources: []string{up}})
	write(t, filepath.Join(j.Dir, "gone"), "x")
	j.sync(s)
	vanished := 1
	run, n := j.Command, 0
	j.Command = func(ctx context.Context, c step.Command) (step.Result, error) {
		n++
		if vanished--; vanished >= 0 {
			return step.Result{Code: 24}, errors.New("rsync: exit status 24")
		}
		return run(ctx, c)
	}
	j.sync(s) // once: the phase is run again
	if n != 4 || exists(filepath.Join(j.Dir, "gone")) {
		t.Errorf("%d commands", n)
	}
	write(t, filepath.Join(j.Dir, "gone"), "x")
	j.sync(s)
	vanished, n = 10, 0
	j.sync(s) // in both phases: nothing is deleted
	if n != 4 || !exists(filepath.Join(j.Dir, "gone")) {
		t.Errorf("%d commands", n)
	}

	// While upstream lists what it has, for the deletions.
	n = 0
	j.Command = func(ctx context.Context, c step.Command) (step.Result, error) {
		if n++; n == 3 {
			c.Line("*deleting   pool/a_1.deb")
			return step.Result{Code: 24}, errors.New("rsync: exit status 24")
		}
		return run(ctx, c)
	}
	j.sync(s)
	j.sync(s)
	if n != 6 || exists(filepath.Join(j.Dir, "gone")) || !exists(filepath.Join(j.Dir, "pool/a_1.deb")) {
		t.Errorf("%d commands", n)
	}
}

// How far it was when it was killed is not why it failed.
func TestRsyncKilled(t *testing.T) {
	fake := script(t, `printf '\r        458,752  30%%  400.00kB/s    0:00:01 (xfr#1, to-chk=1/3)'; kill -9 $$`)
	j := newJob(t)
	s := provision(t, &Rsync{Sources: []string{"up"}, Command: fake})
	j.fail(s, "ended by killed")
	err := s.Sync(t.Context(), j.Run)
	if exit, ok := errors.AsType[*process.ExitError](err); !ok || !exit.Status.Signaled() || strings.Contains(err.Error(), "kB/s") {
		t.Errorf("%v", err)
	}
}

func TestRsyncDirectory(t *testing.T) {
	needRsync(t)
	up := upstream(t)
	s := provision(t, &Rsync{Sources: []string{up}})
	j := newJob(t)
	dir := j.Dir
	j.Dir = ""
	j.fail(s, "no directory")
	j.Dir = filepath.Join(dir, "none")
	j.fail(s, "make it, or mount")
	write(t, filepath.Join(dir, "file"), "x")
	j.Dir = filepath.Join(dir, "file")
	j.fail(s, "not a directory")
	j.Dir, j.Last = t.TempDir(), time.Now()
	j.fail(s, "mount its file system")
	if len(j.commands) != 0 {
		t.Error("rsync was run")
	}
	j.Dir = dir
	j.fail(provision(t, &Rsync{Sources: []string{up}, Command: "/nonexistent"}), "/nonexistent")
	j.fail(provision(t, &Rsync{Sources: []string{up, up}, Args: []string{"--no-such-option"}}), "unknown option")
	if len(j.commands) != 1 {
		t.Error("another upstream was asked to help")
	}
}

func TestRsyncDiskFull(t *testing.T) {
	needRsync(t)
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("mounting a file system: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	up := upstream(t)
	url, _ := daemon(t, up)
	j := newJob(t)
	j.Dir = mount
	s := provision(t, &Rsync{Sources: []string{url + "/mirror", up}})
	write(t, filepath.Join(mount, "gone"), "x")
	j.sync(s)
	write(t, filepath.Join(up, "pool/big"), strings.Repeat("x", 2<<20))
	write(t, filepath.Join(up, "dists/stable/InRelease"), "newer")
	j.fail(s, "No space left on device")
	if len(j.commands) != 1 {
		t.Errorf("another upstream was asked to help: %d commands", len(j.commands))
	}
	if data, _ := os.ReadFile(filepath.Join(mount, "dists/stable/InRelease")); string(data) != "1" || !exists(filepath.Join(mount, "gone")) {
		t.Errorf("the index is %q", data)
	}
	if err := unix.Mount("", mount, "", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	j.sync(s)
	sameTree(t, mount, up)
}

func TestAway(t *testing.T) {
	for _, test := range []struct {
		e    rsyncError
		want bool
	}{
		{rsyncError{code: 10}, true},
		{rsyncError{code: 12}, true},
		{rsyncError{code: 12, full: true}, false}, // so says the side that did not write
		{rsyncError{code: 11}, false},
		{rsyncError{code: 1}, false},
		{rsyncError{code: 20}, false},
		{rsyncError{code: 23}, false},
		{rsyncError{code: 23, missing: true}, true},
		{rsyncError{code: 255}, true},
		{rsyncError{code: -1}, false},
	} {
		if got := test.e.away(); got != test.want {
			t.Errorf("%+v: %v", test.e, got)
		}
	}
}

func TestOutput(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "a": "a", `\#012`: "\n", `a\#377\#000b`: "a\xff\x00b", `\#134#012`: `\#012`,
		`\#01`: `\#01`, `\#999`: `\#999`, `\#4`: `\#4`, `\`: `\`, `\#777`: `\#777`,
	} {
		if got := unescape(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	const none = "none"
	for line, want := range map[string]string{
		">f+++++++++ x": "x", "cd+++++++++ x/": "x/", ".f...p..... x": "x", "cLc.t...... x -> y": "x", "hf+++++++++ x => y": "x",
		">f+++++++++ x -> y": "x -> y", `>f.st...... a b\#012`: "a b\n", "*deleting   x/y": "x/y",
		">f+++++++++ " + strings.Repeat("a", maxLine): "", "*deleting   " + strings.Repeat("a", maxLine): "",
		".d..t...... x/": none, ".d..tp..... x/": "x/", "sent 1 bytes": none, "motd >f+++++++++ x": none, "": none,
	} {
		got := none
		o := output{report: func(step.Progress) {}, changing: func(name string) { got = name }}
		o.line(line)
		if got != want {
			t.Errorf("%q: changed is %q, want %q", line, got, want)
		}
	}
	var deleted []string
	o := output{deleting: func(name string) { deleted = append(deleted, name) }}
	o.line("*deleting    x ")
	o.line("*deleting   " + strings.Repeat("a", maxLine))
	o.line("*deleting   d/")
	if !slices.Equal(deleted, []string{" x ", "d/"}) || o.cut != 1 {
		t.Errorf("deleted %q, %d cut", deleted, o.cut)
	}
}
