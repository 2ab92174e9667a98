package mirrorcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// try asks origins of the mount, the first among them, in order, until one is
// not away. It returns which that was, and the release that its answer belongs
// to: as it was before the origin was asked, since the next may have come
// meanwhile. Fall-back origins have none: what comes from them is fresh for the
// TTL only. Nor is it the mount's answer that one of them does not have a name.
func try[T any](ctx context.Context, m *Mount, op string, origins []source, ask func(source) (T, error)) (T, source, release, error) {
	var errs []error
	for n, src := range origins {
		var rel release
		if n == 0 {
			rel = m.state(ctx)
		}
		start := time.Now()
		v, err := guarded(m, op, src, ask)
		m.metrics.origin(op).Observe(time.Since(start).Seconds())
		if !errors.Is(err, origin.ErrAway) && (n == 0 || !errors.Is(err, fs.ErrNotExist)) {
			return v, src, rel, err
		}
		if n > 0 && !errors.Is(err, origin.ErrAway) {
			err = fmt.Errorf("%w: fall-back %s: %w: %v", origin.ErrAway, src, errLacking, err)
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break // nobody waits for what the next has
		}
	}
	var zero T
	return zero, source{}, release{}, errors.Join(errs...)
}

// errLacking says that an origin is away, and that a fall-back does not have the name:
// it may have another that answers as well.
var errLacking = errors.New("is not complete")

// guarded asks an origin, and takes a panic for an answer.
func guarded[T any](m *Mount, op string, src source, ask func(source) (T, error)) (v T, err error) {
	defer origin.Recover(m.log, op, &err)
	return ask(src)
}

func (m *Mount) stat(ctx context.Context, name string) (origin.Info, source, release, error) {
	return try(ctx, m, "stat", m.origins, func(src source) (origin.Info, error) { return src.Stat(ctx, name) })
}

// fetch asks for an object.
func (m *Mount) fetch(ctx context.Context, ask origin.Request) (*got, error) {
	return m.fetchFrom(ctx, m.origins, ask)
}

// fetchAgain asks for an object that the cache has, unless it is unchanged: origins behind
// the one that it came from are not asked, for they may have another version.
func (m *Mount) fetchAgain(ctx context.Context, key string, meta *diskcache.Meta, authorization string) (*got, error) {
	n := slices.IndexFunc(m.origins, func(src source) bool { return strings.HasPrefix(meta.Validator, src.tag) })
	n = max(n, 0)
	ask := origin.Request{Name: key}
	if m.web {
		ask = m.again(key, meta, authorization)
	}
	if statusOf(meta) == http.StatusOK { // a 304 says nothing of others (RFC 9110 section 13.2.1)
		ask.Have = &origin.Have{Validator: strings.TrimPrefix(meta.Validator, m.origins[n].tag), Header: fieldsIn(meta)}
	}
	return m.fetchFrom(ctx, m.origins[:n+1], ask)
}

func (m *Mount) fetchFrom(ctx context.Context, origins []source, ask origin.Request) (*got, error) {
	op := "open"
	if ask.Have != nil || ask.Head {
		op = "stat"
	}
	reply, src, rel, err := try(ctx, m, op, origins, func(src source) (origin.Reply, error) {
		reply, err := src.origin().Fetch(ctx, ask)
		// Only the origin that the entry is from can say so: that is the last one.
		reply.Unchanged = reply.Unchanged && src.tag == origins[len(origins)-1].tag
		return reply, err
	})
	return &got{reply, src, rel, ask}, err
}

// errVersion says that an origin has another version by now, or that there is
// no telling.
var errVersion = origin.ErrChanged

// reopen opens the very version that a body is of, from offset on, for n bytes; 0: all.
func (m *Mount) reopen(ctx context.Context, b *body, offset, n int64) (origin.Body, error) {
	meta := &b.meta
	if meta.Validator == "" {
		return nil, errVersion
	}
	err := errVersion
	for _, src := range m.origins {
		only, ok := strings.CutPrefix(meta.Validator, src.tag)
		if !ok {
			continue
		}
		ask := origin.Request{Name: b.key}
		if m.web {
			ask = m.again(b.key, meta, b.authorization)
		}
		ask.Only, ask.Offset, ask.Length = only, offset, n
		var reply origin.Reply
		if reply, err = src.origin().Fetch(ctx, ask); err != nil {
			continue
		}
		// Of a large file, only the ETag tells that it was replaced by one of the
		// same size and time.
		if reply.Body != nil && (m.web || src.entityTag(reply.Info) == meta.Get("Etag")) {
			return reply.Body, nil
		}
		reply.Close()
		err = errVersion
	}
	return nil, err
}

// fromFallback reports whether an object came from another origin than the
// first.
func (m *Mount) fromFallback(meta *diskcache.Meta) bool {
	return meta.Validator != "" && !strings.HasPrefix(meta.Validator, m.origins[0].tag)
}

// validator is what tells the version of an object from others, whatever
// origin they are of.
func (s source) validator(info origin.Info) string {
	if info.Validator == "" {
		return ""
	}
	return s.tag + info.Validator
}

// meta is what the cache keeps of an object besides its bytes.
func (s source) meta(info origin.Info) diskcache.Meta {
	meta := diskcache.Meta{Size: info.Size, ModTime: info.ModTime, Validator: s.validator(info)}
	if etag := s.entityTag(info); etag != "" {
		meta.Header = map[string][]string{"Etag": {etag}}
	}
	return meta
}

// entityTag is a strong tag (RFC 9110 section 8.8.3) for what has a validator. To
// anything else none is given, not even a weak one: If-None-Match compares
// weakly, and the next version may have the same size and time.
func (s source) entityTag(info origin.Info) string {
	switch {
	case info.ETag != "":
		return info.ETag
	case info.Validator == "":
		return ""
	}
	return origin.ETagOf(s.validator(info))
}

// useless tells times that stand for none: the epoch, which build systems give
// to all files, and the second after it.
func useless(t time.Time) bool { return t.IsZero() || t.Unix() == 0 || t.Unix() == 1 }
