package faulty

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Server is a proxy on a port of its own. It stops when the test ends.
type Server struct {
	Addr string // host and port
	URL  string // http:// or https:// and Addr, without a slash at the end

	t        testing.TB
	upstream string
	client   *http.Transport
	tls      *tls.Config
	end      chan struct{} // closed when the test ends
	open     atomic.Int64

	mu     sync.Mutex
	l      net.Listener // nil: refuses connections
	conns  map[net.Conn]bool
	all    sync.WaitGroup
	faults map[string]Fault // by prefix of the path
	seen   []Request
}

// Request is one that came.
type Request struct {
	Method string
	Target string // path and query as they came
	Host   string
	Header http.Header
	Proto  string
	At     time.Time
}

// Option changes how a server is started.
type Option func(*Server)

// TLS makes the server speak TLS with this certificate.
func TLS(cert tls.Certificate) Option {
	return func(s *Server) {
		s.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
}

// Start runs a server over HTTP/1.1, in front of the one at upstream, a URL without a
// slash at the end. It is honest until [Server.Set] says something else. Without an
// upstream, its faults must not ask for [Exchange.Honest].
func Start(t testing.TB, upstream string, opts ...Option) *Server {
	t.Helper()
	return start(t, upstream, (*Server).serve, opts...)
}

func start(t testing.TB, upstream string, serve func(*Server, net.Conn), opts ...Option) *Server {
	t.Helper()
	s := &Server{
		t:        t,
		upstream: upstream,
		client:   &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, DisableKeepAlives: false},
		end:      make(chan struct{}),
		conns:    make(map[net.Conn]bool),
		faults:   map[string]Fault{"": Honest},
	}
	for _, opt := range opts {
		opt(s)
	}
	s.listen("127.0.0.1:0", serve)
	s.Addr = s.l.Addr().String()
	s.URL = "http://" + s.Addr
	if s.tls != nil {
		s.URL = "https://" + s.Addr
	}
	t.Cleanup(func() {
		close(s.end)
		s.Refuse()
		s.all.Wait()
		s.client.CloseIdleConnections()
	})
	return s
}

func (s *Server) listen(addr string, serve func(*Server, net.Conn)) {
	s.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.l = l
	s.all.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			if !s.note(l, c) {
				c.Close()
				return
			}
			s.all.Go(func() {
				defer s.forget(c)
				if s.tls != nil {
					serve(s, tls.Server(c, s.tls))
					return
				}
				serve(s, c)
			})
		}
	})
}

// note reports whether l is still listened on.
func (s *Server) note(l net.Listener, c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != l {
		return false
	}
	s.conns[c] = true
	s.open.Add(1)
	return true
}

func (s *Server) forget(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.open.Add(-1)
}

// Open is how many connections clients have now.
func (s *Server) Open() int { return int(s.open.Load()) }

// Refuse cuts all connections, and refuses new ones.
func (s *Server) Refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l == nil {
		return
	}
	s.l.Close()
	s.l = nil
	for c := range s.conns {
		c.Close()
	}
}

// Cut closes all connections, as a server does with those that are idle.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Accept takes connections again, on the same port, after [Server.Refuse].
func (s *Server) Accept() {
	s.t.Helper()
	s.listen(s.Addr, (*Server).serve)
}

// Set makes all requests meet a fault, but those with a prefix of their own.
func (s *Server) Set(f Fault) { s.SetPath("", f) }

// SetPath makes requests meet a fault whose path, as it came, begins with prefix. The
// longest prefix counts. No fault: as if it had not been set.
func (s *Server) SetPath(prefix string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil && prefix != "" {
		delete(s.faults, prefix)
		return
	}
	s.faults[prefix] = f
}

// arrived notes a request, and finds its fault.
func (s *Server) arrived(r Request) (Fault, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.At = time.Now()
	s.seen = append(s.seen, r)
	n := 0
	for _, other := range s.seen {
		if other.Target == r.Target {
			n++
		}
	}
	var found Fault
	longest := -1
	for prefix, f := range s.faults {
		if strings.HasPrefix(r.Target, prefix) && len(prefix) > longest {
			found, longest = f, len(prefix)
		}
	}
	return found, n
}

// Seen lists the requests that came, in order.
func (s *Server) Seen() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.seen...)
}

// Count is how many requests came for a target, a path with its query; empty: for any.
func (s *Server) Count(target string) int {
	n := 0
	for _, r := range s.Seen() {
		if target == "" || r.Target == target {
			n++
		}
	}
	return n
}

// Forget forgets the requests that came.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = nil
}

// serve answers the requests of one connection over HTTP/1.1.
func (s *Server) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		fault, n := s.arrived(Request{
			Method: req.Method, Target: req.RequestURI, Host: req.Host, Header: req.Header, Proto: req.Proto,
		})
		x := &Exchange{Conn: c, Request: req, N: n, s: s}
		if !fault(x) || req.Close {
			return
		}
	}
}
