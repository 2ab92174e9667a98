package releaser

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/step"
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
	// The command and its arguments. Required.
	Command []string `json:"command,omitempty"`

	// Have the first word of the command run by `/bin/sh -c`. The others are its
	// parameters `$1`, `$2` and so on. Default: no shell.
	Shell bool `json:"shell,omitempty"`

	// The exit status, from 1 to 255, that says that there was nothing to release,
	// and that all is well. Default: none.
	Unchanged int `json:"unchanged,omitempty"`

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

// Provision replaces placeholders in the name of the program.
func (e *Exec) Provision(caddy.Context) error {
	if e.Shell || len(e.Command) == 0 {
		return nil
	}
	name, err := caddy.NewReplacer().ReplaceOrErr(e.Command[0], true, true)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	e.Command[0] = name
	return nil
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
	e.Command = d.RemainingArgs()
	if len(e.Command) == 0 || strings.TrimSpace(e.Command[0]) == "" {
		return d.ArgErr()
	}
	return block(d, func(option string) error {
		switch option {
		case "shell":
			e.Shell = true
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
		case "unchanged":
			n, err := number(d, 1, 255)
			e.Unchanged = n
			return err
		default:
			return d.Errf("unrecognized option '%s'", option)
		}
		if d.NextArg() {
			return d.ArgErr()
		}
		return nil
	})
}

// block parses the options of a module, each of which may stand there once.
func block(d *caddyfile.Dispenser, parse func(option string) error) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("%s already specified", option)
		}
		seen[option] = true
		if err := parse(option); err != nil {
			return err
		}
	}
	return nil
}

// number parses an option that is a number from low to high.
func number(d *caddyfile.Dispenser, low, high int) (int, error) {
	var text string
	if !d.AllArgs(&text) {
		return 0, d.ArgErr()
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, d.Errf("'%s' is not a number from %d to %d", text, low, high)
	}
	return n, nil
}

// Release runs the command.
func (e *Exec) Release(ctx context.Context, r *step.Run) (bool, error) {
	c := step.Command{
		Name:   e.Command[0],
		Args:   e.Command[1:],
		Finish: e.Finish,
		Line:   func(line string) { r.Report(step.Progress{Stage: "command", Done: -1, Detail: line}) },
	}
	if e.Shell {
		c.Name, c.Args = "/bin/sh", append([]string{"-c", e.Command[0], "sh"}, e.Command[1:]...)
	}
	res, err := r.Command(ctx, c)
	if err == nil {
		return true, nil
	}
	if e.Unchanged != 0 && res.Code == e.Unchanged && (e.Finish || ctx.Err() == nil) {
		return false, nil
	}
	return false, err
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
