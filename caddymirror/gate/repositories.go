package gate

import (
	"context"
	"path"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/apt"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/openpgp"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// repositories is one check of the repositories of a tree, of whatever kind.
type repositories struct {
	gate       string // its name
	keyring    string // its file
	hash       bool
	allowOlder bool

	ctx      context.Context
	t        *tree
	keys     *openpgp.Keyring
	found    problems
	remarks  remarks
	files    *listed
	progress *progress

	last   *record // of what was released
	hinted bool
	now    record

	count  int64     // of packages
	newest time.Time // date of a repository
}

// check runs a check and keeps what it saw.
func (c *repositories) check(ctx context.Context, r *step.Run, seen *record, run func() error) error {
	c.now, c.progress = newRecord(r), newProgress(ctx, r, c.gate)
	err := within(ctx, func(ctx context.Context) error { return c.look(ctx, r, run) })
	if ctx.Err() == nil { // else it may have been left behind
		noteUpstream(r, c.newest)
		c.remarks.write(r.Out, c.gate)
		*seen = c.now
	}
	return err
}

func (c *repositories) look(ctx context.Context, r *step.Run, run func() error) (err error) {
	if c.t, err = openTree(r); err != nil {
		return err
	}
	defer c.t.close()
	if c.last, err = readRecord(r, c.gate); err != nil {
		return err
	}
	if c.keyring != "" {
		if c.keys, err = readKeyring(c.keyring); err != nil {
			return err
		}
	}
	c.ctx, c.files = ctx, newListed(ctx, c.t, c.hash, &c.found)
	if err := c.files.end(run()); err != nil {
		return err
	}
	return c.found.err(c.gate)
}

// add notes a problem with a file.
func (c *repositories) add(file, format string, args ...any) {
	c.found.add(c.files.place(), file, format, args...)
}

// hint says how to let a tree pass that is held by what is remembered: once in a verdict.
func (c *repositories) hint(more string) string {
	if c.hinted {
		return ""
	}
	c.hinted = true
	return " (" + c.last.hint + more + ")"
}

// note files an error, if it is the fault of the file.
func (c *repositories) note(file string, err error) error {
	return c.found.note(c.files.place(), file, err)
}

// date keeps when the repository in dir was made, by what file says, and notes that it
// is older than it was. Of one that does not say any more, it is known when it was. A date
// in the future is noted, and kept nowhere: all that follows would be older.
func (c *repositories) date(dir, file string, made time.Time) {
	if isFuture(made) {
		c.add(file, "is of %s, which is %v ahead of this host's clock", made.UTC().Format(dateFormat), time.Until(made).Round(time.Second))
		made = time.Time{}
	}
	if made.After(c.newest) {
		c.newest = made
	}
	was := c.last.Repositories[dir].Date
	if made.IsZero() {
		made = was
	}
	c.now.Repositories[dir] = repository{Date: made}
	if made.Before(was) && !c.allowOlder {
		c.add(file, "is of %s, what was released last of %s%s",
			made.UTC().Format(dateFormat), was.UTC().Format(dateFormat), c.hint(", or set allow_older"))
	}
}

// isFuture reports whether a repository cannot have been made at t yet, by what apt allows.
func isFuture(t time.Time) bool { return time.Until(t) > apt.MaxAhead }

const dateFormat = "2006-01-02 15:04:05 MST"

// known adds to dirs, the repositories that were found in top or below it, those that were
// released last and are known by other names now, and notes those that are gone: that
// have none of the files.
func (c *repositories) known(top string, dirs []string, files ...string) ([]string, error) {
	for _, dir := range c.last.besides(dirs) {
		there, err := c.still(top, dir, files)
		if err != nil {
			return nil, err
		}
		if there {
			dirs = append(dirs, dir)
		}
	}
	for _, alias := range c.last.Aliases {
		if _, err := c.still(top, alias, files); err != nil {
			return nil, err
		}
	}
	return dirs, nil
}

// still reports whether dir, in which a repository was, has one of the files, and notes it
// if not. What is not below top is of another gate.
func (c *repositories) still(top, dir string, files []string) (bool, error) {
	if top != "." && dir != top && !strings.HasPrefix(dir, top+"/") {
		return false, nil
	}
	there, err := c.hasOne(dir, files)
	if err == nil && !there {
		c.add(dir, "has no %s any more%s", strings.Join(files, " and no "), c.hint(""))
	}
	return there, err
}

// hasOne reports whether there is one of the files in dir.
func (c *repositories) hasOne(dir string, files []string) (there bool, err error) {
	for _, name := range files {
		if there, err = c.t.exists(path.Join(dir, name)); there || err != nil {
			break
		}
	}
	return there, err
}
