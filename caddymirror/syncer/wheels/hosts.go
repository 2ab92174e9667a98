package wheels

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// hosts are where builds may connect to.
type hosts struct {
	mu      sync.Mutex
	allowed map[string]bool // HOST:PORT, or HOST for any port
}

func newHosts(index *url.URL, more []string) *hosts {
	h := &hosts{allowed: map[string]bool{}}
	h.allow(index)
	for _, host := range more {
		h.allowed[strings.ToLower(host)] = true
	}
	return h
}

// allow allows the host of a URL.
func (h *hosts) allow(u *url.URL) {
	if u.Hostname() == "" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.allowed[address(u)] = true
}

func (h *hosts) allowURL(text string) {
	// git+https://...
	if i := strings.IndexByte(text, '+'); i >= 0 && i < strings.Index(text, "://") {
		text = text[i+1:]
	}
	if u, err := url.Parse(text); err == nil {
		h.allow(u)
	}
}

func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "ssh": "22", "git": "9418"}[u.Scheme]
	}
	if port == "" {
		port = "443"
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}

func (h *hosts) allows(hostport string) bool {
	hostport = strings.ToLower(hostport)
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.allowed[hostport] || h.allowed[host]
}

// A doorman is the HTTP proxy of one build, which leads to the hosts that builds may reach.
type doorman struct {
	hosts  *hosts
	server *http.Server
	bytes  *atomic.Int64

	mu      sync.Mutex
	refused map[string]bool
	hijacks sync.WaitGroup
	ctx     context.Context //nolint:containedctx // the life of connections that no request has any more
	end     context.CancelFunc
}

// openDoor has a doorman at a socket in the file system.
func openDoor(ctx context.Context, socket string, h *hosts, bytes *atomic.Int64) (*doorman, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	d := &doorman{hosts: h, bytes: bytes, refused: map[string]bool{}}
	d.ctx, d.end = context.WithCancel(ctx)
	d.server = &http.Server{Handler: d, ReadHeaderTimeout: time.Minute}
	go func() { _ = d.server.Serve(l) }()
	return d, nil
}

func (d *doorman) close() {
	d.end()
	_ = d.server.Close()
	d.hijacks.Wait()
}

// turnedAway are the hosts that the build has asked for in vain.
func (d *doorman) turnedAway() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.refused))
}

func (d *doorman) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := r.Host
	if r.Method != http.MethodConnect {
		if r.URL.Scheme != "http" || r.URL.Host == "" {
			http.Error(w, "this is a proxy", http.StatusBadRequest)
			return
		}
		target = address(r.URL)
	}
	if !d.hosts.allows(target) {
		d.mu.Lock()
		if len(d.refused) < 20 {
			d.refused[target] = true
		}
		d.mu.Unlock()
		http.Error(w, "builds may not reach "+target+": see allow_hosts", http.StatusForbidden)
		return
	}
	if r.Method == http.MethodConnect {
		d.connect(w, target)
		return
	}
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {},
		ModifyResponse: func(resp *http.Response) error {
			resp.Body = &counted{resp.Body, d.bytes}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

// connect leads a connection through.
func (d *doorman) connect(w http.ResponseWriter, target string) {
	dialer := net.Dialer{Timeout: 30 * time.Second}
	out, err := dialer.DialContext(d.ctx, "tcp", target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	d.hijacks.Add(1)
	defer d.hijacks.Done()
	defer in.Close()
	stop := context.AfterFunc(d.ctx, func() { in.Close(); out.Close() })
	defer stop()
	if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(out, buffered)
		if t, ok := out.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
	}()
	n, _ := io.Copy(in, out)
	d.bytes.Add(n)
	in.Close()
	<-done
}

type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}
