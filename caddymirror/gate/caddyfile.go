package gate

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// option is one line in the block of a gate.
type option struct {
	min, max int // how many arguments it has; max -1: any
	set      func(args []string) error
}

// options reads the block of a gate, in which each option stands once at most.
func options(d *caddyfile.Dispenser, known map[string]option) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		o, ok := known[name]
		if !ok {
			return d.Errf("unrecognized subdirective '%s'", name)
		}
		if seen[name] {
			return d.Errf("%s already specified", name)
		}
		seen[name] = true
		args := d.RemainingArgs()
		if len(args) < o.min || o.max >= 0 && len(args) > o.max {
			return d.ArgErr()
		}
		if err := o.set(args); err != nil {
			return d.Errf("%s: %v", name, err)
		}
	}
	return nil
}

// flag is an option without arguments.
func flag(to *bool) option {
	return option{0, 0, func([]string) error {
		*to = true
		return nil
	}}
}
