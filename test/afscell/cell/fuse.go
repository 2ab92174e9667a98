package cell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Fuse is the cell mounted by OpenAFS' own client, afsd.fuse(8) (Debian package
// openafs-fuse), which needs no kernel module either: to compare with.
type Fuse struct {
	// Dir is the mount point. It stands for /afs: the cell is at Dir/example.org,
	// and a volume anywhere at Dir/.:mount/example.org:mirror.readonly.
	Dir string

	process process
}

// FuseOptions of [Host.MountFuse].
type FuseOptions struct {
	// Cache is the size of the cache on disk in KiB. Default: 200000.
	Cache int

	// Args are more arguments for afsd.fuse.
	Args []string
}

// MountFuse mounts the cell. Packets go from the host, while the mount point is to
// be seen by everyone. Other clients of the cell at the same host have to use other
// ports than 7001.
func (h *Host) MountFuse(ctx context.Context, o FuseOptions) (*Fuse, error) {
	dir := filepath.Join(h.cell.Dir, fuseDir, h.Name)
	if o.Cache == 0 {
		o.Cache = 200_000
	}
	f := &Fuse{Dir: filepath.Join(dir, "afs")}
	if mounted, err := f.mounted(); err != nil || mounted {
		return nil, errors.Join(err, fmt.Errorf("%s: the cell is mounted there already", f.Dir))
	}
	for _, d := range []string{"afs", "cache", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{
		"ThisCell":   h.cell.Name + "\n",
		"CellServDB": h.cell.CellServDB(),
		"cacheinfo":  fmt.Sprintf("%s:%s:%d\n", f.Dir, filepath.Join(dir, "cache"), o.Cache),
	} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	args := []string{
		"-mountdir", f.Dir, "-confdir", filepath.Join(dir, "etc"), "-cachedir", filepath.Join(dir, "cache"),
		"-blocks", fmt.Sprint(o.Cache), "-dynroot", "-fakestat", "-nosettime",
	}
	output := filepath.Join(dir, "output")
	//nolint:contextcheck // the process outlives ctx
	p, err := start(h.Command(context.Background(), "afsd.fuse", append(args, o.Args...)...), output)
	if err != nil {
		return nil, err
	}
	f.process = p
	if err := h.cell.note(h.Name+"/fuse", p); err != nil {
		return nil, err
	}
	err = poll(ctx, 20*time.Millisecond, func() error {
		mounted, err := f.mounted()
		switch {
		case err != nil || mounted:
			return err
		case !p.alive():
			return errDied
		}
		return errors.New("not mounted yet")
	})
	if err != nil {
		said, _ := os.ReadFile(output)
		return nil, errors.Join(fmt.Errorf("mounting the cell with afsd.fuse: %w\n%s", err, said), f.Unmount())
	}
	return f, nil
}

// Path is where a file is, by its name from the root of the cell.
func (f *Fuse) Path(cell, name string) string { return filepath.Join(f.Dir, cell, name) }

func (f *Fuse) mounted() (bool, error) {
	all, err := mountedBelow(filepath.Dir(f.Dir))
	return slices.Contains(all, f.Dir), err
}

// Unmount ends the client. Its cache goes with the cell.
func (f *Fuse) Unmount() error {
	var errs error
	if mounted, err := f.mounted(); err != nil || mounted {
		errs = errors.Join(err, unmount(f.Dir))
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	graceful, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if f.process.wait(graceful) == nil {
		return errs
	}
	return errors.Join(errs, f.process.kill(ctx))
}
