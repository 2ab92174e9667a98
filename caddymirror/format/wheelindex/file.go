package wheelindex

import (
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// A file is a wheel or a source distribution, as it was listed.
type file struct {
	path, name string
	info       origin.Info
	project    string // normalized; empty if the name does not tell
	version    string // in its normal form
	isWheel    bool
	wrong      string // why it is left out, whatever it has in it
	young      *young // not nil if it was changed just now, and may be being written
}

// newFile returns the file that was listed, or nil if it is neither a wheel nor a source
// distribution, nor one that is being written.
func newFile(path string, info origin.Info) *file {
	f := &file{path: path, name: info.Name, info: info}
	switch {
	case isTemporary(f.name):
		f.wrong = "has the name of a file that is being written"
		return f
	case strings.HasSuffix(f.name, ".whl"):
		f.isWheel = true
		n, err := wheel.ParseName(f.name)
		f.parsed(n.Project, n.Version, err)
	case strings.HasSuffix(f.name, ".tar.gz"), strings.HasSuffix(f.name, ".zip"):
		n, err := wheel.ParseSource(f.name)
		f.parsed(n.Project, n.Version, err)
	default:
		return nil
	}
	if f.wrong == "" && info.Validator == "" {
		f.young = newYoung()
	}
	return f
}

func (f *file) parsed(project, version string, err error) {
	if err != nil {
		f.wrong = err.Error()
		return
	}
	f.project = pypi.Normalize(project)
	if v, err := wheel.ParseVersion(version); err == nil {
		f.version = v.String()
	}
}

// isTemporary reports whether a name is one that a program gives to a wheel or a source
// distribution while it writes it: `.foo.whl.Xy12`, `foo.whl.part`.
func isTemporary(name string) bool {
	for _, end := range []string{".whl", ".tar.gz", ".zip"} {
		i := strings.LastIndex(name, end)
		if i < 0 {
			continue
		}
		if name[0] == '.' {
			return true
		}
		switch rest := name[i+len(end):]; strings.ToLower(strings.TrimLeft(rest, ".-_")) {
		case "tmp", "temp", "part", "partial", "new", "filepart", "crdownload", "download", "~":
			return true
		}
	}
	return false
}
