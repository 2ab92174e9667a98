package packed

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/repotest"
)

// TestPacked checks that compressed files are read as clients read them: see Reader.
func TestPacked(t *testing.T) {
	for _, program := range []string{"xz", "bzip2"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	zip := func(s string) string { return repotest.Gzip(t, s) }
	zs := func(s string) string { return repotest.Zstd(t, s) }
	xz := func(s string) string { return repotest.Pipe(t, s, "xz") }
	bz := func(s string) string { return repotest.Pipe(t, s, "bzip2") }
	const text = "hello, clients"
	zeros := strings.Repeat("\x00", 512)
	half := func(pack func(string) string) string { return pack(text[:5]) + pack(text[5:]) }
	for _, test := range []struct {
		name, ext, file string
		want            string // empty: it cannot be read
		more            bool
	}{
		{"plain", "", text, text, false},
		{"gzip", ".gz", zip(text), text, false},
		{"gzip, two members", ".gz", half(zip), text, false},
		{"gzip, an empty member", ".gz", zip(text) + zip(""), text, false},
		{"gzip, zeros", ".gz", zip(text) + zeros, text, true},
		{"gzip, a zero", ".gz", zip(text) + "\x00", text, true},
		{"gzip, garbage", ".gz", zip(text) + "garbage", text, true},
		{"gzip, zeros and a member", ".gz", zip(text) + zeros + zip(text), text, true},
		{"gzip, half a member", ".gz", zip(text) + zip(text)[:12], "", false},
		{"gzip, half a header", ".gz", zip(text) + zip(text)[:4], "", false},
		{"gzip, no member", ".gz", zip(text) + "\x1f\x8bgarbage more of it", "", false},
		{"gzip, cut off", ".gz", zip(text)[:20], "", false},
		{"gzip, no checksum", ".gz", zip(text)[:len(zip(text))-8], "", false},
		{"gzip, wrong checksum", ".gz", zip(text)[:len(zip(text))-8] + "xxxxxxxx", "", false},
		{"gzip, garbage only", ".gz", "garbage, and more of it", "", false},
		{"gzip, empty", ".gz", "", "", false},
		{"xz", ".xz", xz(text), text, false},
		{"xz, padded", ".xz", xz(text) + zeros, text, false},
		{"xz, badly padded", ".xz", xz(text) + "\x00\x00\x00", "", false},
		{"xz, garbage", ".xz", xz(text) + "garbage, and more of it", text, true},
		{"xz, two streams", ".xz", half(xz), text[:5], true},
		{"xz, cut off", ".xz", xz(text)[:40], "", false},
		{"bzip2", ".bz2", bz(text), text, false},
		{"bzip2, two streams", ".bz2", half(bz), text[:5], true},
		{"bzip2, zeros", ".bz2", bz(text) + zeros, text, true},
		{"bzip2, garbage", ".bz2", bz(text) + "garbage, and more of it", text, true},
		{"bzip2, cut off", ".bz2", bz(text)[:30], "", false},
		{"zstd", ".zst", zs(text), text, false},
		{"zstd, two frames", ".zst", half(zs), text, false},
		{"zstd, a frame to skip", ".zst", zs(text) + "\x50\x2a\x4d\x18\x04\x00\x00\x00abcd", text, false},
		{"zstd, zeros", ".zst", zs(text) + zeros, "", false},
		{"zstd, garbage", ".zst", zs(text) + "garbage, and more of it", "", false},
		{"zstd, cut off", ".zst", zs(text)[:12], "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []byte
			more := false
			z, err := Open("x"+test.ext, bytes.NewReader([]byte(test.file)))
			if err == nil {
				got, err = io.ReadAll(z)
				more = z.More()
				z.Close()
			}
			if test.want == "" {
				if err == nil {
					t.Errorf("it is read: %q", got)
				}
				return
			}
			if err != nil || string(got) != test.want || more != test.more {
				t.Errorf("%q, more %t: %v; want %q, more %t", got, more, err, test.want, test.more)
			}
		})
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(".gz", []byte(repotest.Gzip(f, "hello")))
	f.Add(".zst", []byte(repotest.Zstd(f, "hello")))
	if _, err := exec.LookPath("xz"); err == nil {
		f.Add(".xz", []byte(repotest.Pipe(f, "hello", "xz")))
	}
	f.Fuzz(func(_ *testing.T, name string, b []byte) {
		z, err := Open(name, bytes.NewReader(b))
		if err != nil {
			return
		}
		defer z.Close()
		_, _ = z.Read(make([]byte, 1<<20))
	})
}

// TestBound checks that what is small when packed is not unpacked without an end.
func TestBound(t *testing.T) {
	for name, test := range map[string]struct {
		size int64
		ok   bool
	}{"as much": {100, true}, "more": {101, false}, "endless": {1 << 62, false}} {
		t.Run(name, func(t *testing.T) {
			blanks := bounded.Func(func(p []byte) (int, error) { return len(p), nil })
			n, err := io.Copy(io.Discard, Bound(io.LimitReader(blanks, test.size), 100))
			if (err == nil) != test.ok || n > 101 {
				t.Errorf("%d bytes, %v", n, err)
			}
			if err = fault.Of(err); err != nil && (!fault.Is(err) || !strings.Contains(err.Error(), "more than 100 B in it when it is unpacked")) {
				t.Error(err)
			}
		})
	}
}
