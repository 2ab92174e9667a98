package gate

import (
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// A cursor looks at one file of a tree after the other. It keeps the directories
// on the way to the last one open, since the next is mostly near: on a network
// file system, each lookup counts. It is for one goroutine.
type cursor struct {
	t    *tree
	dirs []openDir
}

type openDir struct {
	name string
	root *os.Root
}

// stat describes the regular file at name. Its error may be a fault.Error.
func (c *cursor) stat(name string) (fs.FileInfo, error) {
	info, err := c.lstat(name)
	if err != nil || info.Mode()&fs.ModeSymlink != 0 {
		// Links are relative to the whole tree.
		info, err = c.t.root.Stat(name)
	}
	if err != nil {
		return nil, judge(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.Errorf("is not a file")
	}
	return info, nil
}

func (c *cursor) lstat(name string) (fs.FileInfo, error) {
	dir, base := c.t.root, name
	depth := 0
	for {
		i := strings.IndexByte(base, '/')
		if i < 0 {
			break
		}
		part := base[:i]
		if depth == len(c.dirs) || c.dirs[depth].name != part {
			c.leave(depth)
			sub, err := dir.OpenRoot(part)
			if err != nil {
				return nil, err
			}
			c.dirs = append(c.dirs, openDir{strings.Clone(part), sub})
		}
		dir, base = c.dirs[depth].root, base[i+1:]
		depth++
	}
	return dir.Lstat(base)
}

// leave closes the directories from depth on.
func (c *cursor) leave(depth int) {
	for _, d := range c.dirs[depth:] {
		d.root.Close()
	}
	c.dirs = slices.Delete(c.dirs, depth, len(c.dirs))
}

func (c *cursor) close() { c.leave(0) }
