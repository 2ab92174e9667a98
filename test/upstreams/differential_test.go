package upstreams

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// differs are the fields that a mount of a directory and one of a server over the same
// directory may have different values of.
var differs = []string{
	"Age",           // how long ago each was asked
	"Cache-Control", // the mirror's own, and the server's
	"Cache-Status",  // the conditions of the way
	"Content-Type",  // each has its own list of extensions
	"Date",
	"Etag", // each has its own way to make one
	"Expires",
	"Server",
	"Via",  // there is another server behind the second one
	"Vary", // a server may say it where a file needs not
}

// diffTree makes the tree for both. It returns the names.
func diffTree(t *testing.T) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	for name, size := range map[string]int{
		"empty.bin": 0, "one.bin": 1, "small.bin": 100, "page.html": 5000, "list.json": 20_000, "large.bin": 300_000,
		"huge.tar": 3 << 20, "sub/deep/er.bin": 1000, "with space.bin": 700, "plus+plus.bin": 800, "ümlaut.bin": 900,
		"percent%41.bin": 950, "tilde~1.deb": 4000, "semi;colon=1,2.bin": 600, "noextension": 1234,
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content(name, 1, size), 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	backdate(t, dir)
	return dir, names
}

// diffRequest is one for both mounts; {ETAG} stands for that of the mount's object.
type diffRequest struct {
	method, path string
	header       []string
}

func (r diffRequest) String() string { return fmt.Sprintf("%s %s %q", r.method, r.path, r.header) }

// newDiffRequest makes one at random.
func newDiffRequest(r *rand.Rand, names []string, sizes map[string]int, modified time.Time) diffRequest {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	name := names[r.IntN(len(names))]
	size := sizes[name]
	var escaped []string
	for part := range strings.SplitSeq(name, "/") {
		escaped = append(escaped, url.PathEscape(part))
	}
	q := diffRequest{method: pick("GET", "GET", "GET", "HEAD"), path: "/" + strings.Join(escaped, "/")}
	if r.IntN(20) == 0 {
		q.path += pick(".missing", "/below", "?query=1")
	}
	date := func(d time.Duration) string { return modified.Add(d).UTC().Format(http.TimeFormat) }
	dates := []string{date(0), date(0), date(-time.Second), date(time.Second), date(-24 * time.Hour), date(time.Hour), "yesterday"}
	if r.IntN(3) == 0 {
		q.header = append(q.header, "If-None-Match: "+pick("{ETAG}", "W/{ETAG}", `"other"`, "*", `"a", {ETAG}`, `"a", "b"`))
	}
	if r.IntN(4) == 0 {
		q.header = append(q.header, "If-Modified-Since: "+pick(dates...))
	}
	if r.IntN(8) == 0 {
		q.header = append(q.header, "If-Match: "+pick("{ETAG}", `"other"`, "*", `"a", {ETAG}`, "W/{ETAG}"))
	}
	if r.IntN(8) == 0 {
		q.header = append(q.header, "If-Unmodified-Since: "+pick(dates...))
	}
	if r.IntN(2) == 0 {
		n := func() int { return r.IntN(size + 10) }
		from := n()
		ranges := pick(
			fmt.Sprintf("bytes=%d-%d", from, from+r.IntN(1000)), fmt.Sprintf("bytes=%d-", from), fmt.Sprintf("bytes=-%d", n()),
			"bytes=0-0", "bytes=0-", "bytes=-1", "bytes=0-99999999999", fmt.Sprintf("bytes=%d-", size), fmt.Sprintf("bytes=%d-%d", size-1, size+5),
			fmt.Sprintf("bytes=%d-%d, %d-%d", from, from+9, from+20, from+29), "bytes=0-1,-1", "bytes=5-1", "bytes=a-b", "lines=1-2", "bytes=", "bytes=-0")
		q.header = append(q.header, "Range: "+ranges)
		if r.IntN(3) == 0 {
			q.header = append(q.header, "If-Range: "+pick("{ETAG}", "{ETAG}", "W/{ETAG}", `"other"`, date(0), date(-time.Hour)))
		}
	}
	return q
}

