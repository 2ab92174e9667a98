package mirrorcache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// Fields that a format reads out of an object are stored with it, among those that
// are served. A mark among them, which is no field, says that it was asked.
const inspectedMark = ":inspected"

// inspectWhole is up to which size an object is read as a whole before it is
// stored, so that nothing is read twice. Of a larger one the format reads what it
// needs beforehand: many fills may be under way, and each has that much in memory.
const inspectWhole = 256 << 10

// inspects reports whether the format may read fields out of objects of this name.
func (m *Mount) inspects(name string) bool {
	return m.inspector != nil && m.inspector.Inspects(name)
}

// inspected reports whether an entry has the fields that it ought to have. It may be
// from a time when the mount had another format.
func (m *Mount) inspected(e *diskcache.Entry) bool {
	return m.inspector == nil || e.Meta().Get(inspectedMark) == m.formatName || !m.inspector.Inspects(e.Key().Name)
}

// readOut are the fields that were read out of an object.
func readOut(meta *diskcache.Meta) (more []field) {
	for _, name := range slices.Sorted(maps.Keys(meta.Header)) {
		if name != "Etag" && name[0] != ':' {
			more = append(more, field{name, meta.Header[name]})
		}
	}
	return more
}

// inspect has the format read an object's fields, and notes them in meta.
func (m *Mount) inspect(name string, object io.ReaderAt, meta *diskcache.Meta) (err error) {
	defer origin.Recover(m.log, "inspection", &err)
	found, err := m.inspector.Fields(name, object, meta.Size)
	if err != nil {
		return err
	}
	header := map[string][]string{inspectedMark: {m.formatName}}
	for field, value := range found {
		header[field] = []string{value}
	}
	maps.Copy(header, meta.Header)
	meta.Header = header
	return nil
}

// inspectRemote is inspect, for an object that is read from its origin. It gives back
// what it has read of it: all or nothing.
func (m *Mount) inspectRemote(ctx context.Context, name string, remote io.Reader, meta *diskcache.Meta) ([]byte, error) {
	if meta.Size > inspectWhole {
		return nil, m.inspectAt(ctx, name, meta)
	}
	whole := make([]byte, meta.Size)
	if _, err := io.ReadFull(remote, whole); err != nil {
		return nil, err
	}
	return whole, m.inspect(name, bytes.NewReader(whole), meta)
}

// inspectAt is inspect, for an object that is not read otherwise. Of one that changes
// meanwhile, or has just changed, nothing is read out: it may be of another version. It
// is not marked then, and the next request has it looked at again.
func (m *Mount) inspectAt(ctx context.Context, name string, meta *diskcache.Meta) error {
	if meta.Validator == "" {
		return nil
	}
	err := m.inspect(name, &remoteAt{ctx, m, name, meta}, meta)
	if errors.Is(err, errVersion) {
		return nil
	}
	return err
}

// remoteAt reads from the very version of an object that meta describes.
type remoteAt struct {
	ctx  context.Context //nolint:containedctx // io.ReaderAt takes none
	m    *Mount
	name string
	meta *diskcache.Meta
}

func (r *remoteAt) ReadAt(p []byte, off int64) (int, error) {
	b, err := r.m.reopen(r.ctx, &body{key: r.name, meta: *r.meta}, off, 0)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	n, err := io.ReadFull(b, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}
