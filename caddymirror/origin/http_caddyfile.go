package origin

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

// Form implements [Written].
func (*HTTP) Form() Form {
	return Form{Word: "an http:// or https:// URL", Give: "the URL of an HTTP server", Many: "HTTP upstreams"}
}

// UnmarshalRoot implements [Written].
func (h *HTTP) UnmarshalRoot(word string) (ok bool, err error) {
	if !strings.HasPrefix(word, "http://") && !strings.HasPrefix(word, "https://") {
		return false, nil
	}
	h.Upstreams = append(h.Upstreams, word)
	if strings.Contains(word, "{") {
		return true, nil
	}
	_, err = upstream.New(upstream.Config{URL: word})
	return true, err
}

// JoinRoot implements [Joiner]: several URLs are upstreams of one origin.
func (h *HTTP) JoinRoot(word string) (ok bool, err error) { return h.UnmarshalRoot(word) }

// Repeat implements [Repeater].
func (*HTTP) Repeat(option string) bool {
	return option == "follow" || option == "header_up" || option == "limit"
}

// UnmarshalOption implements [Written]:
//
//	transport       <module> {
//		...
//	}
//	header_up       <field> <value>
//	follow          <host...>
//	header_timeout  <duration>
//	read_timeout    <duration>
//	user_agent      <text>
//	limit           requests <number>
//	limit           bandwidth <bytes a second>
//	health_uri      <path>
//	health_interval <duration>
func (h *HTTP) UnmarshalOption(d *caddyfile.Dispenser) (ok bool, err error) {
	switch d.Val() {
	case "transport":
		return true, h.unmarshalTransport(d)
	case "header_up":
		return true, h.unmarshalHeaderUp(d)
	case "follow":
		return true, h.unmarshalFollow(d)
	case "header_timeout":
		return true, UnmarshalDuration(d, &h.HeaderTimeout)
	case "read_timeout":
		return true, UnmarshalDuration(d, &h.ReadTimeout)
	case "user_agent":
		return true, unmarshalText(d, &h.UserAgent, func(c *upstream.Config) { c.UserAgent = d.Val() })
	case "limit":
		return true, h.unmarshalLimit(d)
	case "health_uri":
		return true, unmarshalText(d, &h.HealthURI, func(c *upstream.Config) { c.HealthTarget = d.Val() })
	case "health_interval":
		return true, UnmarshalDuration(d, &h.HealthInterval)
	}
	return false, nil
}

// check tells what is wrong with a setting of an upstream, as it stands in the file.
func check(set func(c *upstream.Config)) error {
	const host = "x"
	c := upstream.Config{URL: "http://" + host}
	set(&c)
	if _, err := upstream.New(c); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "upstream "+host+": "))
	}
	return nil
}

// unmarshalText reads the argument of an option.
func unmarshalText(d *caddyfile.Dispenser, into *string, set func(c *upstream.Config)) error {
	option := d.Val()
	if !d.NextArg() || d.Val() == "" {
		return d.ArgErr()
	}
	if err := check(set); err != nil {
		return d.Errf("%s: %v", option, err)
	}
	*into = d.Val()
	return nil
}

func (h *HTTP) unmarshalTransport(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	module, err := caddyfile.UnmarshalModule(d, "http.reverse_proxy.transport."+name)
	if err != nil {
		return err
	}
	if _, ok := module.(http.RoundTripper); !ok {
		return d.Errf("transport %s: %T is none", name, module)
	}
	h.TransportRaw = caddyconfig.JSONModuleObject(module, "protocol", name, nil)
	return nil
}

func (h *HTTP) unmarshalHeaderUp(d *caddyfile.Dispenser) error {
	var name, value string
	if !d.AllArgs(&name, &value) {
		return d.ArgErr()
	}
	name = http.CanonicalHeaderKey(name)
	if _, twice := h.HeaderUp[name]; twice {
		return d.Errf("header_up %s is given twice", name)
	}
	// The value may have placeholders, so it is looked at when they are replaced. It is
	// secret in any case.
	if err := check(func(c *upstream.Config) { c.Header = http.Header{name: {"x"}} }); err != nil {
		return d.Errf("header_up: %v", err)
	}
	if h.HeaderUp == nil {
		h.HeaderUp = http.Header{}
	}
	h.HeaderUp[name] = []string{value}
	return nil
}

func (h *HTTP) unmarshalFollow(d *caddyfile.Dispenser) error {
	hosts := d.RemainingArgs()
	if len(hosts) == 0 {
		return d.ArgErr()
	}
	if err := check(func(c *upstream.Config) { c.Follow = hosts }); err != nil {
		return d.Errf("follow: %v", err)
	}
	h.Follow = append(h.Follow, hosts...)
	return nil
}

func (h *HTTP) unmarshalLimit(d *caddyfile.Dispenser) error {
	var of, value string
	if !d.AllArgs(&of, &value) {
		return d.Errf("limit is `requests NUMBER` or `bandwidth BYTES`")
	}
	if h.Limit == nil {
		h.Limit = new(HTTPLimit)
	}
	into, parse := &h.Limit.Requests, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 31) }
	switch of {
	case "requests":
	case "bandwidth":
		into, parse = &h.Limit.Bandwidth, parseBandwidth
	default:
		return d.Errf("limit is of `requests` or `bandwidth`, and not of %s", of)
	}
	n, err := parse(value)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return d.Errf("limit %s: %q is not %s", of, value, map[string]string{
			"requests": "a number above 0", "bandwidth": "a number of bytes a second, such as 10MB",
		}[of])
	}
	if *into != 0 {
		return d.Errf("limit %s is given twice", of)
	}
	*into = int64(n)
	return nil
}

// parseBandwidth reads bytes a second: `10MB`, or `10MB/s`.
func parseBandwidth(s string) (uint64, error) {
	n, err := humanize.ParseBytes(strings.TrimSuffix(s, "/s"))
	if err != nil {
		return 0, fmt.Errorf("parsing bytes: %w", err)
	}
	return n, nil
}
