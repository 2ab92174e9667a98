// Package repotest has what tests of repositories need.
package repotest

import (
	"bytes"
	"compress/gzip"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
)

// Endless returns a reader of start, and then again and again more.
func Endless(start, more string) io.Reader {
	next := start
	return bounded.Func(func(p []byte) (n int, err error) {
		for n < len(p) {
			if next == "" {
				next = more
			}
			m := copy(p[n:], next)
			n, next = n+m, next[m:]
		}
		return n, nil
	})
}

// Gzip compresses text.
func Gzip(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Zstd compresses text.
func Zstd(t testing.TB, text string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

// Pipe returns what a program makes of text.
func Pipe(t testing.TB, text, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...) //nolint:gosec // tests name it
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
