package releaser

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/cells"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/caddymirror/caddyafs"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(new(AFS))
}

// AFS releases volumes with `vos release`, one after the other, and makes sure that
// it was done.
//
// A volume is released only if it was written to since its last release. Before, the
// servers are asked for its state: while it is locked nothing is done, and if an
// earlier release broke off, the clone that it left is made anew
// (`-force-reclone`), for else vos would publish the old one and call that a
// success. After, whatever vos says, all copies have to be of one release that is not
// older than what was last written, and none marked as anything but good. If that is
// not so it is tried again, and then failed with what is wrong and the command that
// would mend it.
//
// `vos` is never killed: it would leave the volume locked, and copies offline.
type AFS struct {
	// Volumes to release, in this order. Required.
	Volumes []string `json:"volumes,omitempty"`

	// Cell that they are in. Default: the host's own, by its file ThisCell.
	Cell string `json:"cell,omitempty"`

	// LocalAuth has vos use the key of the cell, which is on its server machines.
	LocalAuth bool `json:"localauth,omitempty"`

	// Kerberos has vos use tickets of its own, and not those of the job: who may release
	// volumes is mostly not who writes to them.
	Kerberos *step.Kerberos `json:"kerberos,omitempty"`

	// Prefix is put in front of the command: `ssh root@fs1.example.org`, to run it
	// where the key is.
	Prefix []string `json:"prefix,omitempty"`

	// Vos is the command. Default: vos.
	Vos string `json:"vos,omitempty"`

	// LockWait is how long to wait for somebody else's lock on a volume. Default: 10m.
	LockWait caddy.Duration `json:"lock_wait,omitempty"`

	// Tries is how often to release a volume before it is given up. Default: 3.
	Tries int `json:"tries,omitempty"`

	app  *caddyafs.App
	cell string
}

const (
	defaultLockWait = 10 * time.Minute
	defaultTries    = 3

	// settle is how long the state of the sites may take to be right after vos has
	// ended.
	settle = 10 * time.Second
	look   = time.Second
)

// CaddyModule returns the Caddy module information.
func (*AFS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.releasers.afs", New: func() caddy.Module { return new(AFS) }}
}

// Provision sets the releaser up. It asks nobody.
func (a *AFS) Provision(ctx caddy.Context) error {
	if a.Vos == "" {
		a.Vos = "vos"
	}
	if a.LockWait == 0 {
		a.LockWait = caddy.Duration(defaultLockWait)
	}
	if a.Tries == 0 {
		a.Tries = defaultTries
	}
	if err := a.check(); err != nil {
		return err
	}
	a.cell = a.Cell
	if a.cell == "" {
		var err error
		if a.cell, err = thisCell(); err != nil {
			return err
		}
	}
	app, err := ctx.App("afs")
	if err != nil {
		return err
	}
	a.app = app.(*caddyafs.App)
	return nil
}

func (a *AFS) check() error {
	if len(a.Volumes) == 0 {
		return errors.New("which volume?")
	}
	for i, v := range a.Volumes {
		_, typ := wire.SplitVolumeName(v)
		switch {
		case v == "" || strings.ContainsAny(v, " \t/:") || strings.HasPrefix(v, "-"):
			return fmt.Errorf("%q is not the name of a volume", v)
		case typ != wire.ReadWrite:
			return fmt.Errorf("%s is not a read-write volume: name the one that it is made from", v)
		case slices.Contains(a.Volumes[:i], v):
			return fmt.Errorf("volume %s is named twice", v)
		}
	}
	switch {
	case a.Cell != "" && !cells.ValidName(a.Cell):
		return fmt.Errorf("%q is not the name of a cell", a.Cell)
	case a.LocalAuth && a.Kerberos != nil:
		return errors.New("localauth and kerberos exclude each other")
	case a.LockWait < 0:
		return errors.New("lock_wait is negative")
	case a.Tries < 0:
		return errors.New("tries is negative")
	}
	return a.Kerberos.Check()
}

// thisCell is the cell that the host belongs to.
func thisCell() (string, error) {
	for _, name := range []string{"/etc/openafs/ThisCell", "/usr/vice/etc/ThisCell"} {
		text, err := step.ReadFile(name, step.MaxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		cell := strings.TrimSpace(string(text))
		if !cells.ValidName(cell) {
			return "", fmt.Errorf("%s: %q is not the name of a cell", name, cell)
		}
		return cell, nil
	}
	return "", errors.New("in which cell? this host has no file ThisCell")
}

// UnmarshalCaddyfile sets up the releaser from the Caddyfile:
//
//	release afs <volumes...> {
//		cell      <name>
//		localauth
//		kerberos  <keytab> <principal>
//		prefix    <command...>
//		vos       <command>
//		lock_wait <duration>
//		tries     <number>
//	}
func (a *AFS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	a.Volumes = d.RemainingArgs()
	if len(a.Volumes) == 0 {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := a.unmarshalOption(d); err != nil {
			return err
		}
	}
	if err := a.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (a *AFS) unmarshalOption(d *caddyfile.Dispenser) error {
	option := d.Val()
	args := d.RemainingArgs()
	if option == "prefix" && len(args) > 0 {
		a.Prefix = args
		return nil
	}
	want := 1
	switch option {
	case "localauth":
		want = 0
	case "kerberos":
		want = 2
	}
	if len(args) != want {
		return d.ArgErr()
	}
	var err error
	switch option {
	case "cell":
		a.Cell = args[0]
	case "localauth":
		a.LocalAuth = true
	case "kerberos":
		a.Kerberos = &step.Kerberos{Keytab: args[0], Principal: args[1]}
	case "vos":
		a.Vos = args[0]
	case "lock_wait":
		var v time.Duration
		v, err = caddy.ParseDuration(args[0])
		a.LockWait = caddy.Duration(v)
	case "tries":
		_, err = fmt.Sscanf(args[0], "%d", &a.Tries)
	default:
		return d.Errf("unrecognized subdirective '%s'", option)
	}
	if err != nil {
		return d.Errf("%s: %v", option, err)
	}
	return nil
}

// Interface guards
var (
	_ Releaser              = (*AFS)(nil)
	_ caddy.Provisioner     = (*AFS)(nil)
	_ caddyfile.Unmarshaler = (*AFS)(nil)
)
