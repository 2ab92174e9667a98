package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// hitGoals are ours to each peer, at least, by the title of the size.
var hitGoals = map[string]map[string]float64{
	"4 KiB":        {"file_server": 3.0, "respond": 1.0},
	"64 KiB":       {"file_server": 2.5, "apache": 1.5, "proxy_cache": 0.55, "varnish": 0.75},
	"1 MiB":        {"file_server": 2.0, "apache": 1.0, "proxy_cache": 1.5, "varnish": 0.85},
	"100 MiB":      {"apache": 1.0, "varnish": 0.85},
	"4 KiB, TLS":   {"respond": 1.0},
	"1 MiB, TLS":   {"apache": 1.0, "varnish": 0.85},
	"100 MiB, TLS": {"apache": 1.0, "varnish": 0.85},
}

// hits compares how fast the servers answer with what they have.
func (b *bench) hits(ctx context.Context, rep *report) error {
	defer b.stopAll()
	unpin, err := b.pin()
	if err != nil {
		return err
	}
	defer unpin()

	tree := filepath.Join(b.dir, "tree")
	files, err := writeTree(tree, b.sizes)
	if err != nil {
		return err
	}
	if b.tls, err = writeTLS(b.dir); err != nil {
		return err
	}
	if err := b.give(b.dir); err != nil {
		return err
	}
	o, servers, err := b.startAll(ctx, tree, files)
	if err != nil {
		return err
	}
	for _, s := range servers {
		for _, f := range files {
			if !s.serves(f) {
				continue
			}
			if err := s.check(ctx, f); err != nil {
				return err
			}
		}
	}

	untouched, err := watchOrigins(ctx, o, servers)
	if err != nil {
		return err
	}
	loads := map[cell][]load{}
	for round := range b.rounds {
		start := time.Now()
		for _, f := range files {
			if f.rare && round%2 == 1 {
				continue
			}
			foreign, err := b.awaitQuiet(ctx)
			if err != nil {
				return err
			}
			rep.Foreign = max(rep.Foreign, foreign)
			for i := range servers {
				s := servers[(i+round)%len(servers)]
				if !s.serves(f) {
					continue
				}
				l, err := b.wrk(ctx, s, f, b.duration)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.title, f.title, err)
				}
				c := cell{f.title, s.name}
				loads[c] = append(loads[c], l)
			}
		}
		progress("hits: round %d of %d took %v", round+1, b.rounds, time.Since(start).Round(time.Second))
	}
	if err := untouched(ctx); err != nil {
		return err
	}
	for _, f := range files {
		rep.Hits = append(rep.Hits, newHitTable(f, servers, loads, hitGoals[f.title]))
	}
	return nil
}

// maxForeign is how much of a core others may use before the figures are in
// doubt.
const maxForeign = 0.05

// awaitQuiet waits, no longer than it may, until others leave both cores alone.
// It returns how much they still use.
func (b *bench) awaitQuiet(ctx context.Context) (float64, error) {
	for deadline := time.Now().Add(b.quiet); ; {
		foreign, err := b.foreignLoad(ctx)
		if err != nil || foreign <= maxForeign || time.Now().After(deadline) {
			return foreign, err
		}
	}
}

// foreignLoad is how much of the busier of both cores is used while all servers
// are idle.
func (b *bench) foreignLoad(ctx context.Context) (float64, error) {
	cpus := []int{b.serverCPU, b.loadCPU}
	var before, total [2]uint64
	for i, cpu := range cpus {
		var err error
		if before[i], total[i], err = busyTime(cpu); err != nil {
			return 0, err
		}
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(250 * time.Millisecond):
	}
	var most float64
	for i, cpu := range cpus {
		after, now, err := busyTime(cpu)
		if err != nil {
			return 0, err
		}
		most = max(most, ratio(after-before[i], now-total[i]))
	}
	return most, nil
}

// cell is a place in the table: a size's title and a server's name.
type cell struct{ size, server string }

// serves reports whether a server takes part with a file.
func (s *server) serves(f file) bool {
	return s.answer == nil || int64(len(s.answer)) == f.size
}

// startAll starts the chosen servers, and the origin if one of them needs it.
func (b *bench) startAll(ctx context.Context, tree string, files []file) (origin, []*server, error) {
	st := site{tree: tree, maxSize: 64 * mib} // a cache has to have some room
	for _, f := range files {
		st.maxSize += 2 * f.size // each is there twice
	}
	var o origin
	if slices.ContainsFunc(b.servers, isCache) {
		var err error
		if o, err = b.startOrigin(ctx, tree); err != nil {
			return o, nil, err
		}
		st.origin = o.addr
	}
	var servers []*server
	for _, k := range kinds {
		if !slices.Contains(b.servers, k.name) {
			continue
		}
		s, err := b.startServer(ctx, k, st)
		if err != nil {
			return o, nil, err
		}
		servers = append(servers, s)
	}
	return o, servers, nil
}

// watchOrigins returns a function that fails if any cache has asked its origin
// for anything since.
func watchOrigins(ctx context.Context, o origin, servers []*server) (func(context.Context) error, error) {
	var ours *server
	var touched touches
	var requests int64
	var err error
	if i := slices.IndexFunc(servers, func(s *server) bool { return s.name == ourName }); i >= 0 {
		ours = servers[i]
		if touched, err = ours.originTouches(ctx); err != nil {
			return nil, err
		}
	}
	if o.server != nil {
		if requests, err = o.requests(ctx); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) error {
		if ours != nil {
			t, err := ours.originTouches(ctx)
			if err != nil {
				return err
			}
			if t.calls() != touched.calls() {
				return fmt.Errorf("not all were hits: %s went to its origin %d times", ours.title, t.calls()-touched.calls())
			}
		}
		if o.server != nil {
			n, err := o.requests(ctx)
			if err != nil {
				return err
			}
			n-- // the question before
			if n != requests {
				return fmt.Errorf("not all were hits: the origin had %d requests of nginx proxy_cache, Apache or Varnish", n-requests)
			}
		}
		return nil
	}, nil
}
