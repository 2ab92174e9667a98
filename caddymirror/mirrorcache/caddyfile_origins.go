package mirrorcache

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// origins are those of one mount, in order. Options are for all of them that have them.
type origins []origin.Written

// unmarshalOrigins reads what follows a mount's prefix.
func unmarshalOrigins(d *caddyfile.Dispenser, prefix string) (origins, error) {
	words := d.RemainingArgs()
	if len(words) == 0 {
		give := forms(func(f origin.Form) string { return f.Give })
		return nil, d.Errf("mount %s: where from? give %s", prefix, strings.Join(give, ", or "))
	}
	all := make(origins, 0, len(words))
	for _, word := range words {
		if joined, err := join(all, word); err != nil {
			return nil, d.Errf("mount %s: origin %s: %v", prefix, shown(word), err)
		} else if joined {
			continue
		}
		o, err := unmarshalOrigin(word)
		if err != nil {
			return nil, d.Errf("mount %s: origin %s: %v", prefix, shown(word), err)
		}
		if o == nil {
			known := forms(func(f origin.Form) string { return f.Word })
			return nil, d.Errf("mount %s: origin %s is neither %s", prefix, shown(word), strings.Join(known, " nor "))
		}
		all = append(all, o)
	}
	return all, nil
}

// join gives a word to the last origin, if that is one of several words.
func join(all origins, word string) (bool, error) {
	if len(all) == 0 {
		return false, nil
	}
	j, ok := all[len(all)-1].(origin.Joiner)
	if !ok {
		return false, nil
	}
	return j.JoinRoot(word)
}

// unmarshalOrigin returns the origin that is written as word, nil if none is.
func unmarshalOrigin(word string) (origin.Written, error) {
	for _, o := range origin.AllWritten() {
		if ok, err := o.UnmarshalRoot(word); ok || err != nil {
			return o, err
		}
	}
	return nil, nil
}

func forms(part func(origin.Form) string) []string {
	written := origin.AllWritten()
	all := make([]string, 0, len(written))
	for _, o := range written {
		all = append(all, part(o.Form()))
	}
	return all
}

// raw is the JSON form.
func (os origins) raw() []json.RawMessage {
	list := make([]json.RawMessage, 0, len(os))
	for _, o := range os {
		list = append(list, caddyconfig.JSONModuleObject(o, "origin", o.CaddyModule().ID.Name(), nil))
	}
	return list
}

// repeat reports whether an option may be given to one of the origins again.
func (os origins) repeat(option string) bool {
	for _, o := range os {
		if r, ok := o.(origin.Repeater); ok && r.Repeat(option) {
			return true
		}
	}
	return false
}

// shown is a word as it may be shown: a URL without a user, who may be a token.
func shown(word string) string {
	if u, err := url.Parse(word); err == nil && u.User != nil {
		u.User = url.User("xxxxx")
		return u.String()
	}
	return word
}

// unmarshalOption reads an option that no mount has, but one of its origins may.
func (os origins) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	segment := d.NextSegment()
	known, err := unmarshalOption(segment, os)
	if known || err != nil {
		return err
	}
	var of []string
	for _, o := range origin.AllWritten() {
		if known, _ := unmarshalOption(segment, origins{o}); known {
			of = append(of, o.Form().Many)
		}
	}
	if len(of) == 0 {
		return d.Errf("unrecognized subdirective '%s'", option)
	}
	return d.Errf("%s is for %s, and the mount has none", option, strings.Join(of, " or "))
}

// unmarshalOption gives an option to each of the origins.
func unmarshalOption(option caddyfile.Segment, to origins) (known bool, err error) {
	for _, o := range to {
		d := caddyfile.NewDispenser(option)
		d.Next()
		ok, err := o.UnmarshalOption(d)
		if ok && err == nil && d.Next() {
			err = d.ArgErr()
		}
		if err != nil {
			return true, err
		}
		known = known || ok
	}
	return known, nil
}
