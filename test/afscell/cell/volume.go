package cell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// chunk is how much one call stores.
const chunk = 1 << 20

// Volume is a read-write volume to be written to, without a cache manager: each
// change is at the file server when the method returns. Names of files are slash-
// separated and relative to the root of the volume, which is ".". A Volume is safe
// for concurrent use. It expects no one else to remove or rename what it wrote.
type Volume struct {
	Name string
	ID   uint32

	client *client
	server netip.Addr

	mu   sync.Mutex
	fids map[string]wire.FID // by name, as far as they are known
}

// Attr are attributes of a file to be written.
type Attr struct {
	// Mode are the permissions. Default: 0644 for files, 0755 for directories and
	// symbolic links.
	Mode fs.FileMode

	// ModTime is the modification time, of which AFS keeps whole seconds. Default:
	// now.
	ModTime time.Time
}

func (a Attr) status(mode uint32) wire.StoreStatus {
	if a.Mode != 0 {
		mode = uint32(a.Mode.Perm())
	}
	if a.ModTime.IsZero() {
		a.ModTime = time.Now()
	}
	return wire.StoreStatus{ModTime: a.ModTime, Mode: &mode}
}

// Permissions of what is made without any being given. Mount points are told from
// symbolic links by theirs.
const (
	fileMode    = 0o644
	dirMode     = 0o755
	symlinkMode = 0o755
	mountMode   = 0o644
)

var (
	rwID   = regexp.MustCompile(`RWrite: (\d+)`)
	rwSite = regexp.MustCompile(`server (\S+) partition \S+ RW Site`)
)

// Open finds a read-write volume, to write to it. It is to be opened again after it
// was moved.
func (c *Cell) Open(ctx context.Context, volume string) (*Volume, error) {
	out, err := c.Vos(ctx, "listvldb", volume)
	if err != nil {
		return nil, err
	}
	id, site := rwID.FindStringSubmatch(out.Stdout), rwSite.FindStringSubmatch(out.Stdout)
	if id == nil || site == nil {
		return nil, fmt.Errorf("volume %s has no read-write site:\n%s", volume, out.Stdout)
	}
	n, err1 := strconv.ParseUint(id[1], 10, 32)
	server, err2 := netip.ParseAddr(site[1])
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("finding the volume %s: %w", volume, err)
	}
	client, err := c.storeClient()
	if err != nil {
		return nil, err
	}
	return &Volume{
		Name:   volume,
		ID:     uint32(n),
		client: client,
		server: server,
		fids:   make(map[string]wire.FID),
	}, nil
}

// storeClient returns the client for all volumes.
func (c *Cell) storeClient() (*client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		var err error
		if c.client, err = newClient(c.Self.Addr); err != nil {
			return nil, err
		}
	}
	return c.client, nil
}

// call makes a request about a file.
func (v *Volume) call(ctx context.Context, what, name string, request []byte, replySize int) ([]byte, error) {
	reply, err := v.client.call(ctx, v.server, request, replySize)
	if err != nil {
		return nil, v.failed(what, name, err)
	}
	return reply, nil
}

func (v *Volume) failed(what, name string, err error) error {
	return fmt.Errorf("%s %s in volume %s: %w", what, name, v.Name, err)
}

func (v *Volume) known(name string) (wire.FID, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f, ok := v.fids[name]
	return f, ok
}

func (v *Volume) learn(name string, f wire.FID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fids[name] = f
}

// forget forgets the file of that name, and those below.
func (v *Volume) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for n := range v.fids {
		if n == name || strings.HasPrefix(n, name+"/") {
			delete(v.fids, n)
		}
	}
}

// Lookup finds a file.
func (v *Volume) Lookup(ctx context.Context, name string) (wire.FID, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return wire.Root(v.ID), nil
	}
	if f, ok := v.known(name); ok {
		return f, nil
	}
	dir, err := v.readDir(ctx, path.Dir(name))
	if err != nil {
		return wire.FID{}, err
	}
	vnode, unique, ok := dir.Lookup(path.Base(name))
	if !ok {
		return wire.FID{}, v.failed("looking up", name, fs.ErrNotExist)
	}
	f := wire.FID{Volume: v.ID, Vnode: vnode, Unique: unique}
	v.learn(name, f)
	return f, nil
}

func (v *Volume) readDir(ctx context.Context, name string) (*wire.Dir, error) {
	f, err := v.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	var pages []byte
	for {
		request := wire.FetchData64Request(f, int64(len(pages)), chunk)
		reply, err := v.call(ctx, "reading", name, request, wire.FetchData64ReplySize(chunk))
		if err != nil {
			return nil, err
		}
		r, err := wire.DecodeFetchData64(reply)
		if err != nil {
			return nil, v.failed("reading", name, err)
		}
		pages = append(pages, r.Data...)
		if len(r.Data) == 0 || int64(len(pages)) >= r.Status.Length {
			break
		}
	}
	dir, err := wire.ParseDir(pages)
	if err != nil {
		return nil, v.failed("reading", name, err)
	}
	return dir, nil
}

