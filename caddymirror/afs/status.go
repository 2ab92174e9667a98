package afs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// pin holds the walk to the release in which it has met a volume.
func (w *walk) pin(v *volume, release uint32) error {
	if v.typ == wire.ReadWrite {
		return nil
	}
	if was, ok := w.pins[v]; ok && was != release {
		return errRenewed
	}
	w.pins[v] = release
	return nil
}

// status returns the status of a file.
func (w *walk) status(n node) (wire.Status, error) {
	snap := n.vol.snapshot()
	if snap != nil {
		if err := w.pin(n.vol, snap.release); err != nil {
			return wire.Status{}, err
		}
		if st, ok := snap.statuses.Get(n.fid); ok {
			return st, nil
		}
	}
	if n.listed {
		return w.statusListed(n)
	}
	var st wire.Status
	release, by, err := n.vol.call(w.ctx, n.fid.Volume, 0, func(ctx context.Context, s *server, _ uint32) (wire.VolSync, error) {
		r, err := s.fetchStatus(ctx, n.fid)
		st = r.Status
		return r.VolSync, err
	})
	if err != nil {
		return wire.Status{}, err
	}
	w.told[n.vol] = append(w.told[n.vol], by)
	if snap != nil && snap.release == release {
		snap.statuses.Add(n.fid, st)
	}
	return st, w.pin(n.vol, release)
}

// statusListed is status for what is probably denied, but may be a symbolic link or
// a directory. A server that refuses ten calls in a row delays its further answers,
// and is then taken to be down: so it is asked in a way in which it need not refuse.
func (w *walk) statusListed(n node) (wire.Status, error) {
	var st wire.Status
	snap := n.vol.snapshot()
	release, _, err := n.vol.call(w.ctx, n.fid.Volume, 0, func(ctx context.Context, s *server, _ uint32) (wire.VolSync, error) {
		r, sync, err := s.bulkAndRelease(ctx, []wire.FID{n.fid})
		if err == nil {
			st = r.Statuses[0]
		}
		return sync, err
	})
	if err != nil {
		return wire.Status{}, err
	}
	if err := w.pin(n.vol, release); err != nil {
		return wire.Status{}, err
	}
	if st.Err != 0 {
		return wire.Status{}, n.vol.explain(st.Err)
	}
	if snap != nil && snap.release == release {
		snap.statuses.Add(n.fid, st)
	}
	return st, nil
}

// bulkAndRelease is bulkStatus that tells of the release even if none of the files
// has a status.
func (s *server) bulkAndRelease(ctx context.Context, fids []wire.FID) (wire.BulkReply, wire.VolSync, error) {
	r, err := s.bulkStatus(ctx, fids)
	if err == nil {
		err = trouble(r.Statuses)
	}
	if err != nil || r.VolSync.Creation != 0 {
		return r, r.VolSync, err
	}
	root, err := s.fetchStatus(ctx, wire.Root(fids[0].Volume))
	return r, root.VolSync, err
}

// dir returns the contents of a directory, and what we may do with its files.
func (w *walk) dir(n node) (*wire.Dir, wire.Access, error) {
	st, err := w.status(n)
	if err != nil {
		return nil, 0, err
	}
	if st.Type != wire.Directory {
		return nil, 0, fs.ErrNotExist
	}
	if err := readable(st); err != nil {
		return nil, 0, err
	}
	v, err := w.text(n, st, maxDir, func(b []byte) (any, error) { return wire.ParseDir(b) })
	if err != nil {
		return nil, 0, err
	}
	return v.(*wire.Dir), st.CallerAccess, nil
}

// link returns the text of a symbolic link or mount point.
func (w *walk) link(n node, st wire.Status) (string, error) {
	v, err := w.text(n, st, wire.MaxMount<<2, func(b []byte) (any, error) { return string(b), nil })
	if err != nil {
		return "", err
	}
	return v.(string), nil
}

