package faulty

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// HTTP2 is a server over HTTP/2 and TLS whose responses break the rules of HTTP/2. Bodies
// are below 64 KiB, so that flow control does not matter.
type HTTP2 struct {
	*Server

	mu    sync.Mutex
	fault StreamFault
}

// A StreamFault answers the request of one stream. It reports whether the connection can
// be used for others; if not, it is closed.
type StreamFault func(x *Stream) (keep bool)

// Stream is a request over HTTP/2.
type Stream struct {
	*Exchange

	ID     uint32
	Framer *http2.Framer
	Body   []byte // that an honest answer has
	mu     *sync.Mutex
	enc    *hpack.Encoder
	block  *bytes.Buffer
}

// StartHTTP2 runs a server over HTTP/2 that answers each request with status 200, a strong
// ETag, and body.
func StartHTTP2(t testing.TB, cert tls.Certificate, body []byte) *HTTP2 {
	t.Helper()
	h := &HTTP2{fault: Answered}
	h.Server = start(t, "", func(_ *Server, c net.Conn) { h.serve(c, body) }, TLS(cert), func(s *Server) {
		s.tls.NextProtos = []string{"h2"}
	})
	return h
}

// Set makes all requests from now on meet a fault.
func (h *HTTP2) Set(f StreamFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

func (h *HTTP2) serve(c net.Conn, body []byte) {
	defer c.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	var mu sync.Mutex // guards writes
	framer := http2.NewFramer(c, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	if framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100}) != nil {
		return
	}
	var streams sync.WaitGroup
	defer streams.Wait()
	defer c.Close() // so that streams under way end
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				mu.Lock()
				framer.WriteSettingsAck()
				mu.Unlock()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				mu.Lock()
				framer.WritePing(true, f.Data)
				mu.Unlock()
			}
		case *http2.MetaHeadersFrame:
			req := &http.Request{
				Method: f.PseudoValue("method"), RequestURI: f.PseudoValue("path"), Host: f.PseudoValue("authority"),
				Header: http.Header{}, Proto: "HTTP/2.0", ProtoMajor: 2,
			}
			for _, field := range f.RegularFields() {
				req.Header.Add(field.Name, field.Value)
			}
			_, n := h.arrived(Request{Method: req.Method, Target: req.RequestURI, Host: req.Host, Header: req.Header, Proto: req.Proto})
			h.mu.Lock()
			fault := h.fault
			h.mu.Unlock()
			x := &Stream{
				Exchange: &Exchange{Conn: c, Request: req, N: n, s: h.Server},
				ID:       f.StreamID, Framer: framer, Body: body, mu: &mu, enc: enc, block: &block,
			}
			streams.Go(func() {
				if !fault(x) {
					c.Close()
				}
			})
		}
	}
}

// Frames writes frames with nothing of other streams in between.
func (x *Stream) Frames(write func(f *http2.Framer) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return write(x.Framer)
}

// Headers writes a block of fields, in CONTINUATION frames if it is large.
func (x *Stream) Headers(end bool, fields ...string) error {
	return x.Frames(func(f *http2.Framer) error {
		x.block.Reset()
		for _, line := range fields {
			i := strings.Index(line[1:], ":") + 1 // :status begins with a colon
			x.enc.WriteField(hpack.HeaderField{Name: strings.ToLower(line[:i]), Value: strings.TrimSpace(line[i+1:])})
		}
		const most = 16 << 10
		data := x.block.Bytes()
		first := data[:min(most, len(data))]
		data = data[len(first):]
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: x.ID, BlockFragment: first, EndStream: end, EndHeaders: len(data) == 0})
		for err == nil && len(data) > 0 {
			piece := data[:min(most, len(data))]
			data = data[len(piece):]
			err = f.WriteContinuation(x.ID, len(data) == 0, piece)
		}
		return err
	})
}

// OK writes the header of an honest answer.
func (x *Stream) OK(more ...string) error {
	return x.Headers(x.Request.Method == http.MethodHead, append([]string{
		":status: 200", "content-length: " + strconv.Itoa(len(x.Body)), "content-type: application/octet-stream", `etag: "h2"`,
	}, more...)...)
}

// Data writes a piece of the body.
func (x *Stream) Data(p []byte, end bool) error {
	for len(p) > 16<<10 {
		if err := x.Frames(func(f *http2.Framer) error { return f.WriteData(x.ID, false, p[:16<<10]) }); err != nil {
			return err
		}
		p = p[16<<10:]
	}
	return x.Frames(func(f *http2.Framer) error { return f.WriteData(x.ID, end, p) })
}

