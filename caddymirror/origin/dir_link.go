package origin

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links are followed before they count as a loop.
const maxLinks = 40

// A way is how the path of a root leads to its directory.
type way struct {
	// links describes the symbolic links that the path is and leads to, and those
	// above it that lead to snapshots, in the order in which they are followed: the
	// text of each with its mtime, which is when it was made, for a link cannot be
	// changed in place. So a link that is switched from A to B and back to A is a
	// new one, as it must be where A was rebuilt in between. It is empty if there is
	// no such link.
	links string

	// roots are the absolute paths that the directory was reached by, as elements:
	// the path itself, what it was after each link, and the one without links.
	roots [][]string
}

// findWay follows the symbolic links of an absolute path.
func findWay(path string) (way, error) {
	var all []string
	w := way{roots: [][]string{elements(path)}}
	dir, rest := "/", elements(path) // no link is left in dir
	for followed := 0; len(rest) > 0; {
		link := filepath.Join(dir, rest[0])
		rest = rest[1:]
		fi, err := os.Lstat(link)
		if err != nil {
			return way{}, err
		}
		if fi.Mode().Type() != fs.ModeSymlink {
			dir = link
			continue
		}
		if followed++; followed > maxLinks {
			return way{}, &fs.PathError{Op: "lstat", Path: path, Err: syscall.ELOOP}
		}
		target, err := os.Readlink(link)
		if err != nil {
			return way{}, err
		}
		if len(rest) == 0 || isSnapshot(link, target) {
			all = append(all, target+"@"+strconv.FormatInt(fi.ModTime().UnixNano(), 36))
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		rest = append(elements(target), rest...)
		if !slices.Contains(rest, "..") { // of a link, that is not what comes before it
			w.roots = append(w.roots, slices.Concat(elements(dir), rest))
		}
	}
	w.roots = append(w.roots, elements(dir))
	w.links = strings.Join(all, " ")
	return w, nil
}

// elements takes a path apart.
func elements(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(e string) bool { return e == "" || e == "." })
}

// snapshot fits the targets of the links that the releaser of that name makes. What
// they lead to never changes. Other links above a root say nothing of releases.
var snapshot = regexp.MustCompile(`(?:^|/)([^/]+)\.releases/\d{6,}-\d{8}T\d{6}\.\d{9}Z/*$`)

func isSnapshot(link, target string) bool {
	m := snapshot.FindStringSubmatch(target)
	return m != nil && m[1] == filepath.Base(link)
}

// inside returns what the absolute target of a symbolic link is below the root, as
// elements. It compares paths: what is outside of the tree is not asked.
func (w way) inside(target string) ([]string, bool) {
	to := elements(target)
	for _, root := range w.roots {
		if len(to) >= len(root) && slices.Equal(to[:len(root)], root) {
			return to[len(root):], true
		}
	}
	return nil, false
}

// follow calls f with name and, if that fails for links that os.Root does not follow,
// with the name that these lead to. Whatever a link is changed to meanwhile, os.Root
// does not leave the tree.
func (t *tree) follow(name string, f func(name string) error) error {
	err := f(name)
	if !errors.Is(err, t.escape) && !errors.Is(err, syscall.ELOOP) {
		return err
	}
	name, err = t.resolve(name)
	if err != nil {
		return err
	}
	return f(name)
}

// resolve returns the name, without symbolic links, of what name leads to. Absolute
// links are followed if they lead to a place below the root.
func (t *tree) resolve(name string) (string, error) {
	var done []string // no link is left in it
	rest := elements(name)
	for followed := 0; len(rest) > 0; {
		next := rest[0]
		rest = rest[1:]
		if next == ".." {
			if len(done) == 0 {
				return "", t.escape
			}
			done = done[:len(done)-1]
			continue
		}
		at := strings.Join(append(done, next), "/")
		fi, err := t.root.Lstat(at)
		if err != nil {
			return "", err
		}
		if fi.Mode().Type() != fs.ModeSymlink {
			if !fi.IsDir() && len(rest) > 0 {
				return "", syscall.ENOTDIR
			}
			done = append(done, next)
			continue
		}
		if followed++; followed > maxLinks {
			return "", syscall.ELOOP
		}
		target, err := t.root.Readlink(at)
		if err != nil {
			return "", err
		}
		to := elements(target)
		if filepath.IsAbs(target) {
			var ok bool
			if to, ok = t.way.inside(target); !ok {
				return "", t.escape
			}
			done = nil
		}
		rest = slices.Concat(to, rest)
	}
	if len(done) == 0 {
		return ".", nil
	}
	return strings.Join(done, "/"), nil
}
