package afs

import (
	"context"

	"github.com/unifiedmirrors/mirror/afs/wire"
)

func (s *server) fetchStatus(ctx context.Context, f wire.FID) (wire.StatusReply, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	var reply [wire.FetchStatusReplySize]byte
	n, err := s.call(ctx, wire.FetchStatusRequest(f), reply[:])
	if err != nil {
		return wire.StatusReply{}, err
	}
	return wire.DecodeFetchStatus(reply[:n])
}

func (s *server) bulkStatus(ctx context.Context, fids []wire.FID) (wire.BulkReply, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	reply := make([]byte, wire.InlineBulkStatusReplySize(len(fids)))
	n, err := s.call(ctx, wire.InlineBulkStatusRequest(fids), reply)
	if err != nil {
		return wire.BulkReply{}, err
	}
	return wire.DecodeInlineBulkStatus(reply[:n], len(fids))
}

// fetchData reads length bytes at most; the data in the reply are within buf.
func (s *server) fetchData(ctx context.Context, f wire.FID, offset, length int64, buf []byte) (wire.DataReply, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	n, err := s.call(ctx, wire.FetchData64Request(f, offset, length), buf)
	if err != nil {
		return wire.DataReply{}, err
	}
	return wire.DecodeFetchData64(buf[:n])
}
