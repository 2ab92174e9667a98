package syncer

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/step"
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
	// The command and its arguments. Required.
	Command []string `json:"command,omitempty"`

	// Have the first word of the command run by `/bin/sh -c`. The others are its
	// parameters `$1`, `$2` and so on. Default: no shell.
	Shell bool `json:"shell,omitempty"`

	// The exit status, from 1 to 255, that says that all is well and that nothing
	// has changed. Default: none.
	Unchanged int `json:"unchanged,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Exec) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.syncers.exec", New: func() caddy.Module { return new(Exec) }}
}

// Provision replaces placeholders in the name of the program.
func (e *Exec) Provision(caddy.Context) error {
	if e.Shell || len(e.Command) == 0 {
		return nil
	}
	return expand("command", &e.Command[0])
}

// Validate checks the settings. The command need not be there yet.
func (e *Exec) Validate() error {
	switch {
	case len(e.Command) == 0 || strings.TrimSpace(e.Command[0]) == "":
		return errors.New("no command")
	case e.Unchanged < 0 || e.Unchanged > 255:
		return errors.New("unchanged is not an exit status from 1 to 255")
	}
	for _, arg := range e.Command {
		if strings.IndexByte(arg, 0) >= 0 {
			return errors.New("the command has a NUL byte")
		}
	}
	return nil
}

// UnmarshalCaddyfile sets up the syncer:
//
//	exec <command> [<args...>] {
//		shell
//		unchanged <exit status>
//	}
func (e *Exec) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	e.Command = d.RemainingArgs()
	if len(e.Command) == 0 || strings.TrimSpace(e.Command[0]) == "" {
		return d.ArgErr()
	}
	return block(d, never, func(option string) error {
		switch option {
		case "shell":
			return flag(d, &e.Shell)
		case "unchanged":
			var text string
			if err := one(d, &text); err != nil {
				return err
			}
			code, err := strconv.Atoi(text)
			if err != nil || code < 1 || code > 255 {
				return d.Errf("'%s' is not an exit status from 1 to 255", text)
			}
			e.Unchanged = code
			return nil
		}
		return d.Errf("unrecognized option '%s'", option)
	})
}

// Sync runs the command.
func (e *Exec) Sync(ctx context.Context, r *step.Run) error {
	c := step.Command{
		Name: e.Command[0],
		Args: e.Command[1:],
		Line: func(line string) { r.Report(step.Progress{Stage: "command", Done: -1, Detail: line}) },
	}
	if e.Shell {
		c.Name, c.Args = "/bin/sh", append([]string{"-c", e.Command[0], "sh"}, e.Command[1:]...)
	}
	res, err := r.Command(ctx, c)
	if err != nil && e.Unchanged != 0 && res.Code == e.Unchanged && ctx.Err() == nil {
		r.Changed = new(false)
		return nil
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
