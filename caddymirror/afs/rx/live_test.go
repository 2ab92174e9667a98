package rx

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// The live tests talk to a real cell, such as that of test/afscell: AFSCELL_DB is
// the address of its database server. They write a file to the volume
// AFSCELL_VOLUME (default "mirror.pypi"), which anyone may write to, and remove it.

const (
	vlPort, vlService   = 7003, 52
	fsPort, fsService   = 7000, 1
	opFetchData64       = 65537
	opStoreData64       = 65538
	opCreateFile        = 137
	opRemoveFile        = 136
	opGetTime           = 153
	opEntryByName       = 519
	opProbe             = 514
	statusLen, trailLen = 84, 120
)

// words encodes XDR: integers and strings.
func words(args ...any) []byte {
	var b []byte
	for _, a := range args {
		switch a := a.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(a))
		case uint32:
			b = binary.BigEndian.AppendUint32(b, a)
		case int64:
			b = binary.BigEndian.AppendUint64(b, uint64(a))
		case string:
			b = binary.BigEndian.AppendUint32(b, uint32(len(a)))
			b = append(b, a...)
			b = append(b, make([]byte, -len(a)&3)...)
		case []byte:
			b = append(b, a...)
		}
	}
	return b
}

// callbacks is a callback service without a UUID: enough for a file server.
func callbacks(r Request) ([]byte, int32) {
	switch binary.BigEndian.Uint32(r.Body) {
	case 204, 205, 206, 213:
		return nil, 0
	}
	return nil, UnknownOpcode
}

type liveFile struct {
	*Peer
	volume uint32
	fid    []byte
	size   int
}

func live(t *testing.T, conn net.PacketConn) (*Endpoint, *Peer, netip.Addr) {
	db := os.Getenv("AFSCELL_DB")
	if db == "" {
		t.Skip("AFSCELL_DB is not set")
	}
	addr, err := netip.ParseAddr(db)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Listen("", Options{Conn: conn, Handle: callbacks})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, e.Peer(netip.AddrPortFrom(addr, vlPort), vlService), addr
}

func liveCall(t *testing.T, p *Peer, request []byte, size int) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	reply := make([]byte, size)
	n, err := p.Call(ctx, request, reply)
	if err != nil {
		t.Fatal(err)
	}
	return reply[:n]
}

// create makes a file of size bytes.
func (f *liveFile) create(t *testing.T, size int) {
	t.Helper()
	name := fmt.Sprintf("rx-%d", rand.Uint32())
	root := words(f.volume, 1, 1)
	status := words(0, 0, 0, 0, 0, 0)
	made := liveCall(t, f.Peer, words(opCreateFile, root, name, status), 1000)
	t.Cleanup(func() {
		f.Call(context.Background(), words(opRemoveFile, root, name), make([]byte, 1000))
	})
	f.fid, f.size = made[:12], size
	start := time.Now()
	liveCall(t, f.Peer, words(opStoreData64, f.fid, status, int64(0), int64(size), int64(size), pattern(size)), 1000)
	t.Logf("stored %d bytes at %.1f MB/s", size, float64(size)/1e6/time.Since(start).Seconds())
}

// read reads the file in calls of 1 MiB, so many at a time.
func (f *liveFile) read(t *testing.T, parallel int) {
	t.Helper()
	const chunk = 1 << 20
	want := pattern(f.size)
	start := time.Now()
	offsets := make(chan int)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			reply := make([]byte, 8+chunk+trailLen)
			for at := range offsets {
				size := min(chunk, f.size-at)
				n, err := f.Call(t.Context(), words(opFetchData64, f.fid, int64(at), int64(size)), reply)
				if err != nil {
					t.Error(err)
				} else if n != 8+size+trailLen || !bytes.Equal(reply[8:8+size], want[at:at+size]) {
					t.Errorf("%d bytes at %d differ", n, at)
				}
			}
		})
	}
	for at := 0; at < f.size; at += chunk {
		offsets <- at
	}
	close(offsets)
	wg.Wait()
	t.Logf("%d calls at a time: %.1f MB/s, RTT %v", parallel, float64(f.size)/1e6/time.Since(start).Seconds(), f.Stats().RTT)
}

func openLive(t *testing.T, conn net.PacketConn) (*Endpoint, *liveFile) {
	e, vl, _ := live(t, conn)
	volume := os.Getenv("AFSCELL_VOLUME")
	if volume == "" {
		volume = "mirror.pypi"
	}
	entry := liveCall(t, vl, words(opEntryByName, volume), 1000)
	for i := range int(binary.BigEndian.Uint32(entry[260:])) {
		flags := binary.BigEndian.Uint32(entry[264+2*52+4*i:])
		if flags&4 == 0 { // not read-write
			continue
		}
		addr, _ := netip.AddrFromSlice(entry[264+4*i:][:4])
		return e, &liveFile{
			Peer:   e.Peer(netip.AddrPortFrom(addr, fsPort), fsService),
			volume: binary.BigEndian.Uint32(entry[264+3*52:]),
		}
	}
	t.Fatalf("%s has no read-write site", volume)
	return nil, nil
}

func TestLive(t *testing.T) {
	e, vl, _ := live(t, nil)
	if n := len(liveCall(t, vl, words(opProbe), 10)); n != 0 {
		t.Errorf("ProbeServer replied %d bytes", n)
	}
	v, err := vl.Version(t.Context())
	if err != nil || !strings.Contains(v, "OpenAFS") {
		t.Errorf("Version() = %q, %v", v, err)
	}
	t.Log(v)
	_, err = vl.Call(t.Context(), words(9999), make([]byte, 10))
	if abort := Abort(0); !errors.As(err, &abort) || abort != UnknownOpcode {
		t.Errorf("unknown opcode: %v", err)
	}
	e2, f := openLive(t, nil)
	start := time.Now()
	if n := len(liveCall(t, f.Peer, words(opGetTime), 100)); n != 8 {
		t.Errorf("GetTime replied %d bytes", n)
	}
	t.Logf("first call to the file server took %v", time.Since(start))
	f.create(t, 64<<20)
	for _, parallel := range []int{1, 4, 16, 1, 4, 16} {
		f.read(t, parallel)
	}
	t.Logf("%+v\n%+v", e.Stats(), e2.Stats())
}

// A lossyConn loses a share of what a socket receives and sends.
type lossyConn struct {
	net.PacketConn
	share float64
}

func (c lossyConn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	for {
		n, addr, err = c.PacketConn.ReadFrom(b)
		if err != nil || rand.Float64() >= c.share {
			return n, addr, err
		}
	}
}

func (c lossyConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if rand.Float64() < c.share {
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

func TestLiveLoss(t *testing.T) {
	for _, share := range []float64{.005, .01, .02, .05, .10} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			conn, err := net.ListenUDP("udp4", nil)
			if err != nil {
				t.Fatal(err)
			}
			e, f := openLive(t, lossyConn{conn, share})
			f.create(t, 4<<20)
			f.read(t, 1)
			f.read(t, 4)
			t.Logf("%+v", e.Stats())
		})
	}
}
