package pypi

import (
	"bytes"
	"crypto/sha256"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
)

func sum(text string) digest.Digest {
	h := sha256.Sum256([]byte(text))
	return digest.Digest{Kind: "sha256", Sum: string(h[:])}
}

// readBack returns what the readers find on a page.
func readBack(t *testing.T, p Page, asJSON bool) (files []File) {
	t.Helper()
	var buf bytes.Buffer
	r := Reader{
		See:    func(f File) error { files = append(files, f); return nil },
		Remark: func(text string) { t.Errorf("the page %s:\n%s", text, buf.String()) },
	}
	write, read := p.WriteHTML, r.HTML
	if asJSON {
		key := "files"
		if p.Project == "" {
			key = "projects"
		}
		write, read = p.WriteJSON, func(in io.Reader) error { return r.JSON(in, key) }
	}
	if err := write(&buf); err != nil {
		t.Fatal(err)
	}
	if err := read(bytes.NewReader(buf.Bytes())); err != nil {
		t.Fatalf("%v in\n%s", err, buf.String())
	}
	return files
}

func TestWriteProject(t *testing.T) {
	names := []string{
		"foo-1.0-py3-none-any.whl", "foo-1!2.0+ubuntu.1-py3-none-any.whl", `foo-%20 "<&>'#?.zip`, "föö-1.0.tar.gz", "a:b-1.0.tar.gz",
	}
	var want []File
	for i, name := range names {
		f := File{URL: Escape(name), Size: int64(i) << 32}
		if i > 0 {
			f.Digest = sum(name)
		}
		if i > 1 {
			f.URL = "../f/" + Escape(name)
			f.Metadata = true
			f.RequiresPython = ">=3.9,<4"
			f.UploadTime = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
		}
		if i > 2 {
			f.MetadataDigest = sum("m")
			f.Yanked = true
		}
		if i > 3 {
			f.YankedReason = `of "<this>"`
		}
		want = append(want, f)
	}
	p := Page{Project: "foo", Versions: []string{"1.0"}, Files: slices.Values(want)}
	for i, got := range readBack(t, p, true) {
		w := want[i]
		if !got.UploadTime.Equal(w.UploadTime) {
			t.Errorf("time %v, want %v", got.UploadTime, w.UploadTime)
		}
		if got.UploadTime, w.UploadTime = (time.Time{}), (time.Time{}); !reflect.DeepEqual(got, w) {
			t.Errorf("JSON: %+v, want %+v", got, w)
		}
	}
	for i, got := range readBack(t, p, false) {
		w := want[i]
		d, err := DigestOfURL(got.URL)
		if err != nil || d != w.Digest {
			t.Errorf("HTML: digest of %s is %+v, %v", got.URL, d, err)
		}
		got.URL, _, _ = strings.Cut(got.URL, "#")
		w.Digest, w.Size, w.UploadTime = digest.Digest{}, -1, time.Time{}
		if !reflect.DeepEqual(got, w) {
			t.Errorf("HTML: %+v, want %+v", got, w)
		}
		name, err := Resolve("simple/foo", got.URL, "", false)
		if wantName := strings.TrimPrefix("simple/foo/"+names[i], ""); i > 1 && name != "simple/f/"+names[i] || i <= 1 && name != wantName || err != nil {
			t.Errorf("%s leads to %q, %v", got.URL, name, err)
		}
	}
}

func TestWriteRoot(t *testing.T) {
	names := []string{"foo", "foo-bar", "x"}
	p := Page{Projects: slices.Values(names)}
	for _, asJSON := range []bool{false, true} {
		var got []string
		for _, f := range readBack(t, p, asJSON) {
			got = append(got, strings.TrimSuffix(f.URL, "/"))
		}
		if !slices.Equal(got, names) {
			t.Errorf("JSON %v: %v, want %v", asJSON, got, names)
		}
	}
	if got := readBack(t, Page{Projects: slices.Values([]string(nil))}, true); len(got) != 0 {
		t.Errorf("an empty list has %v", got)
	}
	if got := readBack(t, Page{Project: "x", Files: slices.Values([]File(nil))}, true); len(got) != 0 {
		t.Errorf("an empty project has %v", got)
	}
}

// largest notes the largest piece that is written.
type largest int

func (l *largest) Write(p []byte) (int, error) {
	*l = max(*l, largest(len(p)))
	return len(p), nil
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestWriteGoesOn checks that a page is written while it is made, and no longer than
// somebody takes it.
func TestWriteGoesOn(t *testing.T) {
	made := 0
	p := Page{Projects: func(yield func(string) bool) {
		for range 200_000 {
			if made++; !yield("project" + strconv.Itoa(made)) {
				return
			}
		}
	}}
	for _, write := range []func(io.Writer) error{p.WriteHTML, p.WriteJSON} {
		var most largest
		if err := write(&most); err != nil || most > bufferSize || most == 0 {
			t.Errorf("pieces of %d bytes, %v", most, err)
		}
		made = 0
		if err := write(failing{}); err == nil || made > 2000 {
			t.Errorf("error is %v after %d projects", err, made)
		}
	}
}

func FuzzWrite(f *testing.F) {
	f.Add("foo", "foo-1.0-py3-none-any.whl", ">=3", "why")
	f.Fuzz(func(t *testing.T, project, name, python, reason string) {
		if project == "" || name == "" || strings.ContainsAny(name, "/\x00") {
			return
		}
		file := File{URL: Escape(name), Digest: sum(name), RequiresPython: python, Yanked: true, YankedReason: reason}
		p := Page{Project: project, Files: slices.Values([]File{file}), Versions: []string{name}}
		for _, asJSON := range []bool{false, true} {
			got := readBack(t, p, asJSON)
			if len(got) != 1 {
				t.Fatalf("JSON %v: %d files", asJSON, len(got))
			}
			address, _, _ := strings.Cut(got[0].URL, "#")
			if back := fileName(address); back != name {
				t.Errorf("JSON %v: %q, want %q", asJSON, back, name)
			}
		}
	})
}
