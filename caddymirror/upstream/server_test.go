package upstream

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain checks that all tests together leave no goroutine of this package or of net/http.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := leftOver(); left != "" {
			fmt.Fprintln(os.Stderr, "goroutines are left over:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

func leftOver() (left string) {
	for range 100 {
		left = ""
		buf := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if !strings.Contains(stack, "upstream.TestMain") && (strings.Contains(stack, "caddymirror/upstream") || strings.Contains(stack, "net/http.")) {
				left += stack + "\n\n"
			}
		}
		if left == "" {
			return ""
		}
		time.Sleep(20 * time.Millisecond)
	}
	return left
}

// A raw server answers each request with bytes that no server would send.
type raw struct {
	net.Listener
	conns, requests, open atomic.Int32

	mu  sync.Mutex
	got []string // heads of requests
}

// exchange is one request and the connection it came over.
type exchange struct {
	net.Conn
	n    int    // number of the request, from 1 on
	nth  int    // of this connection, from 1 on
	head string // request line and fields
}

func (x *exchange) send(format string, args ...any) error {
	_, err := fmt.Fprintf(x.Conn, strings.ReplaceAll(format, "\n", "\r\n"), args...)
	return err
}

// reset ends the connection with RST.
func (x *exchange) reset() {
	x.Conn.(*net.TCPConn).SetLinger(0)
	x.Close()
}

// field is one of the request.
func (x *exchange) field(name string) string {
	for line := range strings.SplitSeq(x.head, "\r\n") {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// serve runs a raw server. If answer returns false, the connection is closed.
func serve(t *testing.T, answer func(x *exchange) bool) *raw {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, answer)
}

func serveOn(t *testing.T, l net.Listener, answer func(x *exchange) bool) *raw {
	s := &raw{Listener: l}
	var all sync.WaitGroup
	var conns sync.Map
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			s.open.Add(1)
			conns.Store(c, nil)
			all.Go(func() {
				defer s.open.Add(-1)
				defer conns.Delete(c)
				defer c.Close()
				r := bufio.NewReader(c)
				for nth := 1; ; nth++ {
					var head strings.Builder
					for {
						line, err := r.ReadString('\n')
						if err != nil {
							return
						}
						if line == "\r\n" {
							break
						}
						head.WriteString(line)
					}
					s.mu.Lock()
					s.got = append(s.got, head.String())
					s.mu.Unlock()
					if !answer(&exchange{c, int(s.requests.Add(1)), nth, head.String()}) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		all.Wait()
	})
	return s
}

func (s *raw) url() string { return "http://" + s.Addr().String() }

func (s *raw) heads() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got...)
}

// use is an upstream with short deadlines.
func use(t *testing.T, c Config) *Upstream {
	t.Helper()
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, 2*time.Second)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, 500*time.Millisecond)
	c.RateWindow = cmp.Or(c.RateWindow, 400*time.Millisecond)
	u, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// get reads an answer to its end. The error is that of Fetch or of the body.
func get(t *testing.T, u *Upstream, r Request) (*Response, string, error) {
	t.Helper()
	resp, err := u.Fetch(t.Context(), r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Close()
	if resp.Body == nil {
		return resp, "", nil
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// classOf is the only class that an error has.
func classOf(t *testing.T, err error) error {
	t.Helper()
	var found error
	for _, class := range []error{ErrAway, ErrBusy, ErrLoop, ErrRefused, ErrLying, ErrChanged, ErrTarget, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, class) {
			if found != nil {
				t.Errorf("%v is both %v and %v", err, found, class)
			}
			found = class
		}
	}
	if found == nil && err != nil {
		t.Errorf("%v is of no class", err)
	}
	return found
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 500 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("in vain: " + what)
}

var _ http.RoundTripper = roundTripper(nil)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
