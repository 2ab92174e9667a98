package mirror

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/job"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("mirror", parseApp)
}

func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("mirror already specified: put everything into one block")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "mirror", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile sets up the app from the global option:
//
//	mirror {
//		cache [<name>] {
//			path       <directory>
//			max_size   <size>
//			min_free   <size>|<percent>%
//			max_object <size>|unlimited
//			memory     <size>|off
//			max_fills  <number>
//		}
//		job <name> {
//			... // see [job.Job.UnmarshalCaddyfile]
//		}
//		statsd <host>:<port> [<prefix>]
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		switch d.Val() {
		case "cache":
			if err := a.unmarshalCache(d); err != nil {
				return err
			}
		case "job":
			if err := a.unmarshalJob(d); err != nil {
				return err
			}
		case "statsd":
			if err := a.unmarshalStatsd(d); err != nil {
				return err
			}
		default:
			return d.Errf("unrecognized subdirective '%s'", d.Val())
		}
	}
	return nil
}

func (a *App) unmarshalStatsd(d *caddyfile.Dispenser) error {
	if a.Statsd != nil {
		return d.Err("statsd already specified")
	}
	a.Statsd = new(Statsd)
	if !d.Args(&a.Statsd.Address) {
		return d.ArgErr()
	}
	if d.NextArg() {
		a.Statsd.Prefix = d.Val()
	}
	if d.CountRemainingArgs() > 0 {
		return d.ArgErr()
	}
	if err := a.Statsd.check(); err != nil {
		return d.Errf("statsd: %v", err)
	}
	return nil
}

func (a *App) unmarshalJob(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	if d.NextArg() {
		return d.ArgErr()
	}
	if !validName(name) {
		return d.Errf("job name '%s' is not made of letters, digits, '-', '_' and '.'", name)
	}
	if a.Jobs[name] != nil {
		return d.Errf("job '%s' already specified", name)
	}
	j := new(job.Job)
	if err := j.UnmarshalCaddyfile(d); err != nil {
		return err
	}
	if a.Jobs == nil {
		a.Jobs = map[string]*job.Job{}
	}
	a.Jobs[name] = j
	return nil
}

func (a *App) unmarshalCache(d *caddyfile.Dispenser) error {
	name := DefaultCache
	if d.NextArg() {
		name = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	if !validName(name) {
		return d.Errf("cache name '%s' is not made of letters, digits, '-', '_' and '.'", name)
	}
	if a.Caches[name] != nil {
		return d.Errf("cache '%s' already specified", name)
	}
	c := new(Cache)
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("%s already specified", option)
		}
		seen[option] = true
		var value string
		if !d.Args(&value) || d.CountRemainingArgs() > 0 {
			return d.ArgErr()
		}
		var err error
		switch option {
		case "path":
			c.Path = value
		case "max_size":
			c.MaxSize, err = diskcache.ParseSize(value)
			if err == nil && c.MaxSize == 0 {
				err = errors.New("a cache of no size")
			}
		case "min_free":
			c.MinFree = value
			_, err = diskcache.ParseFree(value)
		case "max_object":
			c.MaxObject, err = parseSizeOr(value, "unlimited")
		case "memory":
			c.Memory, err = parseSizeOr(value, "off")
		case "max_fills":
			if c.MaxFills, err = strconv.Atoi(value); err != nil || c.MaxFills < 1 {
				err = fmt.Errorf("%q is not a number of fills, 1 or more", value)
			}
		default:
			return d.Errf("unrecognized subdirective '%s'", option)
		}
		if err != nil {
			return d.Errf("%s: %v", option, err)
		}
	}
	if a.Caches == nil {
		a.Caches = map[string]*Cache{}
	}
	a.Caches[name] = c
	return nil
}

// parseSizeOr parses a size, or the word that stands for -1.
func parseSizeOr(s, word string) (int64, error) {
	if s == word {
		return -1, nil
	}
	n, err := diskcache.ParseSize(s)
	if n == 0 && err == nil {
		return -1, nil
	}
	return n, err
}

// validName reports whether a cache or a job can have this name, which is part of
// paths.
func validName(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`).MatchString(name)
}

// Interface guards
var _ caddyfile.Unmarshaler = (*App)(nil)
