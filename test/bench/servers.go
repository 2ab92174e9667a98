package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed conf
var confFiles embed.FS

var confs = template.Must(template.New("conf").Option("missingkey=error").ParseFS(confFiles, "conf/*"))

const ourName = "mirror"

// kind is one of the servers compared.
type kind struct {
	name  string // as in -servers
	title string
	cache bool // asks the origin
	caddy bool // is the caddy binary
	extra bool // only where named
	start func(b *bench, ctx context.Context, s site) (*server, error)
}

// kinds are in the order of the table.
var kinds = []kind{
	{name: ourName, title: "mirror_cache", caddy: true, start: (*bench).startMirror},
	{name: "file_server", title: "file_server", caddy: true, start: (*bench).startFileServer},
	{name: "respond", title: "respond", caddy: true, start: (*bench).startRespond},
	{name: "nginx", title: "nginx static", start: (*bench).startNginx},
	{name: "proxy_cache", title: "nginx proxy_cache", cache: true, start: (*bench).startProxyCache},
	{name: "apache", title: "Apache mod_cache_disk", cache: true, start: (*bench).startApache},
	{name: "varnish", title: "Varnish", cache: true, start: (*bench).startVarnish},
	{name: "cache_handler", title: "Caddy cache-handler", cache: true, extra: true, start: (*bench).startCacheHandler},
	{name: "varnish_mute", title: "Varnish, log masked", cache: true, extra: true, start: (*bench).startMuteVarnish},
}

// serverNames are the names of the servers compared: of those that are unless
// others are named, or of all.
func serverNames(all bool) []string {
	var names []string
	for _, k := range kinds {
		if all || !k.extra {
			names = append(names, k.name)
		}
	}
	return names
}

func kindOf(name string) kind {
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })]
}

func isCache(name string) bool   { return kindOf(name).cache }
func usesCaddy(name string) bool { return kindOf(name).caddy }

// site is what a server is to serve.
type site struct {
	tree    string // directory of the files
	origin  string // address of the origin, for caches
	maxSize int64  // bound of the cache, in bytes, where it has one
	wheels  string // directory of wheels, ours only
	proxy   bool   // /files/ are the origin's, and the tree is at /tree/, ours only
	clients int    // that come at once, if they are more than the connections of the hits
}

// server is a running server.
type server struct {
	*process
	kind
	addr    string
	tlsAddr string
	before  *process                // what has TLS for it, where it has none
	admin   string                  // address of Caddy's admin API, ours only
	answer  []byte                  // its only answer; nil: it serves the files
	hit     func(http.Header) error // why an answer is not from the cache; nil: not a cache
}

// startServer starts a server of a kind.
func (b *bench) startServer(ctx context.Context, k kind, s site) (*server, error) {
	srv, err := k.start(b, ctx, s)
	if err != nil {
		return nil, err
	}
	srv.kind = k
	return srv, nil
}

// setup makes the directory and address of a server.
func (b *bench) setup(name string) (dir, addr string, err error) {
	if dir, err = os.MkdirTemp(b.dir, name+"-"); err != nil {
		return "", "", err
	}
	addr, err = freeAddr()
	return dir, addr, err
}

// listeners adds to a server's data what it listens on, which it returns.
func (b *bench) listeners(addr string, data map[string]any) (tlsAddr string, err error) {
	tlsAddr, err = freeAddr()
	data["Addr"], data["TLSAddr"], data["TLS"], data["Cipher"] = addr, tlsAddr, b.tls, tlsCipher
	return tlsAddr, err
}

// configure writes a server's configuration into its directory.
func configure(dir, conf string, data any) (path string, err error) {
	path = filepath.Join(dir, conf)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	err = confs.ExecuteTemplate(f, conf, data)
	return path, errors.Join(err, f.Close())
}

func (b *bench) startCaddy(ctx context.Context, name, conf, binary, dir, addr string, data map[string]any) (*server, error) {
	tlsAddr, err := b.listeners(addr, data)
	if err != nil {
		return nil, err
	}
	path, err := configure(dir, conf, data)
	if err != nil {
		return nil, err
	}
	p, err := b.start(ctx, name, dir, addr, binary, "run", "--adapter", "caddyfile", "--config", path)
	if err != nil {
		return nil, err
	}
	return &server{process: p, addr: addr, tlsAddr: tlsAddr}, nil
}

