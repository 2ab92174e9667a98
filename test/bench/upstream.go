package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// The upstream is an nginx on the clients' core; each server before it has a core of its
// own. Before the hits, everything but what is measured is idle.

const (
	// treeName is our server once more, asked for the same files of a directory.
	treeName = "mirror_tree"

	// upstreamRoom is the disk that the part needs at most: a cold object a round and
	// cache, or what three caches write while slow clients stay.
	upstreamRoom = 24 * gib

	// upstreamTime ends the part where the machine is so slow that no figure means anything.
	// A quiet one takes less than half of it.
	upstreamTime = 10 * time.Minute

	// handlerRoom is the memory that cache-handler needs for an object of coldSize: it
	// holds the body several times.
	handlerRoom = 8 * gib
)

// upstreamNames are the servers before the upstream.
var upstreamNames = []string{ourName, "proxy_cache", "apache", "varnish", "cache_handler"}

// upstreamHitGoals are ours to each peer, at least.
var upstreamHitGoals = map[string]float64{treeName: 0.97}

// upstreamResult is how servers do before the same HTTP upstream.
type upstreamResult struct {
	Skipped []string    `json:"skipped,omitempty"` // what was not compared, and why
	Hits    []hitTable  `json:"hits"`
	First   *firstTable `json:"first"`
	Crowd   []crowdRow  `json:"crowd"`
	Cold    []coldRow   `json:"cold"`
	Memory  []memoryRow `json:"memory"`
}

func (r *upstreamResult) skip(format string, args ...any) {
	r.Skipped = append(r.Skipped, fmt.Sprintf(format, args...))
	progress("upstream: "+format, args...)
}

// behind is what stands behind the servers.
type behind struct {
	origin
	big object // as the origin has it; under many names in cold and slow
}

// Where the upstream has one file under many names.
const (
	firstDir = "first"
	coldDir  = "cold"
	slowDir  = "slow"
)

func (b *bench) upstream(ctx context.Context, rep *report) (err error) {
	defer b.stopAll()
	ctx, cancel := context.WithTimeoutCause(ctx, upstreamTime, fmt.Errorf("not done after %v: the machine is too busy", upstreamTime))
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	if err := b.needRoom(); err != nil {
		return err
	}
	unpin, err := b.pin()
	if err != nil {
		return err
	}
	defer unpin()
	if b.tls, err = writeTLS(b.dir); err != nil {
		return err
	}

	tree := filepath.Join(b.dir, "upstream")
	files, crowd, err := writeUpstream(tree)
	if err != nil {
		return err
	}
	up := behind{big: object{name: "big.bin", size: coldSize}}
	progress("upstream: making an object of %s", mebibytes(coldSize))
	if err := up.big.write(tree, 200); err != nil {
		return err
	}
	if err := b.give(b.dir); err != nil {
		return err
	}
	dirs := []many{
		{Name: firstDir, File: firstFile},
		{Name: coldDir, File: up.big.name},
		{Name: slowDir, File: up.big.name, Rate: slowUpstream},
	}
	for _, c := range crowds {
		dirs = append(dirs, many{Name: c.dir, File: crowdFile, Rate: c.rate})
	}
	if up.origin, err = b.startUpstream(ctx, tree, dirs); err != nil {
		return err
	}

	r := new(upstreamResult)
	rep.Upstream = r
	st := site{
		tree: tree, origin: up.addr, proxy: true, clients: crowdClients,
		maxSize: (coldRounds + 2) * coldSize,
	}
	servers, err := b.startBefore(ctx, st, r)
	if err != nil {
		return err
	}
	if err := b.upstreamHits(ctx, rep, up, servers, files); err != nil {
		return fmt.Errorf("hits: %w", err)
	}
	if r.First, err = b.upstreamFirst(ctx, up, servers); err != nil {
		return fmt.Errorf("first byte: %w", err)
	}
	if r.Crowd, err = b.upstreamCrowd(ctx, up, servers, crowd); err != nil {
		return fmt.Errorf("crowd: %w", err)
	}
	if r.Cold, err = b.upstreamCold(ctx, up, servers, r); err != nil {
		return fmt.Errorf("cold: %w", err)
	}
	for _, s := range servers {
		if err := b.remove(s); err != nil {
			return err
		}
	}
	if r.Memory, err = b.upstreamMemory(ctx, up, st); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	return nil
}

// needRoom fails unless the part may fill as much disk as it can.
func (b *bench) needRoom() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(b.dir, &fs); err != nil {
		return err
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < upstreamRoom {
		return fmt.Errorf("upstream: %s has %s free and needs %s: set TMPDIR", b.dir, humanize.IBytes(free), humanize.IBytes(upstreamRoom))
	}
	return nil
}

// writeUpstream makes the smaller files of the upstream. It returns those of the hits,
// and that of the crowd.
func writeUpstream(tree string) (hits []file, crowd string, err error) {
	dir := filepath.Join(tree, "files")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", err
	}
	hits = []file{
		{title: "1 KiB", name: "1k.bin", size: kib},
		{title: "64 KiB", name: "64k.bin", size: 64 * kib},
		{title: "1 MiB", name: "1m.bin", size: mib},
	}
	for i := range hits {
		if err := hits[i].write(dir, byte(i)); err != nil {
			return nil, "", err
		}
	}
	for i, f := range []file{{name: firstFile, size: firstSize}, {name: crowdFile, size: crowdSize}} {
		if err := f.write(dir, byte(10+i)); err != nil {
			return nil, "", err
		}
	}
	return hits, filepath.Join(dir, crowdFile), nil
}

