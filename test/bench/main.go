// Bench compares mirror_cache with its peers and prints a table of ratios.
//
//	go run ./test/bench [flags]
//
// Hits: mirror_cache, Caddy's file_server and respond, nginx (static and
// proxy_cache), Apache mod_cache_disk and Varnish serve the same files over
// HTTP/1.1 with keep-alive, plain and with TLS 1.3 and the same cipher (Varnish
// behind hitch). Each server is pinned to one core, the load generator (wrk) to
// another. Rounds are interleaved: every server once a size
// and round, in rotated order, so that a slow minute of the machine hits all of
// them. The largest size takes part in every other round. A figure is the median of
// the rounds, a ratio the median of the ratios of each round: of requests per
// second, and of the CPU time that a request costs the server, which is less in
// doubt where others use the machine, too.
//
// Before and after, every server is asked what it serves: bodies are compared
// by their SHA-256, a hit must say that it is one, and no cache may have asked
// its origin during the rounds.
//
// Fan-out: many clients at once on one cold object. Million: a cache of a
// million entries. Pages: a page of an index of wheels, which clients negotiate, and a file
// of the same bytes, both from mirror_cache. Allocs: the Go benchmarks of a hit.
//
// Upstream: the same nginx behind mirror_cache with an HTTP upstream, nginx
// proxy_cache, Apache, Varnish and Caddy's cache-handler (test/bench/cachehandler, a
// module of its own): hits, the first byte of a miss, a cold object of 1 GiB, many
// clients on one cold object, and memory while slow clients fetch cold objects. It
// takes less than five minutes, builds not counted, and needs 24 GiB of disk:
//
//	go run ./test/bench -only upstream -install
//
// AFS: mirror_cache, the package afs alone and OpenAFS' own afsd.fuse read files
// of a cell that the bench starts, with nothing cached: large and small, from near
// and from far away. How soon what was released is served, and what a thousand
// readers cost. It needs root, what test/afscell needs and openafs-fuse, and has all
// cores for all programs; the cell and all caches are in memory (/dev/shm) if that
// has room.
//
// It needs two cores, taskset, and from Debian the packages wrk, nginx,
// apache2-bin, varnish and hitch, which -install installs (nginx and varnish start
// their services then, as Debian packages do). Everything runs with private
// settings on 127.0.0.1, as the user nobody when started by root, and below
// TMPDIR, which should be a disk with 10 GB to spare.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
)

const (
	partHits     = "hits"
	partFanout   = "fanout"
	partMillion  = "million"
	partPages    = "pages"
	partUpstream = "upstream"
	partAllocs   = "allocs"
	partAFS      = "afs"
)

var parts = []string{partHits, partFanout, partMillion, partPages, partUpstream, partAllocs, partAFS}

type options struct {
	parts         []string
	servers       []string
	sizes         []string
	rounds        int
	duration      time.Duration
	connections   int
	serverCPU     int
	loadCPU       int
	caddy         string
	json          string
	strict        bool
	install       bool
	quiet         time.Duration
	fanoutSize    int64
	fanoutClients int
	entries       int
	millionDir    string

	upstreamServers []string
	afsOpts         afsOptions
}

