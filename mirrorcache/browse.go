package mirrorcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/unifiedmirrors/mirror/origin"
)

// listings are the directory listings of a mount. Caddy's file_server renders
// them, so that they look and sort as they do there; what it reads is not the
// origin, but what is remembered of it.
type listings struct {
	server *fileserver.FileServer
	dirs   *lru.Cache[string, *listing]
}

// listing is a directory as the origin had it.
type listing struct {
	infos   []origin.Info
	at      time.Time
	release uint64
}

const (
	maxListings = 256
	// maxListed is how many files of a directory are shown.
	maxListed = 100_000
)

// fsNumber tells the file systems of mounts apart.
var fsNumber atomic.Uint64

func (m *Mount) provisionBrowse(ctx caddy.Context) error {
	dirs, err := lru.New[string, *listing](maxListings)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("mirror_cache_%d", fsNumber.Add(1))
	m.listings = &listings{
		server: &fileserver.FileServer{
			FileSystem: name,
			Root:       ".",
			IndexNames: []string{},
			Browse:     &fileserver.Browse{FileLimit: maxListed},
		},
		dirs: dirs,
	}
	ctx.FileSystems().Register(name, listingFS{m})
	return m.listings.server.Provision(ctx)
}

// serveListing answers with the listing of a directory.
func (m *Mount) serveListing(w http.ResponseWriter, r *http.Request, name string) error {
	status, err := m.list(r, name)
	if err != nil {
		if errors.Is(err, errNotDir) {
			return m.serveNoIndex(w, r, name)
		}
		return m.fail(w, r, object{result: resultMiss, status: statusFailed(err)}, err)
	}
	m.count(r, resultListing)
	w.Header().Set("Cache-Status", status)
	w.Header().Set("Cache-Control", ccVolatile)
	return m.listings.server.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return caddyhttp.Error(http.StatusNotFound, fs.ErrNotExist)
	}))
}

// errNotDir says that a name is no directory, and may be a file.
var errNotDir = errors.New("not a directory")

// list sees to it that the listing of a directory is there and as fresh as can
// be.
func (m *Mount) list(r *http.Request, name string) (status string, err error) {
	ctx := r.Context()
	old, ok := m.listings.dirs.Get(name)
	if ok && m.listingFresh(r, old) {
		return statusHit, nil
	}
	if err := m.known(ctx, name); err != nil && !errors.Is(err, origin.ErrIsDir) {
		return statusHit, err
	}
	dir := name
	if dir == "" {
		dir = "."
	}
	infos, _, rel, err := m.readDir(ctx, dir)
	switch {
	case err == nil:
		m.listings.dirs.Add(name, &listing{m.shown(name, infos), time.Now(), rel.hash})
		return statusMiss, nil
	case errors.Is(err, origin.ErrAway):
		if ok {
			return staleStatus(time.Since(old.at)), nil
		}
		return "", err
	}
	m.listings.dirs.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errNotDir
	}
	return "", err
}

func (m *Mount) listingFresh(r *http.Request, l *listing) bool {
	if rel := m.state(r.Context()); rel.hash != 0 && l.release != 0 {
		return l.release == rel.hash
	}
	return time.Since(l.at) < time.Duration(m.TTL)
}

// shown is what of a directory is not hidden.
func (m *Mount) shown(dir string, infos []origin.Info) []origin.Info {
	if len(m.Hide) == 0 {
		return infos
	}
	shown := make([]origin.Info, 0, len(infos))
	for _, info := range infos {
		if !m.hidden(path.Join(dir, info.Name)) {
			shown = append(shown, info)
		}
	}
	return shown
}

// listingFS shows a mount's listings to file_server, which asks for the path
// of the URL.
type listingFS struct{ m *Mount }

// Open opens a directory whose listing is there.
func (l listingFS) Open(name string) (fs.File, error) {
	dir, ok := l.m.claims(path.Clean("/" + name))
	dir = strings.Trim(dir, "/")
	if found, listed := l.m.listings.dirs.Get(dir); ok && listed {
		return &dirFile{listing: found, name: path.Base("/" + dir)}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// dirFile is a listing as an open directory.
type dirFile struct {
	*listing
	name string
	read int
}

func (d *dirFile) Stat() (fs.FileInfo, error) {
	return fileInfo{origin.Info{Name: d.name, Dir: true, ModTime: d.at}}, nil
}

func (d *dirFile) Read([]byte) (int, error) { return 0, origin.ErrIsDir }

func (d *dirFile) Close() error { return nil }

func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.infos[d.read:]
	if n > 0 && len(rest) == 0 {
		return nil, io.EOF
	}
	if n > 0 {
		rest = rest[:min(n, len(rest))]
	}
	d.read += len(rest)
	entries := make([]fs.DirEntry, len(rest))
	for i, info := range rest {
		entries[i] = fs.FileInfoToDirEntry(fileInfo{info})
	}
	return entries, nil
}

// fileInfo is an origin's Info as an fs.FileInfo.
type fileInfo struct{ i origin.Info }

func (f fileInfo) Name() string       { return f.i.Name }
func (f fileInfo) Size() int64        { return f.i.Size }
func (f fileInfo) ModTime() time.Time { return f.i.ModTime }
func (f fileInfo) IsDir() bool        { return f.i.Dir }
func (f fileInfo) Sys() any           { return nil }

func (f fileInfo) Mode() fs.FileMode {
	if f.i.Dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
