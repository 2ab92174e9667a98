package upstream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func pack(t testing.TB, coding string, from io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	if coding == "zstd" {
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	} else {
		w = gzip.NewWriter(&b)
	}
	if _, err := io.Copy(w, from); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func decode(body io.Reader, encoding string, limit int64) (int64, error) {
	d, err := Decode(body, encoding, limit)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	return io.Copy(io.Discard, d)
}

func TestDecode(t *testing.T) {
	t.Parallel()
	text := bytes.Repeat([]byte(ten), 100_000)
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	for _, body := range [][]byte{text, random, {}} {
		for _, coding := range []string{"gzip", "zstd"} {
			packed := pack(t, coding, bytes.NewReader(body))
			for _, name := range []string{coding, strings.ToUpper(coding), "identity, " + coding, " , " + coding} {
				d, err := Decode(bytes.NewReader(packed), name, int64(len(body)))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, body) {
					t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(body), err)
				}
				d.Close()
			}
			if len(body) == 0 {
				continue
			}
			if n, err := decode(bytes.NewReader(packed), coding, int64(len(body))-1); !errors.Is(err, ErrLying) || n != int64(len(body))-1 {
				t.Errorf("%s: %d bytes above the limit, %v", coding, n, err)
			}
			for _, cut := range []int{1, 5, len(packed) / 2, len(packed) - 1} {
				if _, err := decode(bytes.NewReader(packed[:cut]), coding, 0); !errors.Is(err, ErrLying) {
					t.Errorf("%s cut after %d of %d bytes: %v", coding, cut, len(packed), err)
				}
			}
			if _, err := decode(io.MultiReader(bytes.NewReader(packed), strings.NewReader("garbage")), coding, 0); !errors.Is(err, ErrLying) {
				t.Errorf("%s with garbage behind it: %v", coding, err)
			}
			// The upstream's error is not the coding's.
			if _, err := decode(io.MultiReader(bytes.NewReader(packed[:10]), iotest.ErrReader(ErrAway)), coding, 0); !errors.Is(err, ErrAway) || errors.Is(err, ErrLying) {
				t.Errorf("%s: %v", coding, err)
			}
			wrong := bytes.Clone(packed)
			wrong[len(wrong)-3] ^= 1
			if _, err := decode(bytes.NewReader(wrong), coding, 0); !errors.Is(err, ErrLying) {
				t.Errorf("%s with a wrong checksum: %v", coding, err)
			}
		}
		if n, err := decode(bytes.NewReader(body), "", 0); err != nil || n != int64(len(body)) {
			t.Error(n, err)
		}
	}
	for _, coding := range []string{"br", "gzip, gzip", "zstd, gzip", "x"} {
		if _, err := decode(bytes.NewReader(text), coding, 0); !errors.Is(err, ErrLying) {
			t.Errorf("%s: %v", coding, err)
		}
	}
}

// TestBombs checks that a body that becomes a thousand times as large is given up.
func TestBombs(t *testing.T) {
	t.Parallel()
	for _, coding := range []string{"gzip", "zstd"} {
		bomb := pack(t, coding, io.LimitReader(zeros{}, 256<<20))
		n, err := decode(bytes.NewReader(bomb), coding, 0)
		if !errors.Is(err, ErrLying) || n > freeExpansion*2 {
			t.Errorf("%s: %d of %d bytes became %d, %v", coding, len(bomb), 256<<20, n, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(pack(f, "gzip", strings.NewReader(ten)), true)
	f.Add(pack(f, "zstd", strings.NewReader(ten)), false)
	f.Fuzz(func(t *testing.T, body []byte, gz bool) {
		coding := "zstd"
		if gz {
			coding = "gzip"
		}
		if n, err := decode(bytes.NewReader(body), coding, 1<<20); n > 1<<20 || err != nil && !errors.Is(err, ErrLying) {
			t.Error(n, err)
		}
	})
}
