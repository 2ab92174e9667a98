package wheelindex

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

const (
	// maxDepth is how deep below the tree's root directories are listed: in one by
	// platform, by first character, by project, and one more.
	maxDepth = 4

	// maxFiles is how many files of all indexes of a tree there may be. Each takes some
	// 500 bytes of memory.
	maxFiles = 2_000_000

	// listings is how many directories are listed at a time.
	listings = 4
)

// A tree is what is known of the files in one release, or at one time.
type tree struct {
	x      *Index
	token  string // of the release; empty if the origin has none
	seen   time.Time
	ctx    context.Context //nolint:containedctx // the tree's lifetime
	cancel context.CancelFunc
	done   chan struct{} // closed when all directories were listed
	began  time.Time
	took   time.Duration // set when done is closed

	mu    sync.Mutex // guards what follows, until done is closed
	dirs  map[string]*dir
	files int
	cut   bool // there are more files than are indexed

	roots map[string]*index // set when done is closed

	young []*file // set, with x.mu, when x takes the tree
}

// A dir is a directory that was listed.
type dir struct {
	done  chan struct{}
	err   error
	files []*file
	dirs  []string
	links []string // to directories
	pages bool     // it has pages of its own
}

// An index is one that was listed to its end.
type index struct {
	projects map[string][]*file // sorted by name
	names    []string           // of projects, sorted
}

func (x *Index) newTree(r origin.Release) *tree {
	ctx, cancel := context.WithCancel(x.conf.Context)
	return &tree{
		x: x, token: r.Token, seen: r.Seen, ctx: ctx, cancel: cancel,
		done: make(chan struct{}), began: time.Now(), dirs: map[string]*dir{},
	}
}

func (t *tree) isDone() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// list lists a directory, once for all who ask while that goes well.
func (t *tree) list(ctx context.Context, name string) (*dir, error) {
	t.mu.Lock()
	d, ok := t.dirs[name]
	if !ok && !t.isDone() {
		d = &dir{done: make(chan struct{})}
		t.dirs[name] = d
		go t.read(name, d)
	}
	t.mu.Unlock()
	if d == nil {
		return nil, fs.ErrNotExist
	}
	select {
	case <-d.done:
		return d, d.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %s is being listed", origin.ErrAway, name)
	}
}

func (t *tree) read(name string, d *dir) {
	defer close(d.done)
	var err error
	defer func() {
		d.err = err
		t.mu.Lock()
		defer t.mu.Unlock()
		if err != nil {
			delete(t.dirs, name) // the next one tries again
			return
		}
		t.files += len(d.files)
	}()
	defer origin.Recover(t.x.conf.Log, "wheel index", &err)
	for info, e := range t.x.from.ReadDir(t.ctx, name) {
		switch {
		case errors.Is(e, fs.ErrNotExist), errors.Is(e, fs.ErrPermission), errors.Is(e, fs.ErrInvalid):
			return // counts as empty
		case e != nil:
			err = e
			return
		case t.x.conf.Hidden != nil && t.x.conf.Hidden(path.Join(name, info.Name)):
		case info.Dir && (!info.Symlink || name == "." && platform.MatchString(info.Name)):
			d.dirs = append(d.dirs, info.Name)
		case info.Dir:
			d.links = append(d.links, info.Name)
		case slices.Contains(pageNames, info.Name) || info.Name == "index.v1_html":
			d.pages = true
		default:
			if f := newFile(path.Join(name, info.Name), info); f != nil {
				d.files = append(d.files, f)
			}
		}
	}
}

