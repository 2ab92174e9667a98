package afs_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
)

// logged notes when a command begins and ends, in a file.
const logged = `#!/bin/sh
echo "begin $*" >> "$0.log"
"$@"
status=$?
echo "end $*" >> "$0.log"
exit $status
`

// vosLog is a command to put before vos that notes all of them.
func vosLog(t *testing.T, c *cell.Cell) (prefix string, lines func() []string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "logged")
	try(t, os.WriteFile(script, []byte(logged), 0o755))
	return script + " " + vosPrefix(t, c), func() []string {
		text, err := os.ReadFile(script + ".log")
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}

// testLane: releases of one cell wait for each other, and a job that watches volumes
// which others write to releases those that were written to, and only those.
func testLane(t *testing.T) {
	c := cell.New(t, cell.Options{})
	prefix, lines := vosLog(t, c)
	jobs := ""
	volumes := map[string]*cell.Volume{}
	for name, command := range map[string]string{
		"one": prefix,
		"two": "sh -c `\"$@\"; exit 3` sh " + prefix, // it does what it is to, and fails
	} {
		volumes[name] = newVolume(t, c, name, c.FS1, c.FS2)
		jobs += "job " + name + " {\n" + releaseAFS(c, command, name, "") + "}\n"
	}
	docs := []string{"docs.a", "docs.b", "docs.c"}
	for _, name := range docs {
		volumes[name] = newVolume(t, c, name, c.FS1)
	}
	jobs += "job docs {\nevery 2s\n" + releaseAFS(c, prefix, strings.Join(docs, " "), "") + "}\n"
	for name, v := range volumes {
		try(t, v.WriteFile(t.Context(), "name", []byte(name), cell.Attr{}))
	}
	time.Sleep(1100 * time.Millisecond) // what is released in the second of a write is released again
	srv := startSite(t, jobSite(t, c, jobs, "one"))
	client := newClient(t, c)
	published := func(name string) bool {
		ok, _ := volumeState(t, client, c, name).Published()
		return ok
	}

	one, two := runner{t, srv, "one"}, runner{t, srv, "two"}
	first, second := one.begin(), two.begin()
	for _, run := range []job.Run{one.wait(first), two.wait(second)} {
		check(t, run, job.Released, "")
	}
	watch := runner{t, srv, "docs"}
	quiet := func() {
		t.Helper()
		since, idle := time.Now(), map[string]bool{}
		waitFor(t, 30*time.Second, "two runs with nothing to do", func() bool {
			if last := watch.status().Last; last != nil && last.Began.After(since) && last.Outcome == job.Unchanged {
				idle[last.ID] = true
			}
			return len(idle) == 2
		})
	}
	for _, name := range docs {
		waitFor(t, 30*time.Second, "published: "+name, func() bool { return published(name) })
	}
	quiet()

	// What is wrong with one is no reason to leave out the others.
	if _, err := c.Vos(t.Context(), "lock", "docs.a"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docs.a", "docs.c"} {
		try(t, volumes[name].WriteFile(t.Context(), "name", []byte("newer"), cell.Attr{}))
	}
	waitFor(t, 30*time.Second, "published: docs.c", func() bool { return published("docs.c") })
	waitFor(t, 30*time.Second, "the lock is told", func() bool {
		last := watch.status().Last
		return last.Outcome == job.Failed && strings.Contains(last.Error, "volume docs.a: it is locked") && strings.Contains(last.Error, "vos unlock docs.a")
	})
	if _, err := c.Vos(t.Context(), "unlock", "docs.a"); err != nil {
		t.Fatal(err)
	}
	if last := watch.run(); last.Outcome != job.Released || !published("docs.a") {
		t.Errorf("unlocked: %+v", last)
	}
	quiet()

	before := len(lines())
	try(t, volumes["docs.b"].WriteFile(t.Context(), "name", []byte("new"), cell.Attr{}))
	waitFor(t, 30*time.Second, "published: docs.b", func() bool { return published("docs.b") })
	quiet()
	all := lines()
	for _, line := range all[before:] {
		if !strings.Contains(line, "release docs.b ") {
			t.Errorf("docs.b was written to, and there was: %s", line)
		}
	}
	if len(all) == before {
		t.Error("docs.b was written to, and not released")
	}
	for pair := range slices.Chunk(all, 2) {
		if a, b := strings.CutPrefix(pair[0], "begin "); !b || len(pair) < 2 || pair[1] != "end "+a {
			t.Fatalf("releases overlap:\n%s", strings.Join(all, "\n"))
		}
	}
	for _, name := range []string{"one", "two"} {
		n := 0
		for _, line := range all {
			if strings.HasPrefix(line, "begin ") && strings.Contains(line, " release "+name+" ") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d releases of %s", n, name)
		}
	}
}
