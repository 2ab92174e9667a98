package wheel

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// file is one of an archive.
type file struct{ name, text string }

const (
	goodMetadata = "Metadata-Version: 2.1\nName: Foo.Bar\nVersion: 1.0\nRequires-Python: >=3.9,\n <4\nRequires-Dist: baz\n\nName: of the body\n"
	goodInfo     = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py2-none-any\nTag: py3-none-any\n"
	goodName     = "foo_bar-1.0-py2.py3-none-any.whl"
	info         = "foo_bar-1.0.dist-info/"
)

func goodFiles() []file {
	return []file{
		{"foo_bar/__init__.py", "answer = 42\n"},
		{"foo_bar/data, with a comma", strings.Repeat("x", 1000)},
		{info + "METADATA", goodMetadata},
		{info + "WHEEL", goodInfo},
	}
}

// record is RECORD of files, with its own line.
func record(files []file) file {
	var b strings.Builder
	for _, f := range files {
		sum := sha256.Sum256([]byte(f.text))
		name := f.name
		if strings.Contains(name, ",") {
			name = `"` + name + `"`
		}
		fmt.Fprintf(&b, "%s,sha256=%s,%d\n", name, base64.RawURLEncoding.EncodeToString(sum[:]), len(f.text))
	}
	return file{info + "RECORD", b.String() + info + "RECORD,,\n"}
}

