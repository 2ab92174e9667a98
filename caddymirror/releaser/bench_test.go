package releaser

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkSnapshot makes releases of 100,000 files and says how long they take in
// terms of `cp -al`: the first release, one in which a file changed, and one in which
// none did; and one that removes an old release, in terms of `cp -al` and `rm -r`.
func BenchmarkSnapshot(b *testing.B) {
	if _, err := exec.LookPath("cp"); err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	tree := filepath.Join(dir, "tree")
	pool(b, tree, 100_000)
	timed := func(f func()) time.Duration {
		unix.Sync() // what others have written is not ours to wait for
		start := time.Now()
		f()
		return time.Since(start)
	}
	var cp, rm, first, changed, same, steady time.Duration
	n := 0
	for b.Loop() {
		n++
		base := filepath.Join(dir, fmt.Sprint(n))
		if err := os.Mkdir(base, 0o755); err != nil {
			b.Fatal(err)
		}
		s := newSnapshot(b, tree, filepath.Join(base, "link"))
		do := func(want bool) func() {
			return func() {
				if got, err := s.Release(b.Context(), newRun(b)); err != nil || got != want {
					b.Fatal(got, err)
				}
			}
		}
		run := func(args ...string) func() {
			return func() {
				if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
			}
		}
		cp += timed(run("cp", "-al", tree, filepath.Join(base, "cp")))
		rm += timed(run("rm", "-r", filepath.Join(base, "cp")))
		first += timed(do(true))
		same += timed(do(false))
		write(b, filepath.Join(tree, "zz", "changed"), fmt.Sprint(n))
		changed += timed(do(true))
		s.Keep = 2
		write(b, filepath.Join(tree, "zz", "changed"), "again")
		steady += timed(do(true))
		b.StopTimer()
		if err := os.RemoveAll(base); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(cp.Seconds()/float64(n), "s/cp")
	b.ReportMetric(first.Seconds()/cp.Seconds(), "first/cp")
	b.ReportMetric(changed.Seconds()/cp.Seconds(), "changed/cp")
	b.ReportMetric(steady.Seconds()/(cp+rm).Seconds(), "steady/cp+rm")
	b.ReportMetric(same.Seconds()/cp.Seconds(), "same/cp")
}

// pool makes a tree like that of a distribution.
func pool(t testing.TB, tree string, files int) {
	t.Helper()
	const each = 40
	for i := range files / each {
		d := filepath.Join(tree, "pool", string(rune('a'+i%26)), fmt.Sprintf("source%d", i))
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range each {
			if err := os.WriteFile(filepath.Join(d, fmt.Sprintf("package%d_1.%d_amd64.deb", j, i)), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(tree, "zz"), 0o755); err != nil {
		t.Fatal(err)
	}
}
