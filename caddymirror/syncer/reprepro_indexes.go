package syncer

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/apt"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// indexes are what the Release files below dists say, by their names relative to outdir:
// their lines, without the date.
type indexes map[string][]string

// indexes reads the Release files of the repository. They name all other indexes with
// their checksums.
func (l *layout) indexes() (indexes, error) {
	all := indexes{}
	err := filepath.WalkDir(filepath.Join(l.out, "dists"), func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // the first run makes it
		case err != nil:
			return err
		case d.Name() != "Release" || !d.Type().IsRegular():
			return nil
		}
		text, err := step.ReadFile(name, apt.MaxRelease)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(l.out, name)
		if err != nil {
			return err
		}
		var lines []string
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "Date:") {
				lines = append(lines, strings.TrimSuffix(line, "\n"))
			}
		}
		all[filepath.ToSlash(rel)] = lines
		return nil
	})
	return all, err
}

// changed calls change with each index that is not the same any more, by its name relative
// to outdir. Of a Release that lists the same indexes as before, and says something else
// of them, that is the Release.
func (x indexes) changed(now indexes, change func(name string)) (changed bool) {
	for _, pair := range [][2]indexes{{x, now}, {now, x}} {
		for name, lines := range pair[0] {
			differs, listed := false, false
			others := map[string]bool{}
			for _, line := range pair[1][name] {
				others[line] = true
			}
			for _, line := range lines {
				if others[line] {
					continue
				}
				differs = true
				// A checksum, a size and a name.
				if f := strings.Fields(line); strings.HasPrefix(line, " ") && len(f) == 3 {
					listed = true
					change(path.Join(path.Dir(name), f[2]))
				}
			}
			if differs && !listed {
				change(name)
			}
			changed = changed || differs
		}
	}
	return changed
}
