package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	afscell "github.com/unifiedmirrors/mirror/test/afscell/cell"
)

// afsResult is how files of an AFS cell are read.
type afsResult struct {
	FileSystem  string      `json:"file_system"` // of the cell and of all caches
	Rounds      int         `json:"rounds"`
	Foreign     float64     `json:"foreign_load"` // most of a core that others used before a round, of 1
	Cold        []afsTable  `json:"cold"`
	FuseCrashes int         `json:"fuse_crashes"` // of afsd.fuse
	Far         *afsTable   `json:"far"`
	Releases    []afsServed `json:"releases"`
	Crowd       *afsCrowd   `json:"crowd"`
}

// afsOptions are the flags of the part.
type afsOptions struct {
	sizeText string
	size     int64
	files    int
	clients  int
	releases int
	rounds   int
}

func (o *afsOptions) register() {
	flag.StringVar(&o.sizeText, "afs-size", "256MiB", "`size` of the large file in AFS, and of 16 others together")
	flag.IntVar(&o.files, "afs-files", 10_000, "small files in AFS")
	flag.IntVar(&o.clients, "afs-clients", 1000, "clients at once on as many cold files in AFS")
	flag.IntVar(&o.releases, "afs-releases", 12, "releases of AFS volumes")
	flag.IntVar(&o.rounds, "afs-rounds", 3, "rounds of cold reads of AFS")
}

func (o *afsOptions) check() error {
	size, err := humanize.ParseBytes(o.sizeText)
	if err != nil || size < 4*mib || size > 16*gib {
		return fmt.Errorf("-afs-size %q is not a size from 4MiB to 16GiB", o.sizeText)
	}
	o.size = int64(size)
	if o.files < 1 || o.clients < 1 || o.releases < 1 || o.rounds < 1 {
		return errors.New("-afs-files, -afs-clients, -afs-releases and -afs-rounds must be at least 1")
	}
	return nil
}

// needAFS says what is missing for a cell and for its peer. What the servers of the
// cell need, the cell says itself.
func needAFS() error {
	if os.Geteuid() != 0 {
		return errors.New("afs needs root, for network namespaces (-only chooses other parts)")
	}
	if _, err := exec.LookPath("afsd.fuse"); err != nil {
		return errors.New("missing Debian package: openafs-fuse, for afsd.fuse")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("afsd.fuse cannot mount: %w", err)
	}
	return nil
}

// afsRun is one run of the part.
type afsRun struct {
	*bench
	dir    string // of the cell and of all caches
	cell   *afscell.Cell
	result *afsResult

	fuseMost int // how many files afsd.fuse is asked for at a time
	afsFiles
}

// afs starts a cell and reads its files: cold and hot off the press, near and far.
func (b *bench) afs(ctx context.Context, rep *report) (err error) {
	parent, fsType, err := b.afsParent()
	if err != nil {
		return err
	}
	a := &afsRun{bench: b, result: &afsResult{FileSystem: fsType, Rounds: b.afsOpts.rounds}}
	if a.dir, err = os.MkdirTemp(parent, "mirror-bench-afs-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(a.dir)) }()
	// Servers run as another user, and get directories of their own in it.
	if err := os.Chmod(a.dir, 0o711); err != nil {
		return err
	}
	progress("afs: starting a cell in %s (%s)", parent, fsType)
	if a.cell, err = afscell.Start(ctx, afscell.Options{Dir: filepath.Join(a.dir, "cell")}); err != nil {
		return err
	}
	defer func() {
		b.stopAll()
		err = errors.Join(err, a.cell.Stop())
	}()
	for _, step := range []func(context.Context) error{a.fill, a.readCold, a.readFar, a.serve, a.readCrowd} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	rep.AFS = a.result
	return nil
}

// afsParent is where the cell goes and all caches: to memory (/dev/shm) if that has
// room, else to a disk. What is measured are the clients: a disk may be slower than
// any of them.
func (b *bench) afsParent() (dir, fsType string, err error) {
	o := b.afsOpts
	// Two sites; a local copy of what the crowd reads; a cache each.
	need := uint64(6*o.size) + 4*mib*uint64(o.clients) + 32*kib*uint64(o.files) + gib
	memory, err := availableMemory()
	if err != nil {
		return "", "", err
	}
	dirs := []string{"/dev/shm", b.dir}
	for _, dir := range dirs {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			continue
		}
		fsType, free := "disk", st.Bavail*uint64(st.Bsize)
		if st.Type == unix.TMPFS_MAGIC {
			fsType, free = "tmpfs", min(free, memory/2)
		}
		if free >= need {
			return dir, fsType, nil
		}
	}
	return "", "", fmt.Errorf("no room for %s in any of %s (see -afs-size, -afs-clients)",
		mebibytes(int64(need)), strings.Join(dirs, ", "))
}

