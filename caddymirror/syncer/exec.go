package syncer

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/directive"
	"github.com/unifiedmirrors/mirror/caddymirror/program"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(Exec{})
}

// Exec runs a command, which brings the tree up to date by itself. Exit status 0
// means that it did; with any other the run has failed and nothing is released.
//
// The command gets the environment of the job, and its directory to work in. There
// is no shell. Placeholders, as `{system.wd}`, are replaced in the name of the program
// and nowhere else.
//
// Trees that are released as snapshots share their files with the releases. A
// command must therefore not write into files that are there, but write new ones
// and rename them.
type Exec struct {
	program.Program
}

// CaddyModule returns the Caddy module information.
func (Exec) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.syncers.exec", New: func() caddy.Module { return new(Exec) }}
}

// UnmarshalCaddyfile sets up the syncer:
//
//	exec <command> [<args...>] {
//		shell
//		unchanged <exit status>
//	}
func (e *Exec) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if err := e.UnmarshalCommand(d); err != nil {
		return err
	}
	return directive.Block(d, directive.Never, func(option string) error {
		if known, err := e.UnmarshalOption(d, option); known {
			return err
		}
		return d.Errf("unrecognized option '%s'", option)
	})
}

// Sync runs the command.
func (e *Exec) Sync(ctx context.Context, r *step.Run) error {
	unchanged, err := e.Run(ctx, r, false)
	if unchanged {
		r.Changed = new(false)
	}
	return err
}

// Interface guards
var (
	_ Syncer                = (*Exec)(nil)
	_ caddy.Provisioner     = (*Exec)(nil)
	_ caddy.Validator       = (*Exec)(nil)
	_ caddyfile.Unmarshaler = (*Exec)(nil)
)
