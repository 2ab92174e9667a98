package mirrorcache

import (
	"context"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// madeOver has one more file than the origin: what the fact "made" is.
type madeOver struct {
	origin.Tree
	facts format.Facts
}

type overlaid struct{ format.Plain }

func (*overlaid) Over(o origin.Tree, env format.Env) (origin.Tree, error) {
	return &madeOver{o, env.Facts}, nil
}

func (o *madeOver) Stat(ctx context.Context, name string) (origin.Info, error) {
	if name != "made" {
		return o.Tree.Stat(ctx, name)
	}
	value, ok := o.facts.Get("made")
	if !ok {
		return origin.Info{}, fs.ErrNotExist
	}
	return origin.Info{
		Name: "made", Size: int64(len(value)), Validator: string(value), ModTime: time.Unix(1e9, 0),
		Passing: strings.HasPrefix(string(value), "passing"),
	}, nil
}

func (o *madeOver) Open(ctx context.Context, name string, off int64) (origin.Body, error) {
	if name != "made" {
		return o.Tree.Open(ctx, name, off)
	}
	info, err := o.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	return &madeBody{strings.NewReader(info.Validator[off:]), info}, nil
}

type madeBody struct {
	io.Reader
	info origin.Info
}

func (b *madeBody) Info() origin.Info { return b.info }
func (b *madeBody) Close() error      { return nil }

func (*overlaid) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.formats.overlaid", New: func() caddy.Module { return new(overlaid) }}
}

func init() { caddy.RegisterModule(new(overlaid)) }

// TestOverlay: what a format makes is cached and revalidated as any file, and its facts
// are within the cache.
func TestOverlay(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("file"))
	s := newSite(t, mount("/t", `, "ttl": "1ms", "format": {"format": "overlaid"}`, tree))
	m := s.h.Mounts[0]
	facts := m.origins[0].Tree.(*madeOver).facts
	s.ask(t, "GET", "/t/made").wantStatus(t, 404)
	m.forget()
	for _, value := range []string{"first", "second", ""} {
		if err := facts.Put("made", []byte(value)); err != nil {
			t.Fatal(err)
		}
		if got, ok := facts.Get("made"); string(got) != value || !ok {
			t.Fatalf("the fact is %q, %t", got, ok)
		}
		if value == "" {
			break
		}
		time.Sleep(5 * time.Millisecond) // until what was made before is stale
		a := s.ask(t, "GET", "/t/made")
		if a.status != 200 || string(a.body) != value || a.header.Get("Etag") == "" {
			t.Errorf("got %d, %q, %v", a.status, a.body, a.header)
		}
		s.settle(t)
	}
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("file"), "")
	s.settle(t)
	if _, err := m.Purge("", ""); err != nil {
		t.Fatal(err)
	}
	if _, ok := facts.Get("made"); ok {
		t.Error("a fact outlives the purge of its mount")
	}
}
