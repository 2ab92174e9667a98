package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// A record is what a gate saw of the repositories of a tree. It is kept once the tree
// was released, for the next run to compare with.
type record struct {
	// Run is the id of the run in which it was seen.
	Run string `json:"run"`

	// Repositories by their directories.
	Repositories map[string]repository `json:"repositories"`

	// Aliases are symbolic links to repositories: clients know these by both names.
	Aliases []string `json:"aliases,omitempty"`

	file string
	hint string // how to let a tree pass that is held because of it
}

// A repository is what a gate keeps of one.
type repository struct {
	// Date is when it was made, by its own account; zero if it does not say.
	Date time.Time `json:"date,omitzero"`

	// Indexes are the indexes of packages that were there.
	Indexes []string `json:"indexes,omitempty"`
}

// recordName is the name of the file with the record of all gates of that name in a job.
func recordName(gate string) string { return gate + ".released" }

// recordOf is the path of that file.
func recordOf(r *step.Run, gate string) string { return filepath.Join(r.State, recordName(gate)) }

// readRecord reads what was released last. It is empty if there is nothing yet.
func readRecord(r *step.Run, gate string) (*record, error) {
	last := &record{file: recordOf(r, gate)}
	last.hint = forgetHint(r.Job, gate, last.file)
	text, err := step.ReadFile(last.file, step.MaxState)
	if errors.Is(err, fs.ErrNotExist) {
		return last, nil
	}
	if err == nil {
		err = json.Unmarshal(text, last)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was released last: %s: %w (`caddy mirror forget %s %s` removes it; the next tree will be compared with nothing then)",
			last.file, err, r.Job, gate)
	}
	for dir, repo := range last.Repositories {
		if isFuture(repo.Date) { // the clock of this host, or an older gate, was wrong
			repo.Date = time.Time{}
			last.Repositories[dir] = repo
		}
	}
	return last, nil
}

// newRecord returns an empty record of this run.
func newRecord(r *step.Run) record {
	return record{Run: r.ID, Repositories: map[string]repository{}}
}

// besides returns the repositories that were there and are not among those found.
func (last *record) besides(found []string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(last.Repositories)), func(dir string) bool {
		return slices.Contains(found, dir)
	})
}

// had reports whether an index was there in the repository in dir.
func (last *record) had(dir, index string) bool {
	return slices.Contains(last.Repositories[dir].Indexes, index)
}

// keep makes the record that of what was released last. Gates of the same name in the
// same run share the file; nothing is left in it of runs before.
func (seen *record) keep(r *step.Run, gate string) error {
	if seen.Run != r.ID {
		return fmt.Errorf("%s: keeping what was released: what was seen is of run %q, not of %q", gate, seen.Run, r.ID)
	}
	all := *seen
	if last, err := readRecord(r, gate); err == nil && last.Run == r.ID {
		maps.Copy(last.Repositories, seen.Repositories)
		last.Aliases = append(last.Aliases, seen.Aliases...)
		slices.Sort(last.Aliases)
		last.Aliases = slices.Compact(last.Aliases)
		all = *last
	}
	text, err := json.Marshal(all)
	if err == nil {
		err = step.WriteFile(recordOf(r, gate), text)
	}
	if err != nil {
		return fmt.Errorf("%s: keeping what was released: %w", gate, err)
	}
	return nil
}
