package releaser

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// A record is what tells the states of a directory apart: a sum of the names, inodes,
// sizes and times in it, and the records of the directories in it.
type record struct {
	sum  uint64
	dirs []*record
}

// seed is that of the sums, which live no longer than this process.
var seed = maphash.MakeSeed()

func newSum() *maphash.Hash {
	h := new(maphash.Hash)
	h.SetSeed(seed)
	return h
}

// add adds an entry to the sum of its directory. That of a directory is in its own
// sum, so its size and time say nothing.
func add(h *maphash.Hash, name string, st *unix.Stat_t) {
	var b [40]byte
	binary.LittleEndian.PutUint64(b[0:], uint64(len(name)))
	binary.LittleEndian.PutUint64(b[8:], uint64(st.Mode))
	binary.LittleEndian.PutUint64(b[16:], st.Ino)
	if !isDir(st) {
		binary.LittleEndian.PutUint64(b[24:], uint64(st.Size))
		binary.LittleEndian.PutUint64(b[32:], uint64(unix.TimespecToNsec(st.Mtim)))
	}
	h.WriteString(name)
	h.Write(b[:])
}

// copy copies the tree, under newName, and makes sure that it stayed the same
// meanwhile, and that it is on the disk.
func (s *Snapshot) copy(ctx context.Context, r *step.Run, tree string) error {
	src, err := openFolder(nil, tree)
	if err != nil {
		return err
	}
	defer src.close()
	made := filepath.Join(s.releases(), newName)
	if err := os.Mkdir(made, 0o700); err != nil {
		return err
	}
	dst, err := openFolder(nil, made)
	if err != nil {
		return err
	}
	defer dst.close()

	// Syncers do not wait for the disk, but a release outlives a power failure. Links
	// need no such care: they are in the journal before the switch.
	synced := make(chan error, 1)
	go func() { synced <- syncfs(tree) }()

	r.Report(step.Progress{Stage: "copying", Done: -1, Detail: tree})
	c := copier{crew: newCrew(ctx), releases: s.releases()}
	all := new(record)
	if err := c.finish(r, "copying", func() error { return c.copy(src, dst, all) }); err != nil {
		return changing(err)
	}
	r.Report(step.Progress{Stage: "verifying", Done: -1, Detail: tree})
	again, err := openFolder(nil, tree)
	if err != nil {
		return changing(err)
	}
	defer again.close()
	v := verifier{newCrew(ctx)}
	if err := v.finish(r, "verifying", func() error { return v.verify(again, all) }); err != nil {
		return changing(err)
	}
	if err := <-synced; err != nil {
		return fmt.Errorf("writing the tree to the disk: %w", err)
	}
	return nil
}

func syncfs(path string) error {
	d, err := openFolder(nil, path)
	if err != nil {
		return err
	}
	defer d.close()
	return unix.Syncfs(d.fd)
}

// changing tells errors that come of a tree that changes under the copy.
func changing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("the tree changed while it was copied: %w", err)
	}
	return err
}

// A copier copies directories by making links to all files.
type copier struct {
	*crew
	releases string // for what it has to say
}

func (c *copier) copy(src, dst *folder, rec *record) error {
	names, err := src.names()
	if err != nil {
		return err
	}
	if err := c.count(len(names)); err != nil {
		return err
	}
	var self unix.Stat_t
	if err := again(func() error { return unix.Fstat(src.fd, &self) }); err != nil {
		return &fs.PathError{Op: "stat", Path: src.path, Err: err}
	}
	var dirs []string
	sum := newSum()
	for _, name := range names {
		var st unix.Stat_t
		if err := src.stat(name, &st); err != nil {
			return err
		}
		add(sum, name, &st)
		if st.Dev != self.Dev {
			return otherFileSystem(src.path+"/"+name, c.releases)
		}
		if isDir(&st) {
			err = again(func() error { return unix.Mkdirat(dst.fd, name, 0o700) })
			dirs = append(dirs, name)
		} else {
			err = again(func() error { return unix.Linkat(src.fd, name, dst.fd, name, 0) })
		}
		if err != nil {
			return c.refused(src.path+"/"+name, err)
		}
	}
	rec.sum = sum.Sum64()
	if err := dress(dst, &self); err != nil {
		return err
	}
	rec.dirs = make([]*record, len(dirs))
	for i, name := range dirs {
		if err := c.enter(src, dst, name, &rec.dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) enter(src, dst *folder, name string, rec **record) error {
	*rec = new(record)
	from, err := openFolder(src, name)
	if err != nil {
		return err
	}
	to, err := openFolder(dst, name)
	if err != nil {
		from.close()
		return err
	}
	sub := *rec
	return c.do(func() error {
		defer from.close()
		defer to.close()
		return c.copy(from, to, sub)
	})
}

// refused says what can be done about a link that cannot be made.
func (c *copier) refused(path string, err error) error {
	switch {
	case errors.Is(err, unix.EXDEV):
		return otherFileSystem(path, c.releases)
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("%w: files of others can be linked by root only (fs.protected_hardlinks), and not all file systems have hard links", err)
	case errors.Is(err, unix.EMLINK):
		err = fmt.Errorf("%w: keep fewer releases", err)
	}
	return &fs.PathError{Op: "link", Path: path, Err: err}
}

// dress gives a directory the owner, mode and times of another.
func dress(d *folder, st *unix.Stat_t) error {
	err := error(nil)
	if os.Geteuid() == 0 {
		err = unix.Fchown(d.fd, int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = unix.Fchmod(d.fd, st.Mode&0o7777)
	}
	if err == nil {
		err = unix.UtimesNanoAt(d.fd, ".", []unix.Timespec{st.Atim, st.Mtim}, 0)
	}
	if err != nil {
		return &fs.PathError{Op: "setting mode and times of", Path: d.path, Err: err}
	}
	return nil
}

// A verifier compares a tree with the record of it.
type verifier struct{ *crew }

func (v *verifier) verify(d *folder, rec *record) error {
	names, err := d.names()
	if err != nil {
		return err
	}
	if err := v.count(len(names)); err != nil {
		return err
	}
	var dirs []string
	sum := newSum()
	for _, name := range names {
		var st unix.Stat_t
		if err := d.stat(name, &st); err != nil {
			return err
		}
		add(sum, name, &st)
		if isDir(&st) {
			dirs = append(dirs, name)
		}
	}
	if sum.Sum64() != rec.sum || len(dirs) != len(rec.dirs) {
		return fmt.Errorf("the tree changed while it was copied: files in %s", d.path)
	}
	for i, name := range dirs {
		sub, err := openFolder(d, name)
		if err != nil {
			return err
		}
		err = v.do(func() error {
			defer sub.close()
			return v.verify(sub, rec.dirs[i])
		})
		if err != nil {
			return err
		}
	}
	return nil
}
