package caddyafs

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
)

func init() {
	caddy.RegisterModule(new(FS))
}

// FS is a tree in AFS as a file system of Caddy, for file_server and whatever else
// takes one:
//
//	{
//		filesystem cell afs afs://example.org/www
//	}
//	:80 {
//		file_server {
//			fs cell
//		}
//	}
type FS struct {
	// Root of the tree: `afs://CELL/PATH` or `afs://CELL:VOLUME/PATH`. Required.
	Root string `json:"root,omitempty"`

	// ReadWrite allows volumes that are not read-only.
	ReadWrite bool `json:"read_write,omitempty"`

	// Timeout is how long one call may take. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	app  *App
	root afs.Root

	mu   sync.Mutex
	tree *afs.Tree
	fsys fs.FS
	gone bool
}

// CaddyModule returns the Caddy module information.
func (*FS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.fs.afs", New: func() caddy.Module { return new(FS) }}
}

// Provision sets the file system up. It asks nobody.
func (f *FS) Provision(ctx caddy.Context) error {
	text, err := caddy.NewReplacer().ReplaceOrErr(f.Root, true, true)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if f.root, err = ParseRoot(text); err != nil {
		return fmt.Errorf("root %q: %w", text, err)
	}
	f.root.ReadWrite = f.ReadWrite
	if f.Timeout < 0 {
		return errors.New("timeout must be positive")
	}
	if f.Timeout == 0 {
		f.Timeout = caddy.Duration(DefaultTimeout)
	}
	app, err := ctx.App("afs")
	if err != nil {
		return err
	}
	f.app = app.(*App)
	return nil
}

// Cleanup lets go of the tree.
func (f *FS) Cleanup() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
	if f.tree == nil {
		return nil
	}
	return f.tree.Close()
}

// UnmarshalCaddyfile sets up the file system from the global option:
//
//	filesystem <name> afs <root> {
//		read_write
//		timeout <duration>
//	}
func (f *FS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if !d.NextArg() {
		return d.ArgErr()
	}
	f.Root = d.Val()
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch d.Val() {
		case "read_write":
			f.ReadWrite = true
		case "timeout":
			if !d.NextArg() {
				return d.ArgErr()
			}
			v, err := caddy.ParseDuration(d.Val())
			if err != nil || v <= 0 {
				return d.Errf("timeout: %s is not a positive duration", d.Val())
			}
			f.Timeout = caddy.Duration(v)
		default:
			return d.Errf("unrecognized subdirective '%s'", d.Val())
		}
		if d.NextArg() {
			return d.ArgErr()
		}
	}
	return nil
}

// live returns the file system itself.
func (f *FS) live() (fs.FS, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fsys != nil {
		return f.fsys, nil
	}
	if f.gone {
		return nil, fs.ErrClosed
	}
	c, err := f.app.Client()
	if err != nil {
		return nil, caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	if f.tree, err = c.Tree(f.root); err != nil {
		return nil, err
	}
	f.fsys = f.tree.FS(time.Duration(f.Timeout))
	return f.fsys, nil
}

// Open implements fs.FS.
func (f *FS) Open(name string) (fs.File, error) {
	fsys, err := f.live()
	if err != nil {
		return nil, err
	}
	file, err := fsys.Open(name)
	return file, forHTTP(err)
}

// Stat implements fs.StatFS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	fsys, err := f.live()
	if err != nil {
		return nil, err
	}
	info, err := fs.Stat(fsys, name)
	return info, forHTTP(err)
}

// ReadDir implements fs.ReadDirFS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	fsys, err := f.live()
	if err != nil {
		return nil, err
	}
	list, err := fs.ReadDir(fsys, name)
	return list, forHTTP(err)
}

// forHTTP makes an error one that file_server answers with the right status: any
// other *fs.PathError it takes for a bad request.
func forHTTP(err error) error {
	if errors.Is(err, afs.ErrUnavailable) || errors.Is(err, afs.ErrChanged) {
		return caddyhttp.Error(http.StatusServiceUnavailable, errors.New(err.Error()))
	}
	return err
}

// Interface guards
var (
	_ fs.StatFS             = (*FS)(nil)
	_ fs.ReadDirFS          = (*FS)(nil)
	_ caddy.Provisioner     = (*FS)(nil)
	_ caddy.CleanerUpper    = (*FS)(nil)
	_ caddyfile.Unmarshaler = (*FS)(nil)
)