func pack(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, f := range files {
		w, err := z.Create(f.name)
		if err == nil {
			_, err = io.WriteString(w, f.text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func good(t testing.TB) []byte {
	return pack(t, append(goodFiles(), record(goodFiles()))...)
}

func openBytes(b []byte, name string) (*Wheel, error) {
	return Open(bytes.NewReader(b), int64(len(b)), name)
}

func TestOpen(t *testing.T) {
	w, err := openBytes(good(t), "f/foo_bar/"+goodName)
	if err != nil {
		t.Fatal(err)
	}
	m := w.Metadata
	if m.Name != "Foo.Bar" || m.Version != "1.0" || m.RequiresPython != ">=3.9, <4" || string(m.Bytes) != goodMetadata {
		t.Errorf("metadata are %+v", m)
	}
	if want := []Tag{{"py2", "none", "any"}, {"py3", "none", "any"}}; !slices.Equal(w.Tags, want) || !slices.Equal(w.Name.Tags(), want) {
		t.Errorf("tags are %v and %v, want %v", w.Tags, w.Name.Tags(), want)
	}
	if err := w.Verify(context.Background()); err != nil {
		t.Error(err)
	}
}

// with returns the files of a good wheel with one in place of that with its name.
func with(name, text string) []file {
	files := goodFiles()
	for i := range files {
		if files[i].name == name {
			files[i].text = text
			return files
		}
	}
	return append(files, file{name, text})
}

func without(name string) []file {
	return slices.DeleteFunc(goodFiles(), func(f file) bool { return f.name == name })
}

func TestOpenInvalid(t *testing.T) {
	manyTags := "Wheel-Version: 1.0\n" + strings.Repeat("Tag: "+strings.Repeat("a.", 50)+"a-"+strings.Repeat("b.", 50)+"b-any\n", 20)
	for _, tt := range []struct {
		why, name string
		files     []file
		want      string
	}{
		{"another name", goodName, with(info+"METADATA", "Name: foo-baz\nVersion: 1.0\n"), "has the name foo-baz in its METADATA, and foo_bar in its file name"},
		{"another version", goodName, with(info+"METADATA", "Name: foo-bar\nVersion: 1.0.1\n"), "has the version 1.0.1 in its METADATA, and 1.0 in its file name"},
		{"a version that is none", goodName, with(info+"METADATA", "Name: foo-bar\nVersion: one\n"), "METADATA in which one is no version"},
		{"no name", goodName, with(info+"METADATA", "Version: 1.0\n\nName: foo-bar\n"), "METADATA without Name"},
		{"two versions", goodName, with(info+"METADATA", "Name: foo-bar\nVersion: 1.0\nVersion: 2.0\n"), "METADATA with more than one Version"},
		{"control characters", goodName, with(info+"METADATA", "Name: foo-bar\nVersion: 1.0\nRequires-Python: >3\x00\n"), "for Requires-Python"},
		{"no METADATA", goodName, without(info + "METADATA"), "has no foo_bar-1.0.dist-info/METADATA"},
		{"no WHEEL", goodName, without(info + "WHEEL"), "has no foo_bar-1.0.dist-info/WHEEL"},
		{"huge METADATA", goodName, with(info+"METADATA", goodMetadata+strings.Repeat(" ", maxMetadata)), "METADATA larger than 4.0 MiB"},
		{"a later format", goodName, with(info+"WHEEL", "Wheel-Version: 2.0\n"), "has the format 2.0 according to its WHEEL"},
		{"too many tags", goodName, with(info+"WHEEL", manyTags), "tags"},
		{"no dist-info", goodName, []file{{"x", ""}}, "has no .dist-info directory in it"},
		{"two dist-infos", goodName, append(goodFiles(), file{"foo_bar-2.0.dist-info/METADATA", ""}), "has two .dist-info directories in it"},
		{"another dist-info", "foo-1.0-py3-none-any.whl", []file{{"bar-1.0.dist-info/METADATA", ""}}, "not of the project foo"},
		{"a name twice", goodName, append(goodFiles(), file{"foo_bar/__init__.py", ""}), "has foo_bar/__init__.py in it twice"},
		{"a file and a directory", goodName, append(goodFiles(), file{"foo_bar/__init__.py/x", ""}), "in it as a file and as a directory"},
		{"out of it", goodName, append(goodFiles(), file{"foo_bar/../../x", ""}), "not safe to unpack"},
		{"absolute", goodName, append(goodFiles(), file{"/etc/passwd", ""}), "not safe to unpack"},
		{"backslashes", goodName, append(goodFiles(), file{`..\x`, ""}), "not safe to unpack"},
		{"a file name that is none", "foo_bar.whl", goodFiles(), "not 5 or 6"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			_, err := openBytes(pack(t, tt.files...), tt.name)
			if !fault.Is(err) || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("error is %v, want %s", err, tt.want)
			}
		})
	}
}

// TestOpenCut opens each beginning of a wheel, as it is while it is written.
func TestOpenCut(t *testing.T) {
	b := good(t)
	for n := range b {
		if _, err := openBytes(b[:n], goodName); !fault.Is(err) {
			t.Fatalf("%d of %d bytes: error is %v", n, len(b), err)
		}
	}
}

// TestOpenManyFiles opens a wheel the directory of which is larger than it may be.
func TestOpenManyFiles(t *testing.T) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	long := strings.Repeat("x", 200)
	for i := range maxDirectory / 200 {
		if _, err := z.CreateRaw(&zip.FileHeader{Name: fmt.Sprint(i, long), Method: zip.Store}); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := openBytes(buf.Bytes(), goodName)
	if !fault.Is(err) || !strings.Contains(err.Error(), "directory larger than 16 MiB") {
		t.Errorf("error is %v", err)
	}
}

// TestOpenBomb opens wheels whose sizes can not be.
func TestOpenBomb(t *testing.T) {
	for _, tt := range []struct {
		packed, unpacked uint64
		want             string
	}{
		{1 << 40, 1, "overlap"},
		{0, maxUnpacked + 1, "when it is unpacked"},
		{0, 1 << 63, "when it is unpacked"},
	} {
		b := pack(t, append(goodFiles(), file{"bomb", ""})...)
		var buf bytes.Buffer
		z := zip.NewWriter(&buf)
		old, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range old.File {
			h := f.FileHeader
			if f.Name == "bomb" {
				h.CompressedSize64, h.UncompressedSize64 = tt.packed, tt.unpacked
			}
			if _, err := z.CreateRaw(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := openBytes(buf.Bytes(), goodName); !fault.Is(err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d of %d bytes: error is %v, want %s", tt.packed, tt.unpacked, err, tt.want)
		}
	}
}

func TestVerify(t *testing.T) {
	files := goodFiles()
	rec := record(files).text
	sum := strings.SplitN(strings.SplitN(rec, ",", 3)[1], "=", 2)[1]
	for _, tt := range []struct{ why, record, want string }{
		{"another byte", strings.Replace(rec, sum, "A"+sum[1:], 1), "with the sha256"},
		{"another size", strings.Replace(rec, ",12\n", ",13\n", 1), "with 12 bytes; its RECORD says 13"},
		{"no size", strings.Replace(rec, ",12\n", ",\n", 1), ""},
		{"padding", strings.Replace(rec, sum, sum+"=", 1), ""},
		{"a weak checksum", strings.Replace(rec, "sha256="+sum, "md5=x", 1), "has to be sha256 or better"},
		{"no checksum", strings.Replace(rec, "sha256="+sum, "", 1), "has to be sha256 or better"},
		{"one too few", strings.SplitN(rec, "\n", 2)[1], "but not in its RECORD"},
		{"one too many", rec + "gone,sha256=" + sum + ",12\n", "has gone in its RECORD, but not in it"},
		{"twice", rec + strings.SplitN(rec, "\n", 2)[0] + "\n", "twice"},
		{"no csv", rec + "x\n", "RECORD that can not be read"},
		{"itself not listed", strings.Replace(rec, info+"RECORD,,\n", "", 1), ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			w, err := openBytes(pack(t, append(files, file{info + "RECORD", tt.record})...), goodName)
			if err != nil {
				t.Fatal(err)
			}
			err = w.Verify(context.Background())
			if tt.want == "" && err != nil || tt.want != "" && (!fault.Is(err) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("no RECORD", func(t *testing.T) {
		w, err := openBytes(pack(t, files...), goodName)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Verify(context.Background()); !fault.Is(err) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("a byte of the archive", func(t *testing.T) {
		b := good(t)
		i := bytes.Index(b, []byte("foo_bar/__init__.py")) + len("foo_bar/__init__.py") + 3
		b[i] ^= 0x40
		w, err := openBytes(b, goodName)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Verify(context.Background()); !fault.Is(err) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		w, err := openBytes(good(t), goodName)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := w.Verify(ctx); err != context.Canceled {
			t.Errorf("error is %v", err)
		}
	})
}

type failing struct {
	io.ReaderAt
	err error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off < 100 {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestOpenFailing tells a disk that fails from a wheel that is wrong.
func TestOpenFailing(t *testing.T) {
	b := pack(t, append([]file{{info + "METADATA", goodMetadata}}, without(info+"METADATA")...)...)
	why := errors.New("input/output error")
	_, err := Open(failing{bytes.NewReader(b), why}, int64(len(b)), goodName)
	if !errors.Is(err, why) || fault.Is(err) {
		t.Errorf("error is %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// opener opens b, and counts how often and how much is read.
type opener struct {
	b     []byte
	opens int
	read  int64
}

func (o *opener) open(off int64) (io.ReadCloser, error) {
	o.opens++
	return io.NopCloser(io.TeeReader(bytes.NewReader(o.b[off:]), o)), nil
}

func (o *opener) Write(p []byte) (int, error) {
	o.read += int64(len(p))
	return len(p), nil
}

func TestScan(t *testing.T) {
	noise := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	big := file{"foo_bar/big", string(noise)}
	last := good(t)
	for _, tt := range []struct {
		why   string
		b     []byte
		opens int
		more  int64 // bytes read beside the wheel's
	}{
		{"small", last, 1, 0},
		{"large", pack(t, append([]file{big}, goodFiles()...)...), 1, 0},
		{"METADATA in front", pack(t, append(goodFiles(), big)...), 4, 1 << 20},
	} {
		t.Run(tt.why, func(t *testing.T) {
			o := &opener{b: tt.b}
			w, sum, err := Scan(context.Background(), goodName, int64(len(tt.b)), o.open)
			if err != nil {
				t.Fatal(err)
			}
			if sum != sha256.Sum256(tt.b) || w.Metadata.RequiresPython != ">=3.9, <4" {
				t.Errorf("scanned %x, %+v", sum, w.Metadata)
			}
			if o.opens > tt.opens || o.read > int64(len(tt.b))+tt.more {
				t.Errorf("opened %d times, read %d of %d bytes", o.opens, o.read, len(tt.b))
			}
		})
	}
	t.Run("another size", func(t *testing.T) {
		o := &opener{b: last}
		_, _, err := Scan(context.Background(), goodName, int64(len(last))-1, o.open)
		if err == nil || fault.Is(err) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("endless", func(t *testing.T) {
		for _, size := range []int64{0, 10, 3 << 20} {
			open := func(int64) (io.ReadCloser, error) { return io.NopCloser(zeros{}), nil }
			_, _, err := Scan(context.Background(), goodName, size, open)
			if err == nil || fault.Is(err) {
				t.Errorf("of %d bytes, error is %v", size, err)
			}
		}
	})
	t.Run("corrupt", func(t *testing.T) {
		o := &opener{b: last[:len(last)-30]}
		_, sum, err := Scan(context.Background(), goodName, int64(len(o.b)), o.open)
		if !fault.Is(err) || sum != sha256.Sum256(o.b) {
			t.Errorf("error is %v", err)
		}
	})
}
