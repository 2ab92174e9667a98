package mirrorcache

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// Mount is a URL prefix with the origins behind it.
type Mount struct {
	// Prefix of the URL paths that the mount serves, such as `/pypi`: the
	// path itself and all below it.
	Prefix string `json:"prefix,omitempty"`

	// Origins where the objects come from. The first is asked; the others, in
	// order, while those before them are away.
	OriginsRaw []json.RawMessage `json:"origins,omitempty" caddy:"namespace=mirror.origins inline_key=origin"`

	// OldNames are host names at which the mount is served from the root, and nothing
	// else is: those that it had to itself before it got a prefix. The site has to be
	// theirs, too. How often each is still used is counted, as the metric
	// `caddy_mirror_old_name_requests_total`.
	OldNames []string `json:"old_names,omitempty"`

	// Format tells which objects never change under their name, and how a name is
	// answered. Default: plain, a tree of which nothing is known.
	FormatRaw json.RawMessage `json:"format,omitempty" caddy:"namespace=mirror.formats inline_key=format"`

	// Cache is the name of the cache to use. Default: `default`.
	Cache string `json:"cache,omitempty"`

	// TTL is how long an entry is fresh where its origin has no releases, and
	// how long it is remembered at most that an object is not there. Default:
	// 1m.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// MaxStale is how long after it was last validated an entry may be served
	// while its origin is away. Default: without limit.
	MaxStale caddy.Duration `json:"max_stale,omitempty"`

	// RevalidateTimeout is how long a request for a stale entry waits for the
	// origin before it is answered with the entry as it is. Default: 1s.
	RevalidateTimeout caddy.Duration `json:"revalidate_timeout,omitempty"`

	// IndexNames are the files that are served for their directory. Default:
	// `index.html`.
	IndexNames []string `json:"index_names,omitzero"`

	// Browse turns listings of directories without an index file on: in HTML, or
	// for clients that accept `application/json` or `text/plain`, in these.
	// Fields of JSON, and the query parameters `sort` (`namedirfirst`, `name`,
	// `size` or `time`), `order` (`asc` or `desc`), `limit` and `offset`, are
	// those of file_server.
	Browse bool `json:"browse,omitempty"`

	// BrowseMemory is how much memory the listings may take that are kept, in
	// bytes: about 50 for an entry, and at least 64 KiB. A directory that needs
	// more is listed in part, and its listing says so. As much again may be
	// needed for what clients are still being sent of older listings, and twice as
	// much while a large directory is read. Default: 64 MiB.
	BrowseMemory int64 `json:"browse_memory,omitempty"`

	// Hide lists names that are answered as if they were not there: patterns
	// (`*.tmp`) for one element of a path, or, with a slash, for a path
	// relative to the mount and all below it.
	Hide []string `json:"hide,omitempty"`

	// PrecompressedRaw are encodings in which a file may lie beside the
	// original, as for file_server; clients that accept one get that file.
	PrecompressedRaw caddy.ModuleMap `json:"precompressed,omitempty" caddy:"namespace=http.precompressed"`

	// PrecompressedOrder is in which order to prefer them.
	PrecompressedOrder []string `json:"precompressed_order,omitempty"`

	// Policy is how what HTTP upstreams answer is cached: `rfc`, as RFC 9111 has it, or
	// `mirror`: what clients send has nothing asked for again, and the format's classes
	// go before the lifetimes that upstreams give. Default: `mirror` with a format that
	// knows classes, `rfc` with `plain`.
	Policy string `json:"policy,omitempty"`

	// TTLs are how long what HTTP upstreams answer is fresh, by path: the first that
	// matches counts. They go before what the upstream says.
	TTLs []Lifetime `json:"ttls,omitempty"`

	// MaxStales are, by path, how long after its lifetime a response may be served while
	// the upstream is away. Default: `max_stale`.
	MaxStales []Lifetime `json:"max_stales,omitempty"`

	// Pass are patterns, as those of Hide, of paths that are never cached.
	Pass []string `json:"pass,omitempty"`

	// IgnoreQuery are patterns of paths of which the cache has one object, whatever the
	// query.
	IgnoreQuery []string `json:"ignore_query,omitempty"`

	// FillWhole is up to which size an object of an HTTP upstream is copied into the cache
	// as a whole when a part of it is asked for, in bytes. Of a larger one the first part is
	// read past the cache; whoever asks for more of it has it copied. Negative: all are
	// copied. Default: 64 MiB.
	FillWhole int64 `json:"fill_whole,omitempty"`

	// Guard is how long an object of an HTTP upstream that goes back is served as it was:
	// one with a lower X-PyPI-Last-Serial, or an earlier Last-Modified, than the one in the
	// cache. It is asked for once more, past the caches of the upstream, and of the next
	// upstream. Then what the upstream has is taken. Negative: not at all. Default: 10m.
	Guard caddy.Duration `json:"guard,omitempty"`

	// Cooldown is how old a version of a package must be before HTTP upstreams' copies of it
	// are offered: a younger one is not found. The format has to know when versions were
	// published. Default: 0, all are offered.
	Cooldown caddy.Duration `json:"cooldown,omitempty"`

	// Methods are those that are passed on to the upstream besides GET and HEAD, such as POST
	// for `npm audit`. Their answers are not stored, and what they may have changed is asked
	// for again (RFC 9111 section 4.4). Default: none.
	Methods []string `json:"methods,omitempty"`

	// PassAuthorization sends the Authorization of clients to HTTP upstreams. What they
	// answer is shared with others only as RFC 9111 section 3.5 allows. By default none
	// is sent.
	PassAuthorization bool `json:"pass_authorization,omitempty"`

	log            *zap.Logger
	cache          *mirror.Cache
	group          string // of keys
	origins        []source
	web            bool // they are HTTP upstreams
	format         format.Format
	formatName     string
	plans          *plans           // nil if the format has none
	inspector      format.Inspector // nil if the format is none
	dated          format.Dated     // nil if there is no cooldown
	asks           *asks            // nil if the format does not say
	precompressors map[string]encode.Precompressed
	listings       *listings
	facts          *facts
	parts          parts
	past           atomic.Int64 // bodies that are read past the cache
	dates          *dates
	checks         singleflight.Group // of entries, by release and name
	looks          singleflight.Group // for what fills are of, by release and name
	metrics        metrics
	failover       time.Duration // how long the first origin may take that is not away
	current        atomic.Pointer[release]
	looked         atomic.Bool // the first origin's release has been seen
	serial         uint64      // of the mount in this process
	unstored       unstored
	mounted        func(*url.URL) (string, bool) // where the site has a URL of an upstream
	guards         guards
	passing        sync.Map // answers that are not stored, see handOver: *got by *diskcache.Fill
	lifetimes      lifetimes
	slow           atomic.Bool // the origin has kept a stale entry's request waiting for too long
}

