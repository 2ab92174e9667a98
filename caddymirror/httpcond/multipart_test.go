package httpcond

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"
)

func TestMultipart(t *testing.T) {
	const text = "0123456789"
	ranges := []Range{{7, 3}, {0, 1}, {2, 2}}
	m := NewMultipart(ranges, 10, "text/plain; charset=utf-8")
	var b bytes.Buffer
	err := m.Write(&b, func(w io.Writer, r Range) error {
		_, err := io.WriteString(w, text[r.Start:r.Start+r.Length])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Length(); n != int64(b.Len()) {
		t.Errorf("length is %d, want %d", n, b.Len())
	}
	kind, params, err := mime.ParseMediaType(m.ContentType())
	if err != nil || kind != "multipart/byteranges" {
		t.Fatal(kind, err)
	}
	mr := multipart.NewReader(&b, params["boundary"])
	for _, want := range []struct{ where, data string }{
		{"bytes 7-9/10", "789"},
		{"bytes 0-0/10", "0"},
		{"bytes 2-3/10", "23"},
	} {
		p, err := mr.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(p)
		if err != nil || string(data) != want.data || p.Header.Get("Content-Range") != want.where ||
			p.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("got %q %v %v, want %v", data, p.Header, err, want)
		}
	}
	if _, err := mr.NextRawPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
	if other := NewMultipart(ranges, 10, ""); other.ContentType() == m.ContentType() {
		t.Error("two bodies have one boundary")
	}
}

func TestMultipartFails(t *testing.T) {
	m := NewMultipart([]Range{{0, 1}, {2, 1}}, 10, "")
	broken := errors.New("broken")
	n := 0
	var b strings.Builder
	err := m.Write(&b, func(io.Writer, Range) error { n++; return broken })
	if !errors.Is(err, broken) || n != 1 {
		t.Errorf("%v after %d parts", err, n)
	}
	if strings.Contains(b.String(), "--"+m.boundary+"--") {
		t.Error("a broken body looks whole")
	}
}
