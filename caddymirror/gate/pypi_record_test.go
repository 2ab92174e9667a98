package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// pypiProject puts the pages of a project, each with these files, of which "-" begins those
// that are yanked.
func pypiProject(t testing.TB, dir, at string, files ...string) {
	t.Helper()
	var html, json []string
	for _, file := range files {
		attr, yanked := "", "false"
		if name, ok := strings.CutPrefix(file, "-"); ok {
			file, attr, yanked = name, `data-yanked="" `, `"why"`
		}
		put(t, dir, "packages/"+file, file)
		html = append(html, fmt.Sprintf(`<a %shref="../../packages/%s">%s</a><br/>`, attr, file, file))
		json = append(json, fmt.Sprintf(`{"filename":"%s","hashes":{},"size":%d,"url":"../../packages/%s","yanked":%s}`, file, len(file), file, yanked))
	}
	put(t, dir, at+"/index.html", pypiHTML("x", strings.Join(html, "\n")))
	put(t, dir, at+"/index.v1_json", `{"files":[`+strings.Join(json, ",")+`]}`)
}

// TestPypiLost checks that projects do not lose files unnoticed.
func TestPypiLost(t *testing.T) {
	const foo, bar = "simple/foo", "simple/bar"
	for _, test := range []struct {
		name         string
		gate         *Pypi
		then         func(dir string)
		file, reason string // empty: it passes
	}{
		{"same", nil, func(string) {}, "", ""},
		{"all", nil, func(dir string) { pypiProject(t, dir, foo) }, foo, "has lost all 3 files that it had when last released, none of them yanked: foo-1.zip, foo-2.zip, foo-3.zip (if this"},
		{"one", nil, func(dir string) { pypiProject(t, dir, foo, "foo-1.zip", "foo-3.zip", "foo-4.zip") }, foo, "has lost 1 files that it had when last released, none of them yanked: foo-2.zip (if this"},
		{"one that was yanked", nil, func(dir string) { pypiProject(t, dir, bar, "bar-1.zip") }, "", ""},
		{"one that is yanked", nil, func(dir string) { pypiProject(t, dir, foo, "-foo-1.zip", "foo-2.zip", "foo-3.zip") }, "", ""},
		{"more", nil, func(dir string) { pypiProject(t, dir, foo, "foo-1.zip", "foo-2.zip", "foo-3.zip", "foo-4.zip") }, "", ""},
		{"on one page", nil, func(dir string) { put(t, dir, foo+"/index.html", pypiHTML("foo", "")) }, foo, "foo-1.zip on index.html, foo-2.zip on index.html"},
		{"on the other", nil, func(dir string) { put(t, dir, foo+"/index.v1_json", `{"files":[]}`) }, foo, "foo-1.zip on index.v1_json"},
		{"a page", nil, func(dir string) { rm(t, dir, foo+"/index.html") }, foo, "has lost 3 files that it had when last released, none of them yanked: foo-1.zip on index.html, foo-2.zip on index.html"},
		{"a page of what was yanked", nil, func(dir string) {
			pypiProject(t, dir, foo, "-foo-1.zip", "-foo-2.zip", "-foo-3.zip")
			rm(t, dir, foo+"/index.html")
		}, "", ""},
		{"a page, then", nil, func(dir string) {
			pypiProject(t, dir, foo, "foo-1.zip", "foo-2.zip")
			rm(t, dir, foo+"/index.html")
		}, foo, "has lost 3 files that it had when last released, none of them yanked: foo-1.zip on index.html, foo-2.zip on index.html, foo-3.zip (if"},
		{"pages are one", nil, func(dir string) {
			rm(t, dir, foo+"/index.v1_json")
			if err := os.Link(filepath.Join(dir, foo, "index.html"), filepath.Join(dir, foo, "index.v1_html")); err != nil {
				t.Fatal(err)
			}
		}, "", ""},
		{"project", nil, func(dir string) { rm(t, dir, foo) }, foo, "has no page any more, and had 3 files when last released: foo-1.zip"},
		{"last project", nil, func(dir string) { rm(t, dir, "simple/zoo") }, "simple/zoo", "has no page any more, and had 5 files when last released: zoo-1.zip, zoo-2.zip, zoo-3.zip, and 2 more (if"},
		{"first projects", nil, func(dir string) { rm(t, dir, bar); rm(t, dir, "simple/baz") }, bar, "has no page any more"},
		{"all pages", nil, func(dir string) { rm(t, dir, foo+"/index.html"); rm(t, dir, foo+"/index.v1_json") }, foo, "has no page"},
		{"moved", nil, func(dir string) {
			pypiProject(t, dir, "simple/f/foo", "foo-1.zip", "foo-2.zip", "foo-3.zip")
			rm(t, dir, foo)
		}, "", ""},
		{"moves", nil, func(dir string) { // half of it is there already
			pypiProject(t, dir, "simple/f/foo", "foo-1.zip", "foo-2.zip")
			pypiProject(t, dir, foo, "foo-3.zip")
		}, "", ""},
		{"another name", nil, func(dir string) {
			pypiProject(t, dir, "simple/Foo", "foo-1.zip", "foo-2.zip", "foo-3.zip")
			rm(t, dir, foo)
		}, "", ""},
		{"one letter", nil, func(dir string) { pypiProject(t, dir, "simple/f") }, "simple/f", "has lost all 1 files"},

		{"may be lost", &Pypi{Deletions: "3"}, func(dir string) { pypiProject(t, dir, foo) }, "", ""},
		{"may not be lost", &Pypi{Deletions: "2"}, func(dir string) { pypiProject(t, dir, foo) }, "", "3 files of 13 are lost, and deletions allows 2"},
		{"part may be lost", &Pypi{Deletions: "25%"}, func(dir string) { pypiProject(t, dir, foo) }, "", ""},
		{"part may not be lost", &Pypi{Deletions: "20%"}, func(dir string) { pypiProject(t, dir, foo) }, "", "3 files of 13 are lost, and deletions allows 2"},
		{"broken page", nil, func(dir string) { put(t, dir, foo+"/index.html", "") }, foo + "/index.html", "is not a page of HTML"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			pypiProject(t, dir, bar, "bar-1.zip", "-bar-2.zip")
			pypiProject(t, dir, "simple/baz", "baz-1.zip", "baz-2.zip")
			pypiProject(t, dir, foo, "foo-3.zip", "foo-1.zip", "foo-2.zip")
			pypiProject(t, dir, "simple/f", "f-1.zip")
			pypiProject(t, dir, "simple/foo-bar", "foo_bar-1.zip")
			pypiProject(t, dir, "simple/zoo", "zoo-1.zip", "zoo-2.zip", "zoo-3.zip", "zoo-4.zip", "zoo-5.zip")
			r := newRun(t, dir)
			r.Job = "pypi"
			var out bytes.Buffer
			r.Out = &out
			g := test.gate
			if g == nil {
				g = new(Pypi)
			}
			provision(t, g)
			released(t, g, r)
			test.then(dir)
			if test.file == "" && test.reason == "" {
				released(t, g, r)
				released(t, g, r) // what was kept is as good
				return
			}
			v := fails(t, g, r, test.file, test.reason)
			if strings.Contains(test.reason, "lost all") && !strings.Contains(v.Reason, "`caddy mirror forget pypi pypi`") {
				t.Error(v)
			}
			fails(t, g, r, test.file, test.reason) // it was not released, and is not remembered
		})
	}
}