// Stat returns the status of a file.
func (v *Volume) Stat(ctx context.Context, name string) (wire.Status, error) {
	f, err := v.Lookup(ctx, name)
	if err != nil {
		return wire.Status{}, err
	}
	reply, err := v.call(ctx, "looking at", name, wire.FetchStatusRequest(f), wire.FetchStatusReplySize)
	if err != nil {
		return wire.Status{}, err
	}
	r, err := wire.DecodeFetchStatus(reply)
	return r.Status, err
}

// made keeps the FID of a file that was made.
func (v *Volume) made(name string, reply []byte, decode func([]byte) (wire.MadeReply, error)) (wire.FID, error) {
	r, err := decode(reply)
	if err != nil {
		return wire.FID{}, v.failed("making", name, err)
	}
	v.learn(name, r.FID)
	return r.FID, nil
}

// Mkdir makes a directory. It gets the access control list of the one it is in.
func (v *Volume) Mkdir(ctx context.Context, name string, a Attr) error {
	name = path.Clean(name)
	dir, err := v.Lookup(ctx, path.Dir(name))
	if err != nil {
		return err
	}
	request := wire.MakeDirRequest(dir, path.Base(name), a.status(dirMode))
	reply, err := v.call(ctx, "making the directory", name, request, wire.MadeReplySize)
	if err != nil {
		return err
	}
	_, err = v.made(name, reply, wire.DecodeMakeDir)
	return err
}

