package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

func TestParseLoad(t *testing.T) {
	const out = "Running 2s test\nbench: 1000 4400000 2000000 310 920 0 0 0 0 0\n"
	l, err := parseLoad(out, 4*kib)
	if err != nil || l.Requests != 500 || l.Megabytes != 2.2 || l.P50 != 0.31 || l.P99 != 0.92 {
		t.Errorf("small: %+v, %v", l, err)
	}
	// Half of the bytes belong to answers that wrk did not see the end of.
	l, err = parseLoad("bench: 1 4194304 2000000 310 920 0 0 0 0 0\n", mib)
	if err != nil || l.Requests != 2 {
		t.Errorf("large: %+v, %v", l, err)
	}
	for _, bad := range []string{
		"",
		"bench: 1 2 3\n",
		"bench: 0 0 2000000 0 0 0 0 0 0 0\n",
		"bench: 9 9000 2000000 310 920 0 0 0 3 0\n", // statuses
	} {
		if l, err := parseLoad(bad, 4*kib); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, l)
		}
	}
}

func TestParseBenchmarks(t *testing.T) {
	got, err := parseBenchmarks(`goos: linux
pkg: example.org/mirror/mirrorcache
BenchmarkHit4K-2   	  300	  3012.5 ns/op	 1359.70 MB/s	  512 B/op	   7 allocs/op
PASS
pkg: example.org/mirror/diskcache
BenchmarkHitGet-2  	  300	  201 ns/op	  0 B/op	   0 allocs/op
`)
	want := []allocResult{
		{"mirrorcache", "Hit4K", 3012.5, 512, 7},
		{"diskcache", "HitGet", 201, 0, 0},
	}
	if err != nil || len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := parseBenchmarks("PASS\n"); err == nil {
		t.Error("no benchmark, no error")
	}
}

func TestHitTable(t *testing.T) {
	f := file{title: "4 KiB", size: 4 * kib}
	ours := &server{kind: kindOf(ourName)}
	peer := &server{kind: kindOf("file_server")}
	rates := func(v ...float64) (l []load) {
		for _, r := range v {
			l = append(l, load{Requests: r})
		}
		return l
	}
	// The machine is slow in the second round: the ratios do not care.
	table := newHitTable(f, []*server{ours, peer}, map[cell][]load{
		{f.title, ours.name}: rates(300, 30, 330),
		{f.title, peer.name}: rates(100, 10, 100),
	}, map[string]float64{peer.name: 3})
	row := table.Servers[1]
	if *row.Ratio != (spread{3, 3, 3.3}) || row.Median.Requests != 100 || row.Goal == nil || !row.Goal.Met {
		t.Errorf("got %+v, ratio %+v, goal %+v", row, row.Ratio, row.Goal)
	}
	rep := &report{Hits: []hitTable{table}}
	if rep.missed() {
		t.Error("goal met, but missed")
	}
	row.Goal.Met = false
	if !rep.missed() {
		t.Error("goal missed, but not noticed")
	}
}

// TestFetch holds the fan-out's clients to notice whatever is wrong with a body.
func TestFetch(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 100_000)
	o := object{name: "x", size: int64(len(body)), sum: crc32.Checksum([]byte(body), castagnoli)}
	flipped := body[:700_000] + "!" + body[700_001:]
	for _, tt := range []struct {
		name   string
		status int
		length int
		body   string
		ok     bool
	}{
		{"right", 200, len(body), body, true},
		{"flipped", 200, len(body), flipped, false},
		{"cut", 200, len(body), body[:len(body)-1], false},
		{"short", 200, len(body) - 1, body[:len(body)-1], false},
		{"long", 200, len(body) + 1, body + "x", false},
		{"status", 404, len(body), body, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := answer(t, fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", tt.status, tt.length, tt.body))
			f, err := fetchAll(context.Background(), addr, slices.Repeat([]object{o}, 3))
			if (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
			if tt.ok && f.first[2] == 0 {
				t.Error("no time to first byte")
			}
		})
	}
}

