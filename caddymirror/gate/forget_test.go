package gate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/apt"
)

// TestAptFuture checks that a date in the future is held, and poisons nothing: the
// repaired Release passes.
func TestAptFuture(t *testing.T) {
	const inline, plain = "dists/x/InRelease", "dists/x/Release"
	repo := newAptRepo(t)
	header := repo.header
	of := func(date time.Time) string {
		repo.header = header + "Date: " + date.UTC().Format("Mon, 02 Jan 2006 15:04:05 MST") + "\n"
		repo.write()
		return repo.release()
	}
	now := time.Now()
	r := newRun(t, repo.dir)
	g := new(Apt)
	of(now.Add(-time.Hour))
	released(t, g, r)

	for _, g := range []*Apt{{}, {AllowOlder: true, AllowExpired: true}} {
		of(now.Add(25 * time.Hour))
		fails(t, g, r, plain, "ahead of this host's clock")
		if r.Upstream.After(now) {
			t.Errorf("upstream is of %v", r.Upstream)
		}
		put(t, repo.dir, inline, signed(t, repo.release()))
		of(now)
		fails(t, g, r, inline, "ahead of this host's clock")
		rm(t, repo.dir, inline)
	}
	of(now.Add(apt.MaxAhead - time.Second)) // which apt takes
	passes(t, g, r)

	// Not even if it is released, by somebody who insists.
	of(now.Add(25 * time.Hour))
	fails(t, g, r, plain, "ahead")
	if err := g.Released(r); err != nil {
		t.Fatal(err)
	}
	of(now.Add(-2 * time.Hour))
	fails(t, g, r, plain, "what was released last of "+now.Add(-time.Hour).UTC().Format(dateFormat)) // known from before
	of(now)
	passes(t, g, r)

	// Nor if it was remembered when the clock was wrong.
	put(t, r.State, "apt.released", `{"run":"0","repositories":{"dists/x":{"date":"`+now.Add(25*time.Hour).Format(time.RFC3339)+`"}}}`)
	passes(t, g, r)
}

// TestForget checks that each gate that remembers says how to make it forget, and does.
func TestForget(t *testing.T) {
	for _, test := range []struct {
		name  string
		gate  Recorder
		good  func(dir string)
		worse func(dir string) // is held after good
	}{
		{"apt", new(Apt), func(dir string) {
			repo := newAptRepo(t)
			repo.write()
			copyTo(t, dir, repo.dir)
		}, func(dir string) { rm(t, dir, "dists/x/main/binary-amd64") }},
		{"rpm", new(Rpm), func(dir string) {
			for _, name := range []string{"a", "b"} {
				repo := newRpmRepo(t)
				repo.write(repo.whole())
				copyTo(t, filepath.Join(dir, name), repo.dir)
			}
		}, func(dir string) { rm(t, dir, "b") }},
		{"pypi", new(Pypi), func(dir string) {
			pypiProject(t, dir, "simple/foo", "foo-1.zip")
		}, func(dir string) { pypiProject(t, dir, "simple/foo") }},
		{"shrink", provision(t, &Shrink{Deletions: "0"}), func(dir string) {
			put(t, dir, "a", "a")
			put(t, dir, "b", "b")
		}, func(dir string) { rm(t, dir, "a") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			r := newRun(t, dir)
			r.Job = "ubuntu"
			if file, err := Forget(test.gate, r.State); file != "" || err != nil {
				t.Errorf("nothing to forget: %q, %v", file, err)
			}
			test.good(dir)
			released(t, test.gate, r)
			kept := filepath.Join(r.State, test.gate.Remembers())
			test.worse(dir)
			err := test.gate.Check(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), kept) || !strings.Contains(err.Error(), "`caddy mirror forget ubuntu "+test.name+"`") {
				t.Errorf("the verdict does not say how to forget: %v", err)
			}

			saved := get(t, r.State, test.gate.Remembers())
			put(t, r.State, test.gate.Remembers(), "{")
			blind(t, test.gate, r, "`caddy mirror forget ubuntu "+test.name+"`")
			put(t, r.State, test.gate.Remembers(), saved)

			if file, err := Forget(test.gate, r.State); file != kept || err != nil {
				t.Errorf("forgotten: %q, %v", file, err)
			}
			released(t, test.gate, r)
			passes(t, test.gate, r)
		})
	}
}

func copyTo(t testing.TB, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestRemarks checks that each kind of oddity is told once, with its first file.
func TestRemarks(t *testing.T) {
	var m remarks
	var b strings.Builder
	m.add("a", "is odd")
	m.add("b", "is odder")
	m.add("c", "is odd")
	m.write(&b, "apt")
	if want := "gate apt: note: a: is odd (2 times in all)\ngate apt: note: b: is odder\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	if m.write(&b, "apt"); strings.Count(b.String(), "\n") != 2 {
		t.Errorf("told twice: %q", b.String())
	}
}
