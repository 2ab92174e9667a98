package mirrorcache

import (
	"encoding/json"
	"io/fs"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddyafs"
	"github.com/unifiedmirrors/mirror/origin"
)

// origins are those of one mount. Options are for all of them that know them.
type origins struct {
	all  []caddy.Module // in order
	dirs []*origin.Dir
	afs  []*origin.AFS
}

// unmarshalOrigins reads what follows a mount's prefix.
func unmarshalOrigins(d *caddyfile.Dispenser, prefix string) (*origins, error) {
	roots := d.RemainingArgs()
	if len(roots) == 0 {
		return nil, d.Errf("mount %s: where from? give the path of a directory, or %sCELL/PATH", prefix, caddyafs.Scheme)
	}
	o := new(origins)
	for _, root := range roots {
		switch {
		case strings.HasPrefix(root, caddyafs.Scheme):
			if _, err := caddyafs.ParseRoot(root); err != nil && !strings.Contains(root, "{") {
				return nil, d.Errf("mount %s: origin %s: %v", prefix, root, err)
			}
			a := &origin.AFS{Root: root}
			o.afs, o.all = append(o.afs, a), append(o.all, a)
		case strings.HasPrefix(root, "/"), strings.HasPrefix(root, "{"):
			dir := &origin.Dir{Root: root}
			o.dirs, o.all = append(o.dirs, dir), append(o.all, dir)
		default:
			return nil, d.Errf("mount %s: origin %s is neither an absolute path nor %sCELL/PATH", prefix, root, caddyafs.Scheme)
		}
	}
	return o, nil
}

// raw is the JSON form.
func (o *origins) raw() []json.RawMessage {
	list := make([]json.RawMessage, 0, len(o.all))
	for _, mod := range o.all {
		list = append(list, caddyconfig.JSONModuleObject(mod, "origin", mod.CaddyModule().ID.Name(), nil))
	}
	return list
}

// unmarshalOption reads an option of origins.
func (o *origins) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "timeout", "release_check":
		return o.duration(d, option)
	case "release_marker", "release_volume":
		if len(o.dirs) == 0 {
			return d.Errf("%s is for directories, and the mount has none", option)
		}
		return o.release(d, option)
	default: // read_write
		if len(o.afs) == 0 {
			return d.Errf("%s is for origins in AFS, and the mount has none", option)
		}
		for _, a := range o.afs {
			a.ReadWrite = true
		}
	}
	return nil
}

func (o *origins) duration(d *caddyfile.Dispenser, option string) error {
	var v caddy.Duration
	if err := duration(d, &v); err != nil {
		return err
	}
	for _, dir := range o.dirs {
		if option == "timeout" {
			dir.Timeout = v
		} else {
			dir.ReleaseCheck = v
		}
	}
	for _, a := range o.afs {
		if option == "timeout" {
			a.Timeout = v
		} else {
			a.ReleaseCheck = v
		}
	}
	return nil
}

// release reads how the releases of a directory are known.
func (o *origins) release(d *caddyfile.Dispenser, option string) error {
	var v string
	if err := word(d, &v); err != nil {
		return err
	}
	if option == "release_volume" {
		if _, err := caddyafs.ParseRoot(v); err != nil {
			return d.Errf("release_volume %s: %v", v, err)
		}
		for _, dir := range o.dirs {
			dir.ReleaseVolume = v
		}
		return nil
	}
	if v == "." || !fs.ValidPath(v) {
		return d.Errf("release_marker: %q is not a path relative to the root", v)
	}
	for _, dir := range o.dirs {
		dir.ReleaseMarker = v
	}
	return nil
}
