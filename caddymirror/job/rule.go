package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/constraints"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

// ReleaseWhen says when changes are released, if not at once. It is looked at when a sync
// has ended well: all changes wait until one of the conditions holds.
type ReleaseWhen struct {
	// Changes is how many changes are released together: projects that bandersnatch has
	// changed, files of rsync, indexes of reprepro. What has changed twice counts once.
	Changes int `json:"changes,omitempty"`

	// After is how long the oldest change waits. It is looked at when a sync ends, so
	// the wait is longer by the time until the next sync has ended.
	After caddy.Duration `json:"after,omitempty"`

	// Projects are files of constraints, as OpenStack's upper-constraints.txt: a change
	// of one of the Python projects that they name is released at once, with all that
	// waits. They are read after each sync that has changed something. One that cannot be
	// read counts as one that names what has changed.
	Projects []string `json:"projects,omitempty"`
}

func (w *ReleaseWhen) check() error {
	switch {
	case w == nil:
		return nil
	case w.Changes < 0:
		return errors.New("release_when: changes is negative")
	case w.After < 0:
		return errors.New("release_when: after is negative")
	case w.Changes == 0 && w.After == 0 && len(w.Projects) == 0:
		return errors.New("release_when: when?")
	}
	for _, name := range w.Projects {
		if !isAbs(name) {
			return fmt.Errorf("release_when: project: %q is not an absolute path", name)
		}
	}
	return nil
}

// expand replaces placeholders in the names of files.
func (w *ReleaseWhen) expand() error {
	if w == nil {
		return nil
	}
	for i, name := range w.Projects {
		text, err := caddy.NewReplacer().ReplaceOrErr(name, true, true)
		if err != nil {
			return fmt.Errorf("release_when: %w", err)
		}
		w.Projects[i] = text
	}
	return nil
}

// ready makes sure that the files of constraints are there.
func (w *ReleaseWhen) ready() error {
	if w == nil {
		return nil
	}
	for _, name := range w.Projects {
		if _, err := os.Stat(name); err != nil {
			return fmt.Errorf("release_when: project: %w", err)
		}
	}
	return nil
}

// urgent returns which of the changes are of projects that the constraints name. A change
// is a project, or a file that is about one.
func (w *ReleaseWhen) urgent(ctx context.Context, changes []string) ([]string, error) {
	if w == nil || len(w.Projects) == 0 || len(changes) == 0 {
		return nil, nil
	}
	list, err := constraints.Load(ctx, openLocal, w.Projects...)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, r := range list.Requirements {
		named[r.Name] = true
	}
	var urgent []string
	for _, name := range changes {
		if strings.Contains(name, "/") {
			name = pypi.ProjectOf(name)
		}
		if named[name] && !slices.Contains(urgent, name) {
			urgent = append(urgent, name)
		}
	}
	return urgent, nil
}

func openLocal(_ context.Context, name string) (io.ReadCloser, error) {
	if constraints.IsURL(name) {
		return nil, fmt.Errorf("%s: only files are read", name)
	}
	return os.Open(name)
}

// holds reports whether what waits is to be released now, and why, or why not.
func (w *ReleaseWhen) holds(b *Backlog, now time.Time) (why string, ok bool) {
	age, after := now.Sub(b.Since), time.Duration(w.After)
	switch {
	case len(b.Urgent) > 0:
		return "constraints name " + strings.Join(first(b.Urgent, shownNames), ", "), true
	case w.Changes > 0 && b.Changes >= w.Changes:
		return count(b.Changes), true
	case after > 0 && age >= after:
		return fmt.Sprintf("the oldest change is of %v ago", age.Round(time.Second)), true
	case b.Uncounted && len(w.Projects) > 0:
		return "it is not known which projects have changed", true
	case b.Uncounted && after == 0:
		return "it is not known what has changed", true
	}
	text := count(b.Changes)
	switch {
	case w.Changes > 0:
		text = fmt.Sprintf("%d of %s", b.Changes, count(w.Changes))
	case b.Changes == 0:
		return "changes that nobody has counted", false
	}
	if b.Uncounted {
		text += ", and what nobody has counted"
	}
	return text, false
}

// count says how many changes there are.
func count(n int) string {
	if n == 1 {
		return "1 change"
	}
	return strconv.Itoa(n) + " changes"
}

// due is when what waits is released at the latest; zero if that is not said.
func (w *ReleaseWhen) due(b *Backlog) time.Time {
	if w == nil || w.After == 0 {
		return time.Time{}
	}
	return b.Since.Add(time.Duration(w.After))
}

// first returns the first few of names.
func first(names []string, most int) []string { return names[:min(len(names), most)] }
