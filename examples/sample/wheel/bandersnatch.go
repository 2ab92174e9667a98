package wheel

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bandersnatch is a mirror of a package index in the layout in which bandersnatch
// writes it.
type Bandersnatch struct {
	// Dir is bandersnatch's directory, that of `web`.
	Dir string

	// Serial is that of all pages.
	Serial int

	// HashIndex puts projects into directories by their first characters.
	HashIndex bool

	// Pages are the pages of each project. Default: index.html, index.v1_html and
	// index.v1_json.
	Pages []string
}

// file is a distribution in a mirror.
type file struct {
	Dist
	path     string // below web
	sha256   string
	metadata string // its checksum
}

// Write writes the mirror of some distributions: files, wheels with their metadata (PEP
// 658), pages of the simple repository API (PEP 503, 691) and of the JSON API.
func (b Bandersnatch) Write(dists ...Distribution) error {
	if b.Pages == nil {
		b.Pages = []string{"index.html", "index.v1_html", "index.v1_json"}
	}
	web := filepath.Join(b.Dir, "web")
	projects := make(map[string][]file)
	for _, d := range dists {
		dist, err := d.Dist()
		if err != nil {
			return err
		}
		f, err := b.writeFile(web, dist)
		if err != nil {
			return fmt.Errorf("%s: %w", dist.Filename, err)
		}
		projects[dist.Project()] = append(projects[dist.Project()], f)
	}
	names := slices.Sorted(maps.Keys(projects))
	for _, name := range names {
		dir := filepath.Join(web, "simple", name)
		if b.HashIndex {
			dir = filepath.Join(web, "simple", name[:1], name)
		}
		if err := b.writePages(dir, b.projectHTML(name, projects[name]), b.projectJSON(name, projects[name])); err != nil {
			return err
		}
		if err := b.writeInfo(web, name, projects[name]); err != nil {
			return err
		}
	}
	if err := b.writePages(filepath.Join(web, "simple"), rootHTML(names), b.rootJSON(names)); err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(web, "last-modified"), []byte(Time.Format("20060102T15:04:05\n"))); err != nil {
		return err
	}
	return WriteFile(filepath.Join(b.Dir, "status"), fmt.Append(nil, b.Serial))
}

func (b Bandersnatch) writeFile(web string, d Dist) (file, error) {
	sum := fmt.Sprintf("%x", sha256.Sum256(d.Data)) // PyPI's paths are of another kind of checksum
	f := file{
		Dist: d, sha256: sum,
		path: "packages/" + sum[:2] + "/" + sum[2:4] + "/" + sum[4:] + "/" + d.Filename,
	}
	err := WriteFile(filepath.Join(web, f.path), d.Data)
	if err == nil && d.Metadata != "" {
		f.metadata = fmt.Sprintf("%x", sha256.Sum256([]byte(d.Metadata)))
		err = WriteFile(filepath.Join(web, f.path+".metadata"), []byte(d.Metadata))
	}
	return f, err
}

func (b Bandersnatch) writePages(dir, htmlPage, jsonPage string) error {
	for _, name := range b.Pages {
		text := htmlPage
		if strings.HasSuffix(name, "json") {
			text = jsonPage
		}
		if err := WriteFile(filepath.Join(dir, name), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

func (b Bandersnatch) projectHTML(name string, files []file) string {
	var s strings.Builder
	fmt.Fprintf(&s, "<!DOCTYPE html>\n<html>\n  <head>\n    <meta name=\"pypi:repository-version\" content=\"1.0\">\n    <title>Links for %s</title>\n  </head>\n  <body>\n", name)
	for _, f := range files {
		fmt.Fprintf(&s, "    <a href=\"../../%s#sha256=%s\"", f.path, f.sha256)
		if f.metadata != "" {
			fmt.Fprintf(&s, " data-core-metadata=\"sha256=%s\"", f.metadata)
		}
		fmt.Fprintf(&s, ">%s</a><br/>\n", html.EscapeString(f.Filename))
	}
	fmt.Fprintf(&s, "  </body>\n</html>\n<!--SERIAL %d-->", b.Serial)
	return s.String()
}

type object map[string]any

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of strings, numbers, and maps of these
	}
	return string(b)
}

func (b Bandersnatch) projectJSON(name string, files []file) string {
	list := make([]object, 0, len(files))
	versions := make([]string, 0, len(files))
	for _, f := range files {
		o := object{
			"filename": f.Filename, "url": "../../" + f.path, "hashes": object{"sha256": f.sha256}, "size": len(f.Data),
			"core-metadata": false, "requires-python": "", "upload-time": Time, "yanked": false,
		}
		if f.metadata != "" {
			o["core-metadata"] = object{"sha256": f.metadata}
		}
		list = append(list, o)
		versions = append(versions, f.Version)
	}
	slices.Sort(versions)
	return text(object{
		"files": list, "name": name, "versions": slices.Compact(versions),
		"meta": object{"api-version": "1.1", "_last-serial": fmt.Sprint(b.Serial)}, // a string, as bandersnatch has it
	})
}

func rootHTML(names []string) string {
	var s strings.Builder
	s.WriteString("<!DOCTYPE html>\n<html>\n  <head>\n    <title>Simple Index</title>\n  </head>\n  <body>\n")
	for _, name := range names {
		fmt.Fprintf(&s, "    <a href=\"%s/\">%[1]s</a><br/>\n", name)
	}
	s.WriteString("  </body>\n</html>")
	return s.String()
}

func (b Bandersnatch) rootJSON(names []string) string {
	list := make([]object, 0, len(names))
	for _, name := range names {
		list = append(list, object{"name": name})
	}
	return text(object{"meta": object{"_last-serial": b.Serial, "api-version": "1.1"}, "projects": list})
}

// writeInfo writes the JSON API of a project.
func (b Bandersnatch) writeInfo(web, name string, files []file) error {
	last := files[len(files)-1]
	info := text(object{
		"info":        object{"name": last.Name, "version": last.Version, "summary": last.Summary},
		"last_serial": b.Serial, "releases": object{}, "urls": []object{},
	})
	link := filepath.Join(web, "pypi", name, "json")
	err := errors.Join(WriteFile(filepath.Join(web, "json", name), []byte(info)), os.MkdirAll(filepath.Dir(link), 0o755))
	if err != nil {
		return err
	}
	if err := os.Symlink("../../json/"+name, link); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