// answer serves the same bytes to every connection, and ends it then.
func answer(t *testing.T, text string) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, text)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestChecker holds who reads AFS to notice whatever is wrong with a body.
func TestChecker(t *testing.T) {
	const size = afsPiece + 1
	body, err := io.ReadAll(afsContents("x", size))
	if err != nil {
		t.Fatal(err)
	}
	o := object{name: "x", size: size, sum: crc32.Checksum(body, castagnoli)}
	flipped := slices.Clone(body)
	flipped[size/2] ^= 1
	for _, tt := range []struct {
		name string
		body []byte
		ok   bool
	}{
		{"right", body, true},
		{"flipped", flipped, false},
		{"cut", body[:size-1], false},
		{"long", append(slices.Clone(body), 0), false},
	} {
		c := newChecker()
		c.add(10)
		c.reset()
		err := c.readAll(t.Context(), bytes.NewReader(tt.body))
		if err == nil {
			err = c.check(o)
		}
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

// TestDeaf: a client that is to poll hears all but callbacks, which are answered.
func TestDeaf(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deaf := &deafConn{PacketConn: conn}

	packet := func(op wire.CallbackOp, flags byte) []byte {
		p := make([]byte, rxHeaderSize, rxHeaderSize+4)
		p[11], p[rxSequence+3], p[rxType], p[rxFlags] = 7, 1, rxData, flags
		return binary.BigEndian.AppendUint32(p, uint32(op))
	}
	passing := [][]byte{
		packet(wire.OpCallBack, 0), // a reply of these bytes
		packet(wire.OpProbe, rxFromCaller),
		{1, 2, 3},
	}
	for _, p := range append([][]byte{packet(wire.OpCallBack, rxFromCaller|rxLast)}, passing...) {
		if _, err := server.WriteTo(p, conn.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 100)
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_ = server.SetDeadline(time.Now().Add(5 * time.Second))
	for i, want := range passing {
		n, _, err := deaf.ReadFrom(buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			t.Errorf("packet %d: %x, %v, want %x", i, buf[:n], err, want)
		}
	}
	n, _, err := server.ReadFrom(buf)
	if err != nil || deaf.dropped.Load() != 1 || n != rxHeaderSize || buf[11] != 7 || buf[rxFlags] != rxLast {
		t.Errorf("the callback was answered with %x, %v; %d are known", buf[:n], err, deaf.dropped.Load())
	}
}

func TestAFSGoals(t *testing.T) {
	var s afsServed
	for i := range 12 {
		s.Times = append(s.Times, time.Duration(12-i)*time.Second)
	}
	s.finish()
	if s.P50 != 6*time.Second || s.P99 != 12*time.Second {
		t.Errorf("got %v and %v of 1s to 12s", s.P50, s.P99)
	}
	var table afsTable
	table.add("slow", []float64{1, 2, 4}, []float64{3, 3, 3}, []float64{1, 2, 4})
	if row := table.Ways[0]; row.Median != 2 || *row.Ratio != (spread{1.5, 0.75, 3}) {
		t.Errorf("got %+v, ratio %+v", row, row.Ratio)
	}
	for _, r := range []afsResult{
		{Cold: []afsTable{{Ways: []afsRow{{}, {Goal: atLeast(2, 1)}}}}},
		{Far: &afsTable{Ways: []afsRow{{Goal: atLeast(2, 1)}}}},
		{Releases: []afsServed{{}, {Goal: atMost(1, 2)}}},
		{Crowd: &afsCrowd{AnonGoal: atMost(1, 2)}},
	} {
		if !(&report{AFS: &r}).missed() {
			t.Errorf("goal missed, but not noticed: %+v", r)
		}
	}
	if (&report{AFS: &afsResult{Far: &afsTable{Ways: []afsRow{{Goal: atLeast(2, 2)}}}}}).missed() {
		t.Error("goal met, but missed")
	}
}
