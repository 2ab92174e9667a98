package wheel

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

func FuzzParseName(f *testing.F) {
	f.Add("Foo.Bar-1.0-1abc-cp311-abi3-manylinux1_x86_64.linux_x86_64.whl")
	f.Add("a-1!2.0rc1.post2.dev3+ubuntu_1-py2.py3-none-any.whl")
	f.Add("foo-1.0.tar.gz")
	f.Fuzz(func(t *testing.T, file string) {
		n, err := ParseName(file)
		if err != nil && !fault.Is(err) {
			t.Fatal(err)
		}
		if err == nil {
			if len(n.Tags()) == 0 || !ValidProject(pypi.Normalize(n.Project)) {
				t.Errorf("%q is %+v", file, n)
			}
			v, err := ParseVersion(n.Version)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := ParseVersion(v.String()); err != nil || again.Compare(v) != 0 {
				t.Errorf("version %q: normal form %q: %v", n.Version, v, err)
			}
		}
		if _, err := ParseSource(file); err != nil && !fault.Is(err) {
			t.Fatal(err)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(goodMetadata))
	f.Add([]byte("\xef\xbb\xbfName: x\r\nVersion: 1\r\nRequires-Python: >3\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMetadata(b)
		if err != nil && !fault.Is(err) {
			t.Fatal(err)
		}
		if err == nil && (m.Name == "" || bytes.ContainsAny([]byte(m.RequiresPython), "\r\n")) {
			t.Errorf("metadata are %+v", m)
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add(good(f))
	f.Add(pack(f, goodFiles()...))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := openBytes(b, goodName)
		if err != nil && !fault.Is(err) {
			t.Fatal(err)
		}
		open := func(off int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b[off:])), nil }
		_, _, serr := Scan(context.Background(), goodName, int64(len(b)), open)
		if (err == nil) != (serr == nil) {
			t.Fatalf("opened: %v, scanned: %v", err, serr)
		}
		if err != nil {
			return
		}
		if err := w.Verify(context.Background()); err != nil && !fault.Is(err) {
			t.Fatal(err)
		}
	})
}
