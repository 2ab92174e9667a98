package check

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/repotest"
)

// serve serves a tree as a plain web server does, with what wrap makes of it.
func serve(t *testing.T, s *site, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	h := http.FileServer(http.Dir(s.dir))
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

// run checks a host, and returns the faults, each as "kind aspect path".
func run(t *testing.T, o Options) (*Report, []string) {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range r.Mounts {
		if m.OK != (len(m.Faults) == 0) {
			t.Errorf("%s: ok %t with %d faults", m.Mount, m.OK, len(m.Faults))
		}
		for _, f := range m.Faults {
			found = append(found, fmt.Sprintf("%s %s %s", m.Kind, f.Aspect, f.URL))
		}
	}
	return r, found
}

func text(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// cached is the handler of a mirror with a cache: the first answer is from the origin, and
// those that follow are not.
func cached(next http.Handler) http.Handler {
	var mu sync.Mutex
	known := map[string]bool{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		hit := known[r.URL.Path]
		known[r.URL.Path] = true
		mu.Unlock()
		w.Header().Set("Cache-Status", "mirror; fwd=uri-miss; fwd-status=200; stored")
		if hit {
			w.Header().Set("Cache-Status", "mirror; hit")
		}
		next.ServeHTTP(w, r)
	})
}

// tagged gives files an ETag, which [http.ServeContent] heeds.
func tagged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"`+sum256(r.URL.Path)[:8]+`"`)
		next.ServeHTTP(w, r)
	})
}

func both(next http.Handler) http.Handler { return cached(tagged(next)) }

// TestHealthy checks that no fault is found with what has none.
func TestHealthy(t *testing.T) {
	s := newSite(t)
	for name, wrap := range map[string]func(http.Handler) http.Handler{"plain": nil, "cached": cached, "tagged": tagged, "both": both} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, all %t", name, all), func(t *testing.T) {
				o := Options{URL: serve(t, s, wrap), Mounts: mounts, All: all, Sample: 3, MaxAge: 2 * time.Hour, Keyring: ring(t, s.key)}
				r, found := run(t, o)
				if len(found) > 0 || !r.OK || r.Faulty() != "" {
					t.Errorf("%q\n%s", found, text(t, r))
				}
				for _, m := range r.Mounts {
					if m.Files == 0 || m.Bytes == 0 || m.Listed == 0 {
						t.Errorf("%s: %d files of %d, %d bytes", m.Mount, m.Files, m.Listed, m.Bytes)
					}
				}
			})
		}
	}
	// A host whose mounts are below a path, one distribution that is flat, and one file.
	s.put("flat/hello.deb", s.get(debName))
	deb := s.get("flat/hello.deb")
	list := fmt.Sprintf("Package: hello\nFilename: hello.deb\nSize: %d\nSHA256: %s\n\n", len(deb), sum256(deb))
	s.put("flat/Packages", list)
	s.put("flat/Release", fmt.Sprintf("SHA256:\n %s %d Packages\n", sum256(list), len(list)))
	o := Options{URL: serve(t, s, func(next http.Handler) http.Handler { return http.StripPrefix("/below/it", next) }) + "/below/it", Mounts: []Mount{
		{Kind: Apt, Path: "/flat", Names: []string{"./"}},
		{Kind: Apt, Path: "/ubuntu", Names: []string{"jammy"}},
		{Kind: Wheel, Path: "/wheel", Names: []string{"debian-12-aarch64"}},
		{Kind: Wheel, Path: "/wheel/ubuntu-22.04-x86_64"},
		{Kind: Files, Path: "/tarballs/README"},
	}}
	r, found := run(t, o)
	if len(found) > 0 {
		t.Errorf("%q\n%s", found, text(t, r))
	}
}

// TestUnfinished: a page that is not cached since the mirror still makes it is no fault.
func TestUnfinished(t *testing.T) {
	s := newSite(t)
	unfinished := answered("/simple/one/", changed(func(h http.Header, _ *http.Request) {
		h.Set("Cache-Status", "mirror; fwd=bypass; detail=unfinished")
	}))
	r, found := run(t, Options{URL: serve(t, s, func(next http.Handler) http.Handler { return unfinished(cached(next)) }), Mounts: mounts[:1], All: true})
	if out := text(t, r); len(found) > 0 || !strings.Contains(out, "not cached until all that it lists is read") {
		t.Errorf("%q\n%s", found, out)
	}
}

// TestWheelsByInitial: the directory of a platform may list directories by the first
// character of the projects, whose pages are beside them all the same, as at OpenDev.
func TestWheelsByInitial(t *testing.T) {
	s := &site{t: t, dir: t.TempDir()}
	const dir = "wheel/ubuntu-22.04-x86_64/"
	s.put(dir+"index.html", page(`<a href="t/">t/</a> <a href="q/">q/</a>`))
	s.put(dir+"t/index.html", page(`<a href="../">up</a> <a href="two/">two/</a> <a href="three/">three/</a>`))
	for _, project := range []string{"two", "three", "q"} {
		file, whl := project+"-1.0-py3-none-any.whl", random(project, 5000)
		s.put(dir+project+"/index.html", page(fmt.Sprintf(`<a href="%s#sha256=%s">x</a>`, file, sum256(whl))))
		s.put(dir+project+"/"+file, whl)
	}
	for _, all := range []bool{false, true} {
		o := Options{URL: serve(t, s, nil), Mounts: []Mount{{Kind: Wheel, Path: "/wheel"}}, All: all}
		r, found := run(t, o)
		if len(found) > 0 || r.Mounts[0].Listed != 3 {
			t.Errorf("%d listed: %q\n%s", r.Mounts[0].Listed, found, text(t, r))
		}
	}
	s.flip(dir + "two/two-1.0-py3-none-any.whl")
	s.flip(dir + "q/q-1.0-py3-none-any.whl")
	_, found := run(t, Options{URL: serve(t, s, nil), Mounts: []Mount{{Kind: Wheel, Path: "/wheel"}}})
	if len(found) != 2 {
		t.Errorf("two files were flipped, and it says %q", found)
	}
}

// answered makes some requests be answered by f.
func answered(match string, f func(w http.ResponseWriter, r *http.Request, next http.Handler)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		next = both(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, match) {
				f(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// without has a request answered as if it had not these fields.
func without(names ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		for _, name := range names {
			r.Header.Del(name)
		}
		next.ServeHTTP(w, r)
	}
}

func withStatus(code int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(code) }
}

// changed has the header of an answer changed before it is sent.
func changed(f func(h http.Header, r *http.Request)) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&headerWriter{ResponseWriter: w, change: func(h http.Header) { f(h, r) }}, r)
	}
}

// negotiated has a page of a project answered with JSON, or HTML, by Accept, and these for Vary.
func negotiated(ofJSON, ofHTML string) func(http.Handler) http.Handler {
	vary := func(h http.Header, value string) {
		if value != "" {
			h.Set("Vary", value)
		}
	}
	return answered("/simple/one/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.Header.Get("Accept"), "json") {
			vary(w.Header(), ofHTML)
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Status", "mirror; hit")
		w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
		vary(w.Header(), ofJSON)
		io.WriteString(w, `{"meta":{"api-version":"1.0"},"name":"one","files":[]}`)
	})
}

type headerWriter struct {
	http.ResponseWriter
	change func(http.Header)
	done   bool
}

func (w *headerWriter) WriteHeader(code int) {
	if !w.done {
		w.done = true
		w.change(w.Header())
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *headerWriter) Write(b []byte) (int, error) {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// TestBroken has one fault each in a host, and checks that this one is found, and no other.
func TestBroken(t *testing.T) {
	t.Parallel()
	const one, deb, rpm = "/" + oneName, "/" + debName, "/" + rpmName
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	hang := func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		select {
		case <-r.Context().Done():
		case <-never:
		}
	}
	endless := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "text/html")
		blanks := []byte(strings.Repeat(" ", 1<<20))
		for {
			if _, err := w.Write(blanks); err != nil {
				return
			}
		}
	}
	trickle := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Length", "20000")
		for r.Context().Err() == nil {
			_, err := io.WriteString(w, "x")
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
			if err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for _, test := range []struct {
		name   string
		site   func(s *site)
		wrap   func(http.Handler) http.Handler
		want   string // the only fault
		reason string
	}{
		{"nothing", nil, nil, "", ""},
		// Files.
		{"a byte of a wheel", func(s *site) { s.flip(oneName) }, nil, "pypi file " + one, "its sha256 is"},
		{"a byte of a package", func(s *site) { s.flip(debName) }, nil, "apt file " + deb, "its sha256 is"},
		{"a byte of an rpm", func(s *site) { s.flip(rpmName) }, nil, "rpm file " + rpm, "its sha256 is"},
		{"a byte of a wheel of a platform", func(s *site) { s.flip("wheel/debian-12-aarch64/three/three-1.0-cp311-cp311-linux_x86_64.whl") }, nil, "wheel file /wheel/debian-12-aarch64/three/three-1.0-cp311-cp311-linux_x86_64.whl", "its sha256 is"},
		{"a longer package", func(s *site) { s.put(debName, s.get(debName)+"x") }, nil, "apt file " + deb, "has 12001 bytes"},
		{"a shorter rpm", func(s *site) { s.put(rpmName, "x") }, nil, "rpm file " + rpm, "has 1 bytes"},
		{"a file of the wrong size in a listing", nil, answered("/tarballs/", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			io.WriteString(w, `[{"name":"README","size":9,"url":"./README","is_dir":false}]`)
		}), "files file /tarballs/README", "has 8 bytes, the listing says 9"},
		{"no wheel", func(s *site) { s.rm(oneName) }, nil, "pypi file " + one, "404"},
		{"no package", func(s *site) { s.rm(debName) }, nil, "apt file " + deb, "404"},
		{"an error for a file", nil, answered(one, withStatus(502)), "pypi file " + one, "502"},
		{"an empty 200 for a file", nil, answered(deb, withStatus(200)), "apt file " + deb, "has 0 bytes"},
		{"an empty 200 for a wheel", nil, answered(one, withStatus(200)), "pypi file " + one, "is empty"},
		{"a file that hangs", nil, answered(one, hang), "pypi file " + one, "no answer within"},
		{"a trickle", nil, answered(one, trickle), "pypi file " + one, "KiB/s"},
		{"a file without an end", nil, answered(rpm, endless), "rpm file " + rpm, "has more than 7000 bytes"},
		{"a file that is cut off", nil, answered(deb, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Length", "12000")
			io.WriteString(w, "x")
		}), "apt file " + deb, "is cut off after 1 bytes"},
		{"a loop of redirects", nil, answered(one, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, r.URL.Path+"?"+strconv.Itoa(len(r.URL.RawQuery))+"x", http.StatusFound)
		}), "pypi file " + one, "redirects more than 5 times"},
		{"a redirect elsewhere", nil, answered(one, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, "http://192.0.2.1/x", http.StatusFound)
		}), "pypi file " + one, "redirects elsewhere"},
		{"other bytes the second time", nil, func(next http.Handler) http.Handler {
			n := 0
			return answered(one, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if n++; n > 1 {
					w.Header().Set("Cache-Status", "mirror; hit")
					io.WriteString(w, strings.Repeat("x", 20000))
					return
				}
				next.ServeHTTP(w, r)
			})(next)
		}, "pypi file " + one, "other bytes when it is asked for again"},
		// Metadata of wheels.
		{"no metadata", func(s *site) { s.rm(oneName + ".metadata") }, nil, "pypi metadata " + one + ".metadata", "404"},
		{"other metadata", func(s *site) { s.flip(oneName + ".metadata") }, nil, "pypi metadata " + one + ".metadata", "its sha256 is"},
		// Ranges.
		{"ranges not heeded", nil, answered(one, without("Range")), "pypi range " + one, "200 OK to Range"},
		{"ranges of a package not heeded", nil, answered(deb, without("Range")), "apt range " + deb, "200 OK to Range"},
		{"wrong bytes of a range", nil, answered(one, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("Range") == "" {
				next.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			maps.Copy(w.Header(), rec.Header())
			w.WriteHeader(rec.Code)
			b := rec.Body.Bytes()
			if len(b) > 0 {
				b[0] ^= 1
			}
			w.Write(b)
		}), "pypi range " + one, "has other bytes"},
		{"a wrong Content-Range", nil, answered(rpm, changed(func(h http.Header, _ *http.Request) {
			if cr := h.Get("Content-Range"); cr != "" {
				h.Set("Content-Range", strings.TrimSuffix(cr, "7000")+"7001")
			}
		})), "rpm range " + rpm, "Content-Range"},
		{"another ETag for a part", nil, answered(one, changed(func(h http.Header, r *http.Request) {
			if r.Header.Get("Range") != "" {
				h.Set("Etag", `"part"`)
			}
		})), "pypi range " + one, "and had"},
		{"no 416", nil, answered(one, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("Range") == "bytes=20000-" {
				r.Header.Del("Range")
			}
			next.ServeHTTP(w, r)
		}), "pypi range " + one, "it should be 416"},
		{"If-Range not heeded", nil, answered(one, without("If-Range")), "pypi range " + one, "If-Range"},
		// Conditional requests.
		{"If-None-Match not heeded", nil, answered(one, without("If-None-Match")), "pypi condition " + one, "If-None-Match"},
		{"If-Modified-Since not heeded", nil, answered(one, without("If-Modified-Since")), "pypi condition " + one, "If-Modified-Since"},
		{"always 304", nil, answered(deb, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			next.ServeHTTP(w, r)
		}), "apt condition " + deb, noSuchTag},
		{"304 for an older date", nil, answered(deb, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("If-Modified-Since") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			next.ServeHTTP(w, r)
		}), "apt condition " + deb, "If-Modified-Since"},
		{"an index that ignores conditions", nil, answered("/InRelease", without("If-None-Match")), "apt condition /" + inline, "If-None-Match"},
		// Validators.
		{"an ETag that changes", nil, func(next http.Handler) http.Handler {
			n := 0
			return answered(one, changed(func(h http.Header, _ *http.Request) { n++; h.Set("Etag", fmt.Sprintf(`"%d"`, n)) }))(next)
		}, "pypi validator " + one, "ETag"},
		{"no validators", nil, answered(rpm, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			for _, name := range []string{"If-Range", "If-None-Match", "If-Modified-Since"} {
				r.Header.Del(name)
			}
			changed(func(h http.Header, _ *http.Request) { h.Del("Etag"); h.Del("Last-Modified") })(w, r, next)
		}), "rpm validator " + rpm, "neither"},
		// HEAD.
		{"no HEAD", nil, answered(one, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			next.ServeHTTP(w, r)
		}), "pypi head " + one, "405"},
		{"HEAD tells another length", nil, answered(one, changed(func(h http.Header, r *http.Request) {
			if r.Method == http.MethodHead {
				h.Set("Content-Length", "1")
			}
		})), "pypi head " + one, "Content-Length 1"},
		{"HEAD tells another ETag", nil, answered(deb, changed(func(h http.Header, r *http.Request) {
			if r.Method == http.MethodHead {
				h.Set("Etag", `"other"`)
			}
		})), "apt head " + deb, "ETag"},
		// The cache.
		{"never a hit", nil, answered(one, changed(func(h http.Header, _ *http.Request) {
			h.Set("Cache-Status", "mirror; fwd=uri-miss; fwd-status=200; stored")
		})), "pypi cache " + one, "does not come from the cache"},
		{"past the cache", nil, answered(deb, changed(func(h http.Header, _ *http.Request) { h.Set("Cache-Status", "mirror; fwd=bypass") })), "apt cache " + deb, "bypass"},
		{"a hit of another cache", nil, answered(one, changed(func(h http.Header, _ *http.Request) {
			h.Set("Cache-Status", `mirror; fwd=uri-miss, other; hit, "a, mirror; hit"; hit`)
		})), "pypi cache " + one, "does not come from the cache"},
		// Indexes.
		{"no list of projects", func(s *site) { s.rm("pypi/simple/index.html"); s.rm("pypi/simple") }, nil, "pypi index /pypi/simple/", "404"},
		{"no page", func(s *site) { s.rm("pypi/simple/one") }, nil, "pypi index /pypi/simple/one/", "404"},
		{"a page cut off", func(s *site) { s.edit(onePage, "</body></html>\n", "") }, nil, "pypi index /pypi/simple/one/", "is cut off"},
		{"garbage for a page", nil, answered("/simple/one/", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
			io.WriteString(w, "garbage")
		}), "pypi index /pypi/simple/one/", "can not be read"},
		{"a page of another type", nil, answered("/simple/one/", changed(func(h http.Header, _ *http.Request) { h.Set("Content-Type", "application/octet-stream") })), "pypi index /pypi/simple/one/", "which pip does not take"},
		{"JSON for old pips", func(s *site) {}, answered("/simple/one/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
			w.Header().Set("Cache-Status", "mirror; hit")
			io.WriteString(w, `{"meta":{"api-version":"1.0"},"name":"one","files":[]}`)
		}), "pypi index /pypi/simple/one/", "though text/html was asked for"},
		{"an empty 200 for a page", nil, answered("/simple/one/", withStatus(200)), "pypi index /pypi/simple/one/", "is empty"},
		{"a page without an end", nil, answered("/simple/one/", endless), "pypi index /pypi/simple/one/", "is larger than 256 MiB"},
		{"a page that links elsewhere", func(s *site) { s.edit(onePage, "../../packages/aa", "https://files.example.org/aa") }, nil, "pypi index /pypi/simple/one/", "is not at this host"},
		{"a page that links to no address", func(s *site) { s.edit(onePage, "../../packages/aa/", "http://[::1/") }, nil, "pypi index /pypi/simple/one/", "no address"},
		{"no platform", func(s *site) { s.rm("wheel") }, nil, "wheel index /wheel/", "which platforms"},
		{"no InRelease", func(s *site) { s.rm(inline) }, nil, "apt index /ubuntu/dists/jammy/Release", "and so is InRelease"},
		{"garbage for an InRelease", func(s *site) { s.put(inline, "garbage") }, nil, "apt index /" + inline, "is not signed"},
		{"an InRelease cut off", func(s *site) { s.put(inline, s.get(inline)[:300]) }, nil, "apt index /" + inline, "not a signed message as a whole"},
		{"an empty 200 for an InRelease", nil, answered("/InRelease", withStatus(200)), "apt index /" + inline, "is empty"},
		{"an error for an InRelease", nil, answered("/InRelease", withStatus(503)), "apt index /" + inline, "503"},
		{"a byte of a list of packages", func(s *site) { s.flip(packages + ".gz") }, nil, "apt index /" + packages + ".gz", "its sha256 is"},
		{"no list of packages", func(s *site) { s.rm(packages); s.rm(packages + ".gz") }, nil, "apt index /" + packages, "is missing in all forms"},
		{"a byte of another index", func(s *site) { s.flip("ubuntu/dists/jammy/main/i18n/Translation-en") }, nil, "apt index /ubuntu/dists/jammy/main/i18n/Translation-en", "its sha256 is"},
		{"a list of packages that leads out", func(s *site) {
			s.edit(packages, "pool/main/h/", "pool/../../etc/")
			s.put(packages+".gz", s.get(packages)) // no such form
			s.release("")
		}, nil, "apt index /" + packages, "leads out of the repository"},
		{"no repomd.xml", func(s *site) { s.rm(repomd) }, nil, "rpm index /" + repomd, "404"},
		{"a repomd.xml cut off", func(s *site) {
			text := s.get(repomd)
			s.put(repomd, text[:len(text)-9])
			s.put(repomd+".asc", s.detached(text[:len(text)-9]))
		}, nil, "rpm index /" + repomd, "is cut off"},
		{"a byte of a list of rpms", func(s *site) { s.flip(primary) }, nil, "rpm index /" + primary, "its sha256 is"},
		{"no other metadata", func(s *site) { s.rm("epel/9/Everything/x86_64/repodata/filelists.xml.gz") }, nil, "rpm index /epel/9/Everything/x86_64/repodata/filelists.xml.gz", "404"},
		{"a list of rpms that leads out", func(s *site) { s.primary("../../../../../../etc/passwd", 1, sum256("x")) }, nil, "rpm index /" + primary, "leads out"},
		{"no listing", nil, answered("/tarballs/", withStatus(403)), "files index /tarballs/", "403"},
		{"an empty directory", nil, answered("/tarballs/", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, page(`<a href="../">up</a><a href="?sort=name">name</a>`))
		}), "files index /tarballs/", "lists no files"},
		{"JSON or HTML, and no Vary", nil, negotiated("", ""), "pypi index /pypi/simple/one/", "Vary: Accept"},
		{"JSON or HTML, which vary by something else", nil, negotiated("Accept-Encoding, Accept-Language", "Accept-Encoding"), "pypi index /pypi/simple/one/", "Vary: Accept"},
		{"JSON without Vary, or HTML with it", nil, negotiated("", "Accept"), "pypi index /pypi/simple/one/", "Vary: Accept"},
		{"HTML without Vary, or JSON with it", nil, negotiated("accept-encoding,accept", ""), "pypi index /pypi/simple/one/", "Vary: Accept"},
		{"an empty 200 for what is not there", nil, func(next http.Handler) http.Handler {
			next = both(next)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/ubuntu/caddy") {
					next.ServeHTTP(w, r)
				}
			})
		}, "apt absent /ubuntu/", "it should be 404"},
		{"a server that breaks where something is not there", nil, func(next http.Handler) http.Handler {
			next = both(next)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/pypi/simple/caddy") {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				next.ServeHTTP(w, r)
			})
		}, "pypi absent /pypi/", "status 500"},
		// Signatures and dates.
		{"a signature of another key", func(s *site) { s.key = newKey(s.t); s.release("") }, nil, "apt signature /" + inline, "no key of test.gpg"},
		{"text that was changed", func(s *site) { s.edit(inline, "Origin: Test", "Origin: Evil") }, nil, "apt signature /" + inline, "has no good signature"},
		{"no signature of a repomd.xml", func(s *site) { s.rm(repomd + ".asc") }, nil, "rpm signature /" + repomd + ".asc", "404"},
		{"a bad signature of a repomd.xml", func(s *site) { s.put(repomd+".asc", s.detached("x")) }, nil, "rpm signature /" + repomd + ".asc", "has no good signature"},
		{"expired", func(s *site) { s.last = time.Now().Add(-time.Minute); s.release("") }, nil, "apt date /" + inline, "has expired"},
		{"of the future", func(s *site) { s.date = time.Now().Add(20 * time.Minute); s.release("") }, nil, "apt date /" + inline, "ahead of"},
		// Age.
		{"old data", func(s *site) { s.date = time.Now().Add(-50 * time.Hour); s.release("") }, nil, "apt age /ubuntu/", "may be 48h"},
		{"an old package index", func(s *site) {
			s.put("pypi/last-modified", time.Now().Add(-50*time.Hour).UTC().Format("20060102T15:04:05")+"\n")
		}, nil, "pypi age /pypi/", "may be 48h"},
		{"old data of a repository that was looked at lately", func(s *site) {
			s.date = time.Now().Add(-50 * time.Hour)
			s.rpm()
			s.put("epel/9/Everything/x86_64/timestamp.txt", time.Now().Format("2006-01-02T15:04:05,000000000-07:00")+"\n")
		}, nil, "", ""},
		{"old data of a repository in a tree that was looked at lately", func(s *site) {
			s.date = time.Now().Add(-50 * time.Hour)
			s.rpm()
			s.put("epel/timestamp.txt", time.Now().Format("2006-01-02T15:04:05,000000000-07:00")+"\n")
		}, nil, "", ""},
		{"old data of a repository in a tree that was not looked at lately", func(s *site) {
			s.date = time.Now().Add(-50 * time.Hour)
			s.rpm()
			s.put("epel/timestamp.txt", time.Now().Add(-49*time.Hour).Format("2006-01-02T15:04:05,000000000-07:00")+"\n")
		}, nil, "rpm age /epel/9/Everything/x86_64/", "49h"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			keys := ring(t, s.key)
			if test.site != nil {
				test.site(s)
			}
			wrap := test.wrap
			if wrap == nil {
				wrap = both
			}
			o := Options{URL: serve(t, s, wrap), Mounts: mounts, All: true, MaxAge: 48 * time.Hour, Keyring: keys, Timeout: 2 * time.Second}
			r, found := run(t, o)
			if test.want == "" {
				if len(found) > 0 {
					t.Errorf("%q\n%s", found, text(t, r))
				}
				return
			}
			if len(found) != 1 || found[0] != test.want || !strings.Contains(text(t, r), test.reason) {
				t.Errorf("%q, want %s: ...%s\n%s", found, test.want, test.reason, text(t, r))
			}
			if r.OK || !strings.Contains(r.Faulty(), "1 of 5 mounts") {
				t.Errorf("ok %t, %q", r.OK, r.Faulty())
			}
		})
	}
}

// TestAway checks that a host that is not there is told from one that answers wrong.
func TestAway(t *testing.T) {
	srv := httptest.NewServer(nil)
	srv.Close()
	r, found := run(t, Options{URL: srv.URL, Mounts: mounts})
	if len(found) != len(mounts) {
		t.Errorf("%q", found)
	}
	for _, f := range found {
		if !strings.Contains(f, " reach ") {
			t.Error(f)
		}
	}
	if got := text(t, r); !strings.Contains(got, "connection refused") {
		t.Error(got)
	}
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hang.Close()
	start := time.Now()
	_, found = run(t, Options{URL: hang.URL, Mounts: mounts[:1], Timeout: 300 * time.Millisecond})
	if len(found) != 1 || found[0] != "pypi reach /pypi/simple/" || time.Since(start) > 5*time.Second {
		t.Errorf("%q after %v", found, time.Since(start))
	}
}

// TestIndexForMount: who names the index of pip for the mount is told what to name.
func TestIndexForMount(t *testing.T) {
	o := Options{URL: serve(t, newSite(t), both), Mounts: []Mount{{Kind: PyPI, Path: "/pypi/simple"}}}
	r, found := run(t, o)
	if len(found) != 1 || !strings.Contains(text(t, r), "--pypi /pypi\n") {
		t.Errorf("%q\n%s", found, text(t, r))
	}
}

// TestConnect checks that a host is asked that is not known by its name yet.
func TestConnect(t *testing.T) {
	s := newSite(t)
	at := strings.TrimPrefix(serve(t, s, both), "http://")
	host, port, _ := strings.Cut(at, ":")
	for _, o := range []Options{
		{URL: "http://mirror.region.invalid", Connect: at},
		{URL: "http://mirror.region.invalid:" + port, Connect: host},
	} {
		o.Mounts = mounts[:1]
		if r, found := run(t, o); len(found) > 0 {
			t.Errorf("%s: %q\n%s", o.Connect, found, text(t, r))
		}
	}
}

// TestCancel checks that what was broken off is no report.
func TestCancel(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, s, answered("/InRelease", func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		cancel()
		<-r.Context().Done()
	}))
	if r, err := Run(ctx, Options{URL: url, Mounts: mounts}); err == nil {
		t.Error(text(t, r))
	}
}

// TestReleasedMeanwhile checks that a release between the index and what it lists is not
// taken for a fault.
func TestReleasedMeanwhile(t *testing.T) {
	s := newSite(t)
	var once sync.Once
	url := serve(t, s, answered("/Packages.gz", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		once.Do(func() {
			s.edit(packages, "Version: 1.0", "Version: 1.1")
			s.put(packages+".gz", "") // written anew
			s.apt()
		})
		next.ServeHTTP(w, r)
	}))
	// The plain form is larger, so the packed one is asked for.
	s.put("ubuntu/pool/main/h/hello_1.0_amd64.deb", random("old", 100))
	old := s.get("ubuntu/pool/main/h/hello_1.0_amd64.deb")
	list := fmt.Sprintf("Package: hello\nFilename: pool/main/h/hello_1.0_amd64.deb\nVersion: 1.0\nSize: %d\nSHA256: %s\n%s\n", len(old), sum256(old), strings.Repeat("X: y\n", 100))
	s.put(packages, list)
	s.put(packages+".gz", repotest.Gzip(t, list))
	s.release("")
	if r, found := run(t, Options{URL: url, Mounts: mounts[2:3], All: true}); len(found) > 0 {
		t.Errorf("%q\n%s", found, text(t, r))
	}
}

// TestLarge checks that a large file is not fetched twice to see whether it is in the cache.
func TestLarge(t *testing.T) {
	s := newSite(t)
	const size = 17 << 20
	s.put("tarballs/large.iso", strings.Repeat("0123456789abcdef", size/16))
	o := Options{Mounts: []Mount{{Kind: Files, Path: "/tarballs/large.iso"}}}
	o.URL = serve(t, s, both)
	r, found := run(t, o)
	if len(found) > 0 || r.Mounts[0].Bytes > size+size/4 {
		t.Errorf("%q, %d bytes of %d\n%s", found, r.Mounts[0].Bytes, size, text(t, r))
	}
	o.URL = serve(t, s, answered("/large.iso", changed(func(h http.Header, _ *http.Request) { h.Set("Cache-Status", "mirror; fwd=uri-miss") })))
	if r, found := run(t, o); len(found) != 1 || found[0] != "files cache /tarballs/large.iso" {
		t.Errorf("%q\n%s", found, text(t, r))
	}
	n := 0
	o.URL = serve(t, s, answered("/large.iso", changed(func(h http.Header, _ *http.Request) { n++; h.Set("Etag", fmt.Sprintf(`"%d"`, n)) })))
	if r, found := run(t, o); len(found) != 1 || found[0] != "files validator /tarballs/large.iso" {
		t.Errorf("%q\n%s", found, text(t, r))
	}
}

// TestReport checks what people and machines are told.
func TestReport(t *testing.T) {
	s := newSite(t)
	s.flip(debName)
	r, _ := run(t, Options{URL: serve(t, s, both), Mounts: mounts, All: true})
	var b bytes.Buffer
	if err := r.PrintJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.OK || len(back.Mounts) != len(mounts) || back.Mounts[2].Faults[0].Aspect != File {
		t.Errorf("%v\n%s", err, b.String())
	}
	got := text(t, r)
	for _, want := range []string{"/ubuntu,jammy", "1 fault", "good", "  file: /" + debName + " its sha256 is"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestParseMount(t *testing.T) {
	for _, test := range []struct {
		kind Kind
		text string
		want string // empty: it is refused
	}{
		{PyPI, "/pypi", "/pypi"},
		{PyPI, "/pypi/", "/pypi"},
		{PyPI, "/", "/"},
		{PyPI, "pypi", ""},
		{PyPI, "/pypi,x", ""},
		{Wheel, "/wheel,ubuntu-22.04-x86_64", "/wheel,ubuntu-22.04-x86_64"},
		{Apt, "/ubuntu,jammy,jammy-updates", "/ubuntu,jammy,jammy-updates"},
		{Apt, "/flat,./", "/flat,./"},
		{Apt, "/ubuntu", ""},
		{Apt, "/ubuntu,", ""},
		{Apt, "/ubuntu,../x", ""},
		{Apt, "/ubuntu,/x", ""},
	} {
		m, err := ParseMount(test.kind, test.text)
		if (err == nil) != (test.want != "") || err == nil && m.String() != test.want {
			t.Errorf("%s %s: %s, %v", test.kind, test.text, m, err)
		}
	}
	for text, want := range map[string]string{
		"mirror.example.org": "http://mirror.example.org", "https://x:8443/a/": "https://x:8443/a/",
		"ftp://x": "", "http://": "", "http://:80": "", "http://x/?y": "", "http://x y": "",
	} {
		u, err := ParseURL(text)
		if (err == nil) != (want != "") || err == nil && u.String() != want {
			t.Errorf("%s: %v, %v", text, u, err)
		}
	}
}
