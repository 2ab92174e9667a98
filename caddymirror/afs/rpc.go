package afs

import (
	"cmp"
	"context"
	"fmt"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

func (s *server) fetchStatus(ctx context.Context, f wire.FID) (wire.StatusReply, error) {
	var reply [wire.FetchStatusReplySize]byte
	n, err := s.call(ctx, wire.FetchStatusRequest(f), reply[:])
	if err != nil {
		return wire.StatusReply{}, err
	}
	r, err := wire.DecodeFetchStatus(reply[:n])
	return r, cmp.Or(err, sane(f, r.Status))
}

func (s *server) bulkStatus(ctx context.Context, fids []wire.FID) (wire.BulkReply, error) {
	reply := make([]byte, wire.InlineBulkStatusReplySize(len(fids)))
	n, err := s.call(ctx, wire.InlineBulkStatusRequest(fids), reply)
	if err != nil {
		return wire.BulkReply{}, err
	}
	r, err := wire.DecodeInlineBulkStatus(reply[:n], len(fids))
	for i, st := range r.Statuses {
		err = cmp.Or(err, sane(fids[i], st))
	}
	return r, err
}

// fetchData reads length bytes at most; the data in the reply are within buf.
func (s *server) fetchData(ctx context.Context, f wire.FID, offset, length int64, buf []byte) (wire.DataReply, error) {
	n, err := s.call(ctx, wire.FetchData64Request(f, offset, length), buf)
	if err != nil {
		return wire.DataReply{}, err
	}
	r, err := wire.DecodeFetchData64(buf[:n])
	return r, cmp.Or(err, sane(f, r.Status))
}

// sane checks that a status can be that of a file: directories have odd numbers,
// and nothing else has.
func sane(f wire.FID, st wire.Status) error {
	if st.Err == 0 && (st.Type == wire.Directory) != (f.Vnode%2 == 1) {
		return fmt.Errorf("status of %v %s", st.Type, f)
	}
	return nil
}
