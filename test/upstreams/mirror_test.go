package upstreams

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// mount is one of a Caddyfile; options are separated by semicolons.
func mount(prefix, url, options string) string {
	return fmt.Sprintf("\t\tmount %s %s {\n\t\t\t%s\n\t\t}\n", prefix, url, strings.ReplaceAll(options, ";", "\n\t\t\t"))
}

// site is a Caddyfile of one site with one cache of its own.
func site(cache string, mounts ...string) string {
	return fmt.Sprintf("{\n\tmirror {\n\t\tcache {\n\t\t\t%s\n\t\t}\n\t}\n}\nhttp://{$ADDR} {\n\tbind 127.0.0.1\n\tmirror_cache {\n%s\t}\n}\n",
		strings.ReplaceAll(cache, ";", "\n\t\t\t"), strings.Join(mounts, ""))
}

func startMirror(t testing.TB, config string) *testcaddy.Server {
	t.Helper()
	s := testcaddy.Start(t, config)
	s.WaitReady(t)
	return s
}

// reply is what a client saw of an answer.
type reply struct {
	*http.Response // nil: there was none
	body           []byte
	err            error // of the request, or of the body
	took           time.Duration
}

// ask fetches from the mirror. Header fields are given as "Name: value".
func ask(s *testcaddy.Server, method, path string, header ...string) reply {
	start := time.Now()
	resp, body, err := s.Do(method, path, header...)
	return reply{resp, body, err, time.Since(start)}
}

// status is 0 if there was no answer.
func (r reply) status() int {
	if r.Response == nil {
		return 0
	}
	return r.StatusCode
}

// cache is what the mirror says that it did.
func (r reply) cache() freshness.CacheStatus {
	if r.Response == nil {
		return freshness.CacheStatus{}
	}
	all, err := freshness.ParseCacheStatus(r.Header["Cache-Status"])
	if err != nil || len(all) == 0 {
		return freshness.CacheStatus{}
	}
	return all[len(all)-1]
}

func (r reply) String() string {
	if r.Response == nil {
		return fmt.Sprintf("no answer after %v: %v", r.took, r.err)
	}
	text := fmt.Sprintf("status %d, %d bytes, Cache-Status %q, Age %q, after %v", r.StatusCode, len(r.body), r.Header["Cache-Status"], r.Header.Get("Age"), r.took)
	if r.StatusCode != http.StatusOK && len(r.body) < 200 {
		text += fmt.Sprintf(": %q", r.body)
	}
	if r.err != nil {
		text += ", " + r.err.Error()
	}
	return text
}
