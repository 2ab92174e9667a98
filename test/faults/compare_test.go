package faults

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// parts are the parts of a multipart body: what their ranges are, and what is
// in them. Another body is one part.
func parts(resp *http.Response, body []byte) (all []string, err error) {
	// Not all answers have a type.
	kind, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "multipart/byteranges" {
		return []string{resp.Header.Get("Content-Range") + " " + string(body)}, nil
	}
	if len(body) == 0 {
		return nil, nil // to HEAD
	}
	mr := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		p, err := mr.NextRawPart()
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
		all = append(all, p.Header.Get("Content-Range")+" "+string(data))
	}
}

// What clients ask for with conditions and ranges, they get as file_server
// would answer, which leaves it to net/http: from a fill, from memory, from
// disk, and past the cache. Where net/http departs from RFC 9110, the package
// httpcond has tests of its own: HEAD knows no ranges (section 14.2), nothing has
// no parts, and 416 always says how long the file is (section 15.5.17).
func TestLikeFileServer(t *testing.T) {
	tr := newTree(t)
	files := []string{"empty.txt", "one.txt", "small.txt", "page.html", "data.bin", "archive.tar.gz", "noext", "large.whl", "huge.deb"}
	for n, name := range files {
		tr.add(t, name, []int64{0, 1, 1000, 5000, 70_000, 300_000, 512, 3<<20 + 1, 6 << 20}[n])
	}
	tr.add(t, "dir/index.html", 800)
	config := strings.Replace(site("path "+t.TempDir()+";memory 200KiB;max_object 4MiB", mount("/x", tr.dir, "ttl 1h")),
		"mirror_cache {", "handle_path /fs/* {\nroot * "+tr.dir+"\nfile_server\n}\nmirror_cache {", 1)
	srv := testcaddy.Start(t, config)
	srv.WaitReady(t)

	ask := func(t *testing.T, method, prefix, name string, header []string) (resp *http.Response, body []byte, err error) {
		t.Helper()
		var own []string
		for _, h := range header {
			if strings.Contains(h, "ETAG") {
				resp, _, err := srv.Do("HEAD", prefix+name)
				if err != nil {
					return nil, nil, err
				}
				h = strings.ReplaceAll(h, "ETAG", resp.Header.Get("Etag"))
			}
			own = append(own, h)
		}
		return srv.Do(method, prefix+name, own...)
	}
	info, err := os.Stat(filepath.Join(tr.dir, "small.txt"))
	if err != nil {
		t.Fatal(err)
	}
	date := func(d time.Duration) string { return info.ModTime().Add(d).UTC().Format(http.TimeFormat) }

	conditions := [][]string{
		nil,
		{"Range: bytes=0-0"},
		{"Range: bytes=0-"},
		{"Range: bytes=1-"},
		{"Range: bytes=-1"},
		{"Range: bytes=-500"},
		{"Range: bytes=100-199"},
		{"Range: bytes=499-"},
		{"Range: bytes=500-499"},
		{"Range: bytes=65535-65536"},
		{"Range: bytes=1048575-1048576"},
		{"Range: bytes=999999999-"},
		{"Range: bytes=0-9,20-29"},
		{"Range: bytes=-5,0-4"},
		{"Range: bytes=0-9,5-14,0-0,-1"},
		{"Range: bytes=0-9,999999999-"},
		{"Range: bytes=999999999-,0-9"},
		{"Range: bytes= 0-9 , 20-29 "},
		{"Range: bytes=0-9, "},
		{"Range: nonsense"},
		{"Range: bytes=9-0"},
		{"Range: bytes=-"},
		{"If-None-Match: ETAG"},
		{"If-None-Match: W/ETAG"},
		{`If-None-Match: "other", ETAG`},
		{`If-None-Match: "other"`},
		{"If-None-Match: *"},
		{"If-None-Match: *", "Range: bytes=0-9"},
		{"If-Match: ETAG"},
		{"If-Match: W/ETAG"},
		{`If-Match: "other"`},
		{"If-Match: *"},
		{`If-Match: "other"`, "Range: bytes=0-9"},
		{"If-Modified-Since: " + date(0)},
		{"If-Modified-Since: " + date(-time.Hour)},
		{"If-Modified-Since: " + date(48*time.Hour)},
		{"If-Modified-Since: nonsense"},
		{"If-Unmodified-Since: " + date(0)},
		{"If-Unmodified-Since: " + date(-time.Hour)},
		{"If-Unmodified-Since: " + date(48*time.Hour)},
		{`If-None-Match: "other"`, "If-Modified-Since: " + date(48*time.Hour)},
		{"If-None-Match: ETAG", "If-Modified-Since: " + date(-48*time.Hour)},
		{"Range: bytes=0-9", "If-Range: ETAG"},
		{"Range: bytes=0-9", "If-Range: W/ETAG"},
		{"Range: bytes=0-9", `If-Range: "other"`},
		{"Range: bytes=0-9", "If-Range: " + date(0)},
		{"Range: bytes=0-9", "If-Range: " + date(time.Second)},
		{"Range: bytes=0-9,20-29", "If-Range: ETAG"},
		{"Range: bytes=0-9", "If-None-Match: ETAG"},
		{"Range: bytes=0-9", "If-Modified-Since: " + date(48*time.Hour)},
	}
	fields := []string{"Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "Last-Modified", "Content-Encoding"}
	paths := []string{"/dir/", "/missing", "/dir/missing/x"}
	for _, name := range files {
		paths = append(paths, "/"+name)
	}
	var compared int
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			for round := range 2 {
				for n, header := range conditions {
					for _, method := range []string{"GET", "HEAD"} {
						if round == 0 {
							// Cold, each time.
							if _, err := srv.Purge("/x", "", "/"); err != nil {
								t.Fatal(err)
							}
						}
						what := fmt.Sprintf("%s %q, round %d", method, header, round)
						known := header
						if method == http.MethodHead || path == "/empty.txt" {
							known = slices.DeleteFunc(slices.Clone(header), func(h string) bool { return strings.HasPrefix(h, "Range: ") })
						}
						want, wantBody, err := ask(t, method, "/fs", path, known)
						if err != nil {
							t.Fatalf("file_server: %s: %v", what, err)
						}
						got, gotBody, err := ask(t, method, "/x", path, header)
						if err != nil {
							t.Errorf("%s: %v", what, err)
							continue
						}
						compared++
						if got.StatusCode != want.StatusCode {
							t.Errorf("%s: status %d, want %d (%s)", what, got.StatusCode, want.StatusCode, got.Header.Get("Cache-Status"))
							continue
						}
						multi := strings.HasPrefix(want.Header.Get("Content-Type"), "multipart/")
						for _, f := range fields {
							g, w := got.Header.Get(f), want.Header.Get(f)
							switch {
							case g == w,
								f == "Content-Type" && multi && strings.HasPrefix(g, "multipart/byteranges; "),
								f == "Content-Length" && multi, // it depends on the type of the parts
								f == "Content-Type" && w == "", // for file_server, unknown
								f == "Accept-Ranges" && want.StatusCode == http.StatusNotModified,
								f == "Content-Range" && w == "" && want.StatusCode == http.StatusRequestedRangeNotSatisfiable && strings.HasPrefix(g, "bytes */"),
								want.StatusCode >= 400 && f != "Content-Range": // errors have a page of their own
								continue
							}
							if f == "Content-Type" && strings.HasPrefix(w, "text/plain") && !strings.Contains(path, ".txt") {
								continue // it has looked at the bytes
							}
							if f == "Content-Type" && g == "application/octet-stream" && filepath.Ext(path) == "" {
								continue
							}
							t.Errorf("%s: %s is %q, want %q (%s)", what, f, g, w, textproto.TrimString(got.Header.Get("Cache-Status")))
						}
						if (got.Header.Get("Etag") == "") != (want.Header.Get("Etag") == "") {
							t.Errorf("%s: Etag is %q, and file_server's %q", what, got.Header.Get("Etag"), want.Header.Get("Etag"))
						}
						if want.StatusCode >= 400 {
							continue
						}
						gotParts, err := parts(got, gotBody)
						if err != nil {
							t.Errorf("%s: %v", what, err)
							continue
						}
						wantParts, err := parts(want, wantBody)
						if err != nil {
							t.Fatal(err)
						}
						if len(gotParts) != len(wantParts) {
							t.Errorf("%s: %d parts, want %d", what, len(gotParts), len(wantParts))
							continue
						}
						for i := range gotParts {
							if gotParts[i] != wantParts[i] {
								t.Errorf("%s: part %d of %d, condition %d, has %.60q, want %.60q", what, i, len(gotParts), n, gotParts[i], wantParts[i])
							}
						}
					}
				}
			}
		})
	}
	t.Logf("%d pairs of answers", compared)
}
