package releaser

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// block parses the options of a module, each of which may stand there once.
func block(d *caddyfile.Dispenser, parse func(option string) error) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("%s already specified", option)
		}
		seen[option] = true
		if err := parse(option); err != nil {
			return err
		}
	}
	return nil
}

// number parses an option that is a number from low to high.
func number(d *caddyfile.Dispenser, low, high int) (int, error) {
	var text string
	if !d.AllArgs(&text) {
		return 0, d.ArgErr()
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, d.Errf("'%s' is not a number from %d to %d", text, low, high)
	}
	return n, nil
}
