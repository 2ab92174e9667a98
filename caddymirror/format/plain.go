package format

import "github.com/caddyserver/caddy/v2"

func init() {
	caddy.RegisterModule(new(Plain))
}

// Plain is the format of any tree: every object may change with every release.
type Plain struct{}

// CaddyModule returns the Caddy module information.
func (*Plain) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.formats.plain", New: func() caddy.Module { return new(Plain) }}
}

// Class implements Format.
func (*Plain) Class(string) Class { return Volatile }

// Interface guards
var _ Format = (*Plain)(nil)
