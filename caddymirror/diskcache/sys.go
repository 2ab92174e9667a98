package diskcache

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Every call of this package to the file system is made in this file. A disk may
// take seconds for any of them, so none is made with Cache.mu held: offLock
// panics if one is, in tests with the race detector.

// sysFile is an open file.
type sysFile os.File

func sysOpen(path string, flag int, perm fs.FileMode) (*sysFile, error) {
	offLock()
	f, err := os.OpenFile(path, flag, perm)
	return (*sysFile)(f), err
}

func (f *sysFile) std() *os.File {
	offLock()
	return (*os.File)(f)
}

func (f *sysFile) ReadAt(p []byte, off int64) (int, error)  { return f.std().ReadAt(p, off) }
func (f *sysFile) WriteAt(p []byte, off int64) (int, error) { return f.std().WriteAt(p, off) }
func (f *sysFile) Stat() (fs.FileInfo, error)               { return f.std().Stat() }
func (f *sysFile) Truncate(size int64) error                { return f.std().Truncate(size) }
func (f *sysFile) Close()                                   { f.std().Close() } // nil is fine

// allocate sets n bytes aside for the file, whose length stays.
func (f *sysFile) allocate(n int64) error {
	fd := int(f.std().Fd())
	for {
		err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, n)
		if err != unix.EINTR { // tmpfs: the runtime's signals do
			return err
		}
	}
}

// lock takes the file's lock, if nobody has it.
func (f *sysFile) lock() error {
	return unix.Flock(int(f.std().Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// names lists a directory, n names at most if n is positive.
func (f *sysFile) names(n int) ([]string, error) { return f.std().Readdirnames(n) }

// stat looks at a name in a directory, and does not follow a link.
func (f *sysFile) stat(name string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(int(f.std().Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func sysStat(path string) (fs.FileInfo, error) {
	offLock()
	return os.Stat(path)
}

func sysLstat(path string) (fs.FileInfo, error) {
	offLock()
	return os.Lstat(path)
}

// sysAllocated is the bytes allocated to the file at path, 0 if it is not there.
func sysAllocated(path string) int64 {
	offLock()
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

func sysStatfs(path string) (st unix.Statfs_t, err error) {
	offLock()
	err = unix.Statfs(path, &st)
	return st, err
}

func sysMkdir(path string) error {
	offLock()
	return os.Mkdir(path, 0o700)
}

func sysMkdirAll(path string) error {
	offLock()
	return os.MkdirAll(path, 0o700)
}

// sysProtect keeps others out of a directory.
func sysProtect(path string) error {
	offLock()
	return os.Chmod(path, 0o700) //nolint:gosec // a directory
}

func sysRename(from, to string) error {
	offLock()
	return os.Rename(from, to)
}

func sysRemove(path string) error {
	offLock()
	return os.Remove(path)
}

func sysRmdir(path string) error {
	offLock()
	return unix.Rmdir(path)
}

// sysSetMode sets the permissions of the file at path.
func sysSetMode(path string, mode fs.FileMode) error {
	offLock()
	return os.Chmod(path, mode)
}

// sysSetTime sets when the file at path was last modified.
func sysSetTime(path string, t time.Time) error {
	offLock()
	return os.Chtimes(path, time.Time{}, t)
}

func sysWriteFile(path string, data []byte) error {
	offLock()
	return os.WriteFile(path, data, 0o600)
}

func sysReadDir(path string) ([]fs.DirEntry, error) {
	offLock()
	return os.ReadDir(path)
}

// commandOf is the name of a process's command.
func commandOf(pid string) ([]byte, error) {
	offLock()
	return os.ReadFile(filepath.Join("/proc", pid, "comm"))
}
