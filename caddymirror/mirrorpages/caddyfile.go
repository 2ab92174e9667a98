package mirrorpages

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("mirror_clients", parseClients)
	// Before mirror_cache, which stands before reverse_proxy: a mount may be at the root.
	httpcaddyfile.RegisterDirectiveOrder("mirror_clients", httpcaddyfile.After, "metrics")
}

func parseClients(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	c := new(Clients)
	return c, c.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler from the directive:
//
//	mirror_clients [<matcher>] {
//		path     <path>
//		url      <url>
//		pypi     <paths...>
//		wheel    <path> [flat|<platforms...>]
//		apt      <name> <path> <suites...> {
//			components    <components...>
//			architectures <architectures...>
//			types         <types...>
//			signed_by     <keyring>
//			trusted
//		}
//		rpm      <name> <id> <path> {
//			name     <name>
//			gpgkey   <urls...>
//			unsigned
//		}
//		variable <name> <path>
//	}
func (c *Clients) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		if err := c.unmarshalOption(d); err != nil {
			return err
		}
	}
	return nil
}

func (c *Clients) unmarshalOption(d *caddyfile.Dispenser) error {
	option := d.Val()
	switch option {
	case "path":
		return once(d, option, &c.Path)
	case "url":
		return once(d, option, &c.URL)
	case "pypi":
		paths := d.RemainingArgs()
		if len(paths) == 0 {
			return d.ArgErr()
		}
		c.PyPI = append(c.PyPI, paths...)
	case "wheel":
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.ArgErr()
		}
		w := Wheels{Path: args[0], Platforms: args[1:]}
		if len(args) == 2 && args[1] == "flat" {
			w = Wheels{Path: args[0], Flat: true}
		}
		c.Wheels = append(c.Wheels, w)
	case "apt":
		return c.unmarshalApt(d)
	case "rpm":
		return c.unmarshalRPM(d)
	case "variable":
		var name, path string
		if !d.Args(&name, &path) || d.NextArg() {
			return d.ArgErr()
		}
		if _, ok := c.Variables[name]; ok {
			return d.Errf("variable %s already specified", name)
		}
		if c.Variables == nil {
			c.Variables = map[string]string{}
		}
		c.Variables[name] = path
	default:
		return d.Errf("unrecognized subdirective '%s'", option)
	}
	return nil
}

func (c *Clients) unmarshalApt(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 3 {
		return d.ArgErr()
	}
	a := Apt{File: args[0], Path: args[1], Suites: args[2:]}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch option := d.Val(); option {
		case "components":
			err = several(d, option, &a.Components)
		case "architectures":
			err = several(d, option, &a.Architectures)
		case "types":
			err = several(d, option, &a.Types)
		case "signed_by":
			err = once(d, option, &a.SignedBy)
		case "trusted":
			err = flag(d, &a.Trusted)
		default:
			err = d.Errf("unrecognized subdirective '%s'", option)
		}
		if err != nil {
			return err
		}
	}
	c.Apt = append(c.Apt, a)
	return nil
}

func (c *Clients) unmarshalRPM(d *caddyfile.Dispenser) error {
	var repo RPM
	if !d.Args(&repo.File, &repo.ID, &repo.Path) || d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch option := d.Val(); option {
		case "name":
			err = once(d, option, &repo.Name)
		case "gpgkey":
			err = several(d, option, &repo.GPGKeys)
		case "unsigned":
			err = flag(d, &repo.Unsigned)
		default:
			err = d.Errf("unrecognized subdirective '%s'", option)
		}
		if err != nil {
			return err
		}
	}
	c.RPM = append(c.RPM, repo)
	return nil
}

// once reads an option's only value.
func once(d *caddyfile.Dispenser, option string, into *string) error {
	if *into != "" {
		return d.Errf("%s already specified", option)
	}
	if !d.Args(into) || d.NextArg() || *into == "" {
		return d.ArgErr()
	}
	return nil
}

// several reads an option's values.
func several(d *caddyfile.Dispenser, option string, into *[]string) error {
	if *into != nil {
		return d.Errf("%s already specified", option)
	}
	if *into = d.RemainingArgs(); len(*into) == 0 {
		return d.ArgErr()
	}
	return nil
}

func flag(d *caddyfile.Dispenser, into *bool) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	*into = true
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Clients)(nil)
