package afs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

var (
	// ErrUnavailable says that no server could be asked that can be trusted.
	ErrUnavailable = errors.New("AFS is not available")

	// ErrBusy says that so many calls are under way that another one could not
	// begin in time. It is an ErrUnavailable that does not speak against any server.
	ErrBusy error = busyError{}

	// ErrChanged says that a file is no longer what it was when it was opened.
	ErrChanged = errors.New("file has changed")
)

type busyError struct{}

func (busyError) Error() string        { return "too many calls to AFS are under way" }
func (busyError) Is(target error) bool { return target == ErrUnavailable }

// Config is what a client needs to know. All of it may be left out.
type Config struct {
	// Address is the local UDP address. File servers call it: a firewall has to
	// let packets from their port 7000 through to it. Default: any port.
	Address string

	// Conn is used instead of a socket at Address. The client closes it.
	Conn net.PacketConn

	// Cells are the volume location servers of cells by the cells' names. Others
	// are looked up in CellServDB, then in the DNS.
	Cells map[string][]netip.AddrPort

	// CellServDB is the file that lists cells. Default: /etc/openafs/CellServDB
	// or else /usr/vice/etc/CellServDB, if there.
	CellServDB string

	Log *zap.Logger
}

// Client is a client of AFS. It is safe for concurrent use.
type Client struct {
	conf Config
	log  *zap.Logger
	ep   *rx.Endpoint
	uuid wire.UUID
	self netip.Addr // as told to file servers, who do not use it

	texts  *textCache
	buffer *budget

	ctx    context.Context //nolint:containedctx // ends with the client, and what runs behind calls with it
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	closed  bool
	cells   map[string]*cell
	servers map[string]*server // by UUID or, where that is not known, address
}

// silence is how long nothing may be heard of a server that was asked something.
const silence = 2 * time.Second

// FailoverTime is how long a call takes at most that finds a server silent and turns
// to another.
const FailoverTime = 2 * silence

// New opens the client's socket. Nothing is sent before it is needed.
func New(conf Config) (*Client, error) {
	if conf.Log == nil {
		conf.Log = zap.NewNop()
	}
	c := &Client{
		conf:    conf,
		log:     conf.Log,
		uuid:    wire.NewUUID(),
		texts:   newTextCache(maxTexts),
		buffer:  newBudget(maxReadAhead),
		cells:   map[string]*cell{},
		servers: map[string]*server{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	open := make(chan struct{}) // calls may come before the client is whole
	handle := func(r rx.Request) ([]byte, int32) {
		<-open
		return c.handle(r)
	}
	ep, err := rx.Listen(conf.Address, rx.Options{Conn: conf.Conn, Handle: handle, Dead: silence, Log: conf.Log})
	if err != nil {
		c.cancel()
		return nil, fmt.Errorf("opening AFS socket: %w", err)
	}
	c.ep = ep
	c.self = ep.LocalAddr().Addr()
	close(open)
	return c, nil
}

// Close ends all calls and tells the file servers that their callbacks are not
// wanted any more.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	servers := make([]*server, 0, len(c.servers))
	for _, s := range c.servers {
		servers = append(servers, s)
	}
	c.mu.Unlock()

	// A courtesy: it must not keep anybody waiting.
	ctx, cancel := context.WithTimeout(c.ctx, 500*time.Millisecond)
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(func() {
			_ = c.contained("afs farewell", func() error {
				s.farewell(ctx)
				return nil
			})
		})
	}
	wg.Wait()
	cancel()

	c.cancel()
	err := c.ep.Close()
	c.done.Wait()
	return err
}

// run runs f behind the client's calls until it is closed. It is false if it is
// already.
func (c *Client) run(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.done.Go(func() {
			_ = c.contained("afs background", func() error {
				f()
				return nil
			})
		})
	}
	return !c.closed
}

// contained calls f, and turns a panic into an ErrUnavailable: what servers send
// must not end the process. No lock may be held that f does not release by defer.
func (c *Client) contained(place string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, panics.New(c.log, place, v))
		}
	}()
	return f()
}

// Addr is the address of the client's socket.
func (c *Client) Addr() netip.AddrPort { return c.ep.LocalAddr() }

// cell returns the cell of this name.
func (c *Client) cell(name string) *cell {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.cells[name]
	if cl == nil {
		cl = newCell(c, name)
		c.cells[name] = cl
	}
	return cl
}

// server returns the file server at a site.
func (c *Client) server(id wire.UUID, addrs []netip.AddrPort) *server {
	key := id.String()
	if id.IsZero() {
		key = addrs[0].String()
	}
	c.mu.Lock()
	s := c.servers[key]
	if s == nil {
		s = newServer(c, addrs)
		c.servers[key] = s
	}
	c.mu.Unlock()
	s.setAddrs(addrs)
	return s
}

// serverAt returns the file server with an address, or nil.
func (c *Client) serverAt(addr netip.Addr) *server {
	c.mu.Lock()
	all := make([]*server, 0, len(c.servers))
	for _, s := range c.servers {
		all = append(all, s)
	}
	c.mu.Unlock()
	i := slices.IndexFunc(all, func(s *server) bool { return s.has(addr) })
	if i < 0 {
		return nil
	}
	return all[i]
}

// eachVolume calls f with every volume.
func (c *Client) eachVolume(f func(*volume)) {
	c.mu.Lock()
	cells := make([]*cell, 0, len(c.cells))
	for _, cl := range c.cells {
		cells = append(cells, cl)
	}
	c.mu.Unlock()
	for _, cl := range cells {
		for _, v := range cl.all() {
			f(v)
		}
	}
}
