package diskcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dir is a cache directory and the lock on it.
type dir struct {
	path    string
	lock    *sysFile
	block   int64 // of the file system
	probing sync.Mutex
}

// lockWait is how long openDir waits for a holder that is just leaving, as it
// does when a cache is closed and opened again in one process.
const lockWait = 2 * time.Second

// InUseError says that another process has the cache directory.
type InUseError struct {
	Path   string
	Holder string // "process 12 (caddy)", as far as it is known
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("cache directory %s is in use by %s", e.Path, e.Holder)
}

// openDir makes the directory, if it is not there, and locks it.
func openDir(path string) (*dir, error) {
	if err := checkOurs(path); err != nil {
		return nil, err
	}
	if err := sysMkdirAll(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("making cache directory: %w", err)
	}
	for _, p := range []string{path, filepath.Join(path, "objects"), filepath.Join(path, "tmp")} {
		if err := sysMkdir(p); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("making cache directory: %w", err)
		}
	}
	// What is cached may be what others must not read.
	if err := sysProtect(path); err != nil {
		return nil, fmt.Errorf("protecting cache directory: %w", err)
	}
	// Not open for writing: the file system could not be remounted read-only.
	lock := filepath.Join(path, "lock")
	f, err := sysOpen(lock, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking cache directory: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(20 * time.Millisecond) {
		err = f.lock()
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			defer f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, &InUseError{Path: path, Holder: holder(f)}
			}
			return nil, fmt.Errorf("locking cache directory %s: %w", path, err)
		}
	}
	d := &dir{path: path, lock: f, block: block}
	if st, err := sysStatfs(path); err == nil && st.Frsize > 0 {
		d.block = min(st.Frsize, block) // some tell what they like to transfer
	}
	// A disk may be full, or read-only; the lock holds all the same.
	_ = sysWriteFile(lock, []byte(strconv.Itoa(os.Getpid())+"\n"))
	return d, nil
}

// checkOurs refuses a directory that holds things, and none of a cache's: its
// mode would be changed, and all in it would be among what is made and removed
// there.
func checkOurs(path string) error {
	for _, name := range []string{"lock", "objects", "tmp"} {
		if _, err := sysLstat(filepath.Join(path, name)); err == nil {
			return nil
		}
	}
	d, err := sysOpen(path, os.O_RDONLY, 0)
	if err != nil {
		return nil // it is to be made; that will tell what is wrong
	}
	defer d.Close()
	names, _ := d.names(2)
	names = slices.DeleteFunc(names, func(name string) bool { return name == "lost+found" })
	if len(names) > 0 {
		return fmt.Errorf("directory %s holds %s and is not a cache: give the cache a directory of its own", path, names[0])
	}
	return nil
}

// holder names the process that wrote itself into a lock file.
func holder(f io.ReaderAt) string {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid := strings.TrimSpace(string(buf[:n]))
	if _, err := strconv.Atoi(pid); err != nil {
		return "another process"
	}
	comm, err := commandOf(pid)
	if err != nil {
		return "process " + pid
	}
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(comm)))
}

// there reports whether the path still names the directory that is locked, and
// that has its parts.
func (d *dir) there() bool {
	for _, p := range []string{"objects", "tmp"} {
		if _, err := sysStat(filepath.Join(d.path, p)); isGone(err) {
			return false
		}
	}
	held, err := d.lock.Stat()
	if err != nil { // closed by a reopen that failed
		return false
	}
	named, err := sysStat(filepath.Join(d.path, "lock"))
	if err != nil {
		return !isGone(err)
	}
	return os.SameFile(held, named)
}

// probe makes, renames and removes a file, as a fill does.
func (d *dir) probe() error {
	d.probing.Lock()
	defer d.probing.Unlock()
	temp, name := filepath.Join(d.path, "tmp", probeName), filepath.Join(d.path, "objects", probeName)
	err := sysWriteFile(temp, make([]byte, block)) // Limits.target has left room
	if err == nil {
		err = sysRename(temp, name)
	}
	if err == nil {
		err = sysRemove(name)
	}
	return err
}

const probeName = "probe"

// close gives up the lock, and may be called again.
func (d *dir) close() { d.lock.Close() }

func (d *dir) object(i id, group uint32) string {
	return filepath.Join(d.path, "objects", fileName(i, group))
}

func (d *dir) shard(n int) string {
	return filepath.Join(d.path, "objects", shardName(n))
}

func (d *dir) temp(n uint64) string {
	return filepath.Join(d.path, "tmp", strconv.FormatUint(n, 10))
}

// remove unlinks an entry's file. That it is not there is fine, and so is that
// a directory with something in it has its name.
func (d *dir) remove(i id, group uint32) error {
	err := sysRemove(d.object(i, group))
	if isGone(err) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}

// rename gives a temporary file its name as an entry.
func (d *dir) rename(temp string, i id, group uint32) error {
	path := d.object(i, group)
	for try := 0; ; try++ {
		err := sysRename(temp, path)
		if !errors.Is(err, fs.ErrNotExist) || try == 3 { // Cache.tidy may have been quicker
			return err
		}
		if err := sysMkdir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

// overhead is what the directory has on disk besides its objects and their
// directories.
func (d *dir) overhead() (n int64) {
	for _, p := range []string{"", "/objects", "/tmp", "/lock"} {
		n += sysAllocated(d.path + p)
	}
	return n
}

// space is the size of the file system and what is free of it to us.
func (d *dir) space() (total, avail int64, err error) {
	st, err := sysStatfs(d.path)
	if err != nil {
		return 0, 0, err
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

// isGone tells the errors of a path that names nothing.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// isFull tells the errors that room on the disk would cure.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
