package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	afscell "github.com/unifiedmirrors/mirror/test/afscell/cell"
)

const (
	afsNewsFile   = "latest"
	maxNewsAge    = 6 * time.Second // by polling alone
	afsReleaseMax = time.Minute
	afsCheck      = 5 * time.Second // between two looks; the default
)

// afsServed is how long new files took to be served, counted from when `vos
// release` was done. Most are served before that: vos sleeps for five seconds after
// it has updated the first site.
type afsServed struct {
	Name  string          `json:"name"`
	Times []time.Duration `json:"times_ns"`
	P50   time.Duration   `json:"p50_ns"`
	P99   time.Duration   `json:"p99_ns"`
	Goal  *goal           `json:"goal,omitempty"`
}

func afsNews(volume string, generation int) []byte {
	return fmt.Appendf(nil, "%s, edition %d\n", volume, generation)
}

// reporter waits for an edition, and returns when it had it.
type reporter func(ctx context.Context, edition int) (time.Time, error)

// serve releases volumes, several at a time and over and over, and watches when
// who serves what is new.
func (a *afsRun) serve(ctx context.Context) error {
	mounts := map[string]string{}
	for _, v := range a.news {
		mounts["/"+v.Name] = "afs://" + a.cell.Name + ":" + v.Name + "/"
	}
	m, err := a.startMirror(ctx, mounts)
	if err != nil {
		return err
	}
	defer m.close()
	deaf, err := a.deafClient()
	if err != nil {
		return err
	}
	defer deaf.Close()

	called := afsServed{Name: "mirror_cache"}
	polling := afsServed{Name: "package afs, polling alone"}
	pollers := make([]reporter, len(a.news))
	for i, v := range a.news {
		tree, err := deaf.Tree(afs.Root{Cell: a.cell.Name, Volume: v.Name, Check: afsCheck})
		if err != nil {
			return err
		}
		defer tree.Close()
		pollers[i] = pollReporter(tree, v.Name)
		tree.Release(ctx) // from now on it is watched
		if _, err := m.reporter(v.Name)(ctx, 0); err != nil {
			return err
		}
		// Volumes released at the same time are looked at one after the other.
		if err := sleep(ctx, afsCheck/time.Duration(len(a.news))); err != nil {
			return err
		}
	}
	for edition := 1; len(called.Times) < a.afsOpts.releases; edition++ {
		n := min(len(a.news), a.afsOpts.releases-len(called.Times))
		times := make([][2]time.Duration, n)
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		err := afscell.Each(order, func(i int) error {
			t, err := a.release(ctx, a.news[i], edition, m.reporter(a.news[i].Name), pollers[i])
			times[i] = t
			return err
		})
		if err != nil {
			return err
		}
		for _, t := range times {
			called.Times = append(called.Times, t[0])
			polling.Times = append(polling.Times, t[1])
		}
		progress("afs: %d releases of %d", len(called.Times), a.afsOpts.releases)
	}
	if deaf.dropped.Load() == 0 {
		return fmt.Errorf("no callback had to be kept from the client that polls: it may have had them")
	}
	called.finish()
	polling.finish()
	polling.Goal = atMost(maxNewsAge.Seconds(), polling.P99.Seconds())
	a.result.Releases = []afsServed{called, polling}
	return nil
}

// release releases an edition of a volume and returns how long after that each
// reporter had it.
func (a *afsRun) release(ctx context.Context, v *afscell.Volume, edition int, reporters ...reporter) (after [2]time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, afsReleaseMax)
	defer cancel()
	if err := v.WriteFile(ctx, afsNewsFile, afsNews(v.Name, edition), afscell.Attr{}); err != nil {
		return after, err
	}
	had := make([]time.Time, len(reporters))
	var end time.Time
	all := []func() error{func() error {
		err := a.cell.Release(ctx, v.Name)
		end = time.Now()
		return err
	}}
	for i, r := range reporters {
		all = append(all, func() (err error) {
			had[i], err = r(ctx, edition)
			return err
		})
	}
	if err := afscell.Each(all, func(f func() error) error { return f() }); err != nil {
		return after, fmt.Errorf("edition %d of %s: %w", edition, v.Name, err)
	}
	for i, t := range had {
		after[i] = t.Sub(end)
	}
	return after, nil
}

