package diskcache

import (
	"fmt"
	"os"
	"strconv"
	"sync"
)

// spare are descriptors of an entry's file with offsets of their own. They are
// kept, for opening costs as much as sending a small file.
type spare struct {
	mu    sync.Mutex // a leaf
	files []*os.File
}

const maxSpare = 4

// eager is up to which size an entry is verified at once, so that the kernel
// can send it. A larger one is first read block by block.
const eager = 16 << 20

// File lends the entry's file to one reader, for sendfile(2): it stands where
// the body begins, and ends where the body does. It is nil if the body has to
// be read by other means. The reader must Return it.
func (e *Entry) File() *os.File {
	if e.file == nil || !e.bodyEnd || e.unverified.Load() > 0 && e.meta.Size > eager {
		return nil
	}
	if e.verify(0, e.meta.Size) != nil {
		return nil
	}
	f := e.spare.take()
	if f == nil {
		// Not by its name, which may be another file's by now.
		var err error
		if f, err = os.Open("/proc/self/fd/" + strconv.Itoa(int(e.file.Fd()))); err != nil {
			return nil
		}
	}
	// A file that somebody made longer must not be sent to its end.
	fi, err := f.Stat()
	if err == nil && fi.Size() != e.bodyOff+e.meta.Size {
		err = fmt.Errorf("%w: file of %d bytes", errCorrupt, fi.Size())
		e.bad(err)
	}
	if err == nil {
		_, err = f.Seek(e.bodyOff, 0)
	}
	if err != nil {
		f.Close()
		return nil
	}
	return f
}

// Return gives a file back that File has lent.
func (e *Entry) Return(f *os.File) {
	if !e.spare.put(f) {
		f.Close()
	}
}

func (s *spare) take() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return nil
	}
	f := s.files[len(s.files)-1]
	s.files = s.files[:len(s.files)-1]
	return f
}

func (s *spare) put(f *os.File) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == maxSpare {
		return false
	}
	s.files = append(s.files, f)
	return true
}

func (s *spare) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		f.Close()
	}
	s.files = nil
}
