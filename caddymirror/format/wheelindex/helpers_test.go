package wheelindex

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/zaptest"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// wheelOf returns the bytes of a wheel.
func wheelOf(t testing.TB, project, version, python string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	info := strings.ReplaceAll(project, "-", "_") + "-" + version + ".dist-info/"
	metadata := "Metadata-Version: 2.1\nName: " + project + "\nVersion: " + version + "\n"
	if python != "" {
		metadata += "Requires-Python: " + python + "\n"
	}
	for _, f := range []struct{ name, text string }{
		{info + "METADATA", metadata + "\n" + project + " is good\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n"},
		{info + "RECORD", ""},
	} {
		w, err := z.Create(f.name)
		if err == nil {
			_, err = io.WriteString(w, f.text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// site is a tree of files on disk, with releases or without, and an index of it.
type site struct {
	testing.TB
	top, root string
	releases  int // so many; -1 if the tree has none
	facts     *memory
	from      *counted
	x         *Index
	stop      context.CancelFunc
}

func newSite(t testing.TB, releases bool) *site {
	s := &site{TB: t, top: t.TempDir(), facts: &memory{m: map[string][]byte{}}, releases: -1}
	s.root = filepath.Join(s.top, "current")
	if releases {
		s.releases = 0
		s.release(func() {})
	} else if err := os.Mkdir(s.root, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
	})
	return s
}

// start begins a process, as it were: an index that knows what is in facts.
func (s *site) start() *site {
	s.Helper()
	if s.stop != nil {
		s.stop()
	}
	d := &origin.Dir{Root: s.root, ReleaseCheck: caddy.Duration(10 * time.Millisecond)}
	if err := d.Provision(caddy.Context{}); err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = func() {
		cancel()
		if err := d.Cleanup(); err != nil {
			s.Error(err)
		}
		s.stop = nil
	}
	s.from = &counted{Tree: d, opens: map[string]int{}}
	s.x = New(s.from, Config{Context: ctx, Log: zaptest.NewLogger(s), Facts: s.facts})
	return s
}

// put writes a file that has been at rest for long.
func (s *site) put(name string, b []byte) {
	s.Helper()
	file := filepath.Join(s.root, name)
	past := time.Now().Add(-time.Hour)
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file+"~", b, 0o644)
	}
	if err == nil {
		err = os.Chtimes(file+"~", past, past)
	}
	if err == nil {
		err = os.Rename(file+"~", file)
	}
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) putWheel(dir, project, version string) []byte {
	s.Helper()
	b := wheelOf(s, project, version, ">=3.9")
	s.put(filepath.Join(dir, strings.ReplaceAll(project, "-", "_")+"-"+version+"-py3-none-any.whl"), b)
	return b
}

// release makes a copy of the tree, changes it, and makes it the current one. Files that
// are not changed keep their size and time.
func (s *site) release(change func()) {
	s.Helper()
	old, _ := os.Readlink(filepath.Join(s.top, "current"))
	s.releases++
	next := fmt.Sprintf("r%d", s.releases)
	s.root = filepath.Join(s.top, next)
	err := os.Mkdir(s.root, 0o755)
	if err == nil && old != "" {
		err = copyTree(filepath.Join(s.top, old), s.root)
	}
	if err != nil {
		s.Fatal(err)
	}
	change()
	s.root = filepath.Join(s.top, "current")
	err = os.Symlink(next, s.root+".new")
	if err == nil {
		err = os.Rename(s.root+".new", s.root)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// copyTree makes hard links, as snapshots do.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, name)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return os.Link(name, filepath.Join(to, rel))
	})
}

// complete waits until all files of the current release are known.
func (s *site) complete() origin.IndexStatus {
	s.Helper()
	var want string
	if s.releases >= 0 {
		want = fmt.Sprintf("r%d@", s.releases)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		r := s.x.Release(context.Background())
		s.x.tree(context.Background())
		st := s.x.Status()
		if st.Index != nil && st.Index.State == "complete" && strings.HasPrefix(r.Token, want) {
			return *st.Index
		}
		if time.Now().After(end) {
			s.Fatalf("not complete: %+v, %+v", r, st.Index)
		}
	}
}

// read reads a file of the index.
func (s *site) read(name string) (string, error) {
	b, err := s.x.Open(context.Background(), name, 0)
	if err != nil {
		return "", err
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	info, serr := s.x.Stat(context.Background(), name)
	if serr != nil || err == nil && info.Size != int64(len(all)) {
		s.Errorf("%s: %d bytes, Stat says %+v, %v", name, len(all), info, serr)
	}
	return string(all), err
}

// projectPage is a page as JSON has it.
type projectPage struct {
	Name     string
	Versions []string
	Files    []struct {
		Filename, URL  string
		Hashes         map[string]string
		Size           int64
		RequiresPython string            `json:"requires-python"`
		UploadTime     string            `json:"upload-time"`
		CoreMetadata   map[string]string `json:"core-metadata"`
	}
	Projects []struct{ Name string }
}

func (s *site) page(name string) (p projectPage) {
	s.Helper()
	text, err := s.read(name)
	if err == nil {
		err = json.Unmarshal([]byte(text), &p)
	}
	if err != nil {
		s.Fatalf("%s: %v", name, err)
	}
	return p
}

// urls are the links of a page, with their checksums.
func (p projectPage) urls() (urls []string) {
	for _, f := range p.Files {
		urls = append(urls, f.URL+"#"+f.Hashes["sha256"])
	}
	return urls
}

// memory is what facts are kept in.
type memory struct {
	mu   sync.Mutex
	m    map[string][]byte
	full int // so many are not kept
}

func (f *memory) Get(name string) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.m[name]
	return b, ok
}

func (f *memory) Put(name string, b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full > 0 {
		f.full--
		return errors.New("cache is full")
	}
	f.m[name] = b
	return nil
}

// counted is an origin that counts what is read of it, and fails when it is told to.
type counted struct {
	origin.Tree
	mu    sync.Mutex
	opens map[string]int
	bytes int64
	fail  func(call, name string) error
	slow  time.Duration // of a listing
}

func (c *counted) call(call, name string) error {
	c.mu.Lock()
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		return fail(call, name)
	}
	return nil
}

func (c *counted) setFail(fail func(call, name string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = fail
}

func (c *counted) Stat(ctx context.Context, name string) (origin.Info, error) {
	if err := c.call("stat", name); err != nil {
		return origin.Info{}, err
	}
	return c.Tree.Stat(ctx, name)
}

func (c *counted) Open(ctx context.Context, name string, off int64) (origin.Body, error) {
	if err := c.call("open", name); err != nil {
		return nil, err
	}
	b, err := c.Tree.Open(ctx, name, off)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.opens[name]++
	c.mu.Unlock()
	return &countedBody{b, c}, nil
}

func (c *counted) ReadDir(ctx context.Context, name string) iter.Seq2[origin.Info, error] {
	return func(yield func(origin.Info, error) bool) {
		if err := c.call("readdir", name); err != nil {
			yield(origin.Info{}, err)
			return
		}
		time.Sleep(c.slow)
		c.Tree.ReadDir(ctx, name)(yield)
	}
}

type countedBody struct {
	origin.Body
	c *counted
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	b.c.mu.Lock()
	b.c.bytes += int64(n)
	b.c.mu.Unlock()
	return n, err
}

// reads are how many files were opened, and how many bytes were read, since the last call.
func (c *counted) reads() (opens map[string]int, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	opens, n = c.opens, c.bytes
	c.opens, c.bytes = map[string]int{}, 0
	return opens, n
}

func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