// mountSerial counts mounts: what is kept with an entry outlives a configuration.
var mountSerial atomic.Uint64

// source is an origin of a mount: a tree or an HTTP upstream.
type source struct {
	origin.Tree               // nil for an upstream
	upstream    origin.Origin // nil for a tree
	tag         string        // of validators: what two origins say is never compared
}

// newSource makes a source of a module, if that is an origin.
func newSource(mod any) (s source, ok bool) {
	switch o := mod.(type) {
	case origin.Tree:
		s.Tree = o
	case origin.Origin:
		s.upstream = o
	default:
		return s, false
	}
	h := fnv.New32a()
	h.Write([]byte(s.String()))
	s.tag = hex.EncodeToString(h.Sum(nil)) + ":"
	return s, true
}

// origin is the source, to be asked.
func (s source) origin() origin.Origin {
	if s.Tree != nil {
		return origin.FromTree(s.Tree)
	}
	return s.upstream
}

// String names the origin.
func (s source) String() string {
	if s.Tree != nil {
		return s.Tree.String()
	}
	return s.upstream.String()
}

const (
	defaultTTL               = time.Minute
	defaultRevalidateTimeout = time.Second
	maxNegativeTTL           = time.Minute
	defaultFillWhole         = 64 << 20
	defaultGuard             = 10 * time.Minute
)

