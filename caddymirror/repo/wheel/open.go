package wheel

import (
	"archive/zip"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

// Wheel is an open wheel.
type Wheel struct {
	Name     Name
	Metadata Metadata

	// Tags are those that its WHEEL names: they ought to be those of its file name.
	Tags []Tag

	in    *source
	files map[string]*zip.File // without directories
	names []string             // of files, in the order of the archive
	info  string               // the name of its .dist-info directory
}

// Open opens a wheel of a size, the name of which is file. It reads the archive's
// directory, METADATA and WHEEL, and no more.
//
// An error that is [fault.Error] speaks of the wheel: it is no archive, exceeds a limit, has
// names that hide each other or lead out of it, or has METADATA with another name or
// version than its file name. Any other is an error of r.
func Open(r io.ReaderAt, size int64, file string) (*Wheel, error) {
	name, err := ParseName(path.Base(file))
	if err != nil {
		return nil, err
	}
	w := &Wheel{Name: name, in: &source{r: r, left: maxDirectory + 1<<20}}
	z, err := zip.NewReader(w.in, size)
	switch {
	case w.in.over:
		return nil, fault.Errorf("has a directory larger than %s", humanize.IBytes(maxDirectory))
	case err != nil:
		return nil, w.in.fault(err)
	}
	w.in.left = -1
	if err := w.list(z, size); err != nil {
		return nil, err
	}
	if err := w.findInfo(); err != nil {
		return nil, err
	}
	if err := w.readMetadata(); err != nil {
		return nil, err
	}
	return w, w.readInfo()
}

// list looks at the names and sizes of the files.
func (w *Wheel) list(z *zip.Reader, size int64) error {
	w.files = make(map[string]*zip.File, len(z.File))
	w.names = make([]string, 0, len(z.File))
	dirs := map[string]bool{}
	var packed, unpacked uint64
	for _, f := range z.File {
		name, isDir := strings.CutSuffix(f.Name, "/")
		if !safe(name) {
			return fault.Errorf("has %s in it, which is not safe to unpack", fault.Show(f.Name))
		}
		if packed += f.CompressedSize64; packed > uint64(size) {
			return fault.Errorf("has files in it that overlap")
		}
		if unpacked += f.UncompressedSize64; f.UncompressedSize64 > maxUnpacked || unpacked > maxUnpacked {
			return fault.Errorf("has more than %s in it when it is unpacked", humanize.IBytes(maxUnpacked))
		}
		if isDir {
			addDirs(dirs, name)
			continue
		}
		if _, ok := w.files[name]; ok {
			return fault.Errorf("has %s in it twice", fault.Show(name))
		}
		w.files[name] = f
		w.names = append(w.names, name)
		addDirs(dirs, path.Dir(name))
	}
	for _, name := range w.names {
		if dirs[name] {
			return fault.Errorf("has %s in it as a file and as a directory", fault.Show(name))
		}
	}
	return nil
}

// addDirs adds a directory and those above it.
func addDirs(dirs map[string]bool, name string) {
	for ; name != "." && !dirs[name]; name = path.Dir(name) {
		dirs[name] = true
	}
}

// safe reports whether a name stays in the directory that the wheel is unpacked to.
func safe(name string) bool {
	return name != "" && name[0] != '/' && path.Clean(name) == name && name != ".." && !strings.HasPrefix(name, "../") &&
		!strings.ContainsAny(name, "\\\x00") && strings.Count(name, "/") < 100
}

const infoSuffix = ".dist-info"

// findInfo finds the .dist-info directory as pip does: there is one, and it begins with
// the project's name.
func (w *Wheel) findInfo() error {
	for _, name := range w.names {
		dir, _, ok := strings.Cut(name, "/")
		if !ok || !strings.HasSuffix(dir, infoSuffix) || dir == w.info {
			continue
		}
		if w.info != "" {
			return fault.Errorf("has two .dist-info directories in it, %s and %s", fault.Show(w.info), fault.Show(dir))
		}
		w.info = dir
	}
	switch {
	case w.info == "":
		return fault.Errorf("has no .dist-info directory in it")
	case !strings.HasPrefix(pypi.Normalize(w.info), pypi.Normalize(w.Name.Project)):
		return fault.Errorf("has the directory %s in it, which is not of the project %s that its file name has", fault.Show(w.info), pypi.Normalize(w.Name.Project))
	}
	return nil
}

// readMetadata reads METADATA, and compares it with the file name.
func (w *Wheel) readMetadata() error {
	b, err := w.read(w.info+"/METADATA", maxMetadata)
	if err != nil {
		return err
	}
	if w.Metadata, err = parseMetadata(b); err != nil {
		return err
	}
	if m := w.Metadata.Name; !ValidProject(m) || pypi.Normalize(m) != pypi.Normalize(w.Name.Project) {
		return fault.Errorf("has the name %s in its METADATA, and %s in its file name", fault.Show(m), w.Name.Project)
	}
	m, err := ParseVersion(w.Metadata.Version)
	if err != nil {
		return fault.Errorf("has METADATA in which %v", err)
	}
	if f, err := ParseVersion(w.Name.Version); err != nil || m.Compare(f) != 0 {
		return fault.Errorf("has the version %s in its METADATA, and %s in its file name", m, w.Name.Version)
	}
	return nil
}

// readInfo reads WHEEL.
func (w *Wheel) readInfo() error {
	b, err := w.read(w.info+"/WHEEL", maxInfo)
	if err != nil {
		return err
	}
	version := ""
	for name, value := range headers(b) {
		switch strings.ToLower(name) {
		case "wheel-version":
			version = value
		case "tag":
			tags, err := ParseTags(value)
			if err != nil {
				return fault.Errorf("has WHEEL in which %v", err)
			}
			if w.Tags = append(w.Tags, tags...); len(w.Tags) > maxTags {
				return fault.Errorf("has more than %d tags in its WHEEL", maxTags)
			}
		}
	}
	if major, _, _ := strings.Cut(version, "."); major != "1" {
		return fault.Errorf("has the format %s according to its WHEEL; pip takes 1 only", fault.Show(version))
	}
	return nil
}

// read reads a file of the archive that has no more bytes than most.
func (w *Wheel) read(name string, most int64) ([]byte, error) {
	f, ok := w.files[name]
	if !ok {
		return nil, fault.Errorf("has no %s in it", name)
	}
	r, err := w.open(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	switch {
	case int64(len(b)) > most:
		return nil, fault.Errorf("has a %s larger than %s", name, humanize.IBytes(uint64(most)))
	case err != nil:
		return nil, w.in.fault(err)
	}
	return b, nil
}

func (w *Wheel) open(f *zip.File) (io.ReadCloser, error) {
	const encrypted = 1
	if f.Flags&encrypted != 0 {
		return nil, fault.Errorf("has %s in it encrypted", fault.Show(f.Name))
	}
	r, err := f.Open()
	if errors.Is(err, zip.ErrAlgorithm) {
		return nil, fault.Errorf("has %s in it compressed in a way that is not known here, %d", fault.Show(f.Name), f.Method)
	}
	if err != nil {
		return nil, w.in.fault(err)
	}
	return r, nil
}

// source is where a wheel is read from. It tells the errors of that from those of the
// archive, and limits what is read of its directory.
type source struct {
	r    io.ReaderAt
	left int64 // -1: without limit
	over bool
	err  error
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 { // as the archive says
		return 0, io.ErrUnexpectedEOF
	}
	if s.left >= 0 {
		if s.left < int64(len(p)) {
			s.over = true
			return 0, io.ErrUnexpectedEOF
		}
		s.left -= int64(len(p))
	}
	n, err := s.r.ReadAt(p, off)
	if err != nil && err != io.EOF && s.err == nil {
		s.err = err
	}
	return n, err
}

// fault returns whose an error is.
func (s *source) fault(err error) error {
	if s.err != nil {
		return s.err
	}
	return fault.Errorf("can not be read: %v", err)
}
