package origin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// racy is how old the last change of a file must be for its size and
	// mtime to tell it from any later version: file systems with a time
	// stamp of 2 s are the coarsest still met.
	racy = 2 * time.Second

	// smallFile is up to which size a validator holds the file's identity.
	smallFile = 1 << 20
)

// info describes what the last element of name was found to be at the moment
// seen. fi must describe a regular file or a directory, and id is what identity says
// of a file.
func info(name string, fi os.FileInfo, seen time.Time, id string) Info {
	i := Info{Name: name[strings.LastIndexByte(name, '/')+1:], Dir: fi.IsDir(), ModTime: fi.ModTime()}
	if !i.Dir {
		i.Size = fi.Size()
		i.Validator = validator(fi, seen, id)
	}
	return i
}

// validator derives a validator from the size and the mtime of a file, in
// nanoseconds, as found at the moment seen.
//
// It is empty while the file is racy, as git calls that: while its mtime is so
// near to seen, or after it, that another change could leave size and mtime
// as they are. (That goes by this machine's clock; a file server whose clock
// is more than 2 s behind it gets less protection.)
//
// Tools like rsync set the mtime back to that of their source, so two versions
// of one size may also share their mtime: an index that was rebuilt twice
// within a second. Since these tools rename a new file into place, its identity
// tells the versions apart. It is left out for files over 1 MiB, where
// the accident is unlikely and a needless copy dear: they keep their
// validator when a release is a fresh copy of the tree.
//
// Nothing else goes in, device numbers above all: these change with every
// mount.
func validator(fi os.FileInfo, seen time.Time, id string) string {
	if id == "" || fi.ModTime().After(seen.Add(-racy)) {
		return ""
	}
	b := make([]byte, 0, 48)
	b = strconv.AppendInt(b, fi.Size(), 36)
	b = append(b, '-')
	b = strconv.AppendInt(b, fi.ModTime().UnixNano(), 36)
	if fi.Size() <= smallFile {
		b = append(b, '-')
		b = append(b, id...)
	}
	return string(b)
}

// identity tells a file from all others that its file system ever had: by its inode
// number, and by its time of birth, since ext4 gives the number of a file that was
// removed to the very next one. Unlike ctime, the time of birth stays when a file is
// linked, as snapshots do. Where the file system does not know it (NFS before 4.2,
// most of FUSE), the number has to do.
//
// fi was found at path in dir; flags are those of statx(2). The result is empty if
// there is another file by now.
func identity(fi os.FileInfo, dir *os.File, path string, flags int) string {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	var x unix.Statx_t
	err := again(func() error {
		return unix.Statx(int(dir.Fd()), path, flags, unix.STATX_INO|unix.STATX_BTIME, &x)
	})
	id := strconv.FormatUint(st.Ino, 36)
	switch {
	case err == unix.ENOSYS || err == unix.EPERM: // an old sandbox
		return id
	case err != nil || x.Ino != st.Ino:
		return ""
	case x.Mask&unix.STATX_BTIME == 0:
		return id
	}
	return id + "." + strconv.FormatInt(time.Unix(x.Btime.Sec, int64(x.Btime.Nsec)).UnixNano(), 36)
}

// tagged adds the ETag to the Info of a file. It holds the file's identity whatever
// the size: a replaced file of the same size and mtime costs the clients that
// have the old one a transfer, and never gets their bytes mixed. The validator of
// a file over 1 MiB only tells what need not be copied anew.
func tagged(i Info, id string) Info {
	if i.Validator != "" && i.Size > smallFile {
		i.ETag = ETagOf(i.Validator + "-" + id)
	}
	return i
}

// validName reports whether name can name something: it has the form of
// fs.ValidPath, but need not be UTF-8.
func validName(name string) bool {
	return strings.IndexByte(name, 0) < 0 && fs.ValidPath(strings.ToValidUTF8(name, "_"))
}

// classify turns what a look-up of a name ended in into an error of Tree.
// What a request can bring about must not be ErrAway, or it would open the
// breaker.
func classify(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case syscall.ENOENT, syscall.EACCES, syscall.EPERM:
		return errno // these are fs.ErrNotExist and fs.ErrPermission
	case syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG,
		syscall.EINVAL, syscall.EILSEQ: // names that the file system cannot hold
		return fmt.Errorf("%w: %v", fs.ErrNotExist, errno)
	}
	return away(errno)
}

// away wraps in ErrAway what does not speak of an object. It hides the cause
// from errors.Is: a missing root is not a missing object.
func away(err error) error {
	if errors.Is(err, ErrAway) {
		return err
	}
	return fmt.Errorf("%w: %v", ErrAway, err)
}
