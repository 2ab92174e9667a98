package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

// maxSkip is how far into an object a part may begin that an upstream sends the whole of,
// since it knows no ranges, and nothing says that it must be of a certain version: what is
// before it is read and thrown away. In bytes.
const maxSkip = 4 << 20

// Fetch implements [Origin]. All answers are replies, whatever their status, with two
// exceptions: [ErrChanged] is the error if a part was wanted, and is not to be had (of
// Request.Only, or at all, or not without reading all that is before it); and where
// Request.Only says that only the bytes of one version are wanted, a status that says that
// the upstream has failed is an [ErrAway].
func (h *HTTP) Fetch(ctx context.Context, r Request) (Reply, error) {
	reply, err := h.fetch(ctx, r)
	switch {
	case err != nil:
		h.count.failed(err)
	case reply.Body == nil:
		h.count.stats.Add(1)
	default:
		h.count.reads.Add(1)
	}
	return reply, err
}

func (h *HTTP) fetch(ctx context.Context, r Request) (Reply, error) {
	if h.Looped(r.Via) {
		return Reply{}, fmt.Errorf("%w: the request has been here before", ErrLoop)
	}
	if r.Offset < 0 || r.Length < 0 {
		return Reply{}, fmt.Errorf("%d bytes from %d on: %w", r.Length, r.Offset, fs.ErrInvalid)
	}
	end, err := h.limits.begin(ctx, h.patience())
	if err != nil {
		return Reply{}, err
	}
	resp, err := h.group.Fetch(ctx, question(r))
	if err == nil {
		if err = unusable(r, resp); err != nil {
			resp.Close()
		}
	}
	if err != nil {
		end()
		return Reply{}, classifyHTTP(err)
	}
	reply := replyOf(resp)
	reply.Unchanged = r.Have != nil && resp.Status == http.StatusNotModified
	if resp.Body == nil {
		end()
		return reply, nil
	}
	reply.Body = h.body(r, resp, reply.Info, end)
	return reply, nil
}

// question is what upstreams are asked for r.
func question(r Request) upstream.Request {
	ask := upstream.Request{
		Target: "/" + r.Name, Head: r.Head,
		Accept: r.Accept, AcceptEncoding: r.AcceptEncoding, Authorization: r.Authorization,
		Offset: r.Offset, Length: r.Length, Only: r.Only, Refresh: r.Refresh, Skip: r.Skip, Via: r.Via,
	}
	if r.Have != nil {
		ask.Conditions = freshness.Conditions(http.Header(r.Have.Header))
	}
	return ask
}

// unusable is why an answer is not what was asked for, nil if it may be.
func unusable(r Request, resp *upstream.Response) error {
	has := resp.Status == http.StatusOK || resp.Status == http.StatusPartialContent
	switch {
	case resp.Status == http.StatusRequestedRangeNotSatisfiable, resp.Changed:
		return ErrChanged
	case r.Only != "" && resp.Status == http.StatusNotModified && r.Have != nil:
		return nil
	case r.Only != "" && !has && !resp.NotBefore.IsZero():
		return fmt.Errorf("%w: %s: status %d", &PauseError{Until: resp.NotBefore}, resp.Upstream, resp.Status)
	case r.Only != "" && freshness.Failed(resp.Status):
		return fmt.Errorf("%w: %s: status %d", ErrAway, resp.Upstream, resp.Status)
	case r.Only != "" && !has:
		return fmt.Errorf("%w: %s: status %d", ErrChanged, resp.Upstream, resp.Status)
	case has && !r.Head && resp.Start != r.Offset && (resp.Start > r.Offset || r.Offset-resp.Start > maxSkip):
		return fmt.Errorf("%w: %s sends no ranges", ErrChanged, resp.Upstream)
	}
	return nil
}

// replyOf is a response without its body.
func replyOf(resp *upstream.Response) Reply {
	reply := Reply{
		Info: Info{Size: resp.Size, Validator: resp.Validator},
		Response: &freshness.Response{
			Status: resp.Status, Header: resp.Header, RequestTime: resp.RequestTime, ResponseTime: resp.ResponseTime,
		},
		Unframed: resp.Unframed,
		Redirect: resp.Redirect,
	}
	if strings.HasPrefix(resp.Validator, `"`) {
		reply.ETag = resp.Validator
	}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		reply.ModTime = t
	}
	return reply
}

// httpBody is the body of a response, of which the bytes that were asked for are read.
type httpBody struct {
	h    *HTTP
	resp *upstream.Response
	info Info

	skip int64 // bytes before those
	left int64 // how many of those; -1: all
	ctx  context.Context
	stop context.CancelFunc // ends waiting for the bandwidth
	end  func()             // gives back the place among the requests; may be called again
}

func (h *HTTP) body(r Request, resp *upstream.Response, info Info, end func()) *httpBody {
	ctx, stop := context.WithCancel(context.Background())
	b := &httpBody{h: h, resp: resp, info: info, left: -1, ctx: ctx, stop: stop, end: end}
	if resp.Status == http.StatusOK || resp.Status == http.StatusPartialContent {
		b.skip = r.Offset - resp.Start
		if r.Length > 0 {
			b.left = r.Length
		}
	}
	return b
}

// Read implements [io.Reader].
func (b *httpBody) Read(p []byte) (int, error) {
	for b.skip > 0 && len(p) > 0 {
		n, err := b.read(p[:min(int64(len(p)), b.skip)])
		b.skip -= int64(n)
		if err != nil {
			return 0, err
		}
	}
	if b.left == 0 {
		b.Close()
		return 0, io.EOF
	}
	if b.left > 0 {
		p = p[:min(int64(len(p)), b.left)]
	}
	n, err := b.read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	return n, err
}

func (b *httpBody) read(p []byte) (int, error) {
	p = p[:min(len(p), b.h.limits.piece())]
	n, err := b.resp.Body.Read(p)
	b.h.count.readBytes.Add(uint64(n))
	if slow := b.h.limits.wait(b.ctx, n); err == nil {
		err = slow
	}
	switch {
	case err == nil:
		return n, nil
	case err != io.EOF:
		err = classifyHTTP(err)
		b.h.count.failed(err)
	}
	b.end()
	return n, err
}

// Close ends the body. What is left of it is not read.
func (b *httpBody) Close() error {
	b.stop()
	b.end()
	return b.resp.Body.Close()
}

// Info implements [Body].
func (b *httpBody) Info() Info { return b.info }

// classifyHTTP turns an error of an upstream into one of Origin. What broke the rules of
// HTTP is away: its bytes are nobody's.
func classifyHTTP(err error) error {
	if busy, ok := errors.AsType[*upstream.BusyError](err); ok {
		return fmt.Errorf("%w: %w", &PauseError{Until: busy.Until}, err)
	}
	for _, class := range [...]error{ErrAway, ErrChanged, ErrLoop, ErrRefused} {
		if errors.Is(err, class) {
			return err
		}
	}
	class := ErrAway
	_, broken := errors.AsType[*upstream.BrokenError](err)
	switch {
	case broken: // whatever kept the rest from being had
	case errors.Is(err, upstream.ErrLoop):
		class = ErrLoop
	case errors.Is(err, upstream.ErrRefused):
		class = ErrRefused
	case errors.Is(err, upstream.ErrChanged):
		class = ErrChanged
	case errors.Is(err, upstream.ErrTarget):
		class = fs.ErrInvalid
	}
	return fmt.Errorf("%w: %w", class, err)
}
