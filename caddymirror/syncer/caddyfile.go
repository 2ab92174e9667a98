package syncer

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// block parses the options of a module. Those that repeats does not allow may
// stand there once.
func block(d *caddyfile.Dispenser, repeats func(option string) bool, parse func(option string) error) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] && !repeats(option) {
			return d.Errf("%s already specified", option)
		}
		seen[option] = true
		if err := parse(option); err != nil {
			return err
		}
	}
	return nil
}

func never(string) bool { return false }

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

// onOff parses an option that is `on` or `off`.
func onOff(d *caddyfile.Dispenser, off *bool) error {
	var text string
	if err := one(d, &text); err != nil {
		return err
	}
	switch text {
	case "on":
		*off = false
	case "off":
		*off = true
	default:
		return d.Errf("'%s' is neither on nor off", text)
	}
	return nil
}

// expand replaces the placeholders of settings. None may be unknown or empty: what
// is left of a path would be another path.
func expand(name string, values ...*string) error {
	for _, v := range values {
		text, err := caddy.NewReplacer().ReplaceOrErr(*v, true, true)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*v = text
	}
	return nil
}