// TestPypiLostNote checks that the log of the run tells what is lost and may be.
func TestPypiLostNote(t *testing.T) {
	dir := t.TempDir()
	pypiProject(t, dir, "simple/foo", "foo-1.zip")
	r := newRun(t, dir)
	g := provision(t, &Pypi{Deletions: "1"})
	released(t, g, r)
	pypiProject(t, dir, "simple/foo")
	var out bytes.Buffer
	r.Out = &out
	passes(t, g, r)
	if !strings.Contains(out.String(), "gate pypi: note: simple/foo: has lost all 1 files") {
		t.Error(out.String())
	}
}

// TestPypiTwoWebs checks that two web directories of a job are remembered each by itself.
func TestPypiTwoWebs(t *testing.T) {
	dir := t.TempDir()
	for _, web := range []string{"a/web", "b"} {
		pypiProject(t, dir, web+"/simple/foo", "foo-1.zip")
		put(t, dir, web+"/packages/foo-1.zip", "foo-1.zip")
	}
	a, b := &Pypi{Dir: "a/web"}, &Pypi{Dir: "b"}
	r := newRun(t, dir)
	passes(t, a, r)
	passes(t, b, r)
	for _, g := range []*Pypi{a, b} {
		if err := g.Released(r); err != nil {
			t.Fatal(err)
		}
	}
	pypiProject(t, dir, "a/web/simple/foo")
	passes(t, b, r)
	fails(t, a, r, "a/web/simple/foo", "has lost all")
}

