package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// file is one of the files that every server serves, below /files/.
type file struct {
	title string
	name  string
	size  int64
	rare  bool // takes part in every other round only, to save time
	tls   bool // asked for with https

	path   string // of its URL, if it is not below /files/
	accept string // what it is asked for with

	sum [sha256.Size]byte
}

// hitSizes are the titles of all files.
var hitSizes = []string{"4 KiB", "64 KiB", "1 MiB", "100 MiB"}

// writeTree makes the files of the hits in dir/files. Each is there twice, for
// http and https. sizes are the titles of those wanted, if not all are.
func writeTree(dir string, sizes []string) ([]file, error) {
	files := []file{
		{title: "4 KiB", name: "4k.bin", size: 4 * kib},
		{title: "64 KiB", name: "64k.bin", size: 64 * kib},
		{title: "1 MiB", name: "1m.bin", size: mib},
		{title: "100 MiB", name: "100m.bin", size: 100 * mib, rare: true},
	}
	if len(sizes) > 0 {
		files = slices.DeleteFunc(files, func(f file) bool { return !slices.Contains(sizes, f.title) })
	}
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o755); err != nil {
		return nil, err
	}
	for i := range files {
		if err := files[i].write(filepath.Join(dir, "files"), byte(i)); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		f.title, f.tls = f.title+", TLS", true
		files = append(files, f)
	}
	return files, nil
}

// write makes the file in dir.
func (f *file) write(dir string, seed byte) error {
	h := sha256.New()
	if err := writeRandom(filepath.Join(dir, f.name), f.size, seed, h); err != nil {
		return fmt.Errorf("making %s: %w", f.name, err)
	}
	h.Sum(f.sum[:0])
	return nil
}

// writeRandom makes a file of size random bytes, the same for the same seed,
// and writes them to also as well. The file is on disk when it returns, so that
// no write-back of it runs into what is measured.
func writeRandom(path string, size int64, seed byte, also io.Writer) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	src := rand.NewChaCha8([32]byte{seed})
	buf := make([]byte, 256*kib)
	for left := size; left > 0; {
		p := buf[:min(left, int64(len(buf)))]
		if _, err := src.Read(p); err != nil {
			return err
		}
		if _, err := io.MultiWriter(f, also).Write(p); err != nil {
			return err
		}
		left -= int64(len(p))
	}
	return f.Sync()
}
