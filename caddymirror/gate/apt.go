package gate

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/apt"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/openpgp"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(new(Apt))
}

// Apt lets a tree pass in which the repositories of Debian packages are whole:
//
//   - Each `InRelease` and `Release` can be read, has not expired and, where there
//     is a keyring, is signed by a key of it.
//   - Of the indexes that they list, those that are there have the size and checksum
//     listed, also as `by-hash` where there is such a directory. Mirrors leave out
//     forms, components and architectures. But an index of packages is there, in at
//     least one form, where there is a directory for it; and every index that was there
//     when the tree was last released (Packages, Translation, Contents, icons...) still
//     is, as long as it is listed: clients that use it fail without. Those of
//     differences (`Packages.diff`) may go: apt does without.
//   - None is older than what was last released of it, by its Date, or from the future
//     by more than apt allows (10 seconds): apt refuses it as not valid yet.
//   - Where the gate looks for the repositories itself, those that were there when the
//     tree was last released are there, and so are symbolic links to them (`stable`).
//   - All packages and sources that the indexes list are there, with the size
//     listed.
//
// Nothing else is looked at: that there are files too many does no harm.
//
// The gate is as strict as apt: what apt takes passes, with a note in the log of the run
// where it is off the specification, and what apt refuses does not. apt 2.6.1 (Debian 12)
// was asked, see TestAptOdd in test/clients, which also names the few cases in which the
// gate is stricter, and those in which it is not as strict: of several checksums it
// compares the best one only, and of several signatures one good one is enough.
//
// The first tree is compared with nothing: what it has counts as all that there is to
// have. To let a tree pass that lacks a distribution or an architecture on purpose, run
// `caddy mirror forget JOB apt`, or remove the file that the gate names.
type Apt struct {
	// The directory to look at, relative to the tree. Default: the tree itself.
	Root string `json:"root,omitempty"`

	// The distributions, relative to `dists` in the root. One that ends with a slash is
	// a directory relative to the root, as in sources.list(5): a flat repository, which
	// has all in one directory, `./` that of the root. Default: all that there are in
	// the root and below it, of any number of repositories, flat or not. Directories whose
	// names begin with a dot are not looked into, nor is `pool` beside a `dists`.
	Dists []string `json:"dists,omitempty"`

	// Architectures that must be there in each component that has them; `source`
	// is one. Default: those that there are.
	Architectures []string `json:"architectures,omitempty"`

	// Compare the checksums of all packages too, which reads the whole tree.
	Hash bool `json:"hash,omitempty"`

	// A file of OpenPGP keys, armored or not, of which one must have signed, by a
	// signature that is good today. Default: signatures are not looked at.
	Keyring string `json:"keyring,omitempty"`

	// Let expired distributions pass, and those without a checksum that apt trusts
	// (SHA256, SHA512): those that are no longer supported.
	AllowExpired bool `json:"allow_expired,omitempty"`

	// Let distributions pass that are older than what was last released: where there
	// is an upstream that lags behind another.
	AllowOlder bool `json:"allow_older,omitempty"`

	seen record // in the last check
}

// CaddyModule returns the Caddy module information.
func (*Apt) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.gates.apt", New: func() caddy.Module { return new(Apt) }}
}

// Validate checks the names.
func (a *Apt) Validate() error {
	if a.Root != "" {
		if err := validPath(a.Root); err != nil {
			return fmt.Errorf("root: %w", err)
		}
	}
	for _, dist := range a.Dists {
		if err := validPath(dist); err != nil && dist != "./" {
			return err
		}
	}
	return nil
}

// Check implements Gate.
func (a *Apt) Check(ctx context.Context, r *step.Run) error {
	c := aptCheck{
		Apt:          a,
		repositories: repositories{gate: "apt", keyring: a.Keyring, hash: a.Hash, allowOlder: a.AllowOlder},
		planned:      map[aptForm]bool{},
	}
	return c.check(ctx, r, &a.seen, c.run)
}

// Remembers implements Recorder.
func (*Apt) Remembers() string { return recordName("apt") }

// Released implements Recorder.
func (a *Apt) Released(r *step.Run) error { return a.seen.keep(r, "apt") }

// aptCheck is one check of a tree.
type aptCheck struct {
	*Apt
	repositories

	planned    map[aptForm]bool // what several Releases list is parsed once
	todo, done int64            // bytes of indexes to be parsed
}

func (c *aptCheck) run() error {
	suites, err := c.suites()
	if err != nil {
		return err
	}
	var plans []aptPlan
	for _, s := range suites {
		releases, err := c.releases(s)
		if err != nil {
			return err
		}
		if len(releases) > 0 {
			c.date(s.dir, releases[0].file, releases[0].Date) // which clients prefer
		}
		for _, rel := range releases {
			p, err := c.plan(rel)
			if err != nil {
				return err
			}
			plans = append(plans, p...)
		}
	}
	for _, p := range plans {
		if err := c.index(p); err != nil {
			return err
		}
	}
	return nil
}

