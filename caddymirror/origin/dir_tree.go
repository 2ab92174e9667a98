package origin

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A tree is an open directory tree, out of which neither ".." nor a symbolic
// link leads. All its methods may hang.
type tree struct {
	root   *os.Root
	dir    os.FileInfo // of the root
	way    way         // by which the root was opened
	opened time.Time
	escape error // what root says of a name that leads out of it
	users  atomic.Int32
}

// hold keeps the tree open, unless it is closed already.
func (t *tree) hold() bool {
	for {
		n := t.users.Load()
		if n == 0 || t.users.CompareAndSwap(n, n+1) {
			return n > 0
		}
	}
}

// same reports whether u was opened at the same directory by the same links.
func (t *tree) same(u *tree) bool {
	return t.way.links == u.way.links && os.SameFile(t.dir, u.dir)
}

// openTree opens the tree at path. All errors are ErrAway.
//
// The links are read before and after: should a release be switched meanwhile, it is
// opened again, lest what is newer than they say be read as theirs.
func openTree(path string) (*tree, error) {
	for range 3 {
		t, err := openTreeOnce(path)
		if err != nil {
			return nil, err
		}
		w, err := findWay(path)
		if err == nil && w.links == t.way.links {
			return t, nil
		}
		t.root.Close()
		if err != nil {
			return nil, away(err)
		}
	}
	return nil, fmt.Errorf("%w: %s changes again and again", ErrAway, path)
}

