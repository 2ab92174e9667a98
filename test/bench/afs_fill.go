package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	afscell "github.com/unifiedmirrors/mirror/test/afscell/cell"
)

const (
	afsWorkers    = 16 // readers of small files; writers of all
	afsParallel   = 16 // large files at once
	afsSmallSize  = 2 * kib
	afsPerDir     = 1000
	afsCrowdSize  = mib
	afsNewspapers = 6 // volumes that are released over and over
)

// afsFiles are what is in the cell. Names are from its root.
type afsFiles struct {
	single []object // one file
	many   []object // as many bytes in afsParallel files
	small  []object
	far    []object // for those who read well from far away
	slow   []object // and for those who do not
	crowd  []object
	news   []*afscell.Volume
}

// afsContents are the bytes of a file: noise that no other file has.
func afsContents(name string, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8(sha256.Sum256([]byte(name))), size)
}

// afsObjects names files.
func afsObjects(n int, size int64, format string) []object {
	all := make([]object, n)
	for i := range all {
		all[i] = object{name: fmt.Sprintf(format, i/afsPerDir, i), size: size}
	}
	return all
}

// fill makes the volumes: each has a read-only copy at both file servers, and is
// mounted at the root of the cell.
func (a *afsRun) fill(ctx context.Context) error {
	start := time.Now()
	a.single = afsObjects(1, a.afsOpts.size, "large/%d-single%d.bin")
	a.many = afsObjects(afsParallel, a.afsOpts.size/afsParallel, "large/%d-many%d.bin")
	a.far = afsObjects(1, a.afsOpts.size/4, "large/%d-far%d.bin")
	a.slow = afsObjects(1, max(mib, a.afsOpts.size/128), "large/%d-slow%d.bin")
	a.small = afsObjects(a.afsOpts.files, afsSmallSize, "small/%d/%d.bin")
	a.crowd = afsObjects(a.afsOpts.clients, afsCrowdSize, "crowd/%d/%d.bin")

	root, err := a.cell.Open(ctx, afs.RootCell)
	if err != nil {
		return err
	}
	volumes := []string{afs.RootCell}
	for _, v := range []struct {
		name  string
		files [][]object
	}{
		{"large", [][]object{a.single, a.many, a.far, a.slow}},
		{"small", [][]object{a.small}},
		{"crowd", [][]object{a.crowd}},
	} {
		vol, err := a.volume(ctx, v.name)
		if err != nil {
			return err
		}
		if err := root.Mount(ctx, v.name, vol.Name); err != nil {
			return err
		}
		for _, files := range v.files {
			if err := writeObjects(ctx, vol, v.name, files); err != nil {
				return err
			}
		}
		volumes = append(volumes, vol.Name)
	}
	for i := range afsNewspapers {
		vol, err := a.volume(ctx, fmt.Sprintf("news%d", i))
		if err != nil {
			return err
		}
		if err := vol.WriteFile(ctx, afsNewsFile, afsNews(vol.Name, 0), afscell.Attr{}); err != nil {
			return err
		}
		a.news = append(a.news, vol)
		volumes = append(volumes, vol.Name)
	}
	progress("afs: wrote %d files in %v", len(a.small)+len(a.crowd)+afsParallel+afsNewspapers+3, time.Since(start).Round(100*time.Millisecond))
	start = time.Now()
	err = afscell.Each(volumes, func(v string) error {
		for _, h := range []*afscell.Host{a.cell.FS1, a.cell.FS2} {
			if err := a.cell.AddSite(ctx, v, h, "a"); err != nil {
				return err
			}
		}
		return a.cell.Release(ctx, v)
	})
	progress("afs: released %d volumes in %v", len(volumes), time.Since(start).Round(100*time.Millisecond))
	return err
}

func (a *afsRun) volume(ctx context.Context, name string) (*afscell.Volume, error) {
	return a.cell.CreateVolume(ctx, "bench."+name, a.cell.FS1, "a")
}

// writeObjects writes files to a volume that is mounted at a directory, and takes
// down their sums.
func writeObjects(ctx context.Context, v *afscell.Volume, mounted string, files []object) error {
	return eachObject(ctx, files, afsWorkers, func(ctx context.Context, o *object) error {
		name, err := filepath.Rel(mounted, o.name)
		if err != nil {
			return err
		}
		if err := v.MkdirAll(ctx, path.Dir(name)); err != nil {
			return err
		}
		h := crc32.New(castagnoli)
		err = v.Copy(ctx, name, io.TeeReader(afsContents(o.name, o.size), h), afscell.Attr{})
		o.sum = h.Sum32()
		return err
	})
}

// writeLocal writes files to a directory on this machine.
func writeLocal(ctx context.Context, dir string, files []object) error {
	return eachObject(ctx, files, 1, func(_ context.Context, o *object) error {
		name := filepath.Join(dir, o.name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.Copy(f, afsContents(o.name, o.size)); err != nil {
			return err
		}
		return f.Close()
	})
}

// eachObject calls f for all files, for so many at a time, until one fails.
func eachObject(ctx context.Context, files []object, workers int, f func(context.Context, *object) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *object)
	var wg sync.WaitGroup
	for range min(workers, len(files)) {
		wg.Go(func() {
			for o := range next {
				if err := f(ctx, o); err != nil {
					cancel(fmt.Errorf("%s: %w", o.name, err))
				}
			}
		})
	}
	for i := range files {
		select {
		case next <- &files[i]:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