func (b *bench) startMirror(ctx context.Context, s site) (*server, error) {
	dir, addr, err := b.setup("mirror")
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"Dir": dir, "Admin": admin, "Tree": s.tree, "MaxSize": s.maxSize, "Wheels": s.wheels, "Upstream": "",
	}
	if s.proxy {
		data["Upstream"] = s.origin
	}
	srv, err := b.startCaddy(ctx, ourName, "caddy-mirror.conf", b.caddy, dir, addr, data)
	if err != nil {
		return nil, err
	}
	srv.admin = admin
	srv.hit = func(h http.Header) error {
		v := h.Get("Cache-Status")
		// RFC 9211: a list member per cache, "mirror; hit", then parameters.
		name, params, _ := strings.Cut(v, ";")
		first, _, _ := strings.Cut(params, ";")
		if strings.TrimSpace(name) != "mirror" || strings.TrimSpace(first) != "hit" {
			return fmt.Errorf("Cache-Status is %q", v)
		}
		return nil
	}
	return srv, nil
}

func (b *bench) startFileServer(ctx context.Context, s site) (*server, error) {
	dir, addr, err := b.setup("file-server")
	if err != nil {
		return nil, err
	}
	return b.startCaddy(ctx, "file_server", "caddy-file-server.conf", b.caddy, dir, addr, map[string]any{"Tree": s.tree})
}

func (b *bench) startRespond(ctx context.Context, _ site) (*server, error) {
	dir, addr, err := b.setup("respond")
	if err != nil {
		return nil, err
	}
	body := strings.Repeat("0123456789abcdef", 4*kib/16)
	srv, err := b.startCaddy(ctx, "respond", "caddy-respond.conf", b.caddy, dir, addr, map[string]any{"Body": body})
	if err != nil {
		return nil, err
	}
	srv.answer = []byte(body)
	return srv, nil
}

func (b *bench) startNginx(ctx context.Context, s site) (*server, error) {
	return b.runNginx(ctx, b.serverCPU, "nginx", "nginx.conf", map[string]any{"Tree": s.tree, "IsOrigin": false})
}

func (b *bench) startProxyCache(ctx context.Context, s site) (*server, error) {
	srv, err := b.runNginx(ctx, b.serverCPU, "proxy_cache", "nginx-proxy-cache.conf", map[string]any{"Origin": s.origin})
	if err != nil {
		return nil, err
	}
	srv.hit = func(h http.Header) error {
		if v := h.Get("X-Cache-Status"); v != "HIT" {
			return fmt.Errorf("X-Cache-Status is %q", v)
		}
		return nil
	}
	return srv, nil
}

func (b *bench) runNginx(ctx context.Context, cpu int, name, conf string, data map[string]any) (*server, error) {
	dir, addr, err := b.setup(name)
	if err != nil {
		return nil, err
	}
	data["Dir"] = dir
	tlsAddr, err := b.listeners(addr, data)
	if err != nil {
		return nil, err
	}
	path, err := configure(dir, conf, data)
	if err != nil {
		return nil, err
	}
	p, err := b.startOn(ctx, cpu, name, dir, addr, "nginx", "-p", dir, "-c", path, "-e", filepath.Join(dir, "error.log"))
	if err != nil {
		return nil, err
	}
	return &server{process: p, addr: addr, tlsAddr: tlsAddr}, nil
}

// apacheModules is where Debian's apache2-bin keeps its modules.
const apacheModules = "/usr/lib/apache2/modules"

