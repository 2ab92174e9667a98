package cell

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A cable carries frames between two devices of the hub, a host's and one that is a
// port of the bridge in its place, and takes its time. Kernels have netem for that,
// though not all.
type cable struct {
	ends [2]*os.File
}

func (w *cable) close() {
	for _, f := range w.ends {
		f.Close()
	}
}

// insertCable puts a cable between a host and the bridge.
func (c *Cell) insertCable(h *Host, delay time.Duration) (*cable, error) {
	hub, inner, port := c.hub(), h.Name+".in", h.Name+".port"
	for _, args := range [][]string{
		{"link", "add", inner, "type", "veth", "peer", "name", port},
		{"link", "set", inner, "up"},
		{"link", "set", port, "master", "br0", "up"},
		{"link", "set", h.Name, "nomaster"},
	} {
		if _, err := run(context.Background(), "ip", append([]string{"-n", hub}, args...)...); err != nil {
			return nil, err
		}
	}
	var w cable
	err := inNamespace(hub, func() error {
		for i, dev := range []string{h.Name, inner} {
			f, err := openDevice(dev)
			if err != nil {
				return err
			}
			w.ends[i] = f
		}
		return nil
	})
	if err != nil {
		w.close()
		return nil, err
	}
	go carry(w.ends[1], w.ends[0], delay)
	go carry(w.ends[0], w.ends[1], delay)
	return &w, nil
}

// cutCable undoes insertCable, be it of another process.
func (c *Cell) cutCable(h *Host) error {
	w := c.cables[h.Name]
	if w != nil {
		w.close()
		delete(c.cables, h.Name)
	}
	ctx, hub := context.Background(), c.hub()
	if _, err := run(ctx, "ip", "-n", hub, "link", "show", "dev", h.Name+".in"); err != nil {
		return nil //nolint:nilerr // there is none
	}
	_, err1 := run(ctx, "ip", "-n", hub, "link", "delete", h.Name+".in")
	_, err2 := run(ctx, "ip", "-n", hub, "link", "set", h.Name, "master", "br0")
	return errors.Join(err1, err2)
}

// openDevice opens a network device for whole frames, of which each has a
// virtio_net_hdr in front: it says which checksums have yet to be computed.
func openDevice(name string) (*os.File, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	all := uint16(unix.ETH_P_ALL)<<8 | unix.ETH_P_ALL>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	const buffer = 8 << 20
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, buffer},
	} {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, o.level, o.name, o.value))
		}
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// carry carries frames until a device is closed.
func carry(to, from *os.File, delay time.Duration) {
	type frame struct {
		due  time.Time
		data []byte
	}
	const (
		frames   = 1 << 14 // that can be under way; more are lost
		maxFrame = 1<<16 + 64
	)
	under := make(chan frame, frames)
	defer close(under)
	go func() {
		for f := range under {
			sleepUntil(f.due)
			_, _ = to.Write(f.data)
		}
	}()
	buf := make([]byte, maxFrame)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			continue // such as a device that is down for a moment
		}
		select {
		case under <- frame{time.Now().Add(delay), append([]byte(nil), buf[:n]...)}:
		default:
		}
	}
}

// sleepUntil is more exact than time.Sleep, which may take a millisecond longer.
func sleepUntil(t time.Time) {
	for d := time.Until(t); d > 0; d = time.Until(t) {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil)
	}
}
