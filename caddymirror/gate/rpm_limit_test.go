package gate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestRpmRemarks checks that an operator can read what is off.
func TestRpmRemarks(t *testing.T) {
	repo := newRpmRepo(t)
	repo.count = 9
	repo.add("/Packages/a/../b/b-1.rpm", "package b")
	repo.write(repo.whole())
	r := newRun(t, repo.dir)
	var out bytes.Buffer
	r.Out = &out
	passes(t, new(Rpm), r)
	for _, want := range []string{
		"gate rpm: note: 9/BaseOS/repodata/primary.xml.gz: does not say rightly",
		"names that begin with a slash",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	out.Reset()
	repo = newRpmRepo(t)
	repo.write(repo.whole())
	r = newRun(t, repo.dir)
	r.Out = &out
	passes(t, new(Rpm), r)
	if out.Len() > 0 {
		t.Errorf("noted of a repository that is as it should be:\n%s", out.String())
	}
}

// TestUnpackedBound checks that what is small when packed is not unpacked without an end.
func TestUnpackedBound(t *testing.T) {
	// A bomb in primary.xml.gz.
	bomb := func(w io.Writer, start string) {
		z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(z, start)
		blanks := bytes.Repeat([]byte(" "), 1<<20)
		for n := 0; n < 64 && err == nil; n++ {
			_, err = z.Write(blanks)
		}
		if err := errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	bomb(&b, `<metadata packages="0">`)
	repo := newRpmRepo(t)
	repo.write(b.String())
	start := time.Now()
	fails(t, new(Rpm), newRun(t, repo.dir), "9/BaseOS/repodata/primary.xml.gz", "a piece of it is longer than 1 MiB")
	t.Logf("%v", time.Since(start))
}

// TestListedBound checks that indexes can not list files until memory is full.
func TestListedBound(t *testing.T) {
	for _, most := range []int{2, 5} {
		repo := newRpmRepo(t)
		repo.write(repo.whole())
		r := newRun(t, repo.dir)
		root, err := openTree(r)
		if err != nil {
			t.Fatal(err)
		}
		defer root.close()
		c := rpmCheck{Rpm: new(Rpm), repositories: repositories{gate: "rpm", ctx: t.Context(), t: root, last: new(record), now: newRecord(r), progress: newProgress(t.Context(), r, "rpm")}}
		c.files = newListed(t.Context(), root, false, &c.found)
		c.files.most = most
		if err := c.files.end(c.run()); err != nil {
			t.Fatal(err)
		}
		err = c.found.err("rpm")
		if most == 5 && err != nil || most == 2 && (err == nil || !strings.Contains(err.Error(), "lists more files than a tree may have in its indexes together, 2")) {
			t.Errorf("%d: %v", most, err)
		}
	}
}

// TestLinksBound checks that pages can not list files until memory is full.
func TestLinksBound(t *testing.T) {
	dir := t.TempDir()
	pypiProject(t, dir, "simple/foo", "foo-1.zip", "foo-2.zip", "foo-3.zip")
	root, err := openTree(newRun(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer root.close()
	for _, most := range []int{2, 3} {
		c := &pypiCheck{Pypi: new(Pypi), t: root, web: "."}
		cur := cursor{t: root}
		defer cur.close()
		l := pypiLook{pypiCheck: c, cur: &cur, p: &project{name: "foo", key: "foo"}, refs: map[string]int{}, most: most}
		l.has.files = map[string]projectFile{}
		if err := l.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := c.found.err("pypi")
		if most == 3 && err != nil || most == 2 && (err == nil || !strings.Contains(err.Error(), "simple/foo/index.html: lists more files than a project may have, 2")) {
			t.Errorf("%d: %v", most, err)
		}
	}
}
