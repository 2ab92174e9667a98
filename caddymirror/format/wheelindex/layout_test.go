package wheelindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/zaptest"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/origin/origintest"
)

func TestPlaceOf(t *testing.T) {
	for dir, want := range map[string]place{
		"simple":                              {root: ".", list: true},
		"simple/foo":                          {root: ".", project: "foo"},
		"Foo_bar":                             {root: ".", project: "foo-bar"},
		"f/foo":                               {root: ".", project: "foo"},
		"F/Foo":                               {root: ".", project: "foo"},
		"f/F.oo":                              {root: ".", project: "f-oo"},
		"ubuntu-22.04-x86_64/simple":          {root: "ubuntu-22.04-x86_64", list: true},
		"ubuntu-22.04-x86_64/foo":             {root: "ubuntu-22.04-x86_64", project: "foo"},
		"debian-12-aarch64/f/foo":             {root: "debian-12-aarch64", project: "foo"},
		"centos-9-stream-x86_64/simple/a.b.c": {root: "centos-9-stream-x86_64", project: "a-b-c"},
		"foo-1.0-py3":                         {root: ".", project: "foo-1-0-py3"},
	} {
		if got, ok := placeOf(dir); !ok || got != want {
			t.Errorf("%s is %+v, %v", dir, got, ok)
		}
	}
	for _, dir := range []string{".", "ubuntu-22.04-x86_64", "f/bar", "f/foo/x", "simple/foo/bar", "_", "a b"} {
		if got, ok := placeOf(dir); ok {
			t.Errorf("%s is %+v", dir, got)
		}
	}
}

