package mirrorcache

import (
	"errors"
	"path"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/format"
)

// Purge implements mirror.Mount.
func (m *Mount) Purge(p, prefix string) (int, error) {
	defer m.forget()
	c := m.cache.Open()
	if c == nil {
		return 0, errors.New("cache is not open")
	}
	if m.web {
		return m.purgeWeb(c, p, prefix)
	}
	switch {
	case p == "" && prefix == "":
		n, err := c.Purge(m.group, nil)
		if _, ok := m.format.(format.Overlay); ok {
			_, ferr := c.Purge(m.factsGroup(), nil)
			err = errors.Join(err, ferr)
		}
		return n, err
	case prefix != "":
		prefix = strings.TrimPrefix(prefix, "/")
		return c.Purge(m.group, func(name string) bool { return strings.HasPrefix(name, prefix) })
	}
	clean := cleanPath("/" + p)
	if m.plans != nil {
		if names := m.plans.names(clean[1:]); len(names) > 0 {
			return m.purgeFiles(c, names)
		}
	}
	if !strings.HasSuffix(clean, "/") {
		return m.purgeFile(c, clean[1:])
	}
	// What is served for a directory are its index files.
	names := make([]string, 0, len(m.IndexNames))
	for _, index := range m.IndexNames {
		names = append(names, path.Join(clean[1:], index))
	}
	return m.purgeFiles(c, names)
}

// purgeWeb removes what is of a path, whatever the query and variant, or of all below a
// prefix.
func (m *Mount) purgeWeb(c *diskcache.Cache, p, prefix string) (int, error) {
	switch {
	case p == "" && prefix == "":
		return c.Purge(m.group, nil)
	case prefix != "":
		prefix = strings.TrimPrefix(prefix, "/")
		return c.Purge(m.group, func(key string) bool { return strings.HasPrefix(m.nameOf(key), prefix) })
	}
	name := strings.TrimPrefix(cleanPath("/"+p), "/")
	return c.Purge(m.group, func(key string) bool { return m.nameOf(key) == name })
}

func (m *Mount) purgeFiles(c *diskcache.Cache, names []string) (purged int, err error) {
	for _, name := range names {
		n, err := m.purgeFile(c, name)
		purged += n
		if err != nil {
			return purged, err
		}
	}
	return purged, nil
}

// purgeFile removes all that is served for a name: the file, and those that
// lie beside it in other encodings.
func (m *Mount) purgeFile(c *diskcache.Cache, name string) (int, error) {
	purged, err := c.PurgeKey(m.key(name))
	for _, p := range m.precompressors {
		n, perr := c.PurgeKey(m.key(name + p.Suffix()))
		purged += n
		err = errors.Join(err, perr)
	}
	return purged, err
}

// forget drops what is known of names, but for what is in the cache.
func (m *Mount) forget() {
	m.facts.clear()
	m.unstored.keys.Purge()
	m.guards.objects.Purge()
	m.parts.names.Purge()
	if m.plans != nil {
		m.plans.kept.Purge()
	}
	if m.listings != nil {
		m.listings.forgetAll()
	}
}
