package syncer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/syncer/syncertest"
)

func TestBandersnatch(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "bandersnatch.conf")
	b := provision(t, &Bandersnatch{Config: config, Command: script(t, syncertest.Bandersnatch)})
	do := func(serial int, packages, failures, stop string) {
		write(t, filepath.Join(filepath.Dir(config), "do"), fmt.Sprintf("serial=%d packages='%s' failures='%s' stop=%s\n", serial, packages, failures, stop))
	}
	j := newJob(t)
	notes := func(serial, todo string) {
		t.Helper()
		if j.Notes["serial"] != serial || j.Notes["todo"] != todo {
			t.Errorf("notes are %v, want %s and %s", j.Notes, serial, todo)
		}
		j.Notes = nil
	}
	j.fail(b, "no such file")
	if err := b.Ready(); err == nil || !strings.Contains(err.Error(), config) {
		t.Errorf("without a configuration: %v", err)
	}
	if exists(config) {
		t.Error("an example was written")
	}
	write(t, config, "; comment\n[plugins]\ndirectory = /elsewhere\n[mirror]\nmaster = https://pypi.example.org/\ndirectory = "+dir+"\n")

	if err := b.Ready(); err != nil {
		t.Error(err)
	}

	do(7, "a b", "", "")
	j.Notes = map[string]string{"serial": "of the run before"}
	j.sync(b)
	notes("7", "0")
	j.wantChanged(new(true))
	if j.progress.Stage != "packages" || j.progress.Done != 1 {
		t.Errorf("progress is %+v", j.progress)
	}
	do(7, "", "", "")
	j.sync(b)
	j.wantChanged(new(false))

	// Packages fail, and it says that all is well.
	do(9, "a bad c worse", "bad worse", "")
	j.fail(b, "left 2 packages to do, bad among them: the mirror is at serial 7, PyPI at 9")
	notes("7", "2")
	j.wantChanged(new(true))
	j.wantChanges("a", "c")
	if !strings.Contains(j.printed(), "ERROR") {
		t.Error("the log of the run is empty")
	}
	patient := provision(t, &Bandersnatch{Config: config, Command: b.Command, MaxTodo: 2})
	j.sync(patient)
	j.wantChanged(new(true))
	do(9, "bad worse", "", "")
	j.sync(b)
	j.wantChanged(new(true))

	do(11, "a bad", "bad", "yes")
	j.fail(b, "exit status 1")
	notes("9", "1")

	// Killed while it wrote its list, which has no packages then.
	do(11, "", "", "")
	b.Command = script(t, "echo 11 >"+dir+"/todo")
	j.fail(b, "left 0 packages to do: the mirror is at serial 9, PyPI at 11")

	// It says that all is well, and there is nothing.
	if err := os.Remove(filepath.Join(dir, "todo")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "status")); err != nil {
		t.Fatal(err)
	}
	b.Command = script(t, "true")
	j.Notes = nil
	j.fail(b, "there is no "+filepath.Join(dir, "status"))
	if _, ok := j.Notes["serial"]; ok {
		t.Error(j.Notes)
	}
}

// quietly is a bandersnatch whose mirror is in a directory of the job's, and that does
// what it is told.
func quietly(t *testing.T) (j *job, b *Bandersnatch, do func(settings string)) {
	t.Helper()
	j = newJob(t)
	config := filepath.Join(t.TempDir(), "bandersnatch.conf")
	write(t, config, "[mirror]\ndirectory = "+j.Dir+"/pypi\n")
	b = provision(t, &Bandersnatch{Config: config, Command: script(t, syncertest.Bandersnatch)})
	return j, b, func(settings string) {
		t.Helper()
		write(t, filepath.Join(filepath.Dir(config), "do"), settings+"\n")
	}
}

