package faulty

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Fault answers a request, in whatever way. It reports whether the connection can be
// used for another one; if not, it is closed.
type Fault func(x *Exchange) (keep bool)

// Exchange is a request and the connection that it came over.
type Exchange struct {
	net.Conn
	Request *http.Request
	N       int // the how manieth for this target, from 1 on

	s       *Server
	without []string // fields that honest answers do not have
}

// Answer is a whole response.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// ask sends the request on to the upstream.
func (x *Exchange) ask() (*http.Response, error) {
	req, err := http.NewRequestWithContext(x.Request.Context(), x.Request.Method, x.s.upstream+x.Request.RequestURI, nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, x.Request.Header)
	req.Host = x.Request.Host
	resp, err := x.s.client.RoundTrip(req)
	if err == nil {
		for _, name := range x.without {
			resp.Header.Del(name)
		}
	}
	return resp, err
}

// Honest is the answer of the upstream, 502 if there is none.
func (x *Exchange) Honest() Answer {
	resp, err := x.ask()
	if err == nil {
		defer resp.Body.Close()
		var body []byte
		if body, err = io.ReadAll(resp.Body); err == nil {
			return Answer{resp.StatusCode, resp.Header, body}
		}
	}
	return Answer{http.StatusBadGateway, http.Header{}, []byte(err.Error())}
}

// Send writes text, with CRLF for each line feed. An error is of a client that has left.
func (x *Exchange) Send(format string, args ...any) error {
	_, err := io.WriteString(x.Conn, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\r\n"))
	return err
}

// Head is the head of an answer, without what says where its body ends, and without the
// empty line.
func (a Answer) Head() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", a.Status, http.StatusText(a.Status))
	h := a.Header.Clone()
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "Connection", "Trailer"} {
		h.Del(name)
	}
	h.Write(&b)
	return b.String()
}

// SendHead writes the head of an answer with more lines.
func (x *Exchange) SendHead(a Answer, lines ...string) error {
	return x.Send("%s", strings.ReplaceAll(a.Head(), "\r\n", "\n")+strings.Join(append(lines, "", ""), "\n"))
}

// SendAll writes an answer as it should be, with its own length.
func (x *Exchange) SendAll(a Answer) (keep bool) {
	length := "Content-Length: " + strconv.Itoa(len(a.Body))
	switch {
	case x.Request.Method == http.MethodHead && len(a.Header["Content-Length"]) == 1:
		length = "Content-Length: " + a.Header.Get("Content-Length")
	case a.Status == http.StatusNotModified || a.Status == http.StatusNoContent:
		return x.SendHead(a) == nil
	}
	if x.SendHead(a, length) != nil {
		return false
	}
	if x.Request.Method == http.MethodHead {
		return true
	}
	_, err := x.Write(a.Body)
	return err == nil
}

// Chunk writes bytes as a chunk.
func (x *Exchange) Chunk(p []byte) error {
	_, err := fmt.Fprintf(x.Conn, "%x\r\n%s\r\n", len(p), p)
	return err
}

// Reset ends the connection with RST, after what was sent so far had a moment to arrive.
func (x *Exchange) Reset() {
	x.Sleep(20 * time.Millisecond)
	raw := x.Conn
	if c, ok := raw.(*tls.Conn); ok {
		raw = c.NetConn()
	}
	if c, ok := raw.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	raw.Close()
}

// Sleep waits. It returns false at once if the test ends.
func (x *Exchange) Sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-x.s.end:
		return false
	}
}

// Gone waits until the client has left or the test ends.
func (x *Exchange) Gone() {
	buf := make([]byte, 1)
	for {
		x.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := x.Read(buf); err != nil {
			if t, ok := err.(net.Error); !ok || !t.Timeout() {
				return
			}
		}
		select {
		case <-x.s.end:
			return
		default:
		}
	}
}