func (b *bench) startApache(ctx context.Context, s site) (*server, error) {
	dir, addr, err := b.setup("apache")
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"cache", "lock"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	data := map[string]any{
		"Dir": dir, "Origin": s.origin, "Modules": apacheModules,
		"Threads": max(64, 2*b.connections, 2*s.clients),
	}
	tlsAddr, err := b.listeners(addr, data)
	if err != nil {
		return nil, err
	}
	path, err := configure(dir, "apache.conf", data)
	if err != nil {
		return nil, err
	}
	p, err := b.start(ctx, "apache", dir, addr, "apache2", "-f", path, "-DFOREGROUND")
	if err != nil {
		return nil, err
	}
	return &server{process: p, addr: addr, tlsAddr: tlsAddr, hit: func(h http.Header) error {
		if h.Get("Age") == "" { // which mod_cache sends with what it has kept
			return errors.New("no Age")
		}
		return nil
	}}, nil
}

// startCacheHandler starts Caddy with its cache-handler.
func (b *bench) startCacheHandler(ctx context.Context, s site) (*server, error) {
	binary, err := b.buildCacheHandler(ctx)
	if err != nil {
		return nil, err
	}
	dir, addr, err := b.setup("cache-handler")
	if err != nil {
		return nil, err
	}
	srv, err := b.startCaddy(ctx, "cache_handler", "caddy-cache-handler.conf", binary, dir, addr, map[string]any{"Origin": s.origin})
	if err != nil {
		return nil, err
	}
	srv.hit = func(h http.Header) error {
		if v := h.Get("Cache-Status"); !strings.Contains(v, "; hit") {
			return fmt.Errorf("Cache-Status is %q", v)
		}
		return nil
	}
	return srv, nil
}

// buildCacheHandler builds the module of that name once, and returns the binary.
func (b *bench) buildCacheHandler(ctx context.Context) (string, error) {
	path := filepath.Join(b.dir, "cache-handler")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	progress("building Caddy with cache-handler")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, ".")
	cmd.Dir = filepath.Join(b.module, "test", "bench", "cachehandler")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy with cache-handler: %w\n%s", err, out)
	}
	return path, nil
}

func (b *bench) startVarnish(ctx context.Context, s site) (*server, error) {
	return b.runVarnish(ctx, s)
}

// startMuteVarnish starts Varnish without the records that it writes of each
// request to shared memory, whether anyone reads them or not. Nobody runs it so,
// since nothing is known of it then, but it is the fastest it gets.
func (b *bench) startMuteVarnish(ctx context.Context, s site) (*server, error) {
	return b.runVarnish(ctx, s, "-p", "vsl_mask="+
		"-Begin,-End,-Link,-Timestamp,-SessOpen,-SessClose,-Hit,-VCL_call,-VCL_return,-VCL_use,"+
		"-ReqStart,-ReqMethod,-ReqURL,-ReqProtocol,-ReqHeader,-ReqUnset,-ReqAcct,"+
		"-RespProtocol,-RespStatus,-RespReason,-RespHeader,-RespUnset")
}

func (b *bench) runVarnish(ctx context.Context, s site, args ...string) (*server, error) {
	dir, addr, err := b.setup("varnish")
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(s.origin)
	if err != nil {
		return nil, err
	}
	path, err := configure(dir, "varnish.vcl", map[string]any{"OriginHost": host, "OriginPort": port})
	if err != nil {
		return nil, err
	}
	args = append([]string{
		"varnishd", "-F",
		"-j", "none",
		"-n", filepath.Join(dir, "work"),
		"-f", path,
		"-a", addr,
		"-T", "none",
		"-s", "malloc," + strconv.FormatInt(s.maxSize, 10),
		"-p", "thread_pools=1",
		"-p", "thread_pool_min=" + strconv.Itoa(max(100, 2*b.connections, 2*s.clients)),
	}, args...)
	p, err := b.start(ctx, "varnish", dir, addr, args...)
	if err != nil {
		return nil, err
	}
	srv := &server{process: p, addr: addr, hit: func(h http.Header) error {
		// A hit names two requests: its own and the one that filled the cache.
		if v := h.Get("X-Varnish"); len(strings.Fields(v)) != 2 {
			return fmt.Errorf("X-Varnish is %q", v)
		}
		return nil
	}}
	return srv, b.startHitch(ctx, srv)
}

// origin is the static nginx behind the caches.
type origin struct{ *server }