// MkdirAll makes a directory and those it is in, unless they are there.
func (v *Volume) MkdirAll(ctx context.Context, name string) error {
	name = path.Clean(name)
	_, err := v.Lookup(ctx, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := v.MkdirAll(ctx, path.Dir(name)); err != nil {
		return err
	}
	err = v.Mkdir(ctx, name, Attr{})
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// create makes an empty file, or finds the one that is there.
func (v *Volume) create(ctx context.Context, name string, a Attr) (f wire.FID, existed bool, err error) {
	if f, ok := v.known(name); ok {
		return f, true, nil
	}
	dir, err := v.Lookup(ctx, path.Dir(name))
	if err != nil {
		return wire.FID{}, false, err
	}
	request := wire.CreateFileRequest(dir, path.Base(name), a.status(fileMode))
	reply, err := v.call(ctx, "creating", name, request, wire.MadeReplySize)
	if errors.Is(err, fs.ErrExist) {
		f, err = v.Lookup(ctx, name)
		return f, true, err
	}
	if err != nil {
		return wire.FID{}, false, err
	}
	f, err = v.made(name, reply, wire.DecodeCreateFile)
	return f, false, err
}

// store writes part of a file, and gives it a length.
func (v *Volume) store(ctx context.Context, name string, f wire.FID, s wire.StoreStatus, offset int64, data []byte, length int64) error {
	request := wire.StoreData64Request(f, s, offset, data, length)
	_, err := v.call(ctx, "writing", name, request, wire.StoredReplySize)
	return err
}

// WriteFile writes a file, over the one that is there.
func (v *Volume) WriteFile(ctx context.Context, name string, data []byte, a Attr) error {
	return v.Copy(ctx, name, bytes.NewReader(data), a)
}

// Copy writes what it reads into a file, over the one that is there. Readers of the
// read-write volume see it grow.
func (v *Volume) Copy(ctx context.Context, name string, r io.Reader, a Attr) error {
	name = path.Clean(name)
	f, existed, err := v.create(ctx, name, a)
	if err != nil {
		return err
	}
	s := a.status(fileMode)
	if !existed || a.Mode == 0 {
		s.Mode = nil // as it is
	}
	var buf []byte
	for offset := int64(0); ; {
		if buf == nil {
			buf = bufs.Get().([]byte)
			defer bufs.Put(buf) //nolint:staticcheck // a slice header is little
		}
		n, err := io.ReadFull(r, buf)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return v.failed("writing", name, err)
		}
		if n > 0 || offset == 0 && existed {
			if err := v.store(ctx, name, f, s, offset, buf[:n], offset+int64(n)); err != nil {
				return err
			}
		}
		offset += int64(n)
		if last {
			return nil
		}
	}
}

var bufs = sync.Pool{New: func() any { return make([]byte, chunk) }}

// WriteAt writes at an offset of a file, which is made, or made longer, as needed.
// What was never written is zeros, and takes no room.
func (v *Volume) WriteAt(ctx context.Context, name string, data []byte, offset int64) error {
	name = path.Clean(name)
	f, _, err := v.create(ctx, name, Attr{})
	if err != nil {
		return err
	}
	st, err := v.Stat(ctx, name)
	if err != nil {
		return err
	}
	length := max(st.Length, offset+int64(len(data)))
	for {
		n := min(len(data), chunk)
		if err := v.store(ctx, name, f, wire.StoreStatus{ModTime: time.Now()}, offset, data[:n], length); err != nil {
			return err
		}
		data, offset = data[n:], offset+int64(n)
		if len(data) == 0 {
			return nil
		}
	}
}

// Symlink makes a symbolic link.
func (v *Volume) Symlink(ctx context.Context, target, name string) error {
	return v.symlink(ctx, name, target, Attr{}.status(symlinkMode))
}

// MountPoint makes a mount point.
func (v *Volume) MountPoint(ctx context.Context, name string, m wire.Mount) error {
	return v.symlink(ctx, name, m.String(), Attr{}.status(mountMode))
}

func (v *Volume) symlink(ctx context.Context, name, text string, s wire.StoreStatus) error {
	name = path.Clean(name)
	dir, err := v.Lookup(ctx, path.Dir(name))
	if err != nil {
		return err
	}
	request := wire.SymlinkRequest(dir, path.Base(name), text, s)
	reply, err := v.call(ctx, "linking", name, request, wire.SymlinkReplySize)
	if err != nil {
		return err
	}
	_, err = v.made(name, reply, wire.DecodeSymlink)
	return err
}

// Remove removes a file, a link, a mount point or an empty directory.
func (v *Volume) Remove(ctx context.Context, name string) error {
	name = path.Clean(name)
	f, err := v.Lookup(ctx, name)
	if err != nil {
		return err
	}
	dir, err := v.Lookup(ctx, path.Dir(name))
	if err != nil {
		return err
	}
	return v.remove(ctx, dir, name, f)
}

func (v *Volume) remove(ctx context.Context, dir wire.FID, name string, f wire.FID) error {
	request := wire.RemoveFileRequest(dir, path.Base(name))
	if isDir(f) {
		request = wire.RemoveDirRequest(dir, path.Base(name))
	}
	v.forget(name)
	_, err := v.call(ctx, "removing", name, request, wire.StoredReplySize)
	return err
}

// isDir tells by the vnode: those of directories are odd.
func isDir(f wire.FID) bool { return f.Vnode%2 == 1 }

// RemoveAll removes a file, and if it is a directory all that is in it. It is no
// error if there is none.
func (v *Volume) RemoveAll(ctx context.Context, name string) error {
	name = path.Clean(name)
	f, err := v.Lookup(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if isDir(f) {
		dir, err := v.readDir(ctx, name)
		if err != nil {
			return err
		}
		for e := range dir.All() {
			child := path.Join(name, e.Name)
			v.learn(child, wire.FID{Volume: v.ID, Vnode: e.Vnode, Unique: e.Unique})
			if err := v.RemoveAll(ctx, child); err != nil {
				return err
			}
		}
	}
	if name == "." {
		return nil
	}
	return v.Remove(ctx, name)
}

// Rename gives a file another name, and replaces the one that has it.
func (v *Volume) Rename(ctx context.Context, from, to string) error {
	from, to = path.Clean(from), path.Clean(to)
	dir1, err1 := v.Lookup(ctx, path.Dir(from))
	dir2, err2 := v.Lookup(ctx, path.Dir(to))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	request := wire.RenameRequest(dir1, path.Base(from), dir2, path.Base(to))
	v.forget(from)
	v.forget(to)
	_, err := v.call(ctx, "renaming", from, request, wire.RenamedReplySize)
	return err
}

// Chmod sets the permissions of a file. File servers heed only the owner's.
func (v *Volume) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	m := uint32(mode.Perm())
	return v.storeStatus(ctx, name, wire.StoreStatus{Mode: &m})
}

// Chtimes sets the modification time of a file.
func (v *Volume) Chtimes(ctx context.Context, name string, t time.Time) error {
	return v.storeStatus(ctx, name, wire.StoreStatus{ModTime: t})
}

func (v *Volume) storeStatus(ctx context.Context, name string, s wire.StoreStatus) error {
	f, err := v.Lookup(ctx, name)
	if err != nil {
		return err
	}
	_, err = v.call(ctx, "changing", name, wire.StoreStatusRequest(f, s), wire.StoredReplySize)
	return err
}

// SetACL says what everyone may do in a directory, from now on. Without
// [wire.AccessAdminister] nobody can change that again, and without
// [wire.AccessLookup] nobody sees what is in it.
func (v *Volume) SetACL(ctx context.Context, dir string, rights wire.Access) error {
	f, err := v.Lookup(ctx, dir)
	if err != nil {
		return err
	}
	acl := wire.ACL{Positive: []wire.ACE{{Name: wire.AnyUser, Rights: rights}}}
	_, err = v.call(ctx, "changing the access to", dir, wire.StoreACLRequest(f, acl), wire.StoredReplySize)
	return err
}
