package mirrorcache

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/format"
)

// overlay has the format lay files that it makes over the origins.
func (m *Mount) overlay(ctx caddy.Context) error {
	o, ok := m.format.(format.Overlay)
	if !ok {
		return nil
	}
	if m.web {
		return fmt.Errorf("format %s is made from the files of a tree, and not from an HTTP upstream", m.formatName)
	}
	for i := range m.origins {
		src := &m.origins[i]
		over, err := o.Over(src.Tree, format.Env{Context: ctx, Log: m.log, Hidden: m.hidden, Facts: &storedFacts{m, src.tag}})
		if err != nil {
			return fmt.Errorf("format %s: %w", m.formatName, err)
		}
		src.Tree = over
	}
	return nil
}

// storedFacts are what a format keeps in the mount's cache of one origin.
type storedFacts struct {
	m   *Mount
	tag string // of the origin
}

// factsGroup is the group of the format's facts in the cache.
func (m *Mount) factsGroup() string { return m.group + "\x00" + m.formatName }

func (s *storedFacts) key(name string) diskcache.Key {
	return diskcache.Key{Group: s.m.factsGroup(), Name: s.tag + name}
}

// Get implements format.Facts.
func (s *storedFacts) Get(name string) ([]byte, bool) {
	c := s.m.cache.Open()
	if c == nil {
		return nil, false
	}
	e, ok := c.Get(s.key(name))
	if !ok {
		return nil, false
	}
	defer e.Close()
	value := make([]byte, e.Meta().Size)
	if _, err := io.ReadFull(io.NewSectionReader(e, 0, e.Meta().Size), value); err != nil {
		return nil, false
	}
	return value, true
}

// Put implements format.Facts.
func (s *storedFacts) Put(name string, value []byte) error {
	release, ok := s.m.cache.Hold()
	if !ok {
		return errors.New("cache is closed")
	}
	defer release()
	c := s.m.cache.Open()
	if c == nil {
		return errors.New("cache is not open")
	}
	f, begun := c.Fill(s.key(name))
	defer f.Leave()
	if !begun {
		return errors.New("is being stored already")
	}
	err := f.Start(diskcache.Meta{Size: int64(len(value))}, diskcache.Freshness{At: time.Now()})
	if err == nil {
		_, err = f.Write(value)
	}
	if err != nil {
		f.Fail(err)
		return err
	}
	return f.Commit()
}
