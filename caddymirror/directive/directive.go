// Package directive reads the options in the block of a module of a Caddyfile.
package directive

import (
	"fmt"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Block parses the options of a module. An option may be given more than once only
// if repeats allows it.
func Block(d *caddyfile.Dispenser, repeats func(option string) bool, parse func(option string) error) error {
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

// Never is for blocks in which no option may be repeated.
func Never(string) bool { return false }

// One parses an option with one argument.
func One(d *caddyfile.Dispenser, to *string) error {
	if !d.AllArgs(to) {
		return d.ArgErr()
	}
	if *to == "" {
		return d.Err("is empty")
	}
	return nil
}

// Some parses an option with one argument or more.
func Some(d *caddyfile.Dispenser, to *[]string) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	*to = append(*to, args...)
	return nil
}

// Span parses an option that is a duration.
func Span(d *caddyfile.Dispenser, to *caddy.Duration) error {
	var text string
	if err := One(d, &text); err != nil {
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

// OnOff parses an option that is `on` or `off`.
func OnOff(d *caddyfile.Dispenser, off *bool) error {
	var text string
	if err := One(d, &text); err != nil {
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

// Expand replaces the placeholders of settings. An unknown or empty one is an
// error: the rest of a path would be another path.
func Expand(name string, values ...*string) error {
	for _, v := range values {
		text, err := caddy.NewReplacer().ReplaceOrErr(*v, true, true)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*v = text
	}
	return nil
}

// Checked parses an option with one argument, which check accepts.
func Checked(d *caddyfile.Dispenser, to *string, check func(string) error) error {
	if err := One(d, to); err != nil {
		return err
	}
	if err := check(*to); err != nil {
		return d.Err(err.Error())
	}
	return nil
}

// Number parses an option that is a number from 1 on.
func Number(d *caddyfile.Dispenser, to *int) error {
	var text string
	if err := One(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return d.Errf("'%s' is not a number from 1 on", text)
	}
	*to = n
	return nil
}
