package caddyafs

import (
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("afs", parseOption)
}

// parseOption reads the global option:
//
//	afs {
//		address    <address>
//		cellservdb <path>
//		cell       <name> <server...>
//	}
func parseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		return nil, d.Err("afs already specified")
	}
	a := new(App)
	if err := a.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "afs", Value: caddyconfig.JSON(a, nil)}, nil
}

// UnmarshalCaddyfile sets up the app from the global option.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		if err := a.unmarshalOption(d); err != nil {
			return err
		}
		if d.NextArg() {
			return d.ArgErr()
		}
	}
	return nil
}

func (a *App) unmarshalOption(d *caddyfile.Dispenser) error {
	switch option := d.Val(); option {
	case "address":
		return word(d, option, &a.Address)
	case "cellservdb":
		return word(d, option, &a.CellServDB)
	case "cell":
		args := d.RemainingArgs()
		if len(args) < 2 {
			return d.ArgErr()
		}
		name := args[0]
		if a.Cells[name] != nil {
			return d.Errf("cell %s already specified", name)
		}
		if _, err := parseCells(map[string][]string{name: args[1:]}); err != nil {
			return d.WrapErr(err)
		}
		if a.Cells == nil {
			a.Cells = map[string][]string{}
		}
		a.Cells[name] = args[1:]
		return nil
	default:
		return d.Errf("unrecognized subdirective '%s'", option)
	}
}

func word(d *caddyfile.Dispenser, option string, into *string) error {
	if *into != "" {
		return d.Errf("%s already specified", option)
	}
	if !d.NextArg() {
		return d.ArgErr()
	}
	*into = d.Val()
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*App)(nil)
