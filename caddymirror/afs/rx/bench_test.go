package rx

import (
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"
)

// A quickServer answers every call with as many bytes as its request says, as
// fast as one goroutine can: no timers, no losses.
func quickServer(b *testing.B) *net.UDPConn {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	conn.SetReadBuffer(4 << 20)
	type state struct{ number, next, end, total uint32 }
	go func() {
		calls := map[uint32]*state{}
		in, out := make([]byte, 2048), make([]byte, 1444)
		var serial uint32
		for {
			n, from, err := conn.ReadFromUDPAddrPort(in)
			if err != nil {
				return
			}
			cid, number := binary.BigEndian.Uint32(in[4:]), binary.BigEndian.Uint32(in[8:])
			s := calls[cid]
			switch {
			case in[20] == 1:
				length := binary.BigEndian.Uint32(in[28:n])
				s = &state{number: number, next: 1, end: 17, total: (length + 1415) / 1416}
				calls[cid] = s
			case in[20] == 2 && s != nil && number == s.number:
				s.end = max(s.end, binary.BigEndian.Uint32(in[32:])+32)
			default:
				continue
			}
			copy(out, in[:28])
			for ; s.next < s.end && s.next <= s.total; s.next++ {
				serial++
				binary.BigEndian.PutUint32(out[12:], s.next)
				binary.BigEndian.PutUint32(out[16:], serial)
				out[20], out[21] = 1, 0
				if s.next == s.total {
					out[21] = 4
				}
				conn.WriteToUDPAddrPort(out, from)
			}
		}
	}()
	b.Cleanup(func() { conn.Close() })
	return conn
}

func benchmarkReplies(b *testing.B, parallel int) {
	server := quickServer(b)
	e, err := Listen("127.0.0.1:0", Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	p := e.Peer(server.LocalAddr().(*net.UDPAddr).AddrPort(), 1)
	const length = 1 << 20
	request := binary.BigEndian.AppendUint32(nil, length)
	b.SetBytes(length)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	next := make(chan struct{})
	for range parallel {
		wg.Go(func() {
			reply := make([]byte, length+1416)
			for range next {
				if _, err := p.Call(b.Context(), request, reply); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for b.Loop() {
		next <- struct{}{}
	}
	close(next)
	wg.Wait()
	s := p.Stats()
	b.ReportMetric(float64(s.Out)/float64(s.Calls), "sent/op")
	b.ReportMetric(float64(s.Gaps), "gaps")
}

func BenchmarkReply1MiB(b *testing.B)           { benchmarkReplies(b, 1) }
func BenchmarkReply1MiBParallel16(b *testing.B) { benchmarkReplies(b, 16) }

// BenchmarkSmall is a call with a reply of one packet: its latency.
func BenchmarkSmall(b *testing.B) {
	server := quickServer(b)
	e, err := Listen("127.0.0.1:0", Options{Dead: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	p := e.Peer(server.LocalAddr().(*net.UDPAddr).AddrPort(), 1)
	request := binary.BigEndian.AppendUint32(nil, 100)
	reply := make([]byte, maxPayload)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Call(b.Context(), request, reply); err != nil {
			b.Fatal(err)
		}
	}
}