// provision sets the mount up. It touches neither cache nor origin.
func (m *Mount) provision(ctx caddy.Context, app *mirror.App) error {
	m.log = ctx.Logger().With(zap.String("mount", m.Prefix))
	if err := m.checkPrefix(); err != nil {
		return err
	}
	if m.TTL != 0 { // it goes before what an upstream says
		m.lifetimes.ttl = append(slices.Clone(m.TTLs), Lifetime{For: m.TTL})
	} else {
		m.lifetimes.ttl = m.TTLs
		m.TTL = caddy.Duration(defaultTTL)
	}
	if m.FillWhole == 0 {
		m.FillWhole = defaultFillWhole
	}
	if m.Guard == 0 {
		m.Guard = caddy.Duration(defaultGuard)
	}
	if m.RevalidateTimeout == 0 {
		m.RevalidateTimeout = caddy.Duration(defaultRevalidateTimeout)
	}
	if m.TTL < 0 || m.MaxStale < 0 || m.RevalidateTimeout < 0 || m.Cooldown < 0 {
		return errors.New("a duration is negative")
	}
	if m.IndexNames == nil {
		m.IndexNames = []string{"index.html"}
	}
	if err := errors.Join(checkIndexNames(m.IndexNames), checkPatterns("hide", m.Hide)); err != nil {
		return err
	}
	if err := m.provisionOldNames(); err != nil {
		return err
	}
	if err := m.loadModules(ctx); err != nil {
		return err
	}
	var err error
	if m.cache, err = app.UseCache(m.Cache); err != nil {
		return err
	}
	// The first origin, and not the others, is part of what a key means: a
	// fall-back that comes or goes loses nothing.
	m.group = m.Prefix + "\x00" + m.origins[0].String()
	if err := m.overlay(ctx); err != nil {
		return err
	}
	if err := m.provisionLifetimes(); err != nil {
		return err
	}
	m.facts = newFacts()
	m.unstored = newUnstored()
	m.guards = newGuards()
	m.serial = mountSerial.Add(1)
	m.parts = newParts()
	m.dates = newDates()
	m.metrics = newMetrics(m.Prefix)
	return m.provisionBrowse()
}

func checkIndexNames(names []string) error {
	for _, name := range names {
		if name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("index name %q is not a file name", name)
		}
	}
	return nil
}

// checkPatterns refuses patterns, as those of Hide, that are none.
func checkPatterns(option string, patterns []string) error {
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%s pattern %q: %w", option, pattern, err)
		}
	}
	return nil
}

// checkPrefix brings the prefix into the form "/a/b", or "" for the root.
func (m *Mount) checkPrefix() error {
	if !strings.HasPrefix(m.Prefix, "/") {
		return errors.New("prefix does not begin with a slash")
	}
	if cleanPath(m.Prefix) != m.Prefix || strings.ContainsFunc(m.Prefix, unicode.IsControl) || strings.ContainsAny(m.Prefix, "*?") {
		return errors.New("prefix is not a plain URL path")
	}
	m.Prefix = "/" + strings.Trim(m.Prefix, "/")
	return nil
}

