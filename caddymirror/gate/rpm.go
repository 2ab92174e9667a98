package gate

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/rpm"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(new(Rpm))
}

// Rpm lets a tree pass in which the repositories of RPM packages are whole: each
// `repodata/repomd.xml` can be read and, where there is a keyring, is signed by a
// key of it; all metadata that it lists are there, with the size and checksum
// listed; and so are all packages that these list, with their size; and none is older
// than what was last released of it, by the newest timestamp in its repomd.xml, nor from
// the future. What is
// said to be in another place (an `xml:base`, or a whole address) is not looked at.
//
// What dnf takes passes, with a note in the log of the run where it is otherwise than it
// should be; what dnf refuses does not pass. dnf 4.14.0 (librepo 1.14.5, libsolv 0.7.23)
// was asked. The gate is stricter in this: metadata that dnf does not fetch must be there
// too, for those who mirror this mirror; no timestamp may be in the future; and the
// entities of a DOCTYPE are not known.
//
// Where the gate looks for the repositories itself, those that were there when the tree
// was last released must be there. To let a tree pass that lacks one on purpose, run
// `caddy mirror forget JOB rpm`, or remove the file that the gate names.
type Rpm struct {
	// The repositories, relative to the tree: the directories that `repodata` is in.
	// Default: all that there are.
	Dirs []string `json:"dirs,omitempty"`

	// Compare the checksums of all packages too, which reads the whole tree.
	Hash bool `json:"hash,omitempty"`

	// A file of OpenPGP keys, armored or not, of which one must have signed each
	// repomd.xml, in `repomd.xml.asc`, by a signature that is good today. Default:
	// signatures are not looked at.
	Keyring string `json:"keyring,omitempty"`

	// Let repositories pass that are older than what was last released: where there is
	// an upstream that lags behind another.
	AllowOlder bool `json:"allow_older,omitempty"`

	seen record // in the last check
}

// CaddyModule returns the Caddy module information.
func (*Rpm) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.gates.rpm", New: func() caddy.Module { return new(Rpm) }}
}

// Validate checks the names.
func (g *Rpm) Validate() error {
	for _, dir := range g.Dirs {
		if err := validPath(dir); err != nil {
			return err
		}
	}
	return nil
}

// Check implements Gate.
func (g *Rpm) Check(ctx context.Context, r *step.Run) error {
	c := rpmCheck{
		Rpm:          g,
		repositories: repositories{gate: "rpm", keyring: g.Keyring, hash: g.Hash, allowOlder: g.AllowOlder},
	}
	return c.check(ctx, r, &g.seen, c.run)
}

// Remembers implements Recorder.
func (*Rpm) Remembers() string { return recordName("rpm") }

// Released implements Recorder.
func (g *Rpm) Released(r *step.Run) error { return g.seen.keep(r, "rpm") }

// rpmCheck is one check of a tree.
type rpmCheck struct {
	*Rpm
	repositories

	repos, repo int // how many, and which is looked at
}

func (c *rpmCheck) run() error {
	dirs := c.Dirs
	if len(dirs) == 0 {
		var err error
		if dirs, err = c.search(nil, "."); err != nil {
			return err
		}
		if dirs, err = c.known(".", dirs, "repodata/repomd.xml"); err != nil {
			return err
		}
		if len(dirs) == 0 && !c.found.any() {
			c.add("", "there is no repository: no directory has a repodata")
		}
	}
	c.repos = len(dirs)
	for i, dir := range dirs {
		c.repo = i
		if err := c.repository(path.Clean(dir)); err != nil {
			return err
		}
	}
	return nil
}

