package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// goneFile, in the state directory, lists what upstream no longer has: each name
// after the number of runs that have found it gone, both ended by a NUL.
const goneFile = "rsync-gone"

// unfinished fits the temporary files that rsync leaves behind when it is killed.
var unfinished = regexp.MustCompile(`^\..+\.[A-Za-z0-9]{6}$`)

// deletions finds what upstream no longer has and deletes what was found gone often
// enough. The tree has all that upstream has when it is called.
func (p *pass) deletions(ctx context.Context) error {
	known, err := loadGone(p.r)
	if err != nil {
		return fmt.Errorf("deletions: %w", err)
	}
	gone, all, err := p.findGone(ctx)
	if err != nil {
		return err
	}
	var due []string
	next := make(map[string]int, len(gone))
	never := *p.s.DeleteAfter < 0
	for _, name := range gone {
		age := known[name]
		switch {
		case unfinished.MatchString(path.Base(name)), !never && age >= *p.s.DeleteAfter:
			due = append(due, name)
		case !never:
			next[name] = age + 1
		}
	}
	if all += len(gone); len(due) > 0 && !p.allows(len(due), all) {
		return fmt.Errorf("deletions: %d of %d files and directories are gone from %s, %s among them, which is more than max_delete (%s): nothing is deleted",
			p.cleared+len(due), p.cleared+all, p.source, due[0], p.s.MaxDelete)
	}
	if err := p.remove(ctx, due); err != nil {
		return fmt.Errorf("deletions: %w", err)
	}
	if err := saveGone(p.r, next); err != nil {
		return fmt.Errorf("deletions: %w", err)
	}
	return nil
}

// findGone lists what the tree has and upstream does not, directories with a slash at
// the end, and counts what upstream has. Rsync knows best: nothing counts as gone if
// upstream could not read a directory of its own, or if it is kept.
func (p *pass) findGone(ctx context.Context) (gone []string, all int, err error) {
	args := []string{"--dry-run", "--existing", "--ignore-existing", "--delete", "--delete-excluded"}
	if p.r.Timestamp != "" {
		args = append(args, "--filter=P "+anchored(p.r.Timestamp))
	}
	for _, pattern := range p.s.Keep {
		args = append(args, "--filter=P "+pattern)
	}
	args = append(args, p.s.Args...)
	out := output{deleting: func(name string) { gone = append(gone, name) }}
	// What else it would change has been changed since we copied it.
	err = p.rsync(ctx, "deletions", args, &out)
	if out.cut > 0 {
		p.r.Log.Warn("gone upstream, but kept, since their names are too long", zap.Int("files", out.cut))
	}
	return gone, out.files, err
}

// allows reports whether n more of all files and directories may be deleted.
func (p *pass) allows(n, all int) bool {
	return p.s.maxDelete.allows(p.cleared+n, p.cleared+all)
}

// makeWay counts what is in directories that are links or files upstream, and adds to
// the arguments of a phase what has rsync delete that.
func (p *pass) makeWay(ctx context.Context, stage string, args []string) ([]string, error) {
	var names []string
	out := output{deleting: func(name string) { names = append(names, name) }}
	err := p.rsync(ctx, stage, append(slices.Clone(args), "--force", "--dry-run", "--info=progress0"), &out)
	if err != nil && !vanished(err) {
		return nil, err
	}
	n := len(names) + out.cut
	if !p.allows(n, out.files+n) {
		return nil, fmt.Errorf("%s: %d files and directories, %q among them, are in directories that are links or files at %s, which is more than max_delete (%s): nothing is deleted",
			stage, p.cleared+n, append(names, "")[0], p.source, p.s.MaxDelete)
	}
	p.cleared += n
	// Should they be more by then, rsync stops there.
	return append(args, "--force", "--max-delete="+strconv.Itoa(n)), nil
}

