package syncer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeBandersnatch is a script in the place of bandersnatch: there is no PyPI to
// mirror here. It behaves as bandersnatch does: it has the serial that it has come to
// in `status`, what is left to do in `todo` while there is any, writes an example if
// it has no configuration, and its exit status is 0 even if packages failed, unless
// it was told to stop on errors.
//
// What to do it reads from the file `do` in the directory: serials, packages, failures.
const fakeBandersnatch = `
test "$1" = --config || exit 2
test "$3" = mirror || exit 2
test -e "$2" || { echo example >"$2"; echo "WARNING: Config file missing" >&2; exit 1; }
dir=$(sed -n '/^\[mirror\]/,$s/^directory = //p' "$2")
now() { echo "2026-01-01 00:00:00,000 $*" >&2; }
. "$dir/do"
now "INFO: Syncing with https://pypi.example.org/. (mirror.py:50)"
now "INFO: $(echo $packages | wc -w) packages to sync. (mirror.py:80)"
failed=
for p in $packages; do
	case " $failures " in
	*" $p "*)
		now "ERROR: Error syncing package: $p@$serial (mirror.py:90)"
		failed="$failed$p $serial
"
		test "$stop" && { printf '%s\n%s' $serial "$failed" >"$dir/todo"; now "ERROR: Exiting early after error. (mirror.py:99)"; exit 1; };;
	*) now "INFO: Storing index page(s): $p (simple.py:10)";;
	esac
done
if test "$failed"; then
	printf '%s\n%s' $serial "$failed" >"$dir/todo"
else
	rm -f "$dir/todo"
	now "INFO: New mirror serial: $serial (mirror.py:110)"
	printf %s $serial >"$dir/status"
fi
`

func TestBandersnatch(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "bandersnatch.conf")
	b := provision(t, &Bandersnatch{Config: config, Command: script(t, fakeBandersnatch)})
	do := func(serial int, packages, failures, stop string) {
		write(t, filepath.Join(dir, "do"), fmt.Sprintf("serial=%d packages='%s' failures='%s' stop=%s\n", serial, packages, failures, stop))
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
