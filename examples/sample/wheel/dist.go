package wheel

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"maps"
	"slices"
)

// A Distribution is what an index has files of: a [Wheel], an [Sdist], or any other [Dist].
type Distribution interface {
	// Dist is the file of it.
	Dist() (Dist, error)
}

// Dist is a file of an index.
type Dist struct {
	Name     string
	Version  string
	Summary  string
	Filename string
	Data     []byte
	Metadata string // of a wheel, to be served beside it (PEP 658)
}

// Dist implements [Distribution].
func (d Dist) Dist() (Dist, error) { return d, nil }

// Project is its name in an index (PEP 503, "Normalized Names").
func (d Dist) Project() string { return normalize(d.Name) }

// Dist implements [Distribution].
func (w Wheel) Dist() (Dist, error) {
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		return Dist{}, fmt.Errorf("%s: %w", w.Filename(), err)
	}
	return Dist{w.Name, w.Version, w.Summary, w.Filename(), b.Bytes(), w.metadata()}, nil
}

// Sdist is a source distribution (PEP 643). Its files say how it is built, with a
// `pyproject.toml`.
type Sdist struct {
	Name     string
	Version  string
	Summary  string
	Requires []string
	Files    map[string]string // path to content
}

// Sdist is a source distribution that the wheel is built of, with Python alone: its build
// backend is in it.
func (w Wheel) Sdist() Sdist {
	files := maps.Clone(w.Files)
	if files == nil {
		files = make(map[string]string)
	}
	files["backend.py"] = backend
	files["pyproject.toml"] = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n"
	return Sdist{w.Name, w.Version, w.Summary, w.Requires, files}
}

//go:embed backend.py
var backend string

// Filename is the name by which installers know the source distribution (PEP 625).
func (s Sdist) Filename() string { return s.stem() + ".tar.gz" }

func (s Sdist) stem() string { return Wheel{Name: s.Name, Version: s.Version}.stem() }

// Dist implements [Distribution].
func (s Sdist) Dist() (Dist, error) {
	files := maps.Clone(s.Files)
	if files == nil {
		files = make(map[string]string)
	}
	files["PKG-INFO"] = Wheel{Name: s.Name, Version: s.Version, Summary: s.Summary, Requires: s.Requires}.metadata()
	data, err := Tarball(s.stem(), files)
	return Dist{s.Name, s.Version, s.Summary, s.Filename(), data, ""}, err
}

// Tarball is a tar archive of files below dir, in the format of gzip.
func Tarball(dir string, files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	// Stored, as in wheels.
	gz, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	if err != nil {
		return nil, err
	}
	tw := tar.NewWriter(gz)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: dir + "/" + name, Size: int64(len(files[name])), Mode: 0o644, ModTime: Time}
		if err := tw.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("archiving %s: %w", h.Name, err)
		}
		if _, err := tw.Write([]byte(files[name])); err != nil {
			return nil, fmt.Errorf("archiving %s: %w", h.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("closing archive: %w", err)
	}
	if err := gz.Close(); err != nil {
		return nil, fmt.Errorf("closing archive: %w", err)
	}
	return b.Bytes(), nil
}