// reporter asks mirror_cache again and again.
func (m *afsMirror) reporter(volume string) reporter {
	return func(ctx context.Context, edition int) (time.Time, error) {
		const pause = 25 * time.Millisecond
		for {
			_, body, err := get(ctx, "http://"+m.addr+"/"+volume+"/"+afsNewsFile)
			if err != nil {
				return time.Time{}, err
			}
			now := time.Now()
			if latest, err := isEdition(body, volume, edition); err != nil || latest {
				return now, err
			}
			if err := sleep(ctx, pause); err != nil {
				return time.Time{}, err
			}
		}
	}
}

// pollReporter reads the file when there is word of a new release, as mirror_cache
// does. To read it would be to ask whether there is one.
func pollReporter(t *afs.Tree, volume string) reporter {
	known := ""
	return func(ctx context.Context, edition int) (time.Time, error) {
		const pause = 5 * time.Millisecond
		for {
			if token := t.Last().Token; token != known {
				known = token
				body, err := readNews(ctx, t)
				if err != nil {
					return time.Time{}, err
				}
				now := time.Now()
				if latest, err := isEdition(body, volume, edition); err != nil || latest {
					return now, err
				}
			}
			if err := sleep(ctx, pause); err != nil {
				return time.Time{}, err
			}
		}
	}
}

func readNews(ctx context.Context, t *afs.Tree) ([]byte, error) {
	f, err := t.Open(ctx, afsNewsFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := f.Reader(0)
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return body, nil
}

// isEdition tells this edition from the one before.
func isEdition(body []byte, volume string, edition int) (bool, error) {
	switch string(body) {
	case string(afsNews(volume, edition)):
		return true, nil
	case string(afsNews(volume, edition-1)):
		return false, nil
	}
	return false, fmt.Errorf("wrong body: %q while edition %d was released", body, edition)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// finish makes the figures of the times.
func (s *afsServed) finish() {
	sorted := slices.Sorted(slices.Values(s.Times))
	rank := func(p float64) time.Duration { return sorted[int(math.Ceil(p*float64(len(sorted))))-1] }
	s.P50, s.P99 = rank(0.50), rank(0.99)
}

// deafClient is a client that no file server can tell of what has changed.
type deafClient struct {
	*afs.Client
	*deafConn
}

func (d *deafClient) Close() error { return d.Client.Close() }

func (a *afsRun) deafClient() (*deafClient, error) {
	conn, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		return nil, err
	}
	deaf := &deafConn{PacketConn: conn}
	client, err := a.client(afs.Config{Conn: deaf})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &deafClient{client, deaf}, nil
}

// deafConn answers callbacks in the client's place, who never hears of them. To lose
// them would be something else: a file server calls again and again who does not
// answer, and keeps all calls of that client waiting meanwhile.
type deafConn struct {
	net.PacketConn
	dropped atomic.Int64
}

// ReadFrom implements net.PacketConn.
func (c *deafConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		if err != nil || !isCallback(b[:n]) {
			return n, from, err
		}
		c.dropped.Add(1)
		if _, err := c.WriteTo(emptyReply(b), from); err != nil {
			return 0, nil, err
		}
	}
}

// The header of an Rx packet.
const (
	rxSequence   = 12
	rxType       = 20
	rxFlags      = 21
	rxHeaderSize = 28

	rxData       = 1 // type
	rxFromCaller = 1 // flags
	rxLast       = 4
)

// isCallback recognizes an Rx packet in which a file server says that files have
// changed.
func isCallback(packet []byte) bool {
	return len(packet) >= rxHeaderSize+4 &&
		packet[rxType] == rxData && packet[rxFlags]&rxFromCaller != 0 &&
		binary.BigEndian.Uint32(packet[rxHeaderSize:]) == uint32(wire.OpCallBack)
}

// emptyReply is what an Rx call returns that returns nothing.
func emptyReply(request []byte) []byte {
	reply := slices.Clone(request[:rxHeaderSize])
	binary.BigEndian.PutUint32(reply[rxSequence:], 1)
	reply[rxFlags] = rxLast
	return reply
}
