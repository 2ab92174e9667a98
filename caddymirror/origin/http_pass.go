package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

// Passer is an [Origin] that clients' requests with other methods than GET and HEAD can be
// passed on to.
type Passer interface {
	// Pass passes a request on, once: it is never sent again. An answer is a
	// Reply with its Response, whatever the status, and redirects are not followed. If the
	// body of the request is to blame, the error is an [fs.ErrInvalid]; that wraps an
	// [http.MaxBytesError] if it is too large. ctx bounds the asking, and not the reading
	// of the reply's body.
	Pass(ctx context.Context, r PassRequest) (Reply, error)
}

// PassRequest is a request that is passed on.
type PassRequest struct {
	Method string

	// Name is as in [Request].
	Name string

	// Header is that of the client's request. Of it, only what describes the body and what
	// is wanted is sent: see [upstream.PassRequest].
	Header http.Header

	// Authorization and Via are as in [Request].
	Authorization string
	Via           []string

	// Body has Size bytes, -1: that is not known. More than Limit bytes are refused; 0:
	// 64 MiB. It may be read for some time after Pass has returned.
	Body        io.Reader
	Size, Limit int64
}

// Pass implements [Passer].
func (h *HTTP) Pass(ctx context.Context, r PassRequest) (Reply, error) {
	reply, err := h.pass(ctx, r)
	if err != nil {
		h.count.failed(err)
	}
	return reply, err
}

func (h *HTTP) pass(ctx context.Context, r PassRequest) (Reply, error) {
	if h.Looped(r.Via) {
		return Reply{}, fmt.Errorf("%w: the request has been here before", ErrLoop)
	}
	end, err := h.limits.begin(ctx, h.patience())
	if err != nil {
		return Reply{}, err
	}
	resp, err := h.group.Pass(ctx, upstream.PassRequest{
		Method: r.Method, Target: "/" + r.Name, Header: r.Header, Authorization: r.Authorization, Via: r.Via,
		Body: r.Body, Size: r.Size, Limit: r.Limit,
	})
	if err != nil {
		end()
		if theirs, ok := errors.AsType[*upstream.RequestBodyError](err); ok {
			return Reply{}, fmt.Errorf("%w: %w", fs.ErrInvalid, theirs)
		}
		return Reply{}, classifyHTTP(err)
	}
	reply := replyOf(resp)
	if resp.Body == nil {
		end()
		return reply, nil
	}
	reply.Body = h.body(Request{}, resp, reply.Info, end)
	return reply, nil
}

var _ Passer = (*HTTP)(nil)
