package releaser

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkSnapshot makes releases of 100,000 files and says how much longer it takes
// than `cp -al` of them: of the first release, of one in which a file changed, and of
// one in which none did.
func BenchmarkSnapshot(b *testing.B) {
	if _, err := exec.LookPath("cp"); err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	tree := filepath.Join(dir, "tree")
	pool(b, tree, 100_000)
	timed := func(f func()) time.Duration {
		start := time.Now()
		f()
		return time.Since(start)
	}
	var cp, first, changed, same time.Duration
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
		cp += timed(func() {
			if out, err := exec.Command("cp", "-al", tree, filepath.Join(base, "cp")).CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
		})
		first += timed(do(true))
		same += timed(do(false))
		write(b, filepath.Join(tree, "zz", "changed"), fmt.Sprint(n))
		changed += timed(do(true))
		b.StopTimer()
		if err := os.RemoveAll(base); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(cp.Seconds()/float64(n), "s/cp")
	b.ReportMetric(first.Seconds()/cp.Seconds(), "first/cp")
	b.ReportMetric(changed.Seconds()/cp.Seconds(), "changed/cp")
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