func (m *Mount) loadModules(ctx caddy.Context) error {
	if len(m.OriginsRaw) == 0 {
		return errors.New("there is no origin")
	}
	mods, err := ctx.LoadModule(m, "OriginsRaw")
	if err != nil {
		return fmt.Errorf("loading origin: %w", err)
	}
	for _, mod := range mods.([]any) {
		src, ok := newSource(mod)
		if !ok {
			return fmt.Errorf("module %T is not an origin", mod)
		}
		m.origins = append(m.origins, src)
	}
	m.web = m.origins[0].Tree == nil
	for _, src := range m.origins {
		if (src.Tree == nil) != m.web {
			return errors.New("a mount has either trees or HTTP upstreams, and not both")
		}
	}
	if f, ok := m.origins[0].Tree.(origin.Failover); ok {
		m.failover = f.FailoverTime()
	}
	if m.FormatRaw == nil {
		m.FormatRaw = json.RawMessage(`{"format":"plain"}`)
	}
	mod, err := ctx.LoadModule(m, "FormatRaw")
	if err != nil {
		return fmt.Errorf("loading format: %w", err)
	}
	var ok bool
	if m.format, ok = mod.(format.Format); !ok {
		return fmt.Errorf("module %T is not a format", mod)
	}
	m.formatName = mod.(caddy.Module).CaddyModule().ID.Name()
	m.useFormat()
	return m.loadPrecompressors(ctx)
}

// useFormat finds the abilities of the format. Plans and inspections are of files so far.
func (m *Mount) useFormat() {
	if m.web {
		if a, ok := m.format.(format.Asker); ok {
			m.asks = newAsks(a)
		}
		return
	}
	if p, ok := m.format.(format.Planner); ok {
		m.plans = newPlans(p, m.hidden)
	}
	m.inspector, _ = m.format.(format.Inspector)
}

func (m *Mount) loadPrecompressors(ctx caddy.Context) error {
	mods, err := ctx.LoadModule(m, "PrecompressedRaw")
	if err != nil {
		return fmt.Errorf("loading encoder modules: %w", err)
	}
	for name, mod := range mods.(map[string]any) {
		p, ok := mod.(encode.Precompressed)
		if !ok {
			return fmt.Errorf("encoding %s cannot be precompressed", name)
		}
		if m.precompressors == nil {
			m.precompressors = map[string]encode.Precompressed{}
		}
		m.precompressors[p.AcceptEncoding()] = p
	}
	return nil
}

// claims reports whether the mount serves a clean path, and what of it is the
// mount's: "" for the prefix without a slash, else with a slash in front.
func (m *Mount) claims(p string) (rest string, ok bool) {
	if m.Prefix == "/" {
		return p, true
	}
	rest, ok = strings.CutPrefix(p, m.Prefix)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// hidden reports whether a name is to be hidden.
func (m *Mount) hidden(name string) bool {
	return matchAny(m.Hide, name)
}

// matchAny reports whether a pattern is for a name.
func matchAny(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if strings.Contains(pattern, "/") {
			if within(strings.Trim(pattern, "/"), name) {
				return true
			}
			continue
		}
		for part := range strings.SplitSeq(name, "/") {
			if ok, _ := path.Match(pattern, part); ok {
				return true
			}
		}
	}
	return false
}

// within reports whether pattern matches name or a directory that it is in.
func within(pattern, name string) bool {
	depth := strings.Count(pattern, "/") + 1
	parts := strings.SplitN(name, "/", depth+1)
	if len(parts) < depth {
		return false
	}
	ok, _ := path.Match(pattern, strings.Join(parts[:depth], "/"))
	return ok
}

func (m *Mount) key(name string) diskcache.Key { return diskcache.Key{Group: m.group, Name: name} }

// Status implements mirror.Mount.
func (m *Mount) Status() mirror.MountStatus {
	s := mirror.MountStatus{Prefix: m.Prefix, Format: m.formatName, Cache: m.Cache}
	if s.Cache == "" {
		s.Cache = mirror.DefaultCache
	}
	if c := m.cache.Open(); c != nil {
		s.Entries, s.Bytes = c.Usage(m.group)
		s.Filling, s.Waiting = c.Turns(m.group)
	}
	for _, o := range m.origins {
		s.Origins = append(s.Origins, o.origin().Status())
	}
	return s
}
