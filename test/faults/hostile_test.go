package faults

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

const secret = "the secret beside the tree"

// trap makes a tree with everything in it that leads out of it, and a secret
// where that leads.
func trap(t testing.TB) *tree {
	t.Helper()
	tr := newTree(t)
	tr.add(t, "file", 1000)
	tr.add(t, "large", 300_000)
	tr.add(t, "dir/file", 2000)
	tr.add(t, "dir/index.html", 500)
	outside := filepath.Join(filepath.Dir(tr.dir), "outside")
	if err := os.MkdirAll(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"secret", "outside/secret"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(tr.dir), name), []byte(secret), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"link-up":       "../secret",
		"link-absolute": filepath.Join(outside, "secret"),
		"link-dir":      "../outside",
		"link-chain":    "dir/link",
		"dir/link":      "../../outside/secret",
		"link-loop":     "link-loop",
		"link-back":     "../origin/file", // out and in again
		"link-proc":     "/proc/self/environ",
		"link-inside":   "dir/file",
	} {
		if err := os.Symlink(target, filepath.Join(tr.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(tr.dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(tr.dir, "socket"))
	if err != nil {
		testcaddy.Missing(t, "no socket can be made: "+err.Error())
	}
	t.Cleanup(func() { socket.Close() })
	return tr
}

// raw sends bytes as they are and returns what comes back, a response if it
// is one.
func raw(srv *testcaddy.Server, request string) (resp *http.Response, body []byte, err error) {
	c, err := net.Dial("tcp", srv.Addr)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(15 * time.Second))
	go io.WriteString(c, request) // the answer may come before its end
	method, _, _ := strings.Cut(request, " ")
	resp, err = http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp, body, err
}

// Paths and header fields that no client sends by accident are answered, with
// nothing that is not in the tree, and disturb nobody.
func TestHostile(t *testing.T) {
	tr := trap(t)
	browse := t.TempDir()
	srv := testcaddy.Start(t, site("path "+t.TempDir(),
		mount("/a", tr.dir, "ttl 1h;timeout 3s;hide .git *.tmp dir/hidden"),
		mount("/browse", tr.dir, "ttl 1h;timeout 3s;browse"),
		mount("/empty", browse, "ttl 1h;timeout 3s")))
	srv.WaitReady(t)
	for name, data := range map[string]string{".git/config": secret, "x.tmp": secret, "dir/hidden/file": secret} {
		path := filepath.Join(tr.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	get := func(path string, header ...string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: " + srv.Addr + "\r\nConnection: close\r\n" + strings.Join(append(header, ""), "\r\n") + "\r\n"
	}
	method := func(m string) string { return strings.Replace(get("/a/file"), "GET", m, 1) }
	outside := []int{404, 200} // of any mount: an empty answer is Caddy's
	many := func(n int, f string) string { return strings.TrimSuffix(strings.Repeat(f+",", n), ",") }

	for _, tt := range []struct {
		name, request string
		want          []int
	}{
		{"it works", get("/a/file"), []int{200}},
		{"a link inside", get("/a/link-inside"), []int{200}},

		{"dots", get("/a/../secret"), outside},
		{"dots in the middle", get("/a/dir/../../secret"), outside},
		{"dots encoded", get("/a/%2e%2e/secret"), outside},
		{"slash encoded", get("/a/..%2fsecret"), outside},
		{"all encoded", get("/a/%2e%2e%2fsecret"), outside},
		{"encoded twice", get("/a/%252e%252e%252fsecret"), []int{404}},
		{"dots without end", get("/a" + strings.Repeat("/..", 5000) + "/secret"), outside},
		{"dots to the same mount", get("/a/../a/dir/../file"), []int{200}},
		{"dots and backslash", get(`/a/..\secret`), []int{404}},
		{"four dots", get("/a/..../secret"), []int{404}},
		{"dots overlong in UTF-8", get("/a/%c0%ae%c0%ae/secret"), []int{404}},
		{"dots in full width", get("/a/%ef%bc%8e%ef%bc%8e/secret"), []int{404}},
		{"absolute", get("/a//etc/passwd"), []int{404}},
		{"absolute, encoded", get("/a/%2fetc%2fpasswd"), []int{404}},
		{"an absolute URL inside", get(srv.URL + "/a/file"), []int{200}},
		{"an absolute URL", get(srv.URL + "/a/../secret"), outside},
		{"parameters", get("/a/..;/secret"), []int{404}},
		{"a link up", get("/a/link-up"), []int{404}},
		{"an absolute link", get("/a/link-absolute"), []int{404}},
		{"a link to a directory", get("/a/link-dir/secret"), []int{404}},
		{"a link to a directory itself", get("/a/link-dir/"), []int{404}},
		{"a listing of it", get("/browse/link-dir/"), []int{404}},
		{"a chain of links", get("/a/link-chain"), []int{404}},
		{"a loop of links", get("/a/link-loop"), []int{404}},
		{"a link out and in", get("/a/link-back"), []int{404}},
		{"a link to proc", get("/a/link-proc"), []int{404}},
		{"a FIFO", get("/a/fifo"), []int{404}},
		{"a FIFO as directory", get("/a/fifo/"), []int{404}},
		{"a socket", get("/a/socket"), []int{404}},
		{"a listing", get("/browse/"), []int{200}},

		{"hidden", get("/a/.git/config"), []int{404}},
		{"hidden, encoded", get("/a/%2egit/config"), []int{404}},
		{"hidden, with dots", get("/a/dir/../.git/config"), []int{404}},
		{"hidden, with slashes", get("/a//.git//config"), []int{404}},
		{"hidden, with a dot", get("/a/./.git/./config"), []int{404}},
		{"hidden by pattern", get("/a/x%2etmp"), []int{404}},
		{"hidden path", get("/a/dir/hidden/file"), []int{404}},
		{"hidden path, with slashes", get("/a/dir//hidden/file"), []int{404}},

		{"NUL", get("/a/file%00"), []int{400}},
		{"NUL and a path", get("/a/file%00/../secret"), []int{400}},
		{"line feed", get("/a/file%0d%0aSet-Cookie:%20x"), []int{400}},
		{"DEL", get("/a/%7f"), []int{400}},
		{"broken encoding", get("/a/%zz"), []int{400}},
		{"half an encoding", get("/a/%2"), []int{400}},
		{"a file as directory", get("/a/file/x"), []int{404}},
		{"a file with a slash", get("/a/file/"), []int{308, 404}},
		{"slashes in front", get("//a/dir"), []int{308}},
		{"another host in front", get("//evil.example/..//a/dir"), []int{200, 404, 308}},
		{"a name too long", get("/a/" + strings.Repeat("x", 256)), []int{404}},
		{"a path too long", get("/a" + strings.Repeat("/"+strings.Repeat("x", 200), 100)), []int{404}},
		{"a very deep path", get("/a" + strings.Repeat("/x", 8000)), []int{404}},
		{"a header too long", get("/a/file", "X: "+strings.Repeat("x", 2<<20)), []int{431}},
		{"a URL too long", get("/a/" + strings.Repeat("x", 2<<20)), []int{431}},
		{"many fields", get("/a/file", strings.Repeat("X: y\r\n", 20_000)+"Z: z"), []int{200, 431}},

		{"no range", get("/a/large", "Range: nonsense"), []int{416, 200}},
		{"another unit", get("/a/large", "Range: lines=1-2"), []int{416, 200}},
		{"an empty range", get("/a/large", "Range: bytes="), []int{416, 200}},
		{"a range turned over", get("/a/large", "Range: bytes=5-1"), []int{416, 200}},
		{"a range of letters", get("/a/large", "Range: bytes=a-b"), []int{416, 200}},
		{"a range behind the end", get("/a/large", "Range: bytes=300000-"), []int{416}},
		{"the last byte", get("/a/large", "Range: bytes=299999-"), []int{206}},
		{"a range far behind", get("/a/large", "Range: bytes=9223372036854775807-"), []int{416}},
		{"a range beyond numbers", get("/a/large", "Range: bytes=0-99999999999999999999"), []int{206, 416, 200}},
		{"a start beyond numbers", get("/a/large", "Range: bytes=99999999999999999999-"), []int{416, 200}},
		{"a negative range", get("/a/large", "Range: bytes=--1"), []int{416, 200}},
		{"the last none", get("/a/large", "Range: bytes=-0"), []int{416, 200, 206}},
		{"more than all", get("/a/large", "Range: bytes=-999999"), []int{206, 200}},
		{"all, many times", get("/a/large", "Range: bytes="+many(900, "0-")), []int{200, 206, 416}},
		{"bytes, ten thousand", get("/a/large", "Range: bytes="+many(10_000, "7-7")), []int{200, 206, 416, 431}},
		{"ranges in two fields", get("/a/large", "Range: bytes=0-1", "Range: bytes=5-6"), []int{206, 416, 200}},
		{"If-Range nonsense", get("/a/large", "Range: bytes=0-1", "If-Range: nonsense"), []int{200}},
		{"If-Range weak", get("/a/large", "Range: bytes=0-1", `If-Range: W/"x"`), []int{200}},
		{"If-None-Match all", get("/a/large", "If-None-Match: *"), []int{304}},
		{"If-None-Match many", get("/a/large", "If-None-Match: "+many(20_000, `"x"`)), []int{200, 431}},
		{"If-None-Match open", get("/a/large", `If-None-Match: "x`), []int{200}},
		{"If-Match none", get("/a/large", `If-Match: "x"`), []int{412}},
		{"a future date", get("/a/large", "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT"), []int{304}},
		{"a broken date", get("/a/large", "If-Modified-Since: yesterday"), []int{200}},
		{"an early date", get("/a/large", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"), []int{412}},
		{"an encoding of nothing", get("/a/file", "Accept-Encoding: "+many(5000, "gzip;q=0")), []int{200, 431}},

		{"POST", method("POST"), []int{405}},
		{"PUT", method("PUT"), []int{405}},
		{"DELETE", method("DELETE"), []int{405}},
		{"OPTIONS", method("OPTIONS"), []int{405}},
		{"TRACE", method("TRACE"), []int{405}},
		{"PROPFIND", method("PROPFIND"), []int{405}},
		{"small letters", method("get"), []int{405, 400}},
		{"a method of its own", method("GETTY"), []int{405}},
		{"HEAD", method("HEAD"), []int{200}},
		{"a body", get("/a/file", "Content-Length: 4") + "body", []int{200}},
		{"a body that does not come", get("/a/file", "Content-Length: 40"), []int{200}},
		{"a body of two lengths", get("/a/file", "Content-Length: 4", "Content-Length: 5") + "body", []int{400}},
		{"a length and chunks", get("/a/file", "Content-Length: 4", "Transfer-Encoding: chunked") + "0\r\n\r\n", []int{200, 400}},
		{"expecting", get("/a/file", "Expect: 100-continue", "Content-Length: 4"), []int{200, 417}},
		{"upgrading", get("/a/file", "Upgrade: websocket", "Connection: Upgrade"), []int{200}},
		{"HTTP/1.0", "GET /a/file HTTP/1.0\r\nHost: " + srv.Addr + "\r\n\r\n", []int{200}},
		{"HTTP/9", "GET /a/file HTTP/9.0\r\nHost: " + srv.Addr + "\r\n\r\n", []int{400, 505}},
		{"no host", "GET /a/file HTTP/1.1\r\n\r\n", []int{400}},
		{"two hosts", get("/a/file", "Host: i"), []int{400}},
		{"no path", "GET  HTTP/1.1\r\nHost: " + srv.Addr + "\r\n\r\n", []int{400}},
		{"no slash", "GET a/file HTTP/1.1\r\nHost: " + srv.Addr + "\r\n\r\n", []int{400}},
		{"a star", "OPTIONS * HTTP/1.1\r\nHost: " + srv.Addr + "\r\nConnection: close\r\n\r\n", []int{200, 400, 405}},
		{"a field with NUL", get("/a/file", "X: a\x00b"), []int{400}},
		{"a folded field", get("/a/file", "X: a\r\n b"), []int{200, 400}},
		{"a mount without its tree", get("/empty/file"), []int{503}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // the second time it is known
				resp, body, err := raw(srv, tt.request)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(tt.want, resp.StatusCode) {
					t.Errorf("status %d, want %d", resp.StatusCode, tt.want)
				}
				if bytes.Contains(body, []byte(secret)) || bytes.Contains(body, []byte("PATH=")) {
					t.Errorf("it answers with what it must not: %.200q", body)
				}
				if slices.Equal(tt.want, outside) && len(body) > 0 {
					t.Errorf("it answers with %.200q", body)
				}
				if resp.Header.Get("Set-Cookie") != "" {
					t.Errorf("the client has set a field: %v", resp.Header)
				}
				if loc := resp.Header.Get("Location"); strings.HasPrefix(loc, "//") || strings.Contains(loc, ":") {
					t.Errorf("it sends the client elsewhere: %s", loc)
				}
				if resp.StatusCode == http.StatusMethodNotAllowed && resp.Header.Get("Allow") != "GET, HEAD" {
					t.Errorf("Allow: %q", resp.Header.Get("Allow"))
				}
				// Amplification: many ranges get no more than the whole.
				if len(body) > 310_000 {
					t.Errorf("%d bytes of body", len(body))
				}
			}
		})
	}
	mustGet(t, srv, "/a", tr, "file")
}

// FuzzPath asks for any path, raw: whatever it is, the answer is one, is no
// failure of the server, and has nothing that is not in the tree.
func FuzzPath(f *testing.F) {
	for _, path := range []string{
		"", "/", "file", "large", "dir", "dir/", "dir/file", "../secret", "%2e%2e/secret", "..%2fsecret", "dir/../../secret",
		"file%00", "%", "%zz", "%ff%fe", "link-up", "link-dir/secret", "link-loop/x", "fifo", "socket/", "link-inside",
		"//file", "./file", "file/", "file/.", "file/..", "?x=y", "file?../secret", "file#x", "~", "*", "a b", "a\tb", "\x00", "é", "%C3%A9",
		"dir%2ffile", "dir%5cfile", "..;/secret", "con", "\\\\host\\share", strings.Repeat("x/", 200), strings.Repeat("y", 300),
	} {
		f.Add(path)
	}
	tr := trap(f)
	srv := testcaddy.Start(f, site("path "+f.TempDir()+";max_size 32MiB", mount("/a", tr.dir, "ttl 1h;timeout 5s")))
	srv.WaitReady(f)
	mustGet(f, srv, "/a", tr, "file")
	f.Fuzz(func(t *testing.T, path string) {
		// An end of the line would make it another request.
		if strings.ContainsAny(path, "\r\n") {
			t.Skip()
		}
		// Of what it cannot parse, net/http does not read the rest: its refusal
		// may be lost on its way.
		resp, body, err := raw(srv, "GET /a/"+path+" HTTP/1.1\r\nHost: "+srv.Addr+"\r\nConnection: close\r\n\r\n")
		if errors.Is(err, syscall.ECONNRESET) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case resp.StatusCode >= 500 && resp.StatusCode != http.StatusHTTPVersionNotSupported:
			t.Errorf("status %d", resp.StatusCode)
		case bytes.Contains(body, []byte(secret)):
			t.Errorf("it answers with what it must not: %.200q", body)
		case resp.StatusCode == http.StatusOK && len(body) > 0:
			if !slices.ContainsFunc(tr.names(), func(name string) bool {
				return bytes.Equal(body, tr.newest(name).bytes())
			}) {
				t.Errorf("the answer is no file of the tree: %.200q", body)
			}
		}
	})
}
