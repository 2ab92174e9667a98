package faults

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// memory is how much of a process is in memory, and the most since forgetPeak, in
// bytes.
func memory(t *testing.T, pid int) (now, peak int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
			continue
		case f[0] == "VmRSS:":
			now, err = strconv.ParseInt(f[1], 10, 64)
		case f[0] == "VmHWM:":
			peak, err = strconv.ParseInt(f[1], 10, 64)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return now << 10, peak << 10
}

func forgetPeak(t *testing.T, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Skip("the kernel does not let us watch memory:", err)
	}
}

// A directory with more entries than anybody would look at, as `simple/` of a mirror
// of PyPI: all of it is listed, it is read once, and many clients take hardly more
// memory than one does, also those that do not read what they are sent.
func TestLargeListing(t *testing.T) {
	needProc(t)
	const n, clients = 120_000, 40
	dir := tmpfs(t, "64M") // a disk takes minutes for so many
	for i := range n {
		if err := os.MkdirAll(filepath.Join(dir, "simple", fmt.Sprintf("a-project-with-number-%d", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	srv := testcaddy.Start(t, site("path "+t.TempDir(), mount("/a", dir, "ttl 1h;timeout 10s;browse")))
	srv.WaitReady(t)
	idle, _ := memory(t, srv.Pid())

	rows := func() (int, string, error) {
		resp, err := srv.Client.Get(srv.URL + "/a/simple/")
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		found, etag := 0, resp.Header.Get("Etag")
		if resp.StatusCode != http.StatusOK {
			return 0, "", fmt.Errorf("%s", resp.Status)
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if bytes.Contains(lines.Bytes(), []byte(`<a href="./a-project-with-number-`)) {
				found++
			}
		}
		return found, etag, lines.Err()
	}
	start := time.Now()
	forgetPeak(t, srv.Pid())
	together(clients, func(int) {
		if found, etag, err := rows(); err != nil || found != n || etag == "" {
			t.Errorf("%d entries of %d, ETag %s, %v", found, n, etag, err)
		}
	})
	_, peak := memory(t, srv.Pid())
	t.Logf("%d clients at once: %v, %d MiB more than idle", clients, time.Since(start), (peak-idle)>>20)
	const most = 120 << 20
	if peak-idle > most {
		t.Errorf("%d clients took %d MiB", clients, (peak-idle)>>20)
	}
	if o := srv.Origins(t, "/a")[0]; o.Lists != 1 {
		t.Errorf("the directory was read %d times", o.Lists)
	}

	before, _ := memory(t, srv.Pid())
	forgetPeak(t, srv.Pid())
	for range clients {
		c, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(c, "GET /a/simple/ HTTP/1.1\r\nHost: %s\r\n\r\n", strings.TrimPrefix(srv.URL, "http://"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	_, peak = memory(t, srv.Pid())
	t.Logf("%d clients that do not read: %d MiB", clients, (peak-before)>>20)
	if peak-before > 50<<20 {
		t.Errorf("%d clients that do not read took %d MiB", clients, (peak-before)>>20)
	}
}
