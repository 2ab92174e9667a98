package upstreams

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// content is the bytes of a version of an object, not to be changed: no two objects or
// versions have a stretch in common.
func content(name string, version, size int) []byte {
	key := contentKey{name, version, size}
	if data, ok := made.Load(key); ok {
		return data.([]byte)
	}
	h := fnv.New64a()
	io.WriteString(h, name)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], h.Sum64())
	binary.LittleEndian.PutUint64(seed[8:], uint64(version))
	data := make([]byte, size)
	rand.NewChaCha8(seed).Read(data)
	made.Store(key, data)
	return data
}

type contentKey struct {
	name          string
	version, size int
}

// made is what content made, from contentKey to bytes: to make it takes longer than to
// fetch it.
var made sync.Map

// contents is an honest upstream of objects that exist as soon as they are asked for. All
// have one size. It knows conditions and ranges.
type contents struct {
	*httptest.Server

	size int

	mu       sync.Mutex
	versions map[string]int // by name; 1 if it is not here
}

func newContents(t testing.TB, size int) *contents {
	t.Helper()
	c := &contents{size: size, versions: make(map[string]int)}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// epoch is when first versions were made; the others follow, a day each.
var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *contents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	v := c.version(name)
	w.Header().Set("ETag", fmt.Sprintf(`"%s-%d"`, name, v))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", epoch.AddDate(0, 0, v), bytes.NewReader(content(name, v, c.size)))
}

func (c *contents) version(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.versions[name], 1)
}

// publish makes a new version of an object.
func (c *contents) publish(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.versions[name] = max(c.versions[name], 1) + 1
}

// contentsHTTP2 is contents over HTTP/2 and TLS, which notes its requests.
type contentsHTTP2 struct {
	*httptest.Server

	mu   sync.Mutex
	seen []*http.Request
}

func newContentsHTTP2(t testing.TB, size int, cert faulty.Certificate) *contentsHTTP2 {
	t.Helper()
	h := &contentsHTTP2{}
	honest := newContents(t, size)
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.seen = append(h.seen, r)
		h.mu.Unlock()
		honest.ServeHTTP(w, r)
	}))
	h.TLS = &tls.Config{Certificates: []tls.Certificate{cert.Certificate}, MinVersion: tls.VersionTLS12}
	h.EnableHTTP2 = true
	h.StartTLS()
	t.Cleanup(h.Close)
	return h
}

func (h *contentsHTTP2) count(target string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.seen {
		if r.RequestURI == target {
			n++
		}
	}
	return n
}

func (h *contentsHTTP2) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = nil
}

// protos are the versions of HTTP that it was asked over.
func (h *contentsHTTP2) protos() (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.seen {
		if !slices.Contains(all, r.Proto) {
			all = append(all, r.Proto)
		}
	}
	return all
}
