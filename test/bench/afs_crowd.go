package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// maxReadAhead is what package afs may hold of files that nobody has read yet.
const maxReadAhead = 64 * mib

// perClient is what a client with a cold file may cost besides: buffers of the piece
// that it waits for, of the copy and of the answer, connections and stacks, and as
// much garbage.
const perClient = 768 * kib

// afsCrowd is what many clients at once on as many cold files cost.
type afsCrowd struct {
	Clients  int     `json:"clients"`
	Bytes    int64   `json:"bytes_each"`
	AFS      afsCost `json:"afs"`
	Local    afsCost `json:"local"` // the same files from a directory
	AnonGoal *goal   `json:"anon_goal"`
}

type afsCost struct {
	Time       time.Duration `json:"time_ns"`
	Goroutines int           `json:"peak_goroutines"`
	AnonGrowth int64         `json:"anon_growth"`
}

// readCrowd asks for many files at once: of the cell, and the same of a local
// directory to see what the requests themselves cost.
func (a *afsRun) readCrowd(ctx context.Context) error {
	tree := filepath.Join(a.dir, "local")
	if err := writeLocal(ctx, tree, a.crowd); err != nil {
		return err
	}
	if err := a.give(tree); err != nil {
		return err
	}
	r := &afsCrowd{Clients: a.afsOpts.clients, Bytes: afsCrowdSize}
	local := make([]afsCost, a.afsOpts.rounds)
	far := make([]afsCost, a.afsOpts.rounds)
	for i := range far {
		for _, c := range []struct {
			origin string
			cost   *afsCost
		}{
			{tree, &local[i]},
			{"afs://" + a.cell.Name + "/", &far[i]},
		} {
			cost, err := a.crowdCost(ctx, c.origin)
			if err != nil {
				return fmt.Errorf("%d clients: %w", a.afsOpts.clients, err)
			}
			*c.cost = cost
		}
		progress("afs: %d clients: round %d of %d", a.afsOpts.clients, i+1, len(far))
	}
	r.Local, r.AFS = medianCost(local), medianCost(far)
	r.AnonGoal = atMost(float64(maxReadAhead+int64(a.afsOpts.clients)*perClient), float64(r.AFS.AnonGrowth))
	a.result.Crowd = r
	return nil
}

func medianCost(rounds []afsCost) afsCost {
	return afsCost{
		Time:       time.Duration(medianOf(rounds, func(c afsCost) float64 { return float64(c.Time) })),
		Goroutines: int(medianOf(rounds, func(c afsCost) float64 { return float64(c.Goroutines) })),
		AnonGrowth: int64(medianOf(rounds, func(c afsCost) float64 { return float64(c.AnonGrowth) })),
	}
}

// crowdCost has mirror_cache read the files of an origin, all at once.
func (a *afsRun) crowdCost(ctx context.Context, from string) (cost afsCost, err error) {
	m, err := a.startMirror(ctx, map[string]string{"/files": from})
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	watch, err := watchMemory(m.pid())
	if err != nil {
		return cost, err
	}
	defer watch.stop()
	count := watchGoroutines(ctx, m.admin)
	cost.Time, err = fetchEach(ctx, m.addr, a.crowd)
	peak, cerr := count()
	if err := errors.Join(err, cerr); err != nil {
		return cost, errors.Join(err, m.alive())
	}
	cost.Goroutines = peak
	growth, err := watch.growth()
	cost.AnonGrowth = growth.anon
	return cost, err
}

// fetchEach connects a client for each file, lets all of them ask at once, and
// checks what each of them gets.
func fetchEach(ctx context.Context, addr string, files []object) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conns := make([]*net.TCPConn, len(files))
	for i := range conns {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns[i] = c.(*net.TCPConn)
	}
	stop := context.AfterFunc(ctx, func() {
		for _, c := range conns {
			_ = c.SetDeadline(time.Now())
		}
	})
	defer stop()
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i, c := range conns {
		wg.Go(func() {
			<-begin
			if _, err := fetch(c, addr, files[i]); err != nil {
				cancel(fmt.Errorf("%s: %w", files[i].name, err))
			}
		})
	}
	start := time.Now()
	close(begin)
	wg.Wait()
	return time.Since(start), context.Cause(ctx)
}

// watchGoroutines samples how many goroutines a Caddy has, until the function it
// returns is called, which tells the most.
func watchGoroutines(ctx context.Context, admin string) func() (int, error) {
	quit, done := make(chan struct{}), make(chan struct{})
	most := 0
	var err error
	go func() {
		defer close(done)
		for {
			var n int
			if n, err = goroutines(ctx, admin); err != nil {
				return
			}
			most = max(most, n)
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() (int, error) {
		close(quit)
		<-done
		return most, err
	}
}

// goroutines asks a Caddy for their number.
func goroutines(ctx context.Context, admin string) (n int, err error) {
	_, body, err := get(ctx, "http://"+admin+"/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0, fmt.Errorf("asking for the goroutines: %w", err)
	}
	line, _, _ := strings.Cut(string(body), "\n")
	if _, err := fmt.Sscanf(line, "goroutine profile: total %d", &n); err != nil {
		return 0, fmt.Errorf("asking for the goroutines: %q: %w", line, err)
	}
	return n, nil
}