// Answered is the honest answer.
func Answered(x *Stream) bool {
	if x.OK() != nil {
		return false
	}
	return x.Request.Method == http.MethodHead || x.Data(x.Body, true) == nil
}

// StreamReset resets the stream in place of an answer.
func StreamReset(code http2.ErrCode) StreamFault {
	return func(x *Stream) bool {
		return x.Frames(func(f *http2.Framer) error { return f.WriteRSTStream(x.ID, code) }) == nil
	}
}

// StreamResetAt resets the stream after n bytes of the body.
func StreamResetAt(n int, code http2.ErrCode) StreamFault {
	return func(x *Stream) bool {
		return x.OK() == nil && x.Data(x.Body[:n], false) == nil &&
			x.Frames(func(f *http2.Framer) error { return f.WriteRSTStream(x.ID, code) }) == nil
	}
}

// GoAway says that the connection ends and that the request was not looked at. The client
// may send it again over another one.
func GoAway(x *Stream) bool {
	x.Frames(func(f *http2.Framer) error { return f.WriteGoAway(x.ID-1, http2.ErrCodeNo, nil) })
	return false
}

// GoAwayAt says, after n bytes of the body, that the connection ends, and closes it.
func GoAwayAt(n int, code http2.ErrCode) StreamFault {
	return func(x *Stream) bool {
		x.OK()
		x.Data(x.Body[:n], false)
		x.Frames(func(f *http2.Framer) error { return f.WriteGoAway(x.ID, code, []byte("too bad")) })
		return false
	}
}

// GoAwayKindly sends GOAWAY in the middle of the body, and then the rest of it, as a server
// does that is being restarted: nothing is wrong with the answer.
func GoAwayKindly(x *Stream) bool {
	x.OK()
	x.Data(x.Body[:len(x.Body)/2], false)
	x.Frames(func(f *http2.Framer) error { return f.WriteGoAway(x.ID, http2.ErrCodeNo, nil) })
	return x.Data(x.Body[len(x.Body)/2:], true) == nil
}

// EndEarly ends the stream after n bytes of the body, as if they were all.
func EndEarly(n int) StreamFault {
	return func(x *Stream) bool { return x.OK() == nil && x.Data(x.Body[:n], true) == nil }
}

// EndLate sends n bytes more than the length that it says.
func EndLate(n int) StreamFault {
	return func(x *Stream) bool {
		return x.OK() == nil && x.Data(append(bytes.Clone(x.Body), make([]byte, n)...), true) == nil
	}
}

// StreamInformational sends n responses with status 103, then the honest answer.
func StreamInformational(n int) StreamFault {
	return func(x *Stream) bool {
		for range n {
			if x.Headers(false, ":status: 103", "link: </a>; rel=preload") != nil {
				return false
			}
		}
		return Answered(x)
	}
}

// StreamTrailers sends the honest answer, and fields after it that must not count.
func StreamTrailers(x *Stream) bool {
	return x.OK("trailer: etag") == nil && x.Data(x.Body, false) == nil &&
		x.Headers(true, `etag: "trailer"`, "cache-control: max-age=99999", "x-trailer: 1") == nil
}

// StreamHugeHeader sends so many bytes of header, in CONTINUATION frames.
func StreamHugeHeader(size int) StreamFault {
	return func(x *Stream) bool {
		return x.Frames(func(f *http2.Framer) error {
			piece := bytes.Repeat([]byte{0x00, 0x01, 'x', 0x7f, 0x80, 0x01}, 1) // literal, x: 255 bytes
			piece = append(piece, bytes.Repeat([]byte("a"), 255)...)            // (RFC 7541 section 6.2.2)
			block := bytes.Repeat(piece, (16<<10)/len(piece))                   // whole fields
			err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: x.ID, BlockFragment: append([]byte{0x88}, block...)})
			for sent := len(block); err == nil && sent < size; sent += len(block) {
				err = f.WriteContinuation(x.ID, false, block)
			}
			if err != nil {
				return err
			}
			return f.WriteContinuation(x.ID, true, nil)
		}) == nil && x.Data(nil, true) == nil
	}
}

// StreamSilent never answers.
func StreamSilent(x *Stream) bool { <-x.s.end; return false }

// StreamStatus answers with a status and no body.
func StreamStatus(status int) StreamFault {
	return func(x *Stream) bool { return x.Headers(true, ":status: "+strconv.Itoa(status)) == nil }
}
