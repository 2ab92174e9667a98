package mirror

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// runLog is the log of one run: a file, and the file before it once that has grown
// to half of what is allowed. What cannot be written is lost, and a run goes on.
type runLog struct {
	mu   sync.Mutex
	name string
	half int64
	f    *os.File
	size int64
}

func openRunLog(dir, id string, size int64) (*runLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l := &runLog{name: filepath.Join(dir, id+".log"), half: max(size/2, 1)}
	var err error
	l.f, err = os.OpenFile(l.name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	return l, err
}

// Write implements [io.Writer].
func (l *runLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return len(b), nil
	}
	if l.size > 0 && l.size+int64(len(b)) > l.half {
		l.turn()
	}
	n, _ := l.f.Write(b)
	l.size += int64(n)
	return len(b), nil
}

// turn begins a new file, and drops the one before the last.
func (l *runLog) turn() {
	l.f.Close()
	l.size = 0
	err := os.Rename(l.name, l.name+".1")
	if err == nil {
		l.f, err = os.OpenFile(l.name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	}
	if err != nil {
		l.f = nil
	}
}

// Close ends the log.
func (l *runLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// readRunLog copies the log of a run, at most the last so many bytes.
func readRunLog(w io.Writer, dir, id string, last int64) error {
	name := filepath.Join(dir, id+".log")
	var files []*os.File
	var size int64
	for _, n := range []string{name + ".1", name} {
		f, err := os.Open(n)
		if errors.Is(err, fs.ErrNotExist) && n != name {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close()
		if fi, err := f.Stat(); err == nil {
			size += fi.Size()
		}
		files = append(files, f)
	}
	skip := max(0, size-last)
	for _, f := range files {
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		if skip >= fi.Size() {
			skip -= fi.Size()
			continue
		}
		if _, err := f.Seek(skip, io.SeekStart); err != nil {
			return err
		}
		skip = 0
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
	}
	return nil
}

// pruneLogs keeps the logs of the last runs. Names sort by time.
func pruneLogs(dir string, keep int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".log"); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids[:max(0, len(ids)-keep)] {
		os.Remove(filepath.Join(dir, id+".log"))
		os.Remove(filepath.Join(dir, id+".log.1"))
	}
}
