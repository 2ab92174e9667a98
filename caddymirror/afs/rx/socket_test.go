package rx

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestUDP calls over real sockets, of both families.
func TestUDP(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, kind := range []string{"udp4", "udp"} {
		t.Run(kind, func(t *testing.T) {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			conn.SetReadBuffer(receiveBuffer)
			s := newFakeServer(conn, echoSum)
			defer s.close()
			ours, err := net.ListenUDP(kind, nil)
			if err != nil {
				t.Fatal(err)
			}
			e, err := Listen("", Options{Conn: ours})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			p := e.Peer(conn.LocalAddr().(*net.UDPAddr).AddrPort(), 1)
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					if err := check(t.Context(), p, 200000, 20000); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if s := e.Stats(); s.Calls != 16 || s.Stray != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if i == 100 {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A plain socket, as other systems have it, does the same.
func TestPlainSocket(t *testing.T) {
	var ends [2]*plainSocket
	for i := range ends {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = &plainSocket{udpSender: udpSender{conn}}
		defer ends[i].close()
	}
	to := ends[1].localAddr().(*net.UDPAddr).AddrPort()
	if err := ends[0].send([]byte("hello"), to); err != nil {
		t.Fatal(err)
	}
	batch, err := ends[1].receive()
	if err != nil || len(batch) != 1 || string(batch[0].data) != "hello" || batch[0].from != unmap(ends[0].localAddr().(*net.UDPAddr).AddrPort()) {
		t.Errorf("receive() = %v, %v", batch, err)
	}
	ends[1].close()
	if _, err := ends[1].receive(); !closed(err) {
		t.Errorf("after close: %v", err)
	}
}

func TestListen(t *testing.T) {
	e, err := Listen("127.0.0.1:0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if a := e.LocalAddr(); a.Addr() != netip.MustParseAddr("127.0.0.1") || a.Port() == 0 {
		t.Errorf("LocalAddr() = %v", a)
	}
	if e.epoch>>30 != 2 {
		t.Errorf("epoch %x: bit 31 must be set, bit 30 clear", e.epoch)
	}
	if _, err := Listen(e.LocalAddr().String(), Options{}); err == nil {
		t.Error("listened twice at the same address")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Listen("no port", Options{}); err == nil {
		t.Error("listened nowhere")
	}
}
