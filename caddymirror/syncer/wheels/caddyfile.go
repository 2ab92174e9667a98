package wheels

import (
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
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
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		switch option {
		case "constraints", "python", "deny", "allow_hosts", "env":
		default:
			if seen[option] {
				return d.Errf("%s already specified", option)
			}
			seen[option] = true
		}
		if err := w.option(d, option); err != nil {
			return err
		}
	}
	if len(w.Constraints) == 0 {
		return d.Err("wheels needs constraints")
	}
	return nil
}

func (w *Wheels) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "constraints":
		return some(d, &w.Constraints)
	case "python":
		return some(d, &w.Pythons)
	case "deny":
		return some(d, &w.Deny)
	case "allow_hosts":
		return some(d, &w.AllowHosts)
	case "output":
		return one(d, &w.Output)
	case "platform":
		return one(d, &w.Platform)
	case "user":
		return one(d, &w.User)
	case "work_dir":
		return one(d, &w.WorkDir)
	case "index":
		return checked(d, &w.Index, func(text string) error { _, err := parseIndex(text); return err })
	case "memory":
		return checked(d, &w.Memory, func(text string) error { _, err := parseSize(text); return err })
	case "disk":
		return checked(d, &w.Disk, func(text string) error { _, err := parseSize(text); return err })
	case "max_failures":
		return checked(d, &w.MaxFailures, func(text string) error { _, err := parseBudget(text); return err })
	case "parallel":
		return number(d, &w.Parallel)
	case "processes":
		return number(d, &w.Processes)
	case "timeout":
		return span(d, &w.Timeout)
	case "retry_after":
		return span(d, &w.RetryAfter)
	case "keep_all":
		if d.NextArg() {
			return d.ArgErr()
		}
		w.KeepAll = true
		return nil
	case "sandbox":
		if err := one(d, &w.Sandbox); err != nil {
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

// one parses an option with one argument.
func one(d *caddyfile.Dispenser, to *string) error {
	if !d.AllArgs(to) {
		return d.ArgErr()
	}
	if *to == "" {
		return d.Err("is empty")
	}
	return nil
}

// some parses an option with one argument or more.
func some(d *caddyfile.Dispenser, to *[]string) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	*to = append(*to, args...)
	return nil
}

// checked parses an option whose argument has a form.
func checked(d *caddyfile.Dispenser, to *string, check func(string) error) error {
	if err := one(d, to); err != nil {
		return err
	}
	if err := check(*to); err != nil {
		return d.Err(err.Error())
	}
	return nil
}

// number parses an option that is a number from 1 on.
func number(d *caddyfile.Dispenser, to *int) error {
	var text string
	if err := one(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return d.Errf("'%s' is not a number from 1 on", text)
	}
	*to = n
	return nil
}

// span parses an option that is a duration.
func span(d *caddyfile.Dispenser, to *caddy.Duration) error {
	var text string
	if err := one(d, &text); err != nil {
		return err
	}
	v, err := caddy.ParseDuration(text)
	if err != nil {
		return d.Errf("'%s' is not a duration: %v", text, err)
	}
	if v < time.Second {
		return d.Errf("'%s' is less than a second", text)
	}
	*to = caddy.Duration(v)
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Wheels)(nil)