// TestBandersnatchQuiet: a run over a quiet index changes nothing, whatever it writes, and
// all that it writes is known as bookkeeping.
func TestBandersnatchQuiet(t *testing.T) {
	j, b, do := quietly(t)
	do("serial=7 packages='Foo.Bar baz'")
	j.sync(b)
	j.wantChanged(new(true))
	j.wantChanges("baz", "foo-bar")
	if j.Serial != 7 || time.Since(j.Upstream) > time.Minute || time.Until(j.Upstream) > 0 {
		t.Errorf("serial %d, up to %v", j.Serial, j.Upstream)
	}
	bookkeeping := func(what string, least ...string) {
		t.Helper()
		before := files(t, j.Dir)
		time.Sleep(20 * time.Millisecond) // the kernel's clock ticks
		j.sync(b)
		j.wantChanged(new(false))
		j.wantChanges()
		names := written(before, files(t, j.Dir))
		for _, name := range names {
			if !j.Bookkeeping(name) {
				t.Errorf("%s: %s is written, and is no bookkeeping", what, name)
			}
		}
		for _, name := range least {
			if !slices.Contains(names, "pypi/"+name) {
				t.Errorf("%s: %s is not written: the stand-in is none", what, name)
			}
		}
	}
	for _, name := range []string{"status", "pypi/web/simple/foo/index.html", "pypi/web/simple/status", "pypi/web/simple/index.html"} {
		if j.Bookkeeping(name) {
			t.Errorf("%s is bookkeeping", name)
		}
	}
	do("serial=7 packages=''")
	for range 5 {
		bookkeeping("quiet", ".lock", "generation", "status", "web/last-modified")
	}
	do("serial=9 packages=''")
	bookkeeping("what changes is not mirrored", "status", "web/last-modified", "web/simple/index.html")
	if j.Serial != 9 {
		t.Errorf("serial is %d", j.Serial)
	}
	do("serial=9 away=yes")
	j.fail(b, "Cannot connect")
	if err := b.Sync(t.Context(), j.Run); err == nil || strings.Count(err.Error(), "Cannot connect") != 1 {
		t.Errorf("why it failed is not said once: %v", err)
	}
	j.wantChanged(new(false))

	do("serial=9 packages=baz") // though the serial is the same
	j.sync(b)
	j.wantChanged(new(true))
	j.wantChanges("baz")
	do("serial=11 packages=baz")
	j.sync(b)
	j.wantChanged(new(true))
	j.wantChanges("baz")
	do("serial=13 packages=baz mute=yes") // by its log_config
	j.sync(b)
	j.wantChanged(new(true))
	j.wantChanges()
	do("serial=13 mute=yes away=yes")
	j.fail(b, "exit status 1")
	j.wantChanged(nil)

	// Killed after the first of two packages.
	do("serial=15 packages='baz qux' die=yes")
	j.fail(b, "killed")
	j.wantChanged(nil)
	j.wantChanges("baz")
	do("serial=15 packages=qux")
	j.sync(b)
	j.wantChanged(new(true))
	j.wantChanges("qux")
}

func TestBandersnatchDirectory(t *testing.T) {
	config := filepath.Join(t.TempDir(), "conf")
	for text, want := range map[string]string{
		"[mirror]\ndirectory=/a":                    "/a",
		"[mirror]\n  Directory : /a b \n":           "/a b",
		"[x]\ndirectory=/b\n[mirror]\ndirectory=/a": "/a",
		"[mirror]\n#directory=/a":                   "",
		"[mirror]\ndirectory=%(home)s/a":            "",
		"[mirror]\ndirectory=a":                     "",
		"":                                          "",
	} {
		write(t, config, text)
		b := &Bandersnatch{Config: config, Command: "true"}
		got, err := b.directory("/")
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if ready := b.Ready(); (ready == nil) != (err == nil) {
			t.Errorf("%q: %v, but it is ready: %v", text, err, ready)
		}
		if got, err := (&Bandersnatch{Config: config, Directory: "/d"}).directory("/"); got != "/d" || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if err := (&Bandersnatch{Config: t.TempDir(), Directory: "/d", Command: "true"}).Ready(); err == nil {
		t.Error("a directory is taken for a configuration")
	}

	// What is relative is relative to the job's directory, as for bandersnatch.
	relative := &Bandersnatch{Config: filepath.Base(config), Directory: "/d", Command: "true"}
	if err := relative.Ready(); err != nil {
		t.Error(err)
	}
	if _, err := relative.directory(filepath.Dir(config)); err != nil {
		t.Error(err)
	}
}
