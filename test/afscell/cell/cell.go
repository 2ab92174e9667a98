package cell

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Options of [Start]. The zero value will do.
type Options struct {
	// Name of the cell. Default: example.org.
	Name string

	// Dir is the directory of the cell, which is made if it is not there. Default:
	// a temporary one, which is removed in the end.
	Dir string

	// Keep lets the cell run on when this process ends.
	Keep bool

	// Partitions of each file server. Default: a, which is /vicepa.
	Partitions []string

	// Fileserver are more arguments for dafileserver(8).
	Fileserver []string
}

// Cell is a running AFS cell.
type Cell struct {
	Name string // example.org
	Dir  string

	DB       *Host // database server: vlserver and ptserver
	FS1, FS2 *Host // file servers: fileserver, volserver and salvageserver
	Client   *Host // a client that has a network namespace of its own
	Self     *Host // the namespace of whoever started the cell

	mu     sync.Mutex // of what follows
	state  state
	cables map[string]*cable // by host
	client *client           // of [Volume], once there is one
}

const (
	hostsDir = "hosts"
	fuseDir  = "fuse"
)

func newCell(dir string, s state) *Cell {
	c := &Cell{Name: s.Name, Dir: dir, state: s, cables: make(map[string]*cable)}
	if c.state.Servers == nil {
		c.state.Servers = make(map[string]process)
	}
	c.Self = c.host("self", 1)
	c.Client = c.host("client", 2)
	c.DB = c.host("db", 10, vlserver, ptserver)
	c.FS1 = c.host("fs1", 11, salvageserver, fileserver, volserver)
	c.FS2 = c.host("fs2", 12, salvageserver, fileserver, volserver)
	return c
}

func (c *Cell) host(name string, last byte, kinds ...string) *Host {
	a := networks[c.state.Slot].Addr().As4()
	a[3] = last
	h := &Host{Name: name, Addr: addrFrom4(a), cell: c}
	for _, k := range kinds {
		h.servers = append(h.servers, &Server{host: h, kind: k})
	}
	return h
}

// Hosts are all hosts of the cell.
func (c *Cell) Hosts() []*Host { return []*Host{c.Self, c.Client, c.DB, c.FS1, c.FS2} }

// servers are all server processes of the cell.
func (c *Cell) servers() []*Server {
	return slices.Concat(c.DB.servers, c.FS1.servers, c.FS2.servers)
}

// Host returns a host by its name: self, client, db, fs1, fs2.
func (c *Cell) Host(name string) (*Host, error) {
	for _, h := range c.Hosts() {
		if h.Name == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("no host %q: there are self, client, db, fs1, fs2", name)
}

// Start starts a cell, with no volume in it but root.cell, and returns when all
// servers answer. It takes about five seconds, four of which the database servers
// spend with electing themselves. If ctx ends before, or if anything fails,
// everything is removed again.
func Start(ctx context.Context, o Options) (*Cell, error) {
	if why := missing(); why != "" {
		return nil, errors.New(why)
	}
	c, err := setUp(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := c.startServers(ctx); err != nil {
		err = fmt.Errorf("%w%s", err, c.complaints())
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// setUp makes the directory and the network of a cell.
func setUp(ctx context.Context, o Options) (*Cell, error) {
	unlock, err := lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(ctx); err != nil {
		return nil, fmt.Errorf("removing what a cell left: %w", err)
	}

	s := state{
		Name:       cmp.Or(o.Name, "example.org"),
		Partitions: o.Partitions,
		Fileserver: o.Fileserver,
		Temporary:  o.Dir == "",
	}
	if s.Partitions == nil {
		s.Partitions = []string{"a"}
	}
	if !o.Keep {
		self, err := processOf(os.Getpid())
		if err != nil {
			return nil, err
		}
		s.Owner = &self
	}
	if s.Slot, err = freeSlot(ctx); err != nil {
		return nil, err
	}
	dir, err := makeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	c := newCell(dir, s)
	err = c.state.write(dir)
	if err == nil {
		err = errors.Join(c.makeNetwork(ctx), c.makeRoots())
	}
	if err != nil {
		return nil, errors.Join(err, c.state.remove(context.WithoutCancel(ctx), dir))
	}
	return c, nil
}

func makeDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "afscell-")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(stateFile(dir)); err == nil {
		return "", fmt.Errorf("there is a cell in %s already", dir)
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// startServers starts all servers in the order that makes none of them wait: a file
// server tries again after half a minute if the database servers had elected no
// sync site yet, and after 46 seconds if its salvage server did not listen; a
// volume server after three seconds if its file server did not.
func (c *Cell) startServers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, hosts := range [][]*Host{{c.DB}, {c.FS1, c.FS2}} {
		if err := Each(hosts, func(h *Host) error { return h.start(ctx) }); err != nil {
			return err
		}
	}
	if _, err := c.CreateVolume(ctx, "root.cell", c.FS1, c.state.Partitions[0]); err != nil {
		return err
	}
	// The other volume server is known to work, too.
	_, err := c.Vos(ctx, "partinfo", c.FS2.Addr.String())
	return err
}

// Each runs f for all elements at once.
func Each[E any](all []E, f func(E) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, e := range all {
		wg.Go(func() { errs[i] = f(e) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// complaints is what the servers printed and logged last.
func (c *Cell) complaints() string {
	const tail = 2 << 10
	var all []byte
	for _, s := range c.servers() {
		for _, name := range []string{s.output(), s.Log()} {
			if b, err := os.ReadFile(name); err == nil && len(b) > 0 {
				all = fmt.Appendf(all, "\n%s, %s:\n%s", s, filepath.Base(name), b[max(0, len(b)-tail):])
			}
		}
	}
	return string(all)
}

// Attach returns the running cell in a directory. Faults of the network that
// another process made stay, see [Cell.Heal].
func Attach(dir string) (*Cell, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s, err := readState(dir)
	if err != nil {
		return nil, err
	}
	return newCell(dir, s), nil
}

// Stop ends all processes of the cell and removes it. Nothing is kept.
func (c *Cell) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.cables {
		w.close()
	}
	clear(c.cables)
	if c.client != nil {
		_ = c.client.endpoint.Close()
		c.client = nil
	}
	return c.state.remove(ctx, c.Dir)
}

// note keeps what process a server is.
func (c *Cell) note(server string, p process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Servers[server] = p
	return c.state.write(c.Dir)
}

func (c *Cell) process(server string) (process, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.state.Servers[server]
	return p, ok
}

// CellServDB is what to put into a client's CellServDB file.
func (c *Cell) CellServDB() string {
	return fmt.Sprintf(">%s\t#a test cell\n%s\t#db.%[1]s\n", c.Name, c.DB.Addr)
}
