package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	afscell "github.com/unifiedmirrors/mirror/test/afscell/cell"
)

const (
	afsMirrorWay  = "mirror_cache"
	afsPackageWay = "package afs"
	afsFuseWay    = "afsd.fuse"
	afsSingleWay  = "one call at a time"

	afsPiece = 256 * kib // of one read

	// afsFuseMost is how many files afsd.fuse is asked for at a time. More make it
	// no faster, and crash it (OpenAFS 1.8.9). It may yet crash so many times with
	// the same files, being asked for half as many at a time after each.
	afsFuseMost    = 4
	afsFuseCrashes = 5

	afsDelay = 20 * time.Millisecond
	slowest  = 20 * time.Second // that afsd.fuse may take from far away
)

// afsTable compares ways of reading the same.
type afsTable struct {
	Title string   `json:"title"`
	Unit  string   `json:"unit"`
	Ratio string   `json:"ratio"` // what the ratios are of
	Ways  []afsRow `json:"ways"`
}

// afsRow is one way's figures.
type afsRow struct {
	Name   string    `json:"name"`
	Median float64   `json:"median"`
	Rounds []float64 `json:"rounds"`
	Ratio  *spread   `json:"spread,omitempty"`
	Goal   *goal     `json:"goal,omitempty"`
}

// afsWay is a way to read files of the cell.
type afsWay struct {
	name string
	open func(context.Context) (afsReader, error) // with nothing cached
	fuse bool
}

// afsReader reads files of the cell.
type afsReader interface {
	// worker returns a function for one goroutine that reads a file, checks what it
	// read and says what is wrong.
	worker(context.Context) (func(object) error, error)
	close() error
}

func (a *afsRun) mirrorWay() afsWay {
	return afsWay{name: afsMirrorWay, open: func(ctx context.Context) (afsReader, error) {
		return a.startMirror(ctx, map[string]string{"/files": "afs://" + a.cell.Name + "/"})
	}}
}

// worker reads over a connection of its own.
func (m *afsMirror) worker(ctx context.Context) (func(object) error, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", m.addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	return func(o object) error {
		_, err := fetch(c.(*net.TCPConn), m.addr, o)
		return errors.Join(err, m.alive())
	}, nil
}

// afsPackage is the package afs alone.
type afsPackage struct {
	client *afs.Client
	tree   *afs.Tree
	read   func(context.Context, *afs.File, *checker) error
}

func (a *afsRun) packageWay(name string, read func(context.Context, *afs.File, *checker) error) afsWay {
	return afsWay{name: name, open: func(context.Context) (afsReader, error) {
		client, err := a.client(afs.Config{})
		if err != nil {
			return nil, err
		}
		tree, err := client.Tree(afs.Root{Cell: a.cell.Name})
		if err != nil {
			return nil, errors.Join(err, client.Close())
		}
		return &afsPackage{client, tree, read}, nil
	}}
}

func (p *afsPackage) close() error { return errors.Join(p.tree.Close(), p.client.Close()) }

func (p *afsPackage) worker(ctx context.Context) (func(object) error, error) {
	c := newChecker()
	return func(o object) error {
		f, err := p.tree.Open(ctx, o.name)
		if err != nil {
			return err
		}
		defer f.Close()
		c.reset()
		if err := p.read(ctx, f, c); err != nil {
			return err
		}
		return c.check(o)
	}, nil
}

// readAhead reads a file as mirror_cache does.
func readAhead(ctx context.Context, f *afs.File, c *checker) error {
	r := f.Reader(0)
	defer r.Close()
	return c.readAll(ctx, r)
}