func openTreeOnce(path string) (*tree, error) {
	opened := time.Now()
	w, err := findWay(path)
	if err != nil {
		return nil, away(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, away(err)
	}
	if !fi.IsDir() { // OpenRoot would wait at a FIFO
		return nil, fmt.Errorf("%w: %s is not a directory", ErrAway, path)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, away(err)
	}
	dir, err := root.Stat(".")
	if err != nil {
		root.Close()
		return nil, away(err)
	}
	_, escape := root.Lstat("..") // asks nothing of the file system
	return &tree{root: root, dir: dir, way: w, opened: opened, escape: errors.Unwrap(escape)}, nil
}

// isAt reports whether path still leads to the tree, by the same links.
func (t *tree) isAt(path string) (bool, error) {
	w, err := findWay(path)
	if err != nil {
		return false, away(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return false, away(err)
	}
	return w.links == t.way.links && os.SameFile(fi, t.dir), nil
}

// classify is classify, and knows of names that lead out of the tree.
func (t *tree) classify(err error) error {
	if errors.Is(err, t.escape) {
		return fmt.Errorf("%w: %v", fs.ErrNotExist, t.escape)
	}
	return classify(err)
}

// stat describes the file or directory at name.
func (t *tree) stat(name string) (Info, error) {
	seen := time.Now()
	var fi os.FileInfo
	var id string
	err := t.follow(name, func(name string) (err error) {
		if fi, err = t.root.Stat(name); err != nil || !fi.Mode().IsRegular() {
			return err
		}
		d, err := t.openDir(path.Dir(name))
		if err != nil {
			return err
		}
		defer d.Close()
		id = identity(fi, d, path.Base(name), 0)
		return nil
	})
	if err != nil {
		return Info{}, t.classify(err)
	}
	if !fi.IsDir() && !fi.Mode().IsRegular() {
		return Info{}, errSpecial(fi.Mode())
	}
	return tagged(info(name, fi, seen, id), id), nil
}

func errSpecial(m fs.FileMode) error {
	return fmt.Errorf("%w: neither a file nor a directory (%v)", fs.ErrNotExist, m.Type())
}

// openDir opens the directory at name, and nothing else.
func (t *tree) openDir(name string) (d *os.File, err error) {
	err = t.follow(name, func(name string) error {
		d, err = t.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
		return err
	})
	return d, err
}

// open opens the regular file at name.
//
// os.Root finds the directory, but does not open the file: the runtime asks
// epoll about every file that package os opens, and FUSE passes that question
// on to its server. If the server hangs, that thread never comes back to the
// scheduler, and with the next garbage collection the whole process hangs.
func (t *tree) open(name string) (*os.File, Info, error) {
	orig := name
	for range maxLinks {
		dir, base := ".", name
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			dir, base = name[:i], name[i+1:]
		}
		if base == "" || base == "." || base == ".." { // the end of a link
			if _, err := t.stat(name); err != nil {
				return nil, Info{}, err
			}
			return nil, Info{}, ErrIsDir
		}
		d, err := t.openDir(dir)
		if err != nil {
			return nil, Info{}, t.classify(err)
		}
		f, target, err := openAt(d, base)
		if err == nil && f == nil { // a link
			name = dir + "/" + target // cleaned, "link/.." would mean another place
			if strings.HasPrefix(target, "/") {
				to, ok := t.way.inside(target)
				if !ok {
					err = t.escape
				}
				name = strings.Join(append([]string{"."}, to...), "/")
			}
		}
		d.Close()
		if err == unix.ELOOP { // it has become a link
			continue
		}
		if err != nil {
			return nil, Info{}, t.classify(err)
		}
		if f == nil {
			continue
		}

		seen := time.Now()
		fi, err := f.Stat()
		if err == nil && !fi.Mode().IsRegular() { // replaced since openAt looked
			err = errSpecial(fi.Mode())
		}
		if err != nil {
			f.Close()
			return nil, Info{}, t.classify(err)
		}
		id := identity(fi, f, "", unix.AT_EMPTY_PATH)
		return f, tagged(info(orig, fi, seen, id), id), nil
	}
	return nil, Info{}, classify(syscall.ELOOP)
}

// openFlags do not wait for the writer of a FIFO, should one have taken the
// place of a file just now.
const openFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC

// openAt opens the regular file base in d, or returns the target of the
// symbolic link that it is. Nothing else is opened: to open a device can have
// effects.
func openAt(d *os.File, base string) (_ *os.File, target string, err error) {
	dir := int(d.Fd())
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return nil, "", err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return nil, "", ErrIsDir
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		var n int
		err := again(func() (err error) { n, err = unix.Readlinkat(dir, base, buf); return err })
		return nil, string(buf[:max(n, 0)]), err
	default:
		return nil, "", fmt.Errorf("%w: neither a file nor a directory", fs.ErrNotExist)
	}

	var fd int
	err = again(func() (err error) {
		fd, err = unix.Openat(dir, base, openFlags, 0)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	// NewFile would ask epoll about a file that does not block.
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, "", err
	}
	return os.NewFile(uintptr(fd), filepath.Join(d.Name(), base)), "", nil
}

// again calls f until it is not interrupted.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// entry describes an entry of dir, the directory at name, of which fi was found,
// and reports whether it is part of the listing: a file or a directory, or a
// link to one of them inside the tree.
func (t *tree) entry(dir *os.File, name string, fi os.FileInfo, seen time.Time) (Info, bool, error) {
	if fi.IsDir() {
		return info(fi.Name(), fi, seen, ""), true, nil
	}
	if fi.Mode().IsRegular() {
		id := identity(fi, dir, fi.Name(), unix.AT_SYMLINK_NOFOLLOW)
		return info(fi.Name(), fi, seen, id), true, nil
	}
	if fi.Mode().Type() != fs.ModeSymlink {
		return Info{}, false, nil
	}
	i, err := t.stat(name + "/" + fi.Name())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return Info{}, false, nil
	}
	i.Symlink = true
	return i, err == nil, err
}

// checkMounted returns ErrAway if the tree is empty: then it is the place
// where a file system should be mounted.
func (t *tree) checkMounted() error {
	d, err := t.openDir(".")
	if err != nil {
		return away(err)
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	if err == io.EOF {
		return fmt.Errorf("%w: %s is empty: is it mounted?", ErrAway, t.root.Name())
	}
	if err != nil {
		return away(err)
	}
	return nil
}