func parseFlags() (options, error) {
	var o options
	only := flag.String("only", "", "the `parts` to run, separated by commas: "+strings.Join(parts, ", ")+" (default all)")
	servers := flag.String("servers", "", "the `servers` of the hits, separated by commas: "+strings.Join(serverNames(true), ", ")+" (default all but varnish_mute)")
	upstreams := flag.String("upstream-servers", "", "the `servers` before the upstream, separated by commas: "+strings.Join(upstreamNames, ", ")+" (default all)")
	sizes := flag.String("sizes", "", "the `sizes` of the hits, separated by commas, such as 1 MiB,100 MiB (default all)")
	fanoutSize := flag.String("fanout-size", "1GiB", "`size` of the fan-out's object")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of hits")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "time of one server with one size in a round, in whole seconds")
	flag.IntVar(&o.connections, "connections", 32, "connections of the hits")
	flag.IntVar(&o.serverCPU, "server-cpu", 0, "the core of the servers")
	flag.IntVar(&o.loadCPU, "load-cpu", 1, "the core of the clients")
	flag.StringVar(&o.caddy, "caddy", "", "`path` of a caddy binary with mirror_cache (default: build ./cmd/caddy)")
	flag.StringVar(&o.json, "json", "", "also write the results to `file` as JSON")
	flag.BoolVar(&o.strict, "strict", false, "exit with 1 if a goal is missed")
	flag.BoolVar(&o.install, "install", false, "install missing Debian packages with apt-get")
	flag.DurationVar(&o.quiet, "quiet", 0, "how long to wait before each row of hits until others leave the cores alone")
	flag.IntVar(&o.fanoutClients, "fanout-clients", 200, "clients of the fan-out")
	flag.IntVar(&o.entries, "entries", 1_000_000, "entries of the million")
	flag.StringVar(&o.millionDir, "million-dir", "", "`directory` for the cache of the million (default: /dev/shm if it has room, else TMPDIR)")
	o.afsOpts.register()
	flag.Parse()

	if flag.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	var err error
	if o.parts, err = choose("-only", *only, parts, parts); err != nil {
		return o, err
	}
	if o.servers, err = choose("-servers", *servers, serverNames(true), serverNames(false)); err != nil {
		return o, err
	}
	if o.upstreamServers, err = choose("-upstream-servers", *upstreams, upstreamNames, upstreamNames); err != nil {
		return o, err
	}
	if o.sizes, err = choose("-sizes", *sizes, hitSizes, nil); err != nil {
		return o, err
	}
	size, err := humanize.ParseBytes(*fanoutSize)
	if err != nil || size == 0 {
		return o, fmt.Errorf("-fanout-size %q is not a size", *fanoutSize)
	}
	o.fanoutSize = int64(size)
	if err := o.afsOpts.check(); err != nil {
		return o, err
	}
	switch {
	case o.rounds < 1, o.fanoutClients < 1, o.entries < 1:
		return o, errors.New("-rounds, -fanout-clients and -entries must be at least 1")
	case o.duration < time.Second || o.duration%time.Second != 0:
		return o, errors.New("-duration must be whole seconds: wrk knows no others")
	case o.connections < 1 || o.connections > 1000:
		return o, errors.New("-connections must be from 1 to 1000")
	case o.serverCPU == o.loadCPU:
		return o, errors.New("-server-cpu and -load-cpu must be different cores")
	}
	return o, nil
}

// choose splits a list given to the named flag.
func choose(flag, list string, all, byDefault []string) ([]string, error) {
	if list == "" {
		return byDefault, nil
	}
	chosen := strings.Split(list, ",")
	for _, c := range chosen {
		if !slices.Contains(all, c) {
			return nil, fmt.Errorf("%s: unknown %q; known are %s", flag, c, strings.Join(all, ", "))
		}
	}
	return chosen, nil
}

// bench is one run: its settings, its directory, and what it has started.
type bench struct {
	options
	dir     string // temporary; ends with the run
	module  string // directory of the module under test
	user    *user  // whom servers run as; nil: the caller
	tls     tlsFiles
	running []*process
}

func init() {
	// Servers die with the thread that started them (see process.go), so that
	// thread must be the one that lives as long as the program.
	runtime.LockOSThread()
}

