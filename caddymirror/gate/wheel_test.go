package gate

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wheelOf is a wheel of a file name. What change does to its files comes after RECORD.
func wheelOf(t testing.TB, file string, change func(map[string]string)) string {
	t.Helper()
	parts := strings.Split(strings.TrimSuffix(file, ".whl"), "-")
	info := parts[0] + "-" + parts[1] + ".dist-info/"
	files := map[string]string{
		parts[0] + ".py":  "x = 1\n",
		info + "METADATA": "Metadata-Version: 2.1\nName: " + parts[0] + "\nVersion: " + parts[1] + "\n",
		info + "WHEEL":    "Wheel-Version: 1.0\nTag: " + strings.Join(parts[2:], "-") + "\n",
	}
	record := info + "RECORD,,\n"
	for name, text := range files {
		sum := sha256.Sum256([]byte(text))
		record += fmt.Sprintf("%s,sha256=%s,%d\n", name, base64.RawURLEncoding.EncodeToString(sum[:]), len(text))
	}
	files[info+"RECORD"] = record
	if change != nil {
		change(files)
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, text)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWheel(t *testing.T) {
	const native = "Foo_Bar-1.0-cp311-cp311-linux_x86_64.whl"
	for _, tt := range []struct {
		name, reason string // "" is fine
		body         string
	}{
		{"debian-12-x86_64/f/foo-bar/" + native, "", ""},
		{native, "", ""},
		{"debian-12-x86_64/" + native, "", ""},
		{"debian-12-x86_64/foo-bar/" + native, "", ""},
		{"debian-12-aarch64/f/foo-bar/" + native, "is for linux_x86_64, and its directory for debian-12-aarch64", ""},
		{"debian-12-amd64/f/foo-bar/" + native, "", ""},
		{"debian-12-aarch64/x-1-py3-none-any.whl", "", ""},
		{"alpine-3.20-x86_64/x-1-cp311-cp311-manylinux_2_17_x86_64.whl", "is for manylinux", ""},
		{"alpine-3.20-x86_64/x-1-cp311-cp311-musllinux_1_1_x86_64.whl", "", ""},
		{"ubuntu-22.04-x86_64/x-1-cp311-abi3-manylinux1_x86_64.manylinux2014_x86_64.whl", "", ""},
		{"ubuntu-22.04-x86_64/x-1-cp311-cp311-win_amd64.whl", "is for win_amd64", ""},
		{"a/a-2-b/a_2_b-1-cp311-cp311-linux_x86_64.whl", "", ""},
		{"debian-12-i386/x-1-cp311-cp311-linux_i686.whl", "", ""},
		{"f/foo/" + native, "does not belong in f/foo, but in f/foo-bar", ""},
		{"x/foo-bar/" + native, "does not belong in x/foo-bar", ""},
		{"x-1-py3-none-any.whl", "can not be read", "no archive"},
		{"y.whl", "has a file name of 1 parts", "x"},
		{"x-1-py3-none-any.whl", "its RECORD says", wheelOf(t, "x-1-py3-none-any.whl", func(f map[string]string) { f["x.py"] = "x = 2\n" })},
		{"x-1-py3-none-any.whl", "RECORD", wheelOf(t, "x-1-py3-none-any.whl", func(f map[string]string) { f["more.py"] = "" })},
		{"x-2-py3-none-any.whl", "2", wheelOf(t, "x-1-py3-none-any.whl", nil)},
		{".x-1-py3-none-any.whl.part", "", "half"},
		{".x-1-py3-none-any.whl", "", "half"},
	} {
		t.Run(tt.name+tt.reason, func(t *testing.T) {
			dir := t.TempDir()
			body := tt.body
			if body == "" {
				body = wheelOf(t, path.Base(tt.name), nil)
			}
			put(t, dir, "debian-12-x86_64/g/good/good-1.0-py3-none-any.whl", wheelOf(t, "good-1.0-py3-none-any.whl", nil))
			put(t, dir, tt.name, body)
			g, r := provision(t, new(Wheel)), newRun(t, dir)
			if tt.reason == "" {
				passes(t, g, r)
				return
			}
			fails(t, g, r, tt.name, tt.reason)
		})
	}
}

// TestWheelOnce: a wheel that was released is not read again, and may not change.
func TestWheelOnce(t *testing.T) {
	const name = "x-1-py3-none-any.whl"
	dir := t.TempDir()
	body := wheelOf(t, name, nil)
	put(t, dir, name, body)
	file := filepath.Join(dir, name)
	g, r := provision(t, new(Wheel)), newRun(t, dir)
	passes(t, g, r)
	if err := g.Released(r); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	corrupt := strings.Replace(body, "x = 1", "x = 3", 1)
	if corrupt == body { // it is deflated
		corrupt = body[:len(body)/3] + "!" + body[len(body)/3+1:]
	}
	put(t, dir, name, corrupt)
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	passes(t, g, r) // of the size and time of the one that was released
	all := provision(t, &Wheel{Hash: true})
	fails(t, all, r, name, "is another than was released under this name")
	if err := os.Chtimes(file, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	fails(t, g, r, name, "is another than was released under this name")
	put(t, dir, name, body) // another file, the same wheel
	passes(t, g, r)
	put(t, dir, name, wheelOf(t, name, func(f map[string]string) { delete(f, "x.py") }))
	if _, err := Forget(g, r.State); err != nil {
		t.Fatal(err)
	}
	fails(t, g, r, name, "RECORD")
	put(t, dir, name, wheelOf(t, "x-1-py3-none-any.whl", nil))
	passes(t, g, r)
}

// TestWheelTags: tags that are not in WHEEL are noted, and let pass: no client looks.
func TestWheelTags(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "x-1-py3-none-any.whl", wheelOf(t, "x-1-py3-none-any.whl", nil))
	b := wheelOf(t, "y-1-py3-none-any.whl", nil)
	put(t, dir, "y-1-py2.py3-none-any.whl", b)
	r := newRun(t, dir)
	var out bytes.Buffer
	r.Out = &out
	passes(t, provision(t, new(Wheel)), r)
	if !strings.Contains(out.String(), "y-1-py2.py3-none-any.whl: has tags in its name") || strings.Contains(out.String(), "x-1") {
		t.Errorf("%q", &out)
	}
}
