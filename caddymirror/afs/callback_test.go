package afs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// TestCallback: the trees are looked at as soon as a server says that a volume
// has changed, or that it has forgotten us.
func TestCallback(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		tell func(s *fakeServer, v *fakeVolume, client *Client) error
	}{
		{"CallBack", func(s *fakeServer, v *fakeVolume, client *Client) error {
			return s.callback(client.Addr(), v.ids[1])
		}},
		{"InitCallBackState3", func(s *fakeServer, _ *fakeVolume, client *Client) error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, err := s.call(ctx, client.Addr(), append([]byte{0, 0, 0, 213}, make([]byte, 44)...))
			return err
		}},
		{"InitCallBackState", func(s *fakeServer, _ *fakeVolume, client *Client) error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, err := s.call(ctx, client.Addr(), []byte{0, 0, 0, 205})
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newFakeCell(t, 2)
			v, sub := c.vols["root.cell"], c.volume("sub")
			v.mount("sub", "#sub.")
			page(v, "one")
			v.release(firstDate + 100)
			page(sub, "one")
			sub.release(firstDate + 100)
			client, tree := c.start()
			ctx := within(t, 10*time.Second)
			wantFile(t, tree, "sub/index", "one")
			before := tree.Release(ctx).Token
			c.do(func() {
				page(sub, "two")
				sub.release(firstDate + 200)
			})
			if err := test.tell(c.files[1], sub, client); err != nil {
				t.Fatal(err)
			}
			soon(t, 3*time.Second, "the release is seen", func() bool { return tree.Last().Token != before })
			wantFile(t, tree, "sub/index", "two")
		})
	}
}

// TestCallbackOfOthers: who is no server of ours, or speaks of no volume of ours,
// makes nobody look.
func TestCallbackOfOthers(t *testing.T) {
	t.Parallel()
	c, v, client, tree := readyCell(t, 1)
	tree.Release(within(t, 5*time.Second))
	stranger := c.addServer()
	quiet := func() int {
		last := -1
		soon(t, 3*time.Second, "nobody looks any more", func() bool {
			n := c.files[0].calls()
			same := n == last
			last = n
			time.Sleep(70 * time.Millisecond)
			return same
		})
		return last
	}
	before := quiet()
	if err := c.files[0].callback(client.Addr(), v.ids[1]+100); err != nil {
		t.Error(err)
	}
	ctx := within(t, 5*time.Second)
	if _, err := stranger.call(ctx, client.Addr(), append([]byte{0, 0, 0, 213}, make([]byte, 44)...)); err != nil {
		t.Error(err)
	}
	if n := quiet(); n != before {
		t.Errorf("%d calls for nothing", n-before)
	}
	// Nor does a flood of true ones keep the servers busy.
	for range 50 {
		if err := c.files[0].callback(client.Addr(), v.ids[1]); err != nil {
			t.Fatal(err)
		}
	}
	if n := quiet() - before; n > 40 {
		t.Errorf("%d calls for 50 callbacks", n)
	}
}

// TestCallbackAnswers: byte for byte what servers want to hear.
func TestCallbackAnswers(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	client, _ := c.client()
	ctx := within(t, 10*time.Second)
	word := binary.BigEndian.AppendUint32
	uuid := func(id wire.UUID) []byte {
		b := word(nil, binary.BigEndian.Uint32(id[:]))
		b = word(b, uint32(binary.BigEndian.Uint16(id[4:])))
		b = word(b, uint32(binary.BigEndian.Uint16(id[6:])))
		for _, x := range id[8:] {
			b = word(b, uint32(int8(x)))
		}
		return b
	}
	for _, test := range []struct {
		name    string
		request []byte
		size    int
		code    int32
		prefix  []byte
	}{
		{"TellMeAboutYourself", word(nil, 65538), 440, 0, append(word(nil, 1), uuid(client.uuid)...)},
		{"WhoAreYou", word(nil, 212), 432, 0, append(word(nil, 1), uuid(client.uuid)...)},
		{"InitCallBackState2", word(nil, 211), 432, 0, append(word(nil, 1), uuid(client.uuid)...)},
		{"Probe", word(nil, 206), 0, 0, nil},
		{"ProbeUuid", append(word(nil, 214), uuid(client.uuid)...), 0, 0, nil},
		{"ProbeUuid of another", append(word(nil, 214), uuid(wire.NewUUID())...), 0, 1, nil},
		{"ProbeUuid of nobody", word(nil, 214), 0, 1, nil},
		{"InitCallBackState", word(nil, 205), 0, 0, nil},
		{"CallBack of nothing", append(word(nil, 204), make([]byte, 8)...), 0, 0, nil},
		{"CallBack cut short", word(word(nil, 204), 50), 0, 0, nil},
		{"statistics", word(nil, 65537), 0, -455, nil},
		{"nonsense", word(nil, 1), 0, -455, nil},
	} {
		reply, err := c.files[0].call(ctx, client.Addr(), test.request)
		var abort rx.Abort
		switch {
		case test.code != 0 && (!errors.As(err, &abort) || int32(abort) != test.code):
			t.Errorf("%s: %v, want code %d", test.name, err, test.code)
		case test.code == 0 && (err != nil || len(reply) != test.size || !bytes.HasPrefix(reply, test.prefix)):
			t.Errorf("%s: %d bytes, %v: %x", test.name, len(reply), err, reply[:min(60, len(reply))])
		}
	}
	other, _ := c.client()
	if other.uuid == client.uuid {
		t.Error("two clients with one UUID")
	}
}

// TestRestartedServer: what a server that comes back has is believed only after a
// look at the database.
func TestRestartedServer(t *testing.T) {
	t.Parallel()
	c, v, client, tree := readyCell(t, 2)
	ctx := within(t, 10*time.Second)
	c.do(func() {
		page(v, "two")
		torn(v.sites[1], v)
		v.sites[1].flags |= wire.SiteDontUse
	})
	if _, err := c.files[1].call(ctx, client.Addr(), append([]byte{0, 0, 0, 213}, make([]byte, 44)...)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		for _, name := range []string{"index", "a/index", "a/b/index"} {
			got, _, err := contents(ctx, tree, name)
			if err != nil || got != "one" || strings.Contains(got, "?") {
				t.Fatalf("%s is %q, %v", name, got, err)
			}
			if i, err := tree.Stat(ctx, name); err != nil || i.Size != 3 {
				t.Fatalf("%s: %+v, %v", name, i, err)
			}
		}
	}
}