func (b *bench) startOrigin(ctx context.Context, tree string) (origin, error) {
	srv, err := b.runNginx(ctx, b.serverCPU, "origin", "nginx.conf", map[string]any{"Tree": tree, "IsOrigin": true, "Many": []many(nil)})
	return origin{srv}, err
}

// many is one file that the origin has under many names: all below a directory.
type many struct {
	Name string // of the directory, in /files/
	File string // in /files/, too
	Rate int64  // bytes per second and connection; 0: as fast as it can
}

// startUpstream is startOrigin on the clients' core, so that a server has its own.
func (b *bench) startUpstream(ctx context.Context, tree string, files []many) (origin, error) {
	srv, err := b.runNginx(ctx, b.loadCPU, "upstream", "nginx.conf", map[string]any{"Tree": tree, "IsOrigin": true, "Many": files})
	return origin{srv}, err
}

// requests returns how many requests the origin has answered, this one not
// counted.
func (o origin) requests(ctx context.Context) (int64, error) {
	_, body, err := get(ctx, "http://"+o.addr+"/requests")
	if err != nil {
		return 0, fmt.Errorf("asking the origin for its count: %w", err)
	}
	// "server accepts handled requests\n 3 3 7 \n"
	_, rest, _ := strings.Cut(string(body), "requests")
	f := strings.Fields(rest)
	if len(f) < 3 {
		return 0, fmt.Errorf("the origin's count is not one: %q", body)
	}
	n, err := strconv.ParseInt(f[2], 10, 64)
	return n - 1, err
}

// touches is what our server has asked of its origin.
type touches struct {
	Reads     int64 `json:"reads"`
	ReadBytes int64 `json:"read_bytes"`
	Stats     int64 `json:"stats"`
	Lists     int64 `json:"lists"`
}

func (t touches) calls() int64 { return t.Reads + t.Stats + t.Lists }

// originTouches asks our server's admin API what it asked of its mounts' only
// origin.
func (s *server) originTouches(ctx context.Context) (touches, error) {
	_, body, err := get(ctx, "http://"+s.admin+"/mirror/status")
	if err != nil {
		return touches{}, fmt.Errorf("asking for the mirror's status: %w", err)
	}
	var status struct {
		Mounts []struct {
			Origins []touches `json:"origins"`
		} `json:"mounts"`
	}
	if err := json.Unmarshal(body, &status); err != nil {
		return touches{}, fmt.Errorf("reading the mirror's status: %w", err)
	}
	// The mounts of http and https have one origin, and one count.
	if len(status.Mounts) == 0 || len(status.Mounts[0].Origins) != 1 {
		return touches{}, fmt.Errorf("the mirror's status has no mount with one origin: %s", body)
	}
	return status.Mounts[0].Origins[0], nil
}

// url is where a server has a file.
func (s *server) url(f file) string {
	if f.path != "" {
		return "http://" + s.addr + f.path
	}
	if f.tls {
		return "https://" + s.tlsAddr + "/files/" + f.name
	}
	return "http://" + s.addr + "/files/" + f.name
}

// check fails unless the server answers with the right body and, being a cache,
// from the cache. A cache is asked until it has what it first had to fetch.
func (s *server) check(ctx context.Context, f file) error {
	want := f.sum
	if s.answer != nil {
		want = sha256.Sum256(s.answer)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		header, body, err := get(ctx, s.url(f), f.accept)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", s.title, f.title, err)
		}
		if got := sha256.Sum256(body); got != want {
			return fmt.Errorf("%s, %s: wrong body: %d bytes, SHA-256 %x instead of %x", s.title, f.title, len(body), got, want)
		}
		if s.hit == nil {
			return nil
		}
		if err = s.hit(header); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s, %s: not a hit: %w", s.title, f.title, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

var client = &http.Client{
	Transport: &http.Transport{
		DisableCompression: true, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // our own certificate
	},
	Timeout: 30 * time.Second,
}

// get asks for a URL, with an Accept field if there is one.
func get(ctx context.Context, url string, accept ...string) (http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("X-Bench", "status") // see nginx-proxy-cache.conf
	if a := strings.Join(accept, ""); a != "" {
		req.Header.Set("Accept", a)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return resp.Header, body, nil
}