// remove deletes names from the tree, in the order of names backwards: what is in a
// directory before the directory.
func (p *pass) remove(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	t, err := openTree(p.r.Dir)
	if err != nil {
		return err
	}
	defer t.close()
	slices.Sort(names)
	slices.Reverse(names)
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		removed, err := t.remove(name)
		if err != nil {
			return err
		}
		if removed {
			p.changing(name)
			fmt.Fprintf(p.r.Out, "deleted %q\n", name)
		}
		if i%1000 == 0 {
			p.r.Report(step.Progress{Stage: "deletions", Done: float64(i) / float64(len(names)), Detail: name})
		}
	}
	return nil
}

// A tree is a directory in which files are removed. No symbolic link is followed, not
// even one that stays inside.
type tree struct {
	root *os.Root
	name string   // of the directory in use, without a slash at the end
	dir  *os.Root // nil for the root
}

func openTree(dir string) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &tree{root: root, name: "."}, nil
}

func (t *tree) close() {
	if t.dir != nil {
		t.dir.Close()
	}
	t.root.Close()
}

// remove removes a file or an empty directory. It reports whether it was there, and
// not a directory with something in it: that is not due yet.
func (t *tree) remove(name string) (bool, error) {
	name = strings.TrimSuffix(name, "/")
	if name != path.Clean(name) || !filepath.IsLocal(name) || name == "." {
		return false, fmt.Errorf("%q is not a path in the tree", name)
	}
	dir, err := t.enter(path.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = dir.Remove(path.Base(name))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("removing %q: %w", name, err)
	}
	return true, nil
}

// enter opens a directory.
func (t *tree) enter(name string) (*os.Root, error) {
	if name == "." {
		return t.root, nil
	}
	if t.dir != nil && t.name == name {
		return t.dir, nil
	}
	if t.dir != nil {
		t.dir.Close()
		t.dir = nil
	}
	dir := t.root
	for part := range strings.SplitSeq(name, "/") {
		next, err := enterOne(dir, part)
		if dir != t.root {
			dir.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		dir = next
	}
	t.name, t.dir = name, dir
	return dir, nil
}

var errNotDir = errors.New("not a directory")

func enterOne(dir *os.Root, name string) (*os.Root, error) {
	fi, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, errNotDir
	}
	return dir.OpenRoot(name)
}

// goneHead names what the list is of: another tree has another list.
func goneHead(r *step.Run) string { return "gone upstream from " + strconv.Quote(r.Dir) }

func loadGone(r *step.Run) (map[string]int, error) {
	data, err := loadState(r, goneFile, goneHead(r))
	if err != nil {
		return nil, err
	}
	known := map[string]int{}
	fields := bytes.Split(data, []byte{0})
	for i := 0; i+1 < len(fields); i += 2 {
		// What is damaged begins anew.
		if age, err := strconv.Atoi(string(fields[i])); err == nil {
			known[string(fields[i+1])] = age
		}
	}
	return known, nil
}

func saveGone(r *step.Run, gone map[string]int) error {
	b := []byte(goneHead(r) + "\n")
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		b = strconv.AppendInt(b, int64(gone[name]), 10)
		b = append(b, 0)
		b = append(b, name...)
		b = append(b, 0)
	}
	return saveState(r, goneFile, b)
}

// A limit is a number or a percentage.
type limit struct {
	n       int
	percent float64
}

func parseLimit(text string) (limit, error) {
	if p, ok := strings.CutSuffix(text, "%"); ok {
		v, err := strconv.ParseFloat(p, 64)
		if err != nil || !(v >= 0 && v <= 100) {
			return limit{}, fmt.Errorf("'%s' is not a percentage from 0%% to 100%%", text)
		}
		return limit{percent: v, n: -1}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return limit{}, fmt.Errorf("'%s' is neither a number nor a percentage", text)
	}
	return limit{n: n}, nil
}

func (l limit) allows(n, all int) bool {
	if l.n >= 0 {
		return n <= l.n
	}
	return 100*float64(n) <= l.percent*float64(all)
}
