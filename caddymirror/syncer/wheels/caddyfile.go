package wheels

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/directive"
)

// UnmarshalCaddyfile sets up the syncer:
//
//	wheels {
//		constraints  <file|url...>
//		python       <python...>
//		output       <directory>
//		platform     <name>
//		index        <url>
//		keep_all
//		deny         <name...>
//		parallel     <number>
//		timeout      <duration>
//		memory       <size>
//		disk         <size>
//		processes    <number>
//		max_failures <number>|<percent>%
//		retry_after  <duration>
//		user         <name>
//		sandbox      on|auto|off
//		allow_hosts  <host[:port]...>
//		env          <name> <value>
//		work_dir     <directory>
//	}
func (w *Wheels) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if d.NextArg() {
		return d.ArgErr()
	}
	repeats := func(option string) bool {
		return slices.Contains([]string{"constraints", "python", "deny", "allow_hosts", "env"}, option)
	}
	if err := directive.Block(d, repeats, func(option string) error { return w.option(d, option) }); err != nil {
		return err
	}
	if len(w.Constraints) == 0 {
		return d.Err("wheels needs constraints")
	}
	return nil
}

func (w *Wheels) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "constraints":
		return directive.Some(d, &w.Constraints)
	case "python":
		return directive.Some(d, &w.Pythons)
	case "deny":
		return directive.Some(d, &w.Deny)
	case "allow_hosts":
		return directive.Some(d, &w.AllowHosts)
	case "output":
		return directive.One(d, &w.Output)
	case "platform":
		return directive.One(d, &w.Platform)
	case "user":
		return directive.One(d, &w.User)
	case "work_dir":
		return directive.One(d, &w.WorkDir)
	case "index":
		return directive.Checked(d, &w.Index, func(text string) error { _, err := parseIndex(text); return err })
	case "memory":
		return directive.Checked(d, &w.Memory, func(text string) error { _, err := parseSize(text); return err })
	case "disk":
		return directive.Checked(d, &w.Disk, func(text string) error { _, err := parseSize(text); return err })
	case "max_failures":
		return directive.Checked(d, &w.MaxFailures, func(text string) error { _, err := parseBudget(text); return err })
	case "parallel":
		return directive.Number(d, &w.Parallel)
	case "processes":
		return directive.Number(d, &w.Processes)
	case "timeout":
		return directive.Span(d, &w.Timeout)
	case "retry_after":
		return directive.Span(d, &w.RetryAfter)
	case "keep_all":
		if d.NextArg() {
			return d.ArgErr()
		}
		w.KeepAll = true
		return nil
	case "sandbox":
		if err := directive.One(d, &w.Sandbox); err != nil {
			return err
		}
		if w.Sandbox != "on" && w.Sandbox != "auto" && w.Sandbox != "off" {
			return d.Errf("'%s' is none of on, auto and off", w.Sandbox)
		}
		return nil
	case "env":
		var name, value string
		if !d.AllArgs(&name, &value) || name == "" {
			return d.ArgErr()
		}
		if _, ok := w.Env[name]; ok {
			return d.Errf("env %s already specified", name)
		}
		if w.Env == nil {
			w.Env = map[string]string{}
		}
		w.Env[name] = value
		return nil
	}
	return d.Errf("unrecognized option '%s'", option)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Wheels)(nil)