// text returns what parse makes of all of a file's contents.
func (w *walk) text(n node, st wire.Status, limit int64, parse func([]byte) (any, error)) (any, error) {
	key := textKey{n.vol.cell.name, n.fid, st.DataVersion, st.ServerModTime.Unix()}
	if v, ok := w.t.c.texts.get(key); ok {
		return v, nil
	}
	if st.Length > limit && st.Type == wire.Symlink {
		return nil, fmt.Errorf("%w: symbolic link of %d bytes", fs.ErrNotExist, st.Length)
	}
	if st.Length > limit {
		return nil, fmt.Errorf("%w: %v of %d bytes", ErrUnavailable, st.Type, st.Length)
	}
	f := &File{t: w.t, vol: n.vol, release: w.pins[n.vol], info: infoOf("", n.fid, st), unsure: true}
	b := make([]byte, st.Length)
	if _, err := f.ReadAt(w.ctx, b, 0); err != nil {
		if errors.Is(err, ErrChanged) {
			return nil, errRenewed
		}
		return nil, err
	}
	// Names decide what is read: a wrong one must not last.
	if err := w.confirm(f); err != nil {
		return nil, err
	}
	v, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	w.t.c.texts.add(key, v, st.Length)
	return v, nil
}

// denied finds out whether a file is not for us, where that takes no call or, with
// it, the file server would have to refuse one. See statusListed.
func (w *walk) denied(n node) error {
	if !n.listed {
		snap := n.vol.snapshot()
		if snap == nil || !snap.statuses.Contains(n.fid) {
			return nil
		}
	}
	st, err := w.status(n)
	if err != nil {
		return err
	}
	return readable(st)
}

// confirmTold confirms the statuses that the walk has asked for. All walks share the
// look at the database that it takes.
func (w *walk) confirmTold() error {
	for v, by := range w.told {
		err := v.confirm(w.ctx, time.Now(), by...)
		if errors.Is(err, errStruck) {
			return fmt.Errorf("%w: %w", errRenewed, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// confirm confirms the version of a file. Nothing has been given away yet, so
// another site can be asked.
func (w *walk) confirm(f *File) error {
	err := f.confirm(w.ctx)
	if errors.Is(err, errStruck) {
		return fmt.Errorf("%w: %w", errRenewed, err)
	}
	return err
}

// list lists the directory at the end of the way.
func (w *walk) list() ([]Info, error) {
	n, err := w.resolve()
	if err != nil {
		return nil, err
	}
	dir, _, err := w.dir(n)
	if err != nil {
		return nil, err
	}
	var list []Info
	for e := range dir.All() {
		list = append(list, Info{Name: e.Name, FID: wire.FID{Volume: n.fid.Volume, Vnode: e.Vnode, Unique: e.Unique}})
	}
	for part := range slices.Chunk(list, wire.MaxBulk) {
		if err := w.describe(n.vol, part); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// trouble returns why some files have no status, if that is about the volume: it
// may go offline between two files.
func trouble(statuses []wire.Status) error {
	for _, st := range statuses {
		_, errno := st.Err.Errno()
		if st.Err != 0 && st.Err != wire.VNoVnode && (!errno || isIO(st.Err)) {
			return st.Err
		}
	}
	return nil
}

// describe fills in what files of a volume are.
func (w *walk) describe(v *volume, list []Info) error {
	fids := make([]wire.FID, len(list))
	for i := range list {
		fids[i] = list[i].FID
	}
	var r wire.BulkReply
	snap := v.snapshot()
	release, by, err := v.call(w.ctx, fids[0].Volume, 0, func(ctx context.Context, s *server, _ uint32) (wire.VolSync, error) {
		var sync wire.VolSync
		var err error
		r, sync, err = s.bulkAndRelease(ctx, fids)
		return sync, err
	})
	if err != nil {
		return err
	}
	w.told[v] = append(w.told[v], by)
	if err := w.pin(v, release); err != nil {
		return err
	}
	for i, st := range r.Statuses {
		if st.Err != 0 {
			list[i].Denied = true
			list[i].Type = wire.File
			list[i].ModTime = time.Unix(0, 0)
			if list[i].FID.Vnode%2 == 1 {
				list[i].Type = wire.Directory
			}
			continue
		}
		if snap != nil && snap.release == release {
			snap.statuses.Add(list[i].FID, st)
		}
		list[i] = infoOf(list[i].Name, list[i].FID, st)
	}
	return nil
}
