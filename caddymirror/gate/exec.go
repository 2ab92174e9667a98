package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(new(Exec))
}

// Exec lets a tree pass if a command says so: by exit status 0. With any other,
// the last line that it printed is the reason. A command that can not be started,
// or that a signal ends, has not looked. Placeholders, as `{system.wd}`, are replaced
// in the name of the program and nowhere else.
type Exec struct {
	// The program and its arguments. There is no shell. Required.
	Command []string `json:"command,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Exec) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.gates.exec", New: func() caddy.Module { return new(Exec) }}
}

// Provision replaces placeholders in the name of the program.
func (e *Exec) Provision(caddy.Context) error {
	if len(e.Command) == 0 {
		return nil
	}
	name, err := caddy.NewReplacer().ReplaceOrErr(e.Command[0], true, true)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	e.Command[0] = name
	return nil
}

// Validate checks that there is a command.
func (e *Exec) Validate() error {
	if len(e.Command) == 0 || e.Command[0] == "" {
		return errors.New("no command")
	}
	return nil
}

// Check implements Gate.
func (e *Exec) Check(ctx context.Context, r *step.Run) error {
	var last string
	res, err := r.Command(ctx, step.Command{
		Name: e.Command[0],
		Args: e.Command[1:],
		Line: func(line string) {
			if line = strings.TrimSpace(line); line != "" {
				last = line
			}
		},
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case res.Code > 0:
		reason := fmt.Sprintf("%s exited with %d", e.Command[0], res.Code)
		if last != "" {
			reason += ": " + fault.Show(last)
		}
		return &Verdict{Gate: "exec", Reason: reason, Count: 1}
	case err != nil:
		return fmt.Errorf("running %s: %w", e.Command[0], err)
	case res.Code < 0:
		return fmt.Errorf("running %s: a signal ended it", e.Command[0])
	}
	return nil
}

// UnmarshalCaddyfile sets up the gate:
//
//	exec <command> [<args...>]
func (e *Exec) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the gate's name
	e.Command = d.RemainingArgs()
	if len(e.Command) == 0 {
		return d.ArgErr()
	}
	return options(d, nil)
}

// Interface guards
var (
	_ Gate                  = (*Exec)(nil)
	_ caddy.Provisioner     = (*Exec)(nil)
	_ caddy.Validator       = (*Exec)(nil)
	_ caddyfile.Unmarshaler = (*Exec)(nil)
)
