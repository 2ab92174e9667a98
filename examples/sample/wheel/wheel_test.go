package wheel

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWheel(t *testing.T) {
	w := Wheel{
		Name:     "Some.Thing_else",
		Version:  "1.2",
		Requires: []string{"other>=1"},
		Files:    map[string]string{"some/__init__.py": "x = 1\n", "a.py": ""},
	}
	if got, want := w.Project(), "some-thing-else"; got != want {
		t.Errorf("Project() = %q, want %q", got, want)
	}
	if got, want := w.Filename(), "some_thing_else-1.2-py3-none-any.whl"; got != want {
		t.Errorf("Filename() = %q, want %q", got, want)
	}

	var a, b bytes.Buffer
	if _, err := w.WriteTo(&a); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two archives of one wheel differ")
	}

	z, err := zip.NewReader(bytes.NewReader(a.Bytes()), int64(a.Len()))
	if err != nil {
		t.Fatal(err)
	}
	content := make(map[string]string)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		content[f.Name] = string(data)
	}
	const info = "some_thing_else-1.2.dist-info/"
	if !strings.Contains(content[info+"METADATA"], "\nRequires-Dist: other>=1\n") {
		t.Errorf("METADATA lacks the dependency:\n%s", content[info+"METADATA"])
	}
	record := content[info+"RECORD"]
	for name, data := range content {
		if name == info+"RECORD" {
			continue
		}
		sum := sha256.Sum256([]byte(data))
		line := fmt.Sprintf("%s,sha256=%s,%d\n", name, base64.RawURLEncoding.EncodeToString(sum[:]), len(data))
		if !strings.Contains(record, line) {
			t.Errorf("RECORD lacks %q", line)
		}
	}
	if got, want := strings.Count(record, "\n"), len(content); got != want {
		t.Errorf("RECORD has %d lines for %d files", got, want)
	}
}

func TestWriteIndex(t *testing.T) {
	dir := t.TempDir()
	w := Wheel{Name: "one", Version: "1", Files: map[string]string{"one.py": "x = 1\n"}}
	newer := Wheel{Name: "one", Version: "2", Files: map[string]string{"one.py": "x = 2\n"}}
	if err := WriteIndex(dir, w, newer, Wheel{Name: "two", Version: "1"}); err != nil {
		t.Fatal(err)
	}

	data, err := os.ReadFile(filepath.Join(dir, "packages", w.Filename()))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "simple", "one", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	link := fmt.Sprintf(`href="../../packages/%s#sha256=%x"`, w.Filename(), sha256.Sum256(data))
	if !bytes.Contains(page, []byte(link)) {
		t.Errorf("page lacks %s:\n%s", link, page)
	}
	if n := bytes.Count(page, []byte("<a ")); n != 2 {
		t.Errorf("page of one has %d links, want 2", n)
	}
	root, err := os.ReadFile(filepath.Join(dir, "simple", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(root, []byte("<a ")); n != 2 {
		t.Errorf("index has %d links, want 2:\n%s", n, root)
	}

	// A second run leaves the files alone, a changed file is replaced.
	name := filepath.Join(dir, "packages", w.Filename())
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if !before.ModTime().Equal(Time) {
		t.Errorf("modification time is %v, want %v", before.ModTime(), Time)
	}
	if err := WriteIndex(dir, w); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("an unchanged file was written anew")
	}
	if err := WriteFile(name, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(name); err != nil || string(data) != "x" {
		t.Errorf("file is %q, %v after a change", data, err)
	}
}

// TestSdist: the wheel that is built of a source is the one that it was made of.
func TestSdist(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	w := Wheel{
		Name: "Some.Thing", Version: "1.2", Summary: "x", Requires: []string{"other>=1"},
		Files: map[string]string{"some/__init__.py": "x = 1\n", "a.py": ""},
	}
	d, err := w.Sdist().Dist()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := w.Sdist().Dist(); err != nil || !bytes.Equal(d.Data, again.Data) {
		t.Error("two sources of one wheel differ", err)
	}
	if d.Filename != "some_thing-1.2.tar.gz" || d.Project() != "some-thing" {
		t.Errorf("it is %s of %s", d.Filename, d.Project())
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "tar", "-xz")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(d.Data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd = exec.CommandContext(t.Context(), python, "-c", "import backend; print(backend.build_wheel('..'))")
	cmd.Dir = filepath.Join(dir, "source") // as pip unpacks it
	if err := os.Rename(filepath.Join(dir, "some_thing-1.2"), cmd.Dir); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != w.Filename() {
		t.Fatalf("%v: %s", err, out)
	}
	files := func(file string) map[string]string {
		z, err := zip.OpenReader(file)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		all := map[string]string{}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			all[f.Name] = string(data)
			if strings.HasSuffix(f.Name, "/RECORD") { // in another order
				lines := strings.Split(all[f.Name], "\n")
				slices.Sort(lines)
				all[f.Name] = strings.Join(lines, "\n")
			}
		}
		return all
	}
	own, err := w.Dist()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "own.whl"), own.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := files(filepath.Join(dir, w.Filename())), files(filepath.Join(dir, "own.whl")); !maps.Equal(got, want) {
		t.Errorf("built:  %q\nwritten: %q", got, want)
	}
}