// TestPypiTurns checks that what is found side by side is kept in order, and that not much
// of it waits in memory.
func TestPypiTurns(t *testing.T) {
	const files = 25
	projects := 20_000
	if n, err := strconv.Atoi(os.Getenv("TEST_PYPI_PROJECTS")); err == nil {
		projects = n // 600000 are all of PyPI
	}
	state := t.TempDir()
	name := func(i, j int) string {
		return fmt.Sprintf("%x-%d.%d-cp3%d-manylinux_2_17_x86_64.whl", sum256(strconv.Itoa(i))[:i%10+10], i%7, j, j%13)
	}
	record := func(run string, skip func(i, j int) bool) *pypiRecord {
		r := newRun(t, t.TempDir())
		r.State, r.ID = state, run
		c := &pypiCheck{Pypi: new(Pypi), run: r}
		rec, err := c.openRecord()
		if err != nil {
			t.Fatal(err)
		}
		defer rec.close()
		turns := newTurns(t.Context(), rec)
		next := make(chan int)
		ended := make(chan error)
		for w := range lookers {
			go func() {
				for i := range next {
					if err := turns.wait(i); err != nil {
						ended <- err
						return
					}
					if w == 0 && i%1000 == 0 {
						time.Sleep(time.Millisecond) // others run ahead
					}
					p := projectFiles{key: fmt.Sprintf("project-%06d", i), pages: 1, files: map[string]projectFile{}}
					for j := range files {
						if !skip(i, j) {
							p.add(name(i, j), 1, false)
						}
					}
					if err := turns.done(i, &p); err != nil {
						ended <- err
						return
					}
				}
				ended <- nil
			}()
		}
		for i := range projects {
			next <- i
		}
		close(next)
		for range lookers {
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
		if err := rec.end(); err != nil {
			t.Fatal(err)
		}
		if err := c.Released(r); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	var mu sync.Mutex
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	var peak uint64
	record("1", func(i, j int) bool {
		if j == 0 && i%5000 == 0 {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			mu.Lock()
			peak = max(peak, now.HeapAlloc)
			mu.Unlock()
		}
		return false
	})
	took := time.Since(start)
	size := len(get(t, state, "pypi.released"))
	t.Logf("%d files of %d projects: %v, %d KB on disk, %d MB of memory, %d before", projects*files, projects, took, size>>10, peak>>20, before.HeapAlloc>>20)
	if peak > before.HeapAlloc+100<<20 {
		t.Errorf("%d MB of memory", peak>>20)
	}
	if size > projects*files*8 {
		t.Errorf("%d bytes on disk", size)
	}
	rec := record("2", func(i, j int) bool { return i == 7 || i == projects-1 && j == 3 })
	if rec.files != files+1 || rec.projects != 2 {
		t.Errorf("%d files of %d projects are lost", rec.files, rec.projects)
	}
}

// TestPypiAhead checks that no more than so many projects wait for the one before them.
func TestPypiAhead(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := newRun(t, t.TempDir())
	record, err := (&pypiCheck{Pypi: new(Pypi), run: r}).openRecord()
	if err != nil {
		t.Fatal(err)
	}
	defer record.close()
	turns := newTurns(ctx, record)
	if err := turns.wait(ahead - 1); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 2)
	go func() { waited <- turns.wait(ahead) }()
	select {
	case err := <-waited:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := turns.done(0, &projectFiles{key: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	go func() { waited <- turns.wait(ahead + 1) }()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestPypiOnePage checks that pages may become one file.
func TestPypiOnePage(t *testing.T) {
	dir := t.TempDir()
	const html, other = "simple/foo/index.html", "simple/foo/index.v1_html"
	pypiProject(t, dir, "simple/foo", "foo-1.zip")
	put(t, dir, other, get(t, dir, html))
	r := newRun(t, dir)
	released(t, new(Pypi), r)
	rm(t, dir, other)
	symlink(t, dir, "index.html", other)
	passes(t, new(Pypi), r)
}
