package mirrorcache

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// byPath are options that may be given several times, for other paths each.
var byPath = map[string]bool{"ttl": true, "max_stale": true, "pass": true, "ignore_query": true}

// Options that only one kind of origin has a use for.
var (
	ofUpstreams = map[string]bool{"policy": true, "pass": true, "ignore_query": true, "pass_authorization": true, "fill": true, "guard": true, "cooldown": true, "methods": true}
	ofTrees     = map[string]bool{"index": true, "browse": true, "precompressed": true}
)

// areTrees reports whether the origins are trees, and not HTTP upstreams.
func (os origins) areTrees() bool {
	_, ok := os[0].(origin.Tree)
	return ok
}

// allow refuses options that the origins have no use for.
func (os origins) allow(d *caddyfile.Dispenser, option string) error {
	switch {
	case ofUpstreams[option] && os.areTrees():
		return d.Errf("%s is for HTTP upstreams, and the mount has none", option)
	case ofTrees[option] && !os.areTrees():
		return d.Errf("%s is for trees of files, and the mount has HTTP upstreams", option)
	}
	return nil
}

// unmarshalLifetime reads a duration, behind the patterns that it is for if there are any.
func unmarshalLifetime(d *caddyfile.Dispenser, from origins, all *caddy.Duration, some *[]Lifetime) error {
	option := d.Val()
	if from.areTrees() || d.CountRemainingArgs() < 2 {
		if *all != 0 {
			return d.Errf("%s already specified", option)
		}
		return origin.UnmarshalDuration(d, all)
	}
	var l Lifetime
	for n := d.CountRemainingArgs() - 1; n > 0; n-- {
		d.NextArg()
		l.Match = append(l.Match, d.Val())
	}
	if err := checkPatterns(option, l.Match); err != nil {
		return d.WrapErr(err)
	}
	if err := origin.UnmarshalDuration(d, &l.For); err != nil {
		return err
	}
	*some = append(*some, l)
	return nil
}

// unmarshalWebOption reads an option of HTTP upstreams.
func (m *Mount) unmarshalWebOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "policy":
		if err := word(d, &m.Policy); err != nil {
			return err
		}
		if m.Policy != policyRFC && m.Policy != policyMirror {
			return d.Errf("policy '%s' is neither rfc nor mirror", m.Policy)
		}
	case "pass":
		return patterns(d, &m.Pass)
	case "ignore_query":
		return patterns(d, &m.IgnoreQuery)
	case "pass_authorization":
		m.PassAuthorization = true
	case "fill":
		return m.unmarshalFill(d)
	case "methods":
		if m.Methods = d.RemainingArgs(); len(m.Methods) == 0 {
			return d.ArgErr()
		}
		if err := m.checkMethods(); err != nil {
			return d.WrapErr(err)
		}
	case "cooldown":
		return origin.UnmarshalDuration(d, &m.Cooldown)
	case "guard":
		if !d.NextArg() {
			return d.ArgErr()
		}
		if d.Val() == "off" {
			m.Guard = -1
			return nil
		}
		d.Prev()
		return origin.UnmarshalDuration(d, &m.Guard)
	}
	return nil
}

// unmarshalFill reads when a part of an object has all of it filled.
func (m *Mount) unmarshalFill(d *caddyfile.Dispenser) error {
	var how string
	if err := word(d, &how); err != nil {
		return err
	}
	switch how {
	case "range":
		m.FillWhole = 1
	case "whole":
		m.FillWhole = -1
		if d.NextArg() {
			size, err := diskcache.ParseSize(d.Val())
			if err != nil || size <= 0 {
				return d.Errf("fill whole: '%s' is not a size", d.Val())
			}
			m.FillWhole = size
		}
	default:
		return d.Errf("fill '%s' is neither whole nor range", how)
	}
	return nil
}

// patterns reads at least one pattern.
func patterns(d *caddyfile.Dispenser, into *[]string) error {
	option := d.Val()
	if d.CountRemainingArgs() == 0 {
		return d.ArgErr()
	}
	words := d.RemainingArgs()
	if err := checkPatterns(option, words); err != nil {
		return d.WrapErr(err)
	}
	*into = append(*into, words...)
	return nil
}
