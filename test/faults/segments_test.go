package faults

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestHeadComesWithBody: the head of a large response shares a segment with the
// first of its body, or clients would wake for it alone; and no end of a body
// waits for more to come.
func TestHeadComesWithBody(t *testing.T) {
	const requests, part = 10, 24 << 10 // fits with the head into one segment
	tr := newTree(t)
	srv := testcaddy.Start(t, site("path "+t.TempDir(), mount("/a", tr.dir, "ttl 1h")))
	srv.WaitReady(t)
	conn, err := net.Dial("tcp", srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if mss := tcpInfo(t, conn).Snd_mss; mss < part+2048 {
		testcaddy.Missing(t, fmt.Sprintf("a segment of the loopback has only %d bytes", mss))
	}
	tr.add(t, "whole", part)
	tr.add(t, "memory", part+1000)
	tr.add(t, "disk", 2<<20)

	r := bufio.NewReader(conn)
	for _, tc := range []struct {
		file, field string
	}{
		{"whole", ""},
		{"memory", byteRange(0, part)},
		{"disk", byteRange(0, part)},
	} {
		waitHit(t, srv, "/a", tr, tc.file, 10*time.Second)
		fewest, quickest := uint32(1<<31), time.Hour
		for range requests {
			begin, before := time.Now(), tcpInfo(t, conn).Data_segs_in
			req, err := http.NewRequest(http.MethodGet, srv.URL+"/a/"+tc.file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, v, ok := strings.Cut(tc.field, ": "); ok {
				req.Header.Set("Range", v)
			}
			if err := req.Write(conn); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(r, req)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, resp.Body)
			if err != nil || n != part {
				t.Fatalf("%s: %d bytes, want %d: %v", tc.file, n, part, err)
			}
			quickest = min(quickest, time.Since(begin))
			// On a busy machine, a segment may be sent again.
			fewest = min(fewest, tcpInfo(t, conn).Data_segs_in-before)
		}
		if fewest != 1 {
			t.Errorf("%s: %d segments, want 1", tc.file, fewest)
		}
		if quickest >= 150*time.Millisecond { // Linux holds it back for 200
			t.Errorf("%s: took %v at least", tc.file, quickest)
		}
	}
}

// tcpInfo is what the kernel knows of a connection.
func tcpInfo(t testing.TB, conn net.Conn) *unix.TCPInfo {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return info
}