// TestLayouts asks for projects as clients of OpenDev's mirrors do, in trees like theirs.
func TestLayouts(t *testing.T) {
	for _, layout := range []string{"flat", "by project", "by character"} {
		for _, top := range []string{"", "ubuntu-22.04-x86_64"} {
			t.Run(layout+" "+top, func(t *testing.T) {
				s := newSite(t, true)
				dirOf := func(spelling string) string {
					switch layout {
					case "flat":
						return top
					case "by project":
						return path.Join(top, spelling)
					}
					return path.Join(top, spelling[:1], spelling)
				}
				// Files by the spelling of their project, as directories of OpenDev have it.
				files := map[string]string{
					"foo": "foo-1.0-py3-none-any.whl", "openstack.nose_plugin": "openstack.nose_plugin-0.11-py2-none-any.whl",
					"backports.ssl": "backports.ssl-3.5-py2-none-any.whl", "a.b.c": "a.b.c-1-py3-none-any.whl", "Upper_Case": "Upper_Case-1-py3-none-any.whl",
				}
				bytes := map[string][]byte{}
				s.release(func() {
					for spelling, name := range files {
						bytes[spelling] = wheelOf(t, spelling, strings.Split(name, "-")[1], "")
						s.put(path.Join(dirOf(spelling), name), bytes[spelling])
					}
					s.put(path.Join("debian-12-aarch64/foo", "foo-9-py3-none-any.whl"), wheelOf(t, "foo", "9", ""))
				})
				s.start().complete()
				for spelling, asked := range map[string][]string{
					"foo":                   {"foo", "Foo"},
					"openstack.nose_plugin": {"openstack-nose-plugin", "openstack.nose_plugin", "openstack.nose-plugin"},
					"backports.ssl":         {"backports-ssl", "backports.ssl"},
					"a.b.c":                 {"a-b-c", "a.b-c", "a.b.c"},
					"Upper_Case":            {"upper-case", "Upper_Case"},
				} {
					for _, project := range asked {
						for _, dir := range []string{path.Join(top, "simple", project), path.Join(top, project)} {
							p := s.page(path.Join(dir, "index.v1_json"))
							if len(p.Files) != 1 || p.Files[0].Filename != files[spelling] || p.Files[0].Hashes["sha256"] != hexSum(bytes[spelling]) {
								t.Errorf("%s: %+v", dir, p)
								continue
							}
							linked := path.Join(dir, p.Files[0].URL)
							if got, err := s.read(linked); err != nil || got != string(bytes[spelling]) {
								t.Errorf("%s links %s: %v", dir, linked, err)
							}
							if _, err := s.read(linked + ".metadata"); err != nil {
								t.Errorf("%s links %s: %v", dir, linked, err)
							}
						}
						// What the rewrites of OpenDev's servers lead to.
						name := path.Join(top, project, files[spelling])
						if got, err := s.read(name); err != nil || got != string(bytes[spelling]) {
							t.Errorf("%s: %v", name, err)
						}
						if _, err := s.read(name + ".metadata"); err != nil {
							t.Errorf("%s.metadata: %v", name, err)
						}
						for _, dir := range []string{path.Join(top, project), path.Join(top, "simple", project)} {
							if info, err := s.x.Stat(context.Background(), dir); err != nil || !info.Dir {
								t.Errorf("%s: %+v, %v", dir, info, err)
							}
							if _, err := s.x.Open(context.Background(), dir, 0); !errors.Is(err, origin.ErrIsDir) {
								t.Errorf("%s: %v", dir, err)
							}
						}
					}
				}
				var names []string
				for _, p := range s.page(path.Join(top, "simple/index.v1_json")).Projects {
					names = append(names, p.Name)
				}
				if want := []string{"a-b-c", "backports-ssl", "foo", "openstack-nose-plugin", "upper-case"}; !slices.Equal(names, want) {
					t.Errorf("projects: %v", names)
				}
				if p := s.page("debian-12-aarch64/simple/foo/index.v1_json"); len(p.Files) != 1 || p.Versions[0] != "9" {
					t.Errorf("the other platform: %+v", p)
				}
				if got := s.list(path.Join(top, "simple")); !slices.Contains(got, "foo/") || !slices.Contains(got, "index.html") {
					t.Errorf("simple has %v", got)
				}
				if got := s.list(cmp.Or(top, ".")); !slices.Contains(got, "simple/") {
					t.Errorf("the index has %v", got)
				}
				if layout != "flat" {
					if got := s.list(path.Join(top, "openstack-nose-plugin")); !slices.Equal(got, []string{files["openstack.nose_plugin"]}) {
						t.Errorf("a project's directory by another spelling has %v", got)
					}
				}
			})
		}
	}
}

func (s *site) list(name string) (names []string) {
	s.Helper()
	for info, err := range s.x.ReadDir(context.Background(), name) {
		if err != nil {
			s.Fatalf("%s: %v", name, err)
		}
		if info.Dir {
			info.Name += "/"
		}
		names = append(names, info.Name)
	}
	return names
}