func main() {
	if child, ok := millionChild(os.Args[1:]); ok {
		exit(child())
		return
	}
	o, err := parseFlags()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	rep, err := run(ctx, o)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err == nil && o.strict && rep.missed() {
		err = errors.New("goals missed")
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (rep *report, err error) {
	b := &bench{options: o}
	if b.module, err = moduleDir(ctx); err != nil {
		return nil, err
	}
	if b.has(partHits) {
		if err := needPackages(ctx, b.servers, b.install); err != nil {
			return nil, err
		}
	}
	if b.has(partUpstream) {
		if err := needPackages(ctx, b.upstreamServers, b.install); err != nil {
			return nil, err
		}
	}
	if b.has(partPages) {
		if err := needPackages(ctx, nil, b.install); err != nil {
			return nil, err
		}
	}
	if b.has(partAFS) {
		if err := needAFS(); err != nil {
			return nil, err
		}
	}
	if err := checkCPUs(b.serverCPU, b.loadCPU); err != nil {
		return nil, err
	}
	if b.user, err = serverUser(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "mirror-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		b.stopAll()
		err = errors.Join(err, os.RemoveAll(b.dir))
	}()
	if err := b.give(b.dir); err != nil {
		return nil, err
	}
	if err := b.needCaddy(ctx); err != nil {
		return nil, err
	}

	rep = newReport(ctx, b)
	for _, p := range []struct {
		name string
		run  func(context.Context, *report) error
	}{
		{partHits, b.hits},
		{partFanout, b.fanout},
		{partMillion, b.million},
		{partPages, b.pages},
		{partUpstream, b.upstream},
		{partAllocs, b.allocs},
		{partAFS, b.afs},
	} {
		if !b.has(p.name) {
			continue
		}
		if err := p.run(ctx, rep); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	rep.print(os.Stdout)
	if b.json != "" {
		return rep, rep.write(b.json)
	}
	return rep, nil
}

func (b *bench) has(part string) bool { return slices.Contains(b.parts, part) }

var began = time.Now()

// progress tells what is going on, apart from the table.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%5.0fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
}

func moduleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", errors.New("not inside the repository: run it from there")
	}
	return filepath.Dir(mod), nil
}

// needCaddy builds the binary unless one was given, and sees to it that it has
// what is to be measured.
func (b *bench) needCaddy(ctx context.Context) error {
	needed := b.has(partFanout) || b.has(partPages) || b.has(partAFS)
	ours := needed
	if b.has(partUpstream) && slices.Contains(b.upstreamServers, ourName) {
		ours, needed = true, true
	}
	if b.has(partHits) {
		ours = ours || slices.Contains(b.servers, ourName)
		needed = needed || slices.ContainsFunc(b.servers, usesCaddy)
	}
	if !needed {
		return nil
	}
	if b.caddy == "" {
		progress("building caddy")
		b.caddy = filepath.Join(b.dir, "caddy")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", b.caddy, "./cmd/caddy")
		cmd.Dir = b.module
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building caddy: %w\n%s", err, out)
		}
	}
	path, err := filepath.Abs(b.caddy)
	if err != nil {
		return err
	}
	b.caddy = path
	if !ours {
		return nil
	}
	out, err := exec.CommandContext(ctx, b.caddy, "list-modules").Output()
	if err != nil {
		return fmt.Errorf("asking %s for its modules: %w", b.caddy, err)
	}
	if !slices.Contains(strings.Fields(string(out)), "http.handlers.mirror_cache") {
		return fmt.Errorf("%s has no http.handlers.mirror_cache", b.caddy)
	}
	return nil
}

// debian names the program each server needs, and the package it comes from.
var debian = map[string]struct{ program, pkg string }{
	"nginx":        {"nginx", "nginx"},
	"proxy_cache":  {"nginx", "nginx"},
	"apache":       {"apache2", "apache2-bin"},
	"varnish":      {"varnishd", "varnish"},
	"varnish_mute": {"varnishd", "varnish"},
}

// needPackages looks for the programs of the hits and, where allowed to,
// installs what is missing.
func needPackages(ctx context.Context, servers []string, install bool) error {
	// Debian keeps servers where the PATH of a plain user does not look.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	var missing []string
	need := func(program, pkg string) {
		if _, err := exec.LookPath(program); err != nil && !slices.Contains(missing, pkg) {
			missing = append(missing, pkg)
		}
	}
	need("taskset", "util-linux")
	need("wrk", "wrk")
	for _, s := range servers {
		if d, ok := debian[s]; ok {
			need(d.program, d.pkg)
		}
		if isCache(s) {
			need("nginx", "nginx") // the origin
		}
		if strings.HasPrefix(s, "varnish") {
			need("hitch", "hitch")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if !install {
		return fmt.Errorf("missing Debian packages: %s (-install installs them)", strings.Join(missing, " "))
	}
	progress("installing %s", strings.Join(missing, " "))
	for _, args := range [][]string{
		{"update"},
		append([]string{"install", "-y", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out)
		}
	}
	return needPackages(ctx, servers, false)
}

// give makes the servers' user the owner of a path and all below it.
func (b *bench) give(path string) error {
	if b.user == nil {
		return nil
	}
	return filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, b.user.uid, b.user.gid)
	})
}
