package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

const (
	slowClients  = 100
	slowRate     = 2 * mib // of a client, per second
	slowUpstream = 8 * mib // of a connection to the upstream, per second
	slowCache    = 4 * gib // of the cache: most of the bodies do not fit
	maxSlowRSS   = 128 * mib

	// How long slow clients stay. Peers are only looked at for so long that what they
	// write has room.
	slowTime     = 30 * time.Second
	slowPeerTime = 10 * time.Second
)

// slowPeers are compared with ours. Varnish and cache-handler keep whole bodies in memory.
var slowPeers = []string{"proxy_cache", "apache"}

// memoryRow is what slow clients of large cold objects cost one server.
type memoryRow struct {
	Name    string        `json:"name"`
	Title   string        `json:"title"`
	Time    time.Duration `json:"time_ns"`
	Bytes   int64         `json:"bytes"` // that the clients got
	Idle    int64         `json:"idle_rss"`
	RSS     int64         `json:"rss_growth"`
	Anon    int64         `json:"anon_growth"`
	Failed  int           `json:"failed"` // clients
	Failure string        `json:"failure,omitempty"`
	Goal    *goal         `json:"goal,omitempty"`
}

// upstreamMemory watches the memory of one server after the other while slow clients stream
// cold objects through it.
func (b *bench) upstreamMemory(ctx context.Context, up behind, st site) ([]memoryRow, error) {
	st.maxSize, st.clients = slowCache, slowClients
	body, err := mapFile(filepath.Join(st.tree, "files", up.big.name), up.big.size)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(body) }()
	var rows []memoryRow
	for _, name := range b.upstreamServers {
		if name != ourName && !slices.Contains(slowPeers, name) {
			continue
		}
		row, err := b.slowRow(ctx, kindOf(name), st, body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kindOf(name).title, err)
		}
		if name == ourName {
			if row.Failed > 0 {
				return nil, fmt.Errorf("%d of %d clients failed: %s", row.Failed, slowClients, row.Failure)
			}
			row.Goal = atMost(maxSlowRSS, float64(row.RSS))
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (b *bench) slowRow(ctx context.Context, k kind, st site, body []byte) (row memoryRow, err error) {
	row = memoryRow{Name: k.name, Title: k.title, Time: slowPeerTime}
	if k.name == ourName {
		row.Time = slowTime
	}
	progress("upstream: %d slow clients of cold objects for %v, %s", slowClients, row.Time, k.title)
	s, err := b.startServer(ctx, k, st)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, b.remove(s), b.sync()) }()
	if _, _, err := get(ctx, "http://"+s.addr+"/files/1k.bin"); err != nil {
		return row, err
	}
	time.Sleep(time.Second)

	m, err := watchMemoryBy(s.memory)
	if err != nil {
		return row, err
	}
	defer m.stop()
	got, failures := slowly(ctx, s.addr, body, row.Time)
	growth, err := m.growth()
	if err != nil {
		return row, errors.Join(err, s.alive())
	}
	row.Bytes, row.Idle, row.RSS, row.Anon = got, m.base.rss, growth.rss, growth.anon
	if row.Failed = len(failures); row.Failed > 0 {
		row.Failure = failures[0].Error()
	}
	return row, ctx.Err()
}

// slowly lets slow clients stay for some time, each with an object of its own, and
// returns what they got in all, and what went wrong.
func slowly(ctx context.Context, addr string, body []byte, stay time.Duration) (got int64, failures []error) {
	ctx, cancel := context.WithTimeout(ctx, stay)
	defer cancel()
	var (
		wg  sync.WaitGroup
		all atomic.Int64
		mu  sync.Mutex
	)
	for i := range slowClients {
		wg.Go(func() {
			n, err := readSlowly(ctx, addr, slowDir+"/"+strconv.Itoa(i), body)
			all.Add(n)
			if err == nil && n == 0 {
				err = errors.New("got nothing")
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, fmt.Errorf("client %d, after %d bytes: %w", i, n, err))
			}
		})
	}
	wg.Wait()
	return all.Load(), failures
}

// readSlowly asks for an object and reads it until the context ends.
func readSlowly(ctx context.Context, addr, name string, body []byte) (got int64, err error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	defer func() {
		if ctx.Err() != nil {
			err = nil // it left
		}
	}()
	if _, err := fmt.Fprintf(c, "GET /files/%s HTTP/1.1\r\nHost: %s\r\n\r\n", name, addr); err != nil {
		return 0, err
	}
	buf := make([]byte, 64*kib)
	var head []byte
	start := time.Now()
	for in := false; got < int64(len(body)); {
		n, err := c.Read(buf)
		p := buf[:n]
		if !in {
			head = append(head, p...)
			i := bytes.Index(head, []byte("\r\n\r\n"))
			if i >= 0 {
				if err := checkHead(head[:i+4], object{size: int64(len(body))}); err != nil {
					return got, err
				}
				in, p = true, head[i+4:]
			} else {
				p = nil
			}
		}
		if int64(len(p)) > int64(len(body))-got || !bytes.Equal(p, body[got:got+int64(len(p))]) {
			return got, errors.New("wrong bytes")
		}
		got += int64(len(p))
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return got, err
		}
		due := start.Add(time.Duration(float64(got) / slowRate * float64(time.Second)))
		select {
		case <-ctx.Done():
			return got, nil
		case <-time.After(time.Until(due)):
		}
	}
	return got, nil
}

// mapFile maps a file into memory.
func mapFile(path string, size int64) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
}

func printMemory(w io.Writer, rows []memoryRow) {
	fmt.Fprintf(w, "\n%d cold objects of %s, each to a client that reads %s/s. Growth over idle, at its highest.\n\n",
		slowClients, humanize.IBytes(coldSize), humanize.IBytes(slowRate))
	t := table{{"", "time", "clients got", "idle", "resident (VmRSS)", "anonymous", "goal"}}
	for _, r := range rows {
		t.row(r.Title, r.Time.String(), mebibytes(r.Bytes), mebibytes(r.Idle), "+"+mebibytes(r.RSS), "+"+mebibytes(r.Anon), r.Goal.text("128 MiB"))
	}
	t.print(w)
	for _, r := range rows {
		if r.Failed > 0 {
			fmt.Fprintf(w, "%s failed %d clients: %s\n", r.Title, r.Failed, r.Failure)
		}
	}
}