// search adds the repositories in dir to dirs. Symbolic links are not followed: what
// they lead to is found where it is. But a repodata may be one, which is switched from
// one state to the next.
func (c *rpmCheck) search(dirs []string, dir string) ([]string, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	c.progress.report(-1, "%d repositories found", len(dirs))
	entries, err := c.t.list(dir)
	if err != nil {
		return dirs, c.note(dir, err)
	}
	for _, e := range entries {
		if e.Name() == "repodata" && (e.IsDir() || e.Type() == fs.ModeSymlink) {
			dirs = append(dirs, dir)
			continue
		}
		if !e.IsDir() {
			continue
		}
		if dirs, err = c.search(dirs, path.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return dirs, nil
}

// repository checks one repository.
func (c *rpmCheck) repository(dir string) error {
	name := path.Join(dir, "repodata/repomd.xml")
	at := c.files.place()
	text, err := c.t.read(c.ctx, name, rpm.MaxRepomd)
	if err != nil {
		return c.found.note(at, name, err)
	}
	if c.keys != nil {
		signature, err := c.t.read(c.ctx, name+".asc", rpm.MaxRepomd)
		if err == nil {
			err = c.keys.Verify(text, signature)
		}
		if err != nil {
			return c.found.note(at, name+".asc", err)
		}
	}
	repomd, err := rpm.ParseRepomd(bytes.NewReader(text), func(text string) { c.remarks.add(name, text) })
	if err != nil {
		return c.found.note(at, name, err)
	}
	c.date(dir, name, repomd.Made)
	lists := false
	for _, f := range repomd.Files {
		file, err := c.place(dir, name, f)
		if err == nil && file != "" {
			err = f.CheckPlace()
		}
		switch {
		case err != nil:
			err = c.found.note(at, name, err)
		case file == "":
		case f.Kind == "primary":
			lists = true
			err = c.primary(dir, file, name, f)
		default:
			err = c.files.addLenient(file, name, f.Size, f.Digest, func() { c.remarks.add(name, wrongSize) })
			err = c.found.note(at, name, err)
		}
		if err != nil {
			return err
		}
	}
	if !lists {
		c.found.add(at, name, "lists no primary metadata")
	}
	return nil
}

const wrongSize = "has a wrong size for metadata whose checksum is right"

// place returns where the file f, listed by the file by of the repository in dir, is in the
// tree. It is empty if f is elsewhere. Its error is a fault.Error.
func (c *rpmCheck) place(dir, by string, f rpm.File) (string, error) {
	if away, err := f.Elsewhere(); away || err != nil {
		return "", err
	}
	file, err := rpm.Path(dir, f.Href)
	switch {
	case err != nil:
	case strings.HasPrefix(f.Href, "/"):
		c.remarks.add(by, "lists files by names that begin with a slash")
	case rpm.HasUp(f.Href):
		c.remarks.add(by, "lists files by names with .. in them")
	}
	return file, err
}

// primary reads a primary.xml and has looked at what it lists.
func (c *rpmCheck) primary(dir, name, by string, want rpm.File) error {
	x := ref{at: c.files.place(), name: name, by: by}
	if slices.Contains(packed.Unreadable, path.Ext(name)) {
		return x.note(&c.found, fault.Errorf("is compressed in a way that this gate can not read"))
	}
	f, info, err := c.t.open(name)
	if err != nil {
		return x.note(&c.found, err)
	}
	defer f.Close()
	remark := func(text string) { c.remarks.add(name, text) }
	var done int64
	err = readIndex(c.ctx, f, want.Digest, by, &done, func(in io.Reader) error {
		z, err := packed.Open(name, in)
		if err != nil {
			return err
		}
		defer z.Close()
		err = rpm.ReadPrimary(packed.Bound(z, packed.MaxUnpacked), remark, func(p rpm.File) error {
			if c.count++; c.count%batchSize == 0 {
				part := float64(done) / float64(max(info.Size(), 1))
				c.progress.report((float64(c.repo)+part)/float64(c.repos), "%s packages, %s", humanize.Comma(c.count), name)
			}
			return c.pkg(dir, name, p)
		})
		if err == nil && z.More() {
			remark(oddMore)
		}
		return err
	})
	if want.Size >= 0 && info.Size() != want.Size {
		err = offSize(err, want.Digest, info.Size(), want.Size, by, func() { c.remarks.add(by, wrongSize) })
	}
	return x.note(&c.found, err)
}

// pkg has looked at a package.
func (c *rpmCheck) pkg(dir, by string, p rpm.File) error {
	name, err := c.place(dir, by, p)
	if err != nil || name == "" {
		return err
	}
	return c.files.add(name, by, p.Size, p.Digest)
}

// UnmarshalCaddyfile sets up the gate:
//
//	rpm [<dir...>] {
//		hash
//		keyring <file>
//		allow_older
//	}
func (g *Rpm) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the gate's name
	g.Dirs = d.RemainingArgs()
	if err := g.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return options(d, map[string]option{
		"hash": flag(&g.Hash),
		"keyring": {1, 1, func(args []string) error {
			g.Keyring = args[0]
			return nil
		}},
		"allow_older": flag(&g.AllowOlder),
	})
}

// Interface guards
var (
	_ Recorder              = (*Rpm)(nil)
	_ caddy.Validator       = (*Rpm)(nil)
	_ caddyfile.Unmarshaler = (*Rpm)(nil)
)
