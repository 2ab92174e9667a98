package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
)

func addrFrom4(a [4]byte) netip.Addr { return netip.AddrFrom4(a) }

// Host is one end of the cell's network.
type Host struct {
	Name string // fs1
	Addr netip.Addr

	cell    *Cell
	servers []*Server
}

func (h *Host) String() string { return h.Name }

// hub is the name of the namespace with the bridge.
func (c *Cell) hub() string { return slotName(c.state.Slot) + "-hub" }

// Namespace is the name of the host's network namespace, for ip-netns(8). It is ""
// for [Cell.Self].
func (h *Host) Namespace() string {
	if h == h.cell.Self {
		return ""
	}
	return slotName(h.cell.state.Slot) + "-" + h.Name
}

// Command is a command that will run in the host's network namespace, and is like
// any other in all else.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if h == h.cell.Self {
		return exec.CommandContext(ctx, name, args...)
	}
	args = append([]string{"--net=" + filepath.Join(netns, h.Namespace()), "--", name}, args...)
	return exec.CommandContext(ctx, "nsenter", args...)
}

// Do runs f on a thread that is in the host's network namespace: sockets made by f
// belong to the host, and work from everywhere. Goroutines that f starts are not
// in the namespace.
func (h *Host) Do(f func() error) error {
	if h == h.cell.Self {
		return f()
	}
	return inNamespace(h.Namespace(), f)
}

// ListenUDP opens a UDP socket at the host. Port 0 is any port.
func (h *Host) ListenUDP(port int) (*net.UDPConn, error) {
	var conn *net.UDPConn
	err := h.Do(func() error {
		var err error
		addr := net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Addr, uint16(port)))
		conn, err = net.ListenUDP("udp4", addr)
		return err
	})
	return conn, err
}

// freeSlot finds a network that nobody uses.
func freeSlot(ctx context.Context) (int, error) {
	taken, err := routes(ctx)
	if err != nil {
		return 0, err
	}
	for slot, n := range networks {
		free := !used(slot)
		for _, t := range taken {
			free = free && !n.Overlaps(t)
		}
		if free {
			return slot, nil
		}
	}
	return 0, errors.New("no network is left for another cell: go run ./test/afscell status shows those that run")
}

// routes are the destinations that this machine has routes to, but for the default
// route.
func routes(ctx context.Context) ([]netip.Prefix, error) {
	out, err := run(ctx, "ip", "-4", "-json", "route", "show")
	if err != nil {
		return nil, err
	}
	var all []struct {
		Dst string `json:"dst"`
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return nil, fmt.Errorf("reading the machine's routes: %w", err)
	}
	var found []netip.Prefix
	for _, r := range all {
		if p, err := netip.ParsePrefix(r.Dst); err == nil {
			found = append(found, p)
		} else if a, err := netip.ParseAddr(r.Dst); err == nil {
			found = append(found, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return found, nil
}

// makeNetwork makes the namespaces, the bridge and the links.
func (c *Cell) makeNetwork(ctx context.Context) error {
	hub := c.hub()
	steps := [][]string{
		{"netns", "add", hub},
		{"-n", hub, "link", "add", "br0", "type", "bridge"},
		{"-n", hub, "link", "set", "br0", "up"},
	}
	for _, h := range c.Hosts() {
		dev, ns := slotName(c.state.Slot), []string(nil)
		if h != c.Self {
			dev, ns = "eth0", []string{"-n", h.Namespace()}
			steps = append(steps,
				[]string{"netns", "add", h.Namespace()},
				append(ns, "link", "set", "lo", "up"))
		}
		at := func(args ...string) []string { return append(slices.Clip(ns), args...) }
		steps = append(steps,
			at("link", "add", dev, "type", "veth", "peer", "name", h.Name, "netns", hub))
		if h == c.Self {
			steps = append(steps, at("link", "set", dev, "alias", c.Dir))
		}
		steps = append(steps,
			[]string{"-n", hub, "link", "set", h.Name, "master", "br0", "up"},
			at("addr", "add", netip.PrefixFrom(h.Addr, networks[c.state.Slot].Bits()).String(), "dev", dev),
			at("link", "set", dev, "up"))
	}
	for _, args := range steps {
		if _, err := run(ctx, "ip", args...); err != nil {
			return fmt.Errorf("making the network: %w", err)
		}
	}
	return nil
}

// inHub is a command in the namespace with the bridge.
func (c *Cell) inHub(ctx context.Context, name string, args ...string) *exec.Cmd {
	args = append([]string{"--net=" + filepath.Join(netns, c.hub()), "--", name}, args...)
	return exec.CommandContext(ctx, "nsenter", args...)
}
