// Package program is a program as operators configure it for a step of a job: what the
// modules `exec` of syncers and releasers have in common.
package program

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Program is a command that does a step by itself. Exit status 0 means that it did.
//
// The command gets the environment of the job, and its directory to work in. There
// is no shell. Placeholders, as `{system.wd}`, are replaced in the name of the program
// and nowhere else.
type Program struct {
	// The command and its arguments. Required.
	Command []string `json:"command,omitempty"`

	// Have the first word of the command run by `/bin/sh -c`. The others are its
	// parameters `$1`, `$2` and so on. Default: no shell.
	Shell bool `json:"shell,omitempty"`

	// The exit status, from 1 to 255, that says that all is well and that nothing
	// has changed, or was to be released. Default: none.
	Unchanged int `json:"unchanged,omitempty"`
}

// Provision replaces placeholders in the name of the program.
func (p *Program) Provision(caddy.Context) error {
	if p.Shell || len(p.Command) == 0 {
		return nil
	}
	name, err := caddy.NewReplacer().ReplaceOrErr(p.Command[0], true, true)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	p.Command[0] = name
	return nil
}

// Validate checks the settings. The command need not be there yet.
func (p *Program) Validate() error {
	switch {
	case len(p.Command) == 0 || strings.TrimSpace(p.Command[0]) == "":
		return errors.New("no command")
	case p.Unchanged < 0 || p.Unchanged > 255:
		return errors.New("unchanged is not an exit status from 1 to 255")
	}
	for _, arg := range p.Command {
		if strings.IndexByte(arg, 0) >= 0 {
			return errors.New("the command has a NUL byte")
		}
	}
	return nil
}

// Ready implements [step.Readier].
func (p *Program) Ready() error {
	if p.Shell {
		return nil
	}
	return step.Program(p.Command[0])
}

// UnmarshalCommand reads the command from the arguments that are left on the line.
func (p *Program) UnmarshalCommand(d *caddyfile.Dispenser) error {
	p.Command = d.RemainingArgs()
	if len(p.Command) == 0 || strings.TrimSpace(p.Command[0]) == "" {
		return d.ArgErr()
	}
	return nil
}

// UnmarshalOption reads one option of a block:
//
//	shell
//	unchanged <exit status>
//
// It reports false if it is none of these.
func (p *Program) UnmarshalOption(d *caddyfile.Dispenser, option string) (known bool, err error) {
	switch option {
	case "shell":
		if d.NextArg() {
			return true, d.ArgErr()
		}
		p.Shell = true
	case "unchanged":
		var text string
		if !d.AllArgs(&text) {
			return true, d.ArgErr()
		}
		code, err := strconv.Atoi(text)
		if err != nil || code < 1 || code > 255 {
			return true, d.Errf("'%s' is not an exit status from 1 to 255", text)
		}
		p.Unchanged = code
	default:
		return false, nil
	}
	return true, nil
}

// Run runs the command for a step, and shows each line that it prints as how far it is.
// It reports whether the command said that nothing has changed. With finish it is left
// to end by itself when the run is to end, and what it says then counts.
func (p *Program) Run(ctx context.Context, r *step.Run, finish bool) (unchanged bool, err error) {
	c := step.Command{
		Name:   p.Command[0],
		Args:   p.Command[1:],
		Finish: finish,
		Line:   func(line string) { r.Report(step.Progress{Stage: "command", Done: -1, Detail: line}) },
	}
	if p.Shell {
		c.Name, c.Args = "/bin/sh", append([]string{"-c", p.Command[0], "sh"}, p.Command[1:]...)
	}
	res, err := r.Command(ctx, c)
	if err != nil && p.Unchanged != 0 && res.Code == p.Unchanged && (finish || ctx.Err() == nil) {
		return true, nil
	}
	return false, err
}

// Interface guards
var (
	_ caddy.Provisioner = (*Program)(nil)
	_ caddy.Validator   = (*Program)(nil)
	_ step.Readier      = (*Program)(nil)
)
