package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// errWrong says that a response had bytes that it must not have.
var errWrong = errors.New("wrong bytes")

// answer is a response whose bytes are right.
type answer struct {
	status int
	header http.Header
	of     version // what it is of; zero if it has no bytes of an object
	took   time.Duration
}

// cache is what the cache did: the response's Cache-Status.
func (a answer) cache() string { return a.header.Get("Cache-Status") }

// hit reports whether the answer is from the cache alone.
func (a answer) hit() bool { return strings.HasPrefix(a.cache(), "mirror; hit") }

// get fetches a file of a tree and checks that the answer is whole and of one
// version. An errWrong is a fault of the mirror; other errors mean that the
// answer was cut off or did not come.
func get(srv *testcaddy.Server, prefix string, tr *tree, name string, header ...string) (answer, error) {
	return do(context.Background(), srv, http.MethodGet, prefix, tr, name, header...)
}

// do is get with a context and another method.
func do(ctx context.Context, srv *testcaddy.Server, method, prefix string, tr *tree, name string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, srv.URL+prefix+"/"+name, nil)
	if err != nil {
		return answer{}, err
	}
	for _, h := range header {
		field, value, _ := strings.Cut(h, ":")
		req.Header.Set(field, strings.TrimSpace(value))
	}
	start := time.Now()
	resp, err := srv.Client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, took: time.Since(start)}
	if err != nil {
		return a, err
	}
	a.of, err = check(tr, name, method, resp, body)
	return a, err
}

// check finds the version that a response is of.
func check(tr *tree, name, method string, resp *http.Response, body []byte) (version, error) {
	wrong := func(err error) error {
		return fmt.Errorf("%w: %s, %s, %q: %w", errWrong, resp.Status, resp.Header.Get("Cache-Status"), resp.Header.Get("Content-Range"), err)
	}
	var off, size int64
	switch resp.StatusCode {
	case http.StatusOK:
		size = resp.ContentLength
	case http.StatusPartialContent:
		var end int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &off, &end, &size); err != nil {
			return version{}, wrong(err)
		}
		if n := end - off + 1; n != resp.ContentLength {
			return version{}, wrong(fmt.Errorf("%d bytes are said to be %d", resp.ContentLength, n))
		}
	default:
		return version{}, nil
	}
	if method == http.MethodHead {
		for _, v := range tr.versions(name) {
			if v.size == size && len(body) == 0 {
				return v, nil
			}
		}
		return version{}, wrong(fmt.Errorf("HEAD: no version has %d bytes", size))
	}
	if resp.StatusCode == http.StatusOK && int64(len(body)) != size {
		return version{}, wrong(fmt.Errorf("%d bytes are said to be %d", len(body), size))
	}
	v, err := tr.identify(name, body, off, size)
	if err != nil {
		return v, wrong(err)
	}
	return v, nil
}

// mustGet is get for where nothing stands in the way.
func mustGet(t testing.TB, srv *testcaddy.Server, prefix string, tr *tree, name string, header ...string) answer {
	t.Helper()
	a, err := get(srv, prefix, tr, name, header...)
	if err != nil {
		t.Fatalf("GET %s/%s: %v", prefix, name, err)
	}
	if a.status != http.StatusOK && a.status != http.StatusPartialContent {
		t.Fatalf("GET %s/%s: status %d", prefix, name, a.status)
	}
	return a
}

// byteRange is a Range header of n bytes from off on.
func byteRange(off, n int64) string {
	return "Range: bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10)
}

// wait waits until ok, for as long as limit.
func wait(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: not yet %s", limit, what)
		}
	}
}

// waitHit asks for a file until it is a hit.
func waitHit(t testing.TB, srv *testcaddy.Server, prefix string, tr *tree, name string, limit time.Duration) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		a := mustGet(t, srv, prefix, tr, name)
		if a.hit() {
			return
		}
		if last = a.cache(); time.Now().After(deadline) {
			t.Fatalf("%s/%s is still no hit after %v: %s", prefix, name, limit, last)
		}
	}
}

// cacheStatus is what these tests read of a cache's status.
type cacheStatus struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	State   string `json:"state"`
	Size    int64  `json:"size"`
	MaxSize int64  `json:"max_size"`
	Entries int    `json:"entries"`
	Filling int    `json:"filling"`
	Stored  uint64 `json:"stored"`
	Corrupt uint64 `json:"corrupt"`
}

// caches asks the server for the state of its caches.
func caches(srv *testcaddy.Server) ([]cacheStatus, error) {
	data, err := srv.AdminGet("/mirror/status")
	if err != nil {
		return nil, err
	}
	var status struct {
		Caches []cacheStatus `json:"caches"`
	}
	return status.Caches, json.Unmarshal(data, &status)
}

// theCache is the state of the only cache.
func theCache(t testing.TB, srv *testcaddy.Server) cacheStatus {
	t.Helper()
	all, err := caches(srv)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("there are %d caches: %+v", len(all), all)
	}
	return all[0]
}

// waitQuiet waits until no fill is under way.
func waitQuiet(t testing.TB, srv *testcaddy.Server) {
	t.Helper()
	wait(t, 20*time.Second, "quiet", func() bool {
		s := theCache(t, srv)
		return s.State == "ready" && s.Filling == 0
	})
}

// loud is how many lines of a log are warnings or worse.
func loud(log string) (n int) {
	for line := range strings.Lines(log) {
		for _, level := range []string{`"level":"warn"`, `"level":"error"`, `"level":"panic"`, `"level":"fatal"`} {
			if strings.Contains(line, level) {
				n++
			}
		}
	}
	return n
}
