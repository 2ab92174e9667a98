package job

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// UnmarshalCaddyfile sets up the job from what follows its name:
//
//	{
//		every     <duration>
//		cron      <expression>
//		jitter    <duration>
//		timeout   <duration>
//		grace     <duration>
//		retry     <first> [<longest>]
//		directory <path>
//		sync      <syncer> ...
//		gate      <gate> ...
//		release   <releaser> ...
//		release_when [changes <number>] [after <duration>] [project <file>] [{
//			changes <number>
//			after   <duration>
//			project <file>
//		}]
//		release_at_least <duration>|off
//		lock      <path>
//		hold      [<reason>]
//		exclusive
//		kerberos  <keytab> <principal>
//		env       <name> <value>
//		timestamp [<file>]
//		log       <runs> [<size>]
//	}
func (j *Job) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	j.name = d.Val()
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		many := option == "gate" || option == "release" || option == "release_when" || option == "env"
		if seen[option] && !many {
			return d.Errf("%s already specified", option)
		}
		seen[option] = true
		if err := j.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	// What is wrong with the whole is told with the line of its end.
	if err := j.checkAll(); err != nil {
		return d.Errf("job %s: %v", j.name, err)
	}
	return nil
}

// checkAll checks a copy with the defaults filled in, so that they are not in the
// JSON form.
func (j *Job) checkAll() error {
	c := *j
	if c.Log != nil {
		c.Log = new(*c.Log)
	}
	c.setDefaults()
	if err := c.check(); err != nil {
		return err
	}
	_, err := newSchedule(&c)
	return err
}

func (j *Job) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "sync":
		return module(d, "mirror.syncers", "syncer", &j.SyncRaw)
	case "gate":
		return modules(d, "mirror.gates", "gate", &j.GatesRaw)
	case "release":
		return modules(d, "mirror.releasers", "releaser", &j.ReleasesRaw)
	case "release_when":
		if j.ReleaseWhen == nil {
			j.ReleaseWhen = new(ReleaseWhen)
		}
		return j.ReleaseWhen.unmarshalCaddyfile(d)
	}
	args := d.RemainingArgs()
	most, ok := map[string]int{
		"every": 1, "cron": 1, "jitter": 1, "timeout": 1, "grace": 1, "retry": 2, "directory": 1, "lock": 1,
		"exclusive": 0, "hold": 1, "kerberos": 2, "env": 2, "timestamp": 1, "log": 2, "release_at_least": 1,
	}[option]
	if !ok {
		return d.Errf("unrecognized subdirective '%s'", option)
	}
	least := most
	switch option {
	case "retry", "log":
		least = 1
	case "timestamp", "hold":
		least = 0
	}
	if len(args) < least || len(args) > most {
		return d.ArgErr()
	}
	if err := j.set(option, args); err != nil {
		return d.Errf("%s: %v", option, err)
	}
	return nil
}

// set sets an option whose values are words.
func (j *Job) set(option string, args []string) error {
	switch option {
	case "every":
		return parseDuration(args[0], &j.Every)
	case "jitter":
		return parseDuration(args[0], &j.Jitter)
	case "timeout":
		return parseDuration(args[0], &j.Timeout)
	case "grace":
		return parseDuration(args[0], &j.Grace)
	case "retry":
		if len(args) == 2 {
			if err := parseDuration(args[1], &j.RetryMax); err != nil {
				return err
			}
		}
		return parseDuration(args[0], &j.RetryAfter)
	case "cron":
		j.Cron = args[0]
	case "directory":
		j.Directory = args[0]
	case "lock":
		j.Lock = args[0]
	case "hold":
		j.Hold = cmp.Or(strings.Join(args, ""), "configured")
	case "exclusive":
		j.Exclusive = true
	case "kerberos":
		j.Kerberos = &step.Kerberos{Keytab: args[0], Principal: args[1]}
	case "env":
		if j.Env == nil {
			j.Env = map[string]string{}
		}
		if _, ok := j.Env[args[0]]; ok {
			return fmt.Errorf("%s already specified", args[0])
		}
		j.Env[args[0]] = args[1]
	case "release_at_least":
		if args[0] == "off" {
			j.ReleaseAtLeast = -1
			return nil
		}
		return parseDuration(args[0], &j.ReleaseAtLeast)
	case "timestamp":
		j.Timestamp = strings.Join(append(args, "timestamp.txt")[:1], "")
	case "log":
		return j.setLog(args)
	}
	return nil
}

// unmarshalCaddyfile reads conditions, which stand on the line or in a block after it, and
// may be on several lines.
func (w *ReleaseWhen) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	some := false
	for d.NextArg() {
		some = true
		if err := w.unmarshalCondition(d); err != nil {
			return err
		}
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		some = true
		if err := w.unmarshalCondition(d); err != nil {
			return err
		}
		if d.NextArg() {
			return d.ArgErr()
		}
	}
	if !some {
		return d.ArgErr()
	}
	return nil
}

func (w *ReleaseWhen) unmarshalCondition(d *caddyfile.Dispenser) error {
	what := d.Val()
	switch {
	case what != "changes" && what != "after" && what != "project":
		return d.Errf("release_when: unrecognized condition '%s'", what)
	case what == "changes" && w.Changes != 0, what == "after" && w.After != 0:
		return d.Errf("release_when: %s already specified", what)
	case !d.NextArg():
		return d.ArgErr()
	}
	switch what {
	case "changes":
		n, err := strconv.Atoi(d.Val())
		if err != nil || n < 1 {
			return d.Errf("release_when: changes: '%s' is not a number, 1 or more", d.Val())
		}
		w.Changes = n
	case "after":
		if err := parseDuration(d.Val(), &w.After); err != nil {
			return d.Errf("release_when: after: %v", err)
		}
	case "project":
		w.Projects = append(w.Projects, d.Val())
	}
	return nil
}

func (j *Job) setLog(args []string) error {
	j.Log = new(Log)
	var err error
	if j.Log.Keep, err = strconv.Atoi(args[0]); err != nil {
		return err
	}
	if j.Log.Keep < 1 {
		return errors.New("the log of one run is the least to keep")
	}
	if len(args) == 2 {
		j.Log.Size, err = diskcache.ParseSize(args[1])
	}
	return err
}

func parseDuration(s string, into *caddy.Duration) error {
	v, err := caddy.ParseDuration(s)
	*into = caddy.Duration(v)
	if err == nil && v <= 0 {
		return errNotPositive
	}
	return err
}

// module reads a module: its name, and whatever it makes of the rest.
func module(d *caddyfile.Dispenser, namespace, key string, into *json.RawMessage) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	if _, err := caddy.GetModule(namespace + "." + name); err != nil {
		return d.Errf("there is no %s '%s'", key, name)
	}
	mod, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
	if err != nil {
		return err
	}
	*into = caddyconfig.JSONModuleObject(mod, key, name, nil)
	return nil
}

func modules(d *caddyfile.Dispenser, namespace, key string, into *[]json.RawMessage) error {
	var raw json.RawMessage
	if err := module(d, namespace, key, &raw); err != nil {
		return err
	}
	*into = append(*into, raw)
	return nil
}
