package httpcond

import (
	"io"
	"mime/multipart"
	"net/textproto"
)

// Multipart is the body of a response with several ranges (RFC 9110 section
// 14.6).
type Multipart struct {
	ranges   []Range
	size     int64
	kind     string
	boundary string
}

// NewMultipart makes the body that sends ranges of what has size bytes and this
// Content-Type.
func NewMultipart(ranges []Range, size int64, contentType string) *Multipart {
	return &Multipart{ranges, size, contentType, multipart.NewWriter(nil).Boundary()}
}

// ContentType is that of the response.
func (m *Multipart) ContentType() string { return "multipart/byteranges; boundary=" + m.boundary }

// Length is that of the body.
func (m *Multipart) Length() int64 {
	var n counter
	// A counter does not fail.
	_ = m.Write(&n, func(_ io.Writer, r Range) error { n += counter(r.Length); return nil })
	return int64(n)
}

// Write writes the body; each is called to write the bytes of a range. The first
// error of w or of each ends it.
func (m *Multipart) Write(w io.Writer, each func(io.Writer, Range) error) error {
	mw := multipart.NewWriter(w)
	if err := mw.SetBoundary(m.boundary); err != nil {
		return err
	}
	for _, r := range m.ranges {
		h := textproto.MIMEHeader{"Content-Range": {r.ContentRange(m.size)}}
		if m.kind != "" {
			h["Content-Type"] = []string{m.kind}
		}
		part, err := mw.CreatePart(h)
		if err != nil {
			return err
		}
		if err := each(part, r); err != nil {
			return err
		}
	}
	return mw.Close()
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