// releases reads what is in a directory of InRelease and Release. Mostly they say
// the same, and one is returned.
func (c *aptCheck) releases(s aptSuite) ([]*release, error) {
	dir := s.dir
	inline, err := c.release(dir, "InRelease")
	if err != nil {
		return nil, err
	}
	plain, err := c.release(dir, "Release")
	if err != nil {
		return nil, err
	}
	if !inline.exists && !plain.exists {
		c.add(dir, "has no InRelease and no Release")
		return nil, nil
	}
	if plain.exists && c.keys != nil {
		ok, err := c.detached(dir, plain.text, inline.exists)
		if err != nil {
			return nil, err
		}
		if !ok {
			plain.text = nil
		}
	}
	texts := []*releaseText{inline, plain}
	if string(inline.text) == string(plain.text) {
		texts = texts[:1]
	}
	var releases []*release
	for _, text := range texts {
		if len(text.text) == 0 {
			continue
		}
		parsed, err := apt.ParseRelease(text.text, func(what string) { c.remarks.add(text.file, what) })
		if err != nil {
			if err := c.note(text.file, err); err != nil {
				return nil, err
			}
			continue
		}
		rel := &release{parsed, text.file, dir, s.base}
		if !slices.Contains(apt.StrongKinds, rel.Kind) && !c.AllowExpired {
			c.add(text.file, "lists no SHA256 or SHA512: apt trusts no other checksums")
		}
		if !rel.Until.IsZero() && time.Now().After(rel.Until) && !c.AllowExpired {
			c.add(text.file, "has expired: it is valid until %s", rel.Until.UTC().Format(dateFormat))
		}
		releases = append(releases, rel)
	}
	return releases, nil
}

// release is an InRelease or Release of the tree.
type release struct {
	*apt.Release
	file string // relative to the tree
	dir  string // what the names of its indexes are relative to
	base *aptBase
}

type releaseText struct {
	file   string
	exists bool
	text   []byte // nil if it is not to be relied on
}

// release reads an InRelease or Release. A signature inside is checked, if there
// is a keyring.
func (c *aptCheck) release(dir, base string) (*releaseText, error) {
	rel := &releaseText{file: path.Join(dir, base)}
	var err error
	if rel.exists, err = c.t.exists(rel.file); err != nil || !rel.exists {
		return rel, err
	}
	text, err := c.t.read(c.ctx, rel.file, apt.MaxRelease)
	switch {
	case err != nil:
	case len(text) == 0:
		err = fault.Errorf("is empty")
	case openpgp.IsClearsigned(text):
		text, err = openpgp.OpenClearsigned(text, c.keys)
	case base == "InRelease":
		err = fault.Errorf("is not signed, and apt takes no such InRelease")
	}
	if err != nil {
		return rel, c.note(rel.file, err)
	}
	rel.text = text
	return rel, nil
}

// detached reports whether text has a good signature in Release.gpg. There need
// not be one if there is an InRelease.
func (c *aptCheck) detached(dir string, text []byte, optional bool) (bool, error) {
	name := path.Join(dir, "Release.gpg")
	exists, err := c.t.exists(name)
	if err != nil || !exists && optional {
		return true, err
	}
	signature, err := c.t.read(c.ctx, name, apt.MaxRelease)
	if err == nil {
		err = c.keys.VerifyArmored(text, signature)
	}
	return err == nil, c.note(name, err)
}

// UnmarshalCaddyfile sets up the gate:
//
//	apt [<dist...>] {
//		root          <path>
//		architectures <name...>
//		hash
//		keyring       <file>
//		allow_expired
//		allow_older
//	}
func (a *Apt) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the gate's name
	a.Dists = d.RemainingArgs()
	if err := a.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return options(d, map[string]option{
		"root": {1, 1, func(args []string) error {
			a.Root = args[0]
			return validPath(a.Root)
		}},
		"architectures": {1, -1, func(args []string) error {
			a.Architectures = args
			return nil
		}},
		"hash": flag(&a.Hash),
		"keyring": {1, 1, func(args []string) error {
			a.Keyring = args[0]
			return nil
		}},
		"allow_expired": flag(&a.AllowExpired),
		"allow_older":   flag(&a.AllowOlder),
	})
}

// Interface guards
var (
	_ Recorder              = (*Apt)(nil)
	_ caddy.Validator       = (*Apt)(nil)
	_ caddyfile.Unmarshaler = (*Apt)(nil)
)