// TestLinks has links in a tree, in a circle, too.
func TestLinks(t *testing.T) {
	s := newSite(t, true)
	s.release(func() {
		s.putWheel("debian-12-x86_64/f/foo", "foo", "1.0")
		for name, target := range map[string]string{
			"debian-12-x86_64/circle": "..", "debian-12-x86_64/f/bar": "foo", "debian-12.1-x86_64": "debian-12-x86_64",
			"debian-12-x86_64/baz-1.0-py3-none-any.whl": "f/foo/foo-1.0-py3-none-any.whl",
		} {
			must(t, os.Symlink(target, filepath.Join(s.root, name)))
		}
	})
	s.start()
	st := s.complete()
	if st.Files != 2 || st.LeftOut != 2 { // by both names of the index; baz is a foo
		t.Errorf("status: %+v", st)
	}
	for _, name := range []string{"debian-12-x86_64", "debian-12.1-x86_64"} {
		if p := s.page(name + "/simple/foo/index.v1_json"); len(p.Files) != 1 || p.Files[0].URL != "../../f/foo/foo-1.0-py3-none-any.whl" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if _, err := s.read("debian-12-x86_64/f/bar/foo-1.0-py3-none-any.whl"); err != nil { // as in the tree
		t.Error(err)
	}
}

// TestOwnPages has a tree with pages of its own.
func TestOwnPages(t *testing.T) {
	s := newSite(t, true)
	s.release(func() {
		s.putWheel("foo", "foo", "1.0")
		s.put("foo/index.html", []byte("foo's own"))
		s.put("index.html", []byte("the list of OpenDev"))
		s.put("simple/foo/index.html", []byte("simple's own"))
		s.put("foo/foo-1.0-py3-none-any.whl.metadata", []byte("its own"))
		s.putWheel("bar", "bar", "1.0")
	})
	s.start().complete()
	for name, want := range map[string]string{
		"foo/index.html": "foo's own", "index.html": "the list of OpenDev", "simple/foo/index.html": "simple's own",
		"foo/foo-1.0-py3-none-any.whl.metadata": "its own",
	} {
		if got, err := s.read(name); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"foo/index.v1_json", "simple/foo/index.v1_json"} {
		if _, err := s.read(name); !isGone(err) { // not two pages that differ
			t.Errorf("%s: %v", name, err)
		}
	}
	if p := s.page("simple/bar/index.v1_json"); len(p.Files) != 1 {
		t.Errorf("page: %+v", p)
	}
}

// TestNothingAsked checks that questions for projects that are not there do not reach the
// origin: pip asks for all that it needs.
func TestNothingAsked(t *testing.T) {
	s := newSite(t, true)
	s.release(func() { s.putWheel("f/foo", "foo", "1.0") })
	s.start().complete()
	s.from.setFail(func(call, name string) error {
		t.Errorf("%s of %s", call, name)
		return nil
	})
	for _, name := range []string{"simple/none/index.html", "none/index.v1_json", "n/none/index.html", "simple/foo/index.html", "foo/index.v1_json", "simple/index.html"} {
		_, err := s.read(name)
		if want := strings.Contains(name, "none"); isGone(err) != want || err != nil && !want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConforms checks that the tree below is not disturbed.
func TestConforms(t *testing.T) {
	for _, releases := range []bool{false, true} {
		t.Run(fmt.Sprint("releases ", releases), func(t *testing.T) {
			origintest.Run(t, func(t *testing.T) *origintest.Tree { return conforming(t, releases) })
		})
	}
}

func conforming(t *testing.T, releases bool) *origintest.Tree {
	s := newSite(t, releases)
	d := &origin.Dir{Root: s.root, ReleaseCheck: caddy.Duration(10 * time.Millisecond)}
	if err := d.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		if err := d.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	x := New(d, Config{Context: ctx, Log: zaptest.NewLogger(t), Facts: s.facts})
	past := time.Now().Add(-time.Hour)
	put := func(t testing.TB, files map[string][]byte) {
		t.Helper()
		for name, body := range files {
			file := filepath.Join(s.root, name)
			if strings.HasSuffix(name, "/") {
				must(t, os.MkdirAll(file, 0o755))
				continue
			}
			must(t, os.MkdirAll(filepath.Dir(file), 0o755))
			next := filepath.Join(filepath.Dir(file), ".put")
			must(t, os.WriteFile(next, body, 0o600))
			must(t, os.Chtimes(next, past, past))
			must(t, os.Rename(next, file))
		}
	}
	change := put
	if releases {
		change = func(t testing.TB, files map[string][]byte) {
			t.Helper()
			s.release(func() { put(t, files) })
			s.complete()
		}
	}
	s.x = x
	s.complete()
	return &origintest.Tree{
		Tree: x, Releases: releases,
		Put: func(t testing.TB, files map[string][]byte) {
			past = past.Add(time.Second)
			change(t, files)
		},
		Twin: func(t testing.TB, name string, body []byte) { change(t, map[string][]byte{name: body}) },
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
