package afs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/cells"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// Volume is the state of a volume, as its servers tell it.
type Volume struct {
	Cell  string
	Name  string // without suffix
	Entry wire.Entry
	Sites []Site
}

// Site is a copy of a volume.
type Site struct {
	Server    string // address
	Partition string
	Type      string // "RW", "RO" or "BK"
	ID        uint32
	Flags     wire.SiteFlags

	// Info is what the volume server has to say. It is nil if that is nothing,
	// and Err is why.
	Info *wire.VolumeInfo
	Err  error

	partition wire.Partition
}

// State says in a word whether the copy can be used, by what Info says.
func (s *Site) State() string {
	switch {
	case s.Info == nil:
		return "unknown"
	case s.Info.NeedsSalvaged:
		return "needs salvage"
	case s.Info.BeingDeleted:
		return "being deleted"
	case s.Info.Status != wire.VolumeOK:
		return wire.Code(s.Info.Status).Name()
	case !s.Info.InUse:
		return "offline"
	}
	return "online"
}

// Locked reports whether somebody works on the volume, or has not cleaned up
// after it.
func (v Volume) Locked() bool { return v.Entry.Flags.Locked() }

// ReadWrite returns the volume itself, or nil if there is none.
func (v Volume) ReadWrite() *Site {
	for i := range v.Sites {
		if v.Sites[i].Type == wire.ReadWrite.String() {
			return &v.Sites[i]
		}
	}
	return nil
}

// readOnly returns the read-only copies.
func (v Volume) readOnly() []*Site {
	var copies []*Site
	for i := range v.Sites {
		if v.Sites[i].Type == wire.ReadOnly.String() {
			copies = append(copies, &v.Sites[i])
		}
	}
	return copies
}

// Clean reports whether the entry marks no copy as old, new or not to be used: an
// unfinished release leaves such marks.
func (v Volume) Clean() bool {
	for _, s := range v.readOnly() {
		if s.Flags.DontUse() || s.Flags.NewRelease() {
			return false
		}
	}
	return v.Entry.CloneID == 0
}

// Agreed is why the read-only copies are not all usable and of one release; it is
// empty if they are.
func (v Volume) Agreed() (why string) {
	if v.Locked() {
		return "the volume is locked"
	}
	copies := v.readOnly()
	if len(copies) == 0 {
		return "there is no read-only copy"
	}
	for _, s := range copies {
		at := s.Server + " " + s.Partition
		switch {
		case s.Flags.DontUse():
			return at + " is not to be used"
		case s.Flags.NewRelease():
			return at + " is marked as new by a release that has not ended"
		case s.Info == nil:
			return at + " cannot be looked at: " + s.Err.Error()
		case s.State() != "online":
			return at + ": " + s.State()
		case !s.Info.Created.Equal(copies[0].Info.Created):
			return at + " is of another release than the others"
		}
	}
	return ""
}

// Released is when the release was made that the copies are of, the oldest of them
// if they do not agree. It is zero if that is not known.
func (v Volume) Released() time.Time {
	var oldest time.Time
	for _, s := range v.readOnly() {
		if s.Info == nil {
			return time.Time{}
		}
		if oldest.IsZero() || s.Info.Created.Before(oldest) {
			oldest = s.Info.Created
		}
	}
	return oldest
}

// Newer reports whether the copies are certainly newer than what was last written.
// Dates are whole seconds: of what was written in the second of the release itself
// nobody knows.
func (v Volume) Newer() bool {
	rw := v.ReadWrite()
	return rw != nil && rw.Info != nil && v.Released().After(rw.Info.Updated)
}

// Published reports whether all read-only copies of the volume can be used and
// are of one release, one that is not older than what was last written. If it is
// false, why says so.
//
// Dates are whole seconds: what was written in the second of the release itself
// counts as published.
func (v Volume) Published() (ok bool, why string) {
	rw := v.ReadWrite()
	if rw == nil || rw.Info == nil {
		return false, "the read-write volume cannot be looked at"
	}
	if why := v.Agreed(); why != "" {
		return false, why
	}
	if v.Released().Before(rw.Info.Updated) {
		return false, "the read-only copies are older than what was last written"
	}
	return true, ""
}

// Look has those look for a new release of a volume who read it.
func (c *Client) Look(cellName, name string) {
	c.eachVolume(func(v *volume) {
		if v.cell.name == cellName && v.name == name {
			v.wake()
		}
	})
}

// Volume asks the servers for the state of a volume.
func (c *Client) Volume(ctx context.Context, cellName, name string) (Volume, error) {
	if !cells.ValidName(cellName) {
		return Volume{}, fmt.Errorf("%q is not the name of a cell", cellName)
	}
	cl := c.cell(cellName)
	base, _ := wire.SplitVolumeName(name)
	e, err := cl.entry(ctx, base)
	if err != nil {
		return Volume{}, err
	}
	v := Volume{Cell: cellName, Name: e.Name, Entry: e}
	for _, at := range e.Sites {
		for _, typ := range []wire.VolumeType{wire.ReadWrite, wire.ReadOnly, wire.Backup} {
			if at.Flags.Has(typ) {
				v.Sites = append(v.Sites, cl.siteOf(ctx, e, at, typ))
			}
		}
	}
	var wg sync.WaitGroup
	for i := range v.Sites {
		wg.Go(func() {
			s := &v.Sites[i]
			if err := c.contained("afs inspect", func() error {
				s.inspect(ctx, c)
				return nil
			}); err != nil {
				s.Err = err
			}
		})
	}
	wg.Wait()
	return v, nil
}

func (cl *cell) siteOf(ctx context.Context, e wire.Entry, at wire.Site, typ wire.VolumeType) Site {
	s := Site{Partition: at.Partition.String(), Type: typ.String(), ID: e.IDs[typ], Flags: at.Flags}
	srv, err := cl.at(ctx, at)
	if err != nil {
		s.Server, s.Err = at.UUID.String(), err
		return s
	}
	s.Server, s.partition = srv.String(), at.Partition
	return s
}

// inspect asks the volume server of a site.
func (s *Site) inspect(ctx context.Context, c *Client) {
	if s.Err != nil {
		return
	}
	addr, err := netip.ParseAddr(s.Server)
	if err != nil {
		s.Err = err
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	reply := make([]byte, wire.ListOneVolumeReplySize)
	n, err := c.ep.Peer(netip.AddrPortFrom(addr, wire.PortVolume), wire.ServiceVolume).
		Call(ctx, wire.ListOneVolumeRequest(s.partition, s.ID), reply)
	if abort, ok := errors.AsType[rx.Abort](err); ok {
		err = wire.Code(abort)
	}
	if err != nil {
		s.Err = fmt.Errorf("asking volume server %s: %w", s.Server, err)
		return
	}
	info, err := wire.DecodeListOneVolume(reply[:n])
	if err != nil {
		s.Err = err
		return
	}
	s.Info = &info
}
