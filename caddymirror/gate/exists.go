package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(new(Exists))
}

// Exists lets a tree pass that has certain files and directories, none of them
// empty.
type Exists struct {
	// The names of the files and directories, relative to the tree. Required.
	Paths []string `json:"paths,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Exists) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.gates.exists", New: func() caddy.Module { return new(Exists) }}
}

// Validate checks the names.
func (e *Exists) Validate() error {
	if len(e.Paths) == 0 {
		return errors.New("no paths")
	}
	for _, name := range e.Paths {
		if err := validPath(name); err != nil {
			return err
		}
	}
	return nil
}

// validPath checks a name from the configuration that is to be in a tree.
func validPath(name string) error {
	if !fs.ValidPath(strings.TrimSuffix(name, "/")) {
		return fmt.Errorf("%q is not a path relative to the tree", name)
	}
	return nil
}

// Check implements Gate.
func (e *Exists) Check(ctx context.Context, r *step.Run) error {
	return within(ctx, func(context.Context) error {
		t, err := openTree(r)
		if err != nil {
			return err
		}
		defer t.close()
		var found problems
		for i, name := range e.Paths {
			name = strings.TrimSuffix(name, "/")
			if err := found.note(int64(i), name, t.filled(name)); err != nil {
				return err
			}
		}
		return found.err("exists")
	})
}

// filled returns a fault.Error if there is no file or directory at name, or an empty
// one.
func (t *tree) filled(name string) error {
	info, err := t.root.Stat(name)
	if err != nil {
		return judge(err)
	}
	if !info.IsDir() {
		if info.Size() == 0 {
			return fault.Errorf("is empty")
		}
		return nil
	}
	f, err := t.root.Open(name)
	if err != nil {
		return judge(err)
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if err == io.EOF {
		return fault.Errorf("is empty")
	}
	return err
}

// UnmarshalCaddyfile sets up the gate:
//
//	exists <path...>
func (e *Exists) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the gate's name
	e.Paths = d.RemainingArgs()
	if len(e.Paths) == 0 {
		return d.ArgErr()
	}
	if err := e.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return options(d, nil)
}

// Interface guards
var (
	_ Gate                  = (*Exists)(nil)
	_ caddy.Validator       = (*Exists)(nil)
	_ caddyfile.Unmarshaler = (*Exists)(nil)
)