// readSingly reads a file with one call at a time.
func readSingly(ctx context.Context, f *afs.File, c *checker) error {
	for off := int64(0); off < f.Info().Size; off += afsPiece {
		n, err := f.ReadAt(ctx, c.buf, off)
		c.add(n)
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// afsFuse is OpenAFS' own client.
type afsFuse struct {
	*afscell.Fuse
	cell string
}

// fuseWay mounts the cell with a cache that holds all that is read from it.
func (a *afsRun) fuseWay() afsWay {
	return afsWay{name: afsFuseWay, fuse: true, open: func(ctx context.Context) (afsReader, error) {
		f, err := a.cell.Client.MountFuse(ctx, afscell.FuseOptions{Cache: int(max(400_000, 2*a.afsOpts.size/kib))})
		if err != nil {
			return nil, err
		}
		return &afsFuse{f, a.cell.Name}, nil
	}}
}

// close removes the cache, too: the next mount would find it.
func (f *afsFuse) close() error {
	return errors.Join(f.Unmount(), os.RemoveAll(filepath.Join(filepath.Dir(f.Dir), "cache")))
}

func (f *afsFuse) worker(ctx context.Context) (func(object) error, error) {
	c := newChecker()
	return func(o object) error {
		file, err := os.Open(f.Path(f.cell, o.name))
		if err != nil {
			return err
		}
		defer file.Close()
		c.reset()
		if err := c.readAll(ctx, file); err != nil {
			return err
		}
		return c.check(o)
	}, nil
}

// checker holds what was read against what was written.
type checker struct {
	buf  []byte
	size int64
	sum  uint32
}

func newChecker() *checker { return &checker{buf: make([]byte, afsPiece)} }

func (c *checker) reset() { c.size, c.sum = 0, 0 }

// add takes the first bytes of the buffer in.
func (c *checker) add(n int) {
	c.size += int64(n)
	c.sum = crc32.Update(c.sum, castagnoli, c.buf[:n])
}

func (c *checker) readAll(ctx context.Context, r io.Reader) error {
	for {
		n, err := r.Read(c.buf)
		c.add(n)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

func (c *checker) check(o object) error {
	if c.size != o.size || c.sum != o.sum {
		return fmt.Errorf("wrong body: %d bytes, CRC-32C %08x instead of %d, %08x", c.size, c.sum, o.size, o.sum)
	}
	return nil
}

// timeReads reads files in one way, so many at a time, and returns how long that
// took.
func (a *afsRun) timeReads(ctx context.Context, w afsWay, files []object, workers int) (time.Duration, error) {
	for crashes := 1; ; crashes++ {
		if w.fuse {
			workers = min(workers, a.fuseMost)
		}
		took, err := timeReadsOnce(ctx, w, files, workers)
		if !w.fuse || !errors.Is(err, syscall.ENOTCONN) || crashes > afsFuseCrashes {
			return took, err
		}
		progress("afs: afsd.fuse crashed, being asked for %d files at a time", workers)
		a.fuseMost = max(1, workers/2)
		a.result.FuseCrashes++
	}
}

func timeReadsOnce(ctx context.Context, w afsWay, files []object, workers int) (took time.Duration, err error) {
	r, err := w.open(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	free := make(chan func(object) error, workers)
	for range workers {
		read, err := r.worker(ctx)
		if err != nil {
			return 0, err
		}
		free <- read
	}
	start := time.Now()
	err = eachObject(ctx, files, workers, func(_ context.Context, o *object) error {
		read := <-free
		defer func() { free <- read }()
		return read(*o)
	})
	return time.Since(start), err
}

// readCold compares mirror_cache, the package and afsd.fuse, all without anything
// cached.
func (a *afsRun) readCold(ctx context.Context) error {
	ways := []afsWay{a.mirrorWay(), a.packageWay(afsPackageWay, readAhead), a.fuseWay()}
	for _, t := range []struct {
		title   string
		files   []object
		workers int
		unit    string
		each    float64 // a file is so many units
		goal    float64 // of mirror_cache to afsd.fuse; 0: none
	}{
		{"1 file of " + mebibytes(a.afsOpts.size), a.single, 1, "MB/s", float64(a.afsOpts.size) / 1e6, 1.5},
		{fmt.Sprintf("%d files of %s at once", afsParallel, mebibytes(a.afsOpts.size/afsParallel)), a.many, afsParallel, "MB/s", float64(a.afsOpts.size/afsParallel) / 1e6, 2},
		{fmt.Sprintf("%d files of 2 KiB, %d at a time", a.afsOpts.files, afsWorkers), a.small, afsWorkers, "files/s", 1, 0},
	} {
		rates := map[string][]float64{}
		err := a.inRounds(ctx, t.title, ways, func(w afsWay) error {
			took, err := a.timeReads(ctx, w, t.files, t.workers)
			rates[w.name] = append(rates[w.name], float64(len(t.files))*t.each/took.Seconds())
			return err
		})
		if err != nil {
			return err
		}
		table := afsTable{Title: t.title, Unit: t.unit, Ratio: "mirror_cache/it"}
		for _, w := range ways {
			table.add(w.name, rates[w.name], rates[afsMirrorWay], rates[w.name])
		}
		if t.goal > 0 {
			fuse := &table.Ways[len(ways)-1]
			fuse.Goal = atLeast(t.goal, fuse.Ratio.Median)
		}
		a.result.Cold = append(a.result.Cold, table)
	}
	return nil
}

// add adds a row. Its ratio is that of two rates, round by round.
func (t *afsTable) add(name string, rounds, over, under []float64) {
	ratios := make([]float64, len(rounds))
	for i := range ratios {
		ratios[i] = over[i] / under[i]
	}
	t.Ways = append(t.Ways, afsRow{
		Name: name, Median: median(rounds), Rounds: rounds,
		Ratio: &spread{median(ratios), slices.Min(ratios), slices.Max(ratios)},
	})
}

// readFar compares who reads ahead with who does not, where both file servers are far
// away.
func (a *afsRun) readFar(ctx context.Context) (err error) {
	servers := []*afscell.Host{a.cell.FS1, a.cell.FS2}
	defer func() {
		for _, h := range servers {
			err = errors.Join(err, h.Delay(0))
		}
	}()
	for _, h := range servers {
		if err := h.Delay(afsDelay); err != nil {
			return err
		}
	}
	ways := []afsWay{
		a.mirrorWay(),
		a.packageWay(afsPackageWay, readAhead),
		a.packageWay(afsSingleWay, readSingly),
		a.fuseWay(),
	}
	rates := map[string][]float64{}
	fuseTime := slowest
	err = a.inRounds(ctx, "far away", ways, func(w afsWay) error {
		files := a.far
		ctx := ctx
		switch w.name {
		case afsSingleWay:
			files = a.slow
		case afsFuseWay:
			files = a.slow
			if fuseTime <= 0 {
				return nil
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, fuseTime)
			defer cancel()
		}
		took, err := a.timeReads(ctx, w, files, 1)
		if w.name == afsFuseWay && errors.Is(err, context.DeadlineExceeded) {
			fuseTime = 0
			progress("afs: afsd.fuse took more than %v and is left out", slowest)
			return nil
		}
		rates[w.name] = append(rates[w.name], float64(files[0].size)/1e6/took.Seconds())
		return err
	})
	if err != nil {
		return err
	}
	t := &afsTable{
		Title: fmt.Sprintf("1 file of %s, %v away", mebibytes(a.far[0].size), afsDelay),
		Unit:  "MB/s",
		Ratio: "it/" + afsSingleWay,
	}
	for _, w := range ways {
		rounds, single := rates[w.name], rates[afsSingleWay]
		if len(rounds) == len(single) {
			t.add(w.name, rounds, rounds, single)
		}
	}
	for i := range 2 { // ours
		t.Ways[i].Goal = atLeast(8, t.Ways[i].Ratio.Median)
	}
	a.result.Far = t
	return nil
}
