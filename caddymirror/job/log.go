package job

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// runLog is the log of one run: a file, and the file before it once that has grown
// to half of what is allowed. What cannot be written is lost, and a run goes on.
type runLog struct {
	name string
	half int64
	disk *disk
	lost atomic.Pointer[error] // why something is missing

	mu    sync.Mutex // held over I/O: nobody who looks takes it; guards what follows
	f     *os.File   // nil: it cannot be opened, or is closed
	size  int64
	begun bool // a line is, and not ended
}

// openRunLog opens the log of a run. It is there to be written to even if it cannot
// be kept.
func openRunLog(d *disk, dir, id string, size int64) *runLog {
	defer d.call()()
	l := &runLog{name: filepath.Join(dir, id+".log"), half: max(size/2, 1), disk: d}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		l.lost.Store(&err)
		return l
	}
	l.open()
	return l
}

func (l *runLog) open() {
	f, err := os.OpenFile(l.name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		l.lost.Store(&err)
		return
	}
	l.f = f
}

// Write implements [io.Writer].
func (l *runLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.disk.call()()
	if l.size > 0 && l.size+int64(len(b)) > l.half {
		l.turn()
	}
	if l.f == nil {
		return len(b), nil
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	if n > 0 {
		l.begun = b[n-1] != '\n'
	}
	if err != nil {
		l.lost.Store(&err)
	}
	return len(b), nil
}

// note writes a line of our own, which begins on a line of its own.
func (l *runLog) note(format string, args ...any) {
	l.mu.Lock()
	begun := l.begun
	l.mu.Unlock()
	if begun {
		format = "\n" + format
	}
	fmt.Fprintf(l, format, args...)
}

// turn begins a new file, and drops the one before the last.
func (l *runLog) turn() {
	if l.f == nil {
		return
	}
	l.f.Close()
	l.f, l.size = nil, 0
	if err := os.Rename(l.name, l.name+".1"); err != nil {
		l.lost.Store(&err)
		return
	}
	l.open()
}

// problem is why something is missing from the log, or nil.
func (l *runLog) problem() error {
	err := l.lost.Load()
	if err == nil {
		return nil
	}
	return fmt.Errorf("writing the log of a run: %w", *err)
}

// Close ends the log.
func (l *runLog) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return
	}
	defer l.disk.call()()
	if err := l.f.Close(); err != nil {
		l.lost.Store(&err)
	}
	l.f = nil
}

// ReadLog copies the log of a run, at most the last so many bytes. [fs.ErrNotExist] says
// that it is not kept any more.
func (r *Runner) ReadLog(w io.Writer, id string, last int64) error {
	return readRunLog(w, r.logDir(), id, last)
}

// readRunLog copies the log of a run, at most the last so many bytes.
func readRunLog(w io.Writer, dir, id string, last int64) error {
	name := filepath.Join(dir, id+".log")
	var files []io.ReaderAt
	var sizes []int64
	skip := -last
	for _, n := range []string{name + ".1", name} {
		f, err := os.Open(n)
		if errors.Is(err, fs.ErrNotExist) && (n != name || len(files) > 0) {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		files, sizes = append(files, f), append(sizes, fi.Size())
		skip += fi.Size()
	}
	skip = max(0, skip)
	for n, f := range files {
		from := min(skip, sizes[n])
		skip -= from
		if _, err := io.Copy(w, io.NewSectionReader(f, from, sizes[n]-from)); err != nil {
			return err
		}
	}
	return nil
}

// pruneLogs removes the logs of all runs but these.
func pruneLogs(dir string, keep []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		id, _, ok := strings.Cut(e.Name(), ".log")
		if ok && !slices.Contains(keep, id) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