// client is a client that has not asked the cell anything.
func (a *afsRun) client(conf afs.Config) (*afs.Client, error) {
	conf.Cells = map[string][]netip.AddrPort{
		a.cell.Name: {netip.AddrPortFrom(a.cell.DB.Addr, wire.PortLocation)},
	}
	return afs.New(conf)
}

// afsMirror is a running mirror_cache.
type afsMirror struct {
	*server
	a   *afsRun
	dir string
}

// startMirror starts mirror_cache with an empty cache and these mounts. It may use
// all cores, as everything of this part does: how the work of reading is spread
// over programs is up to each way of reading.
func (a *afsRun) startMirror(ctx context.Context, mounts map[string]string) (*afsMirror, error) {
	dir, err := os.MkdirTemp(a.dir, "mirror-")
	if err != nil {
		return nil, err
	}
	addr, err1 := freeAddr()
	admin, err2 := freeAddr()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	conf, err := configure(dir, "caddy-afs.conf", map[string]any{
		"Dir": dir, "Addr": addr, "Admin": admin, "Mounts": mounts,
		"Cell": a.cell.Name, "Locator": a.cell.DB.Addr,
		"MaxSize": 4*a.afsOpts.size + 4*mib*int64(a.afsOpts.clients) + gib,
	})
	if err != nil {
		return nil, err
	}
	cores, err := usableCPUs()
	if err != nil {
		return nil, err
	}
	p, err := a.start(ctx, ourName, dir, addr, "taskset", "-c", cores, "env", "--unset=GOMAXPROCS",
		a.caddy, "run", "--adapter", "caddyfile", "--config", conf)
	if err != nil {
		return nil, err
	}
	return &afsMirror{&server{process: p, kind: kindOf(ourName), addr: addr, admin: admin}, a, dir}, nil
}

// close stops the server and removes its cache.
func (m *afsMirror) close() error {
	m.stop()
	m.a.running = slices.DeleteFunc(m.a.running, func(p *process) bool { return p == m.process })
	return os.RemoveAll(m.dir)
}

// usableCPUs are all cores that this process may run on, as taskset(1) wants them.
func usableCPUs() (string, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return "", fmt.Errorf("asking for the usable cores: %w", err)
	}
	var cores []string
	for cpu := range len(set) * strconv.IntSize {
		if set.IsSet(cpu) {
			cores = append(cores, strconv.Itoa(cpu))
		}
	}
	return strings.Join(cores, ","), nil
}

// noteForeign notes how much others use of the machine just now.
func (a *afsRun) noteForeign(ctx context.Context) error {
	foreign, err := a.awaitQuiet(ctx)
	a.result.Foreign = max(a.result.Foreign, foreign)
	return err
}

// inRounds calls f once a round with each way, in rotated order.
func (a *afsRun) inRounds(ctx context.Context, what string, ways []afsWay, f func(afsWay) error) error {
	a.fuseMost = afsFuseMost
	for round := range a.afsOpts.rounds {
		start := time.Now()
		if err := a.noteForeign(ctx); err != nil {
			return err
		}
		for i := range ways {
			w := ways[(i+round)%len(ways)]
			if err := f(w); err != nil {
				return fmt.Errorf("%s: %s: %w", what, w.name, err)
			}
		}
		progress("afs: %s: round %d of %d took %v", what, round+1, a.afsOpts.rounds, time.Since(start).Round(100*time.Millisecond))
	}
	return nil
}