// parts are the body of an answer, and the header of each part if there are several.
func parts(r reply) (all []string, err error) {
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "multipart/byteranges" {
		return []string{string(r.body)}, nil
	}
	m := multipart.NewReader(bytes.NewReader(r.body), params["boundary"])
	for {
		p, err := m.NextPart()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Header.Get("Content-Range"), string(data))
	}
}

// difference says how two answers differ, empty if not.
func difference(tree, server reply) string {
	switch {
	case tree.err != nil || server.err != nil:
		return fmt.Sprintf("errors %v and %v", tree.err, server.err)
	case tree.StatusCode != server.StatusCode:
		return fmt.Sprintf("status %d and %d", tree.StatusCode, server.StatusCode)
	case tree.StatusCode >= http.StatusBadRequest:
		if a, b := tree.Header.Get("Content-Range"), server.Header.Get("Content-Range"); a != b {
			return fmt.Sprintf("Content-Range %q and %q", a, b)
		}
		return "" // each has its own page for it
	}
	a, errA := parts(tree)
	b, errB := parts(server)
	if errA != nil || errB != nil || !slices.Equal(a, b) {
		return fmt.Sprintf("bodies of %d and %d bytes, in %d and %d parts, %v, %v", len(tree.body), len(server.body), len(a), len(b), errA, errB)
	}
	several := len(a) > 1
	names := make(map[string]bool)
	for _, r := range []reply{tree, server} {
		for name := range r.Header {
			names[name] = true
		}
	}
	for _, name := range differs {
		delete(names, name)
	}
	if several {
		delete(names, "Content-Length") // boundaries have lengths of their own
	}
	for name := range names {
		if !slices.Equal(tree.Header[name], server.Header[name]) {
			return fmt.Sprintf("%s %q and %q", name, tree.Header[name], server.Header[name])
		}
	}
	return ""
}

// TestAlike compares a mount of a directory with one of nginx and one of Caddy over the
// same directory: to a thousand requests the three answer alike, save for the fields of
// differs.
func TestAlike(t *testing.T) {
	dir, names := diffTree(t)
	sizes := make(map[string]int)
	var modified time.Time
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		sizes[name], modified = int(info.Size()), info.ModTime()
	}
	prefixes := []string{"/tree", "/nginx", "/caddy"}
	srv := startMirror(t, site("path "+t.TempDir(),
		mount("/tree", dir, "ttl 1h"),
		mount("/nginx", startNginx(t, dir).url, "ttl 1h"),
		mount("/caddy", startCaddy(t, dir).url, "ttl 1h")))

	const seed = 11
	r := rand.New(rand.NewPCG(seed, seed))
	faults := 0
	for i := range 1000 {
		if i%50 == 0 { // cold again
			for _, prefix := range prefixes {
				if _, err := srv.Purge(prefix, "", "/"); err != nil {
					t.Fatal(err)
				}
			}
		}
		q := newDiffRequest(r, names, sizes, modified)
		var replies []reply
		for _, prefix := range prefixes {
			replies = append(replies, q.ask(t, srv, prefix))
		}
		for j, got := range replies[1:] {
			if d := difference(replies[0], got); d != "" {
				t.Errorf("request %d, %v: the tree and %s: %s\n%v\n%v", i, q, prefixes[j+1], d, replies[0], got)
				faults++
			}
		}
		if faults > 20 {
			t.Fatal("and so on")
		}
	}
}

// ask sends the request to a mount.
func (q diffRequest) ask(t *testing.T, srv *testcaddy.Server, prefix string) reply {
	t.Helper()
	path := prefix + q.path
	header := slices.Clone(q.header)
	if slices.ContainsFunc(header, func(h string) bool { return strings.Contains(h, "{ETAG}") }) {
		head := ask(srv, http.MethodHead, path)
		if head.Response == nil {
			t.Fatal(head)
		}
		etag := head.Header.Get("ETag")
		if etag == "" {
			etag = `"none"`
		}
		for i := range header {
			header[i] = strings.ReplaceAll(header[i], "{ETAG}", etag)
		}
	}
	return ask(srv, q.method, path, header...)
}
