package releaser

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/program"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(Exec{})
}

// Exec runs a command, which releases the tree by itself. Exit status 0 means that it
// is released.
//
// The command gets the environment of the job, and its directory to work in. There
// is no shell. Placeholders, as `{system.wd}`, are replaced in the name of the program
// and nowhere else.
type Exec struct {
	program.Program

	// Leave the command alone when the job times out or the server stops, because to
	// interrupt it does more harm than to wait. Default: it is ended.
	Finish bool `json:"finish,omitempty"`

	// Names of what the command publishes. No two jobs may have the same.
	Releases []string `json:"releases,omitempty"`

	// The name of the queue in which releases wait for each other; `afs:CELL` is that
	// of the AFS releases of a cell. Default: it waits for none.
	Queue string `json:"queue,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Exec) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.releasers.exec", New: func() caddy.Module { return new(Exec) }}
}

// UnmarshalCaddyfile sets up the releaser:
//
//	exec <command> [<args...>] {
//		shell
//		unchanged <exit status>
//		finish
//		releases  <name...>
//		queue     <name>
//	}
func (e *Exec) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if err := e.UnmarshalCommand(d); err != nil {
		return err
	}
	return block(d, func(option string) error {
		if known, err := e.UnmarshalOption(d, option); known {
			return err
		}
		switch option {
		case "finish":
			e.Finish = true
		case "releases":
			if e.Releases = d.RemainingArgs(); len(e.Releases) == 0 {
				return d.ArgErr()
			}
		case "queue":
			if !d.AllArgs(&e.Queue) || e.Queue == "" {
				return d.ArgErr()
			}
		default:
			return d.Errf("unrecognized option '%s'", option)
		}
		if d.NextArg() {
			return d.ArgErr()
		}
		return nil
	})
}

// Release runs the command.
func (e *Exec) Release(ctx context.Context, r *step.Run) (bool, error) {
	unchanged, err := e.Run(ctx, r, e.Finish)
	return err == nil && !unchanged, err
}

// Targets names what the command publishes, as configured.
func (e *Exec) Targets() []string { return e.Releases }

// Lane is the configured queue.
func (e *Exec) Lane() string { return e.Queue }

// Interface guards
var (
	_ Releaser              = (*Exec)(nil)
	_ caddy.Provisioner     = (*Exec)(nil)
	_ caddy.Validator       = (*Exec)(nil)
	_ caddyfile.Unmarshaler = (*Exec)(nil)
)
