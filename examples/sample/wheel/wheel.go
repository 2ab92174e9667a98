// Package wheel writes pure-Python wheels and a package index of them,
// without Python: the same bytes every time.
package wheel

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Wheel is a pure-Python distribution in the binary distribution format
// (PEP 427).
type Wheel struct {
	Name     string
	Version  string
	Summary  string
	Requires []string          // dependencies as PEP 508 writes them
	Python   string            // the Pythons that it is for: ">=3.9"; all if empty
	Files    map[string]string // path to content
}

var separators = regexp.MustCompile(`[-_.]+`)

// Project is the wheel's name in an index (PEP 503, "Normalized Names").
func (w Wheel) Project() string { return normalize(w.Name) }

func normalize(name string) string {
	return strings.ToLower(separators.ReplaceAllString(name, "-"))
}

func (w Wheel) stem() string {
	return strings.ReplaceAll(w.Project(), "-", "_") + "-" + w.Version
}

// Filename is the name by which installers know the wheel.
func (w Wheel) Filename() string {
	return w.stem() + "-py3-none-any.whl"
}

func (w Wheel) metadata() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Metadata-Version: 2.1\nName: %s\nVersion: %s\n", w.Name, w.Version)
	if w.Summary != "" {
		fmt.Fprintf(&b, "Summary: %s\n", w.Summary)
	}
	if w.Python != "" {
		fmt.Fprintf(&b, "Requires-Python: %s\n", w.Python)
	}
	for _, r := range w.Requires {
		fmt.Fprintf(&b, "Requires-Dist: %s\n", r)
	}
	return b.String()
}

// WriteTo writes the wheel's archive.
func (w Wheel) WriteTo(out io.Writer) (int64, error) {
	info := w.stem() + ".dist-info/"
	files := maps.Clone(w.Files)
	if files == nil {
		files = make(map[string]string)
	}
	files[info+"METADATA"] = w.metadata()
	files[info+"WHEEL"] = "Wheel-Version: 1.0\nGenerator: mirror-sample\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

	names := slices.Sorted(maps.Keys(files))
	var record strings.Builder
	for _, name := range names {
		sum := sha256.Sum256([]byte(files[name]))
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", name, base64.RawURLEncoding.EncodeToString(sum[:]), len(files[name]))
	}
	record.WriteString(info + "RECORD,,\n")
	files[info+"RECORD"] = record.String()

	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, name := range append(names, info+"RECORD") {
		// Stored, not deflated: the bytes must not depend on a compressor's version.
		h := &zip.FileHeader{Name: name, Method: zip.Store, Modified: Time}
		h.SetMode(0o644)
		f, err := z.CreateHeader(h)
		if err != nil {
			return 0, fmt.Errorf("adding %s: %w", name, err)
		}
		if _, err := io.WriteString(f, files[name]); err != nil {
			return 0, fmt.Errorf("adding %s: %w", name, err)
		}
	}
	if err := z.Close(); err != nil {
		return 0, fmt.Errorf("closing archive: %w", err)
	}
	return buf.WriteTo(out)
}

// Time is the modification time of everything that this package writes.
var Time = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// WriteIndex writes wheels and an index of them (PEP 503) below dir: the
// wheels in packages/, the index, for use as pip's --index-url, in simple/.
func WriteIndex(dir string, wheels ...Wheel) error {
	projects := make(map[string]*strings.Builder)
	for _, w := range wheels {
		var buf bytes.Buffer
		if _, err := w.WriteTo(&buf); err != nil {
			return fmt.Errorf("%s: %w", w.Filename(), err)
		}
		if err := WriteFile(filepath.Join(dir, "packages", w.Filename()), buf.Bytes()); err != nil {
			return err
		}
		links := projects[w.Project()]
		if links == nil {
			links = new(strings.Builder)
			projects[w.Project()] = links
		}
		fmt.Fprintf(links, "<a href=\"../../packages/%s#sha256=%x\">%[1]s</a><br>\n", html.EscapeString(w.Filename()), sha256.Sum256(buf.Bytes()))
	}

	var all strings.Builder
	for _, p := range slices.Sorted(maps.Keys(projects)) {
		fmt.Fprintf(&all, "<a href=\"%s/\">%[1]s</a><br>\n", html.EscapeString(p))
		if err := writePage(filepath.Join(dir, "simple", p), "Links for "+p, projects[p].String()); err != nil {
			return err
		}
	}
	return writePage(filepath.Join(dir, "simple"), "Simple index", all.String())
}

func writePage(dir, title, body string) error {
	return WriteFile(filepath.Join(dir, "index.html"), fmt.Appendf(nil,
		"<!DOCTYPE html>\n<html>\n<head>\n<meta name=\"pypi:repository-version\" content=\"1.0\">\n<title>%s</title>\n</head>\n<body>\n%s</body>\n</html>\n",
		html.EscapeString(title), body))
}

// WriteFile writes a file and the directories above it, unless it is there
// with these bytes already: a tree that is being served must not change for
// nothing.
func WriteFile(name string, data []byte) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err2 := tmp.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o644)
	}
	if err == nil {
		err = os.Chtimes(tmp.Name(), Time, Time)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