// walk lists all directories, and tries until it succeeds or the tree is no longer wanted.
func (t *tree) walk() error {
	roots := map[string]*index{}
	level := []string{"."}
	for depth := 0; len(level) > 0 && depth <= maxDepth; depth++ {
		found := make([]*dir, len(level))
		g, ctx := errgroup.WithContext(t.ctx)
		g.SetLimit(listings)
		for i, name := range level {
			g.Go(func() (err error) {
				found[i], err = t.persist(ctx, name)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		var next []string
		for i, d := range found {
			t.sort(roots, d)
			for _, name := range d.dirs {
				next = append(next, path.Join(level[i], name))
			}
		}
		level = next
	}
	for _, r := range roots {
		r.settle()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roots, t.took = roots, time.Since(t.began)
	close(t.done)
	return nil
}

// persist lists a directory, and tries until it succeeds.
func (t *tree) persist(ctx context.Context, name string) (*dir, error) {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, time.Minute) {
		d, err := t.list(ctx, name)
		if err == nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.files > maxFiles {
				t.cut = true
				return &dir{}, nil
			}
			return d, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// sort adds the files of a directory to their projects.
func (t *tree) sort(roots map[string]*index, d *dir) {
	for _, f := range d.files {
		name, _ := Split(f.path)
		r := roots[name]
		if r == nil {
			r = &index{projects: map[string][]*file{}}
			roots[name] = r
		}
		r.projects[f.project] = append(r.projects[f.project], f)
	}
}

// settle brings files and projects in order.
func (r *index) settle() {
	for project, files := range r.projects {
		r.projects[project] = inOrder(files)
		if project != "" {
			r.names = append(r.names, project)
		}
	}
	slices.Sort(r.names)
}

// inOrder sorts files by name. Of several with one name, the first is listed.
func inOrder(files []*file) []*file {
	slices.SortFunc(files, func(a, b *file) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.path, b.path)
	})
	for i, f := range files {
		if i > 0 && f.name == files[i-1].name && f.wrong == "" {
			files[i] = &file{path: f.path, name: f.name, info: f.info, project: f.project, wrong: "has the same name as " + files[i-1].path}
		}
	}
	return files
}

// dirsOf are the directories of a project: in that of the index, and by its first
// character.
func (t *tree) dirsOf(ctx context.Context, indexName, project string) (dirs []string, err error) {
	top, err := t.list(ctx, indexName)
	if err != nil {
		return nil, err
	}
	for _, name := range top.dirs {
		if name != simple && pypi.Normalize(name) == project {
			dirs = append(dirs, path.Join(indexName, name))
		}
		if !isInitial(name, project) {
			continue
		}
		sub, err := t.list(ctx, path.Join(indexName, name))
		if err != nil {
			return nil, err
		}
		for _, deeper := range sub.dirs {
			if pypi.Normalize(deeper) == project {
				dirs = append(dirs, path.Join(indexName, name, deeper))
			}
		}
	}
	return dirs, nil
}

// near are the files of a project, as far as they lie where one looks for them.
func (t *tree) near(ctx context.Context, indexName, project string) (files []*file, err error) {
	dirs, err := t.dirsOf(ctx, indexName, project)
	if err != nil {
		return nil, err
	}
	for _, name := range append(dirs, indexName) {
		d, err := t.list(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, f := range d.files {
			if f.project == project {
				files = append(files, f)
			}
		}
	}
	return inOrder(files), nil
}

// own tells what the tree itself has of a directory: whether it may be there, and whether
// it has pages of its own.
func (x *Index) own(ctx context.Context, t *tree, name string) (there, pages bool) {
	ctx, cancel := x.patient(ctx)
	defer cancel()
	parent := "."
	for rest := name; rest != ""; {
		d, err := t.list(ctx, parent)
		if err != nil {
			return true, false // not known
		}
		var first string
		first, rest, _ = strings.Cut(rest, "/")
		switch {
		case slices.Contains(d.links, first):
			return true, false // not looked into
		case !slices.Contains(d.dirs, first):
			return false, false
		}
		parent = path.Join(parent, first)
	}
	d, err := t.list(ctx, name)
	return true, err == nil && d.pages
}

// build lists a tree, has its files read, and makes its state known as it changes.
func (x *Index) build(t *tree) {
	var err error
	defer panics.Recover(x.conf.Log, "wheel index", &err)
	if t.walk() != nil {
		return // it is no longer wanted
	}
	x.adopt(t)
	x.glanceAll(t)
	for !x.settled(t) {
		select {
		case <-x.queue.emptied():
		case <-t.ctx.Done():
			return
		}
	}
	if len(t.young) == 0 && !x.queue.unsure() {
		return
	}
	// What is being written will be at rest soon.
	select {
	case <-time.After(max(youngAgain, 20*t.took)):
		x.renew(t)
	case <-t.ctx.Done():
	}
}

// youngAgain is how soon a tree is listed again in which something is being written.
const youngAgain = 3 * time.Second
