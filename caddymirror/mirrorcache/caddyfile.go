package mirrorcache

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("mirror_cache", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("mirror_cache", httpcaddyfile.Before, "reverse_proxy")
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.unmarshal(h.Dispenser, configuredCaches(h.Option("mirror")))
}

// configuredCaches are the names of the caches that the global option has.
func configuredCaches(option any) []string {
	names := []string{mirror.DefaultCache}
	if app, ok := option.(httpcaddyfile.App); ok {
		var configured mirror.App
		if json.Unmarshal(app.Value, &configured) == nil {
			names = slices.AppendSeq(names, maps.Keys(configured.Caches))
		}
	}
	return names
}

// UnmarshalCaddyfile sets up the handler from the directive:
//
//	mirror_cache [<matcher>] {
//		mount <prefix> <origin> [<origins...>] {
//			old_name           <hosts...>
//			format             <format>
//			cache              <name>
//			ttl                [<patterns...>] <duration>
//			max_stale          [<patterns...>] <duration>
//			timeout            <duration>
//			revalidate_timeout <duration>
//			index              <names...>|off
//			browse {
//				memory <size>
//			}
//			hide               <patterns...>
//			precompressed      [<formats...>]
//			release_check      <duration>
//			release_marker     <file>
//			release_volume     afs://<cell>:<volume>
//			read_write
//			policy             rfc|mirror
//			pass               <patterns...>
//			ignore_query       <patterns...>
//			pass_authorization
//			fill               whole [<size>]|range
//			guard              <duration>|off
//			cooldown           <duration>
//			methods            <methods...>
//		}
//	}
//
// An origin is the absolute path of a directory, or a tree in AFS:
// afs://CELL/PATH from the root of the cell, afs://CELL:VOLUME/PATH from that of
// a volume; or the URLs of one or more HTTP upstreams that have the same.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return h.unmarshal(d, nil)
}

// unmarshal takes the names that mounts may use for a cache, or nil if those
// are not known.
func (h *Handler) unmarshal(d *caddyfile.Dispenser, caches []string) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	prefixes := map[string]bool{}
	for d.NextBlock(0) {
		if d.Val() != "mount" {
			return d.Errf("unrecognized subdirective '%s'", d.Val())
		}
		m, err := unmarshalMount(d, caches)
		if err != nil {
			return err
		}
		if prefixes[m.Prefix] {
			return d.Errf("mount %s already specified", m.Prefix)
		}
		prefixes[m.Prefix] = true
		h.Mounts = append(h.Mounts, m)
	}
	if len(h.Mounts) == 0 {
		return d.Err("there are no mounts")
	}
	return nil
}

func unmarshalMount(d *caddyfile.Dispenser, caches []string) (*Mount, error) {
	if !d.NextArg() {
		return nil, d.ArgErr()
	}
	m := &Mount{Prefix: d.Val()}
	if err := m.checkPrefix(); err != nil {
		return nil, d.Errf("mount %s: %v", m.Prefix, err)
	}
	from, err := unmarshalOrigins(d, m.Prefix)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] && !byPath[option] && !from.repeat(option) {
			return nil, d.Errf("%s already specified", option)
		}
		seen[option] = true
		if err := from.allow(d, option); err != nil {
			return nil, err
		}
		if err := m.unmarshalOption(d, option, from); err != nil {
			return nil, err
		}
		if m.Cache != "" && caches != nil && !slices.Contains(caches, m.Cache) {
			return nil, d.Errf("there is no cache '%s'", m.Cache)
		}
		if d.NextArg() {
			return nil, d.ArgErr()
		}
	}
	m.OriginsRaw = from.raw()
	return m, nil
}

func (m *Mount) unmarshalOption(d *caddyfile.Dispenser, option string, from origins) error {
	switch option {
	case "old_name":
		if m.OldNames = d.RemainingArgs(); len(m.OldNames) == 0 {
			return d.ArgErr()
		}
	case "format":
		return m.unmarshalFormat(d)
	case "cache":
		return word(d, &m.Cache)
	case "ttl":
		return unmarshalLifetime(d, from, &m.TTL, &m.TTLs)
	case "max_stale":
		return unmarshalLifetime(d, from, &m.MaxStale, &m.MaxStales)
	case "policy", "pass", "ignore_query", "pass_authorization", "fill", "guard", "cooldown", "methods":
		return m.unmarshalWebOption(d, option)
	case "revalidate_timeout":
		return origin.UnmarshalDuration(d, &m.RevalidateTimeout)
	case "index":
		m.IndexNames = d.RemainingArgs()
		if len(m.IndexNames) == 0 {
			return d.ArgErr()
		}
		if len(m.IndexNames) == 1 && m.IndexNames[0] == "off" {
			m.IndexNames = []string{}
		}
		if err := checkIndexNames(m.IndexNames); err != nil {
			return d.WrapErr(err)
		}
	case "browse":
		return m.unmarshalBrowse(d)
	case "hide":
		m.Hide = d.RemainingArgs()
		if len(m.Hide) == 0 {
			return d.ArgErr()
		}
		if err := checkPatterns("hide", m.Hide); err != nil {
			return d.WrapErr(err)
		}
	case "precompressed":
		return m.unmarshalPrecompressed(d)
	default:
		return from.unmarshalOption(d, option)
	}
	return nil
}

func (m *Mount) unmarshalBrowse(d *caddyfile.Dispenser) error {
	m.Browse = true
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "memory" {
			return d.Errf("unrecognized subdirective '%s'", d.Val())
		}
		if m.BrowseMemory != 0 {
			return d.Err("memory already specified")
		}
		var value string
		if !d.Args(&value) || d.CountRemainingArgs() > 0 {
			return d.ArgErr()
		}
		var err error
		if m.BrowseMemory, err = diskcache.ParseSize(value); err == nil {
			err = checkBrowseMemory(m.BrowseMemory)
		}
		if err != nil {
			return d.Errf("memory: %v", err)
		}
	}
	return nil
}

func (m *Mount) unmarshalFormat(d *caddyfile.Dispenser) error {
	var name string
	if err := word(d, &name); err != nil {
		return err
	}
	id := "mirror.formats." + name
	if _, err := caddy.GetModule(id); err != nil {
		return d.Errf("unknown format '%s'", name)
	}
	m.FormatRaw = json.RawMessage(`{"format":` + string(caddyconfig.JSON(name, nil)) + `}`)
	return nil
}

func (m *Mount) unmarshalPrecompressed(d *caddyfile.Dispenser) error {
	m.PrecompressedOrder = d.RemainingArgs()
	if len(m.PrecompressedOrder) == 0 {
		m.PrecompressedOrder = []string{"br", "zstd", "gzip"}
	}
	m.PrecompressedRaw = caddy.ModuleMap{}
	for _, name := range m.PrecompressedOrder {
		mod, err := caddy.GetModule("http.precompressed." + name)
		if err != nil {
			return d.Errf("unknown encoding '%s'", name)
		}
		p, ok := mod.New().(encode.Precompressed)
		if !ok {
			return d.Errf("encoding '%s' cannot be precompressed", name)
		}
		m.PrecompressedRaw[name] = caddyconfig.JSON(p, nil)
	}
	return nil
}

func word(d *caddyfile.Dispenser, into *string) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	*into = d.Val()
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Handler)(nil)