// startBefore starts the chosen servers before the upstream. What Go's module proxy does
// not have is left out.
func (b *bench) startBefore(ctx context.Context, st site, r *upstreamResult) ([]*server, error) {
	var servers []*server
	for _, name := range b.upstreamServers {
		if name == "cache_handler" {
			if _, err := b.buildCacheHandler(ctx); err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				reason, _, _ := strings.Cut(err.Error(), "\n")
				r.skip("Caddy cache-handler is left out: %s", reason)
				continue
			}
		}
		s, err := b.startServer(ctx, kindOf(name), st)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// remove ends a server and removes what it has on disk.
func (b *bench) remove(s *server) error {
	s.stop()
	b.running = slices.DeleteFunc(b.running, func(p *process) bool { return p == s.process })
	return os.RemoveAll(s.cmd.Dir)
}

// sync writes back what the file system of the bench's directory holds, so that it does
// not run into what comes next.
func (b *bench) sync() error {
	d, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		if err := unix.Syncfs(int(d.Fd())); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// count returns how many requests the upstream has while do runs, and shortly after.
func (o origin) count(ctx context.Context, do func() error) (int64, error) {
	before, err := o.requests(ctx)
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	time.Sleep(100 * time.Millisecond)
	after, err := o.requests(ctx)
	return after - before - 1, err // the question before
}

// upstreamHits compares how fast the servers answer with what they have, and ours with
// itself where the files come from a directory. Our rounds take -duration, those of the
// peers a second.
func (b *bench) upstreamHits(ctx context.Context, rep *report, up behind, servers []*server, files []file) error {
	if i := slices.IndexFunc(servers, func(s *server) bool { return s.name == ourName }); i >= 0 {
		tree := *servers[i]
		tree.kind = kind{name: treeName, title: "mirror_cache, directory"}
		servers = slices.Insert(slices.Clone(servers), i+1, &tree)
	}
	at := func(s *server, f file) file {
		if s.name == treeName {
			f.path = "/tree/" + f.name
		}
		return f
	}
	check := func() error {
		for _, s := range servers {
			for _, f := range files {
				if err := s.check(ctx, at(s, f)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	loads := map[cell][]load{}
	asked, err := up.count(ctx, func() error {
		for round := range b.rounds {
			start := time.Now()
			for _, f := range files {
				foreign, err := b.awaitQuiet(ctx)
				if err != nil {
					return err
				}
				rep.Foreign = max(rep.Foreign, foreign)
				for i := range servers {
					s := servers[(i+round)%len(servers)]
					duration := time.Second
					if s.name == ourName || s.name == treeName {
						duration = b.duration
					}
					l, err := b.wrk(ctx, s, at(s, f), duration)
					if err != nil {
						return fmt.Errorf("%s, %s: %w", s.title, f.title, err)
					}
					c := cell{f.title, s.name}
					loads[c] = append(loads[c], l)
				}
			}
			progress("upstream: hits, round %d of %d took %v", round+1, b.rounds, time.Since(start).Round(time.Second))
		}
		return check()
	})
	if err != nil {
		return err
	}
	if asked != 0 {
		return fmt.Errorf("not all were hits: the upstream had %d requests", asked)
	}
	for _, f := range files {
		rep.Upstream.Hits = append(rep.Upstream.Hits, newHitTable(f, servers, loads, upstreamHitGoals))
	}
	return nil
}

// goals are all but those of the hits.
func (r *upstreamResult) goals() []*goal {
	var goals []*goal
	if r.First != nil {
		for _, row := range r.First.Servers {
			goals = append(goals, row.Goal)
		}
	}
	for _, row := range r.Crowd {
		goals = append(goals, row.Goal)
	}
	for _, row := range r.Cold {
		goals = append(goals, row.Goal)
	}
	for _, row := range r.Memory {
		goals = append(goals, row.Goal)
	}
	return goals
}

func (r *report) printUpstream(w io.Writer) {
	u := r.Upstream
	fmt.Fprintln(w, "\nUpstream: nginx on the clients' core, and each server before it on its own.")
	for _, s := range u.Skipped {
		fmt.Fprintln(w, s)
	}
	if r.Foreign > maxForeign {
		fmt.Fprintf(w, "CAUTION: others used up to %s of these cores meanwhile.\n", percent(r.Foreign))
	}
	fmt.Fprintf(w, "\nHits of what came from the upstream: median of %d rounds.\n", r.Settings.Rounds)
	printHitTables(w, u.Hits)
	u.First.print(w)
	printCrowd(w, u.Crowd)
	printCold(w, u.Cold)
	printMemory(w, u.Memory)
	fmt.Fprintln(w, "\nAllocations of a hit: -only allocs, or BenchmarkHit* in caddymirror/mirrorcache.")
}
