package faults

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// version is one state of a file. Its bytes follow from it: whoever has bytes
// and an offset can tell whether they are this version's.
type version struct {
	name string
	n    int // the file's first version is 1
	size int64
}

// read puts the bytes from off on into p.
func (v version) read(p []byte, off int64) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", v.name, v.n)
	seed := h.Sum64()
	var word [8]byte
	for i := 0; i < len(p); {
		at := off + int64(i)
		binary.LittleEndian.PutUint64(word[:], mix(seed+uint64(at/8)))
		if at%8 == 0 && len(p)-i >= 8 {
			copy(p[i:], word[:])
			i += 8
			continue
		}
		p[i] = word[at%8]
		i++
	}
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// bytes is all of it.
func (v version) bytes() []byte {
	p := make([]byte, v.size)
	v.read(p, 0)
	return p
}

// differs is where p, found at off, first differs from the version, or -1.
func (v version) differs(p []byte, off int64) int64 {
	if off+int64(len(p)) > v.size {
		return v.size
	}
	var buf [64 << 10]byte
	for n := 0; n < len(p); n += len(buf) {
		part := p[n:min(n+len(buf), len(p))]
		want := buf[:len(part)]
		v.read(want, off+int64(n))
		if bytes.Equal(part, want) {
			continue
		}
		for i := range part {
			if part[i] != want[i] {
				return off + int64(n+i)
			}
		}
	}
	return -1
}

// tree is a directory of such files, for an origin.
type tree struct {
	dir string

	mu    sync.Mutex
	files map[string][]version // all that there ever were, the newest last
}

func newTree(t testing.TB) *tree {
	t.Helper()
	return &tree{dir: filepath.Join(t.TempDir(), "origin"), files: map[string][]version{}}
}

// epoch is when the first versions of files were made: long enough ago for
// an origin to vouch for them.
var epoch = time.Now().Add(-24 * time.Hour).Truncate(time.Second)

// put makes the next version of a file, whole, by a rename. It has a time of
// its own, as if rsync had brought it.
func (tr *tree) put(name string, size int64) error {
	return tr.putAt(name, size, func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) })
}

// putNow is put, for a version that was made just now.
func (tr *tree) putNow(name string, size int64) error {
	return tr.putAt(name, size, func(int) time.Time { return time.Now() })
}

func (tr *tree) putAt(name string, size int64, mtime func(n int) time.Time) error {
	v := version{name, len(tr.versions(name)) + 1, size}
	path := filepath.Join(tr.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, v.bytes(), 0o644); err != nil {
		return err
	}
	if err := os.Chtimes(temp, time.Time{}, mtime(v.n)); err != nil {
		return err
	}
	tr.mu.Lock()
	tr.files[name] = append(tr.files[name], v)
	tr.mu.Unlock()
	return os.Rename(temp, path)
}

// add is put for a test's preparations.
func (tr *tree) add(t testing.TB, name string, size int64) {
	t.Helper()
	if err := tr.put(name, size); err != nil {
		t.Fatal(err)
	}
}

// names of all files.
func (tr *tree) names() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Sorted(maps.Keys(tr.files))
}

// versions of a file up to now.
func (tr *tree) versions(name string) []version {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.files[name])
}

// newest version of a file.
func (tr *tree) newest(name string) version {
	all := tr.versions(name)
	return all[len(all)-1]
}

// identify finds the one version that p, found at off of a file of size bytes
// by what the response said, is of.
func (tr *tree) identify(name string, p []byte, off, size int64) (version, error) {
	all := tr.versions(name)
	slices.Reverse(all)
	for _, v := range all {
		if v.size == size && v.differs(p, off) < 0 {
			return v, nil
		}
	}
	// What is it, then?
	for _, v := range all {
		if len(p) >= 8 && v.differs(p[:8], off) < 0 {
			at := v.differs(p, off)
			rest := p[min(max(at-off, 0), int64(len(p))):]
			for _, w := range all {
				if w != v && len(rest) >= 8 && w.differs(rest[:8], at) < 0 {
					return v, fmt.Errorf("%s: version %d turns into version %d at byte %d of %d", name, v.n, w.n, at, size)
				}
			}
			return v, fmt.Errorf("%s: version %d, of %d bytes, is wrong from byte %d on (response: %d bytes from %d of %d)",
				name, v.n, v.size, at, len(p), off, size)
		}
	}
	return version{}, fmt.Errorf("%s: %d bytes from %d of %d are of no version: %.16x...", name, len(p), off, size, p)
}
