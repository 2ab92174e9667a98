package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The faults of the network are rules of nftables for the bridge, a table each.
// Their names begin with that of the host.

// setFault replaces a fault. Without rules, it removes it.
func (c *Cell) setFault(name string, rules ...string) error {
	var b strings.Builder
	// Deleting what may not be there takes adding it first.
	fmt.Fprintf(&b, "add table bridge %s\ndelete table bridge %[1]s\n", name)
	if len(rules) > 0 {
		fmt.Fprintf(&b, "table bridge %s {\n chain forward {\n", name)
		fmt.Fprintf(&b, "  type filter hook forward priority 0; policy accept;\n")
		for _, r := range rules {
			fmt.Fprintf(&b, "  %s counter drop\n", r)
		}
		b.WriteString(" }\n}\n")
	}
	cmd := c.inHub(context.Background(), "nft", "--file", "-")
	cmd.Stdin = strings.NewReader(b.String())
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("setting the fault %s of the network: %w", name, err)
	}
	return nil
}

// Loss loses that part of the packets to the host, and of those from it: 0.05 is
// 5 %. It replaces an earlier Loss of the host; 0 ends it.
func (h *Host) Loss(part float64) error {
	const whole = 100_000
	n := int(part * whole)
	if n < 0 || n > whole {
		return fmt.Errorf("a loss of %v: it is from 0 to 1", part)
	}
	if n == 0 {
		return h.cell.setFault(h.Name + "_loss")
	}
	return h.cell.setFault(h.Name+"_loss",
		fmt.Sprintf("ip saddr %s numgen random mod %d < %d", h.Addr, whole, n),
		fmt.Sprintf("ip daddr %s numgen random mod %d < %d", h.Addr, whole, n))
}

// Drop drops all packets to the host and from it, until [Host.Heal].
func (h *Host) Drop() error {
	return h.cell.setFault(h.Name+"_drop",
		fmt.Sprintf("ip saddr %s", h.Addr), fmt.Sprintf("ip daddr %s", h.Addr))
}

// DropFrom drops the packets from the other host to this one, until [Host.Heal] of
// this one.
func (h *Host) DropFrom(other *Host) error {
	return h.cell.setFault(h.Name+"_drop_"+other.Name,
		fmt.Sprintf("ip saddr %s ip daddr %s", other.Addr, h.Addr))
}

// BlockCallbacks drops what file servers call the host for, as a firewall does that
// knows replies from requests, until [Host.Heal]. Replies to the host's own calls
// pass. So do the answers of the host, of which there are none then.
func (h *Host) BlockCallbacks() error {
	// An Rx packet from whoever opened the connection has bit 0 of its flags set,
	// which are byte 21 after the 8 bytes of the UDP header.
	return h.cell.setFault(h.Name+"_callbacks",
		fmt.Sprintf("ip daddr %s udp sport 7000 @th,232,8 & 1 == 1", h.Addr))
}

// Delay holds back the packets to the host and from it, each way for half of rtt:
// that much longer it takes to get an answer from the host. It replaces an earlier
// Delay; 0 ends it. This process does the work, and undoes it with [Host.Heal].
func (h *Host) Delay(rtt time.Duration) error {
	c := h.cell
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.cutCable(h); err != nil || rtt <= 0 {
		return err
	}
	w, err := c.insertCable(h, rtt/2)
	if err != nil {
		return errors.Join(fmt.Errorf("delaying the packets of %s: %w", h, err), c.cutCable(h))
	}
	c.cables[h.Name] = w
	return nil
}

// Heal ends all faults of the host's network.
func (h *Host) Heal() error {
	c := h.cell
	faults, err := c.Faults()
	for _, f := range faults {
		if f == h.Name || strings.HasPrefix(f, h.Name+"_") {
			err = errors.Join(err, c.setFault(f))
		}
	}
	return errors.Join(err, h.Delay(0))
}

// Heal ends all faults of the network, and lets all paused servers continue. It
// starts no server.
func (c *Cell) Heal() error {
	var errs error
	for _, h := range c.Hosts() {
		errs = errors.Join(errs, h.Heal())
	}
	for _, s := range c.servers() {
		if s.Running() {
			errs = errors.Join(errs, s.Continue())
		}
	}
	return errs
}

// Faults names the faults of the network but for delays, such as fs1_drop.
func (c *Cell) Faults() ([]string, error) {
	out, err := output(c.inHub(context.Background(), "nft", "--json", "list", "tables"))
	if err != nil {
		return nil, err
	}
	var list struct {
		Nftables []struct {
			Table *struct {
				Name string `json:"name"`
			} `json:"table"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list.Nftables {
		if e.Table != nil {
			names = append(names, e.Table.Name)
		}
	}
	return names, nil
}
