package job

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// places are what a run works on. Runs that have one in common wait for each other,
// under whatever names, and whichever server has begun them.
type places struct {
	dirs    []string // without symbolic links
	targets []string
}

// search looks for the places of a job, on file systems that may hang. It is used by
// one goroutine.
type search struct {
	j     *Job
	found chan places // nil: there is none under way
}

// searchTime is how long file systems may take to say what is a symbolic link.
const searchTime = 10 * time.Second

// of returns the places of a job. While an earlier search hangs there is no other.
func (s *search) of(j *Job) (places, error) {
	for {
		if s.found == nil {
			found := make(chan places, 1)
			s.j, s.found = j, found
			go func() { found <- j.places() }()
		}
		select {
		case p := <-s.found:
			s.found = nil
			if s.j == j {
				return p, nil
			}
		case <-time.After(searchTime):
			return places{}, errors.New("the file system of its directory, or of what it releases, does not answer")
		}
	}
}

// places looks for them on the disk, which may hang.
func (j *Job) places() (p places) {
	add := func(dir string) {
		if dir != "" {
			p.dirs = append(p.dirs, step.Resolve(dir))
		}
	}
	add(j.Directory)
	for _, r := range j.releases {
		if s, ok := r.(*releaser.Snapshot); ok {
			add(s.Tree)
		}
		for _, target := range r.Targets() {
			if link, ok := strings.CutPrefix(target, "dir:"); ok { // which may be a link, and is to be
				target = "dir:" + filepath.Join(step.Resolve(filepath.Dir(link)), filepath.Base(link))
			}
			p.targets = append(p.targets, target)
		}
	}
	return p
}

// meets reports whether two have something in common.
func (p places) meets(o places) bool {
	for _, a := range p.dirs {
		for _, b := range o.dirs {
			if step.Within(a, b) || step.Within(b, a) {
				return true
			}
		}
	}
	return slices.ContainsFunc(p.targets, func(t string) bool { return slices.Contains(o.targets, t) })
}

// lock locks all places, below a directory of locks, for as long as a process of the
// run lives. It must not be asked to by two runs of this process.
func (p places) lock(dir string) (locks []*os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			closeAll(locks)
		}
	}()
	all := slices.Concat(p.dirs, p.targets)
	slices.Sort(all)
	for _, place := range slices.Compact(all) {
		sum := sha256.Sum256([]byte(place))
		name := filepath.Join(dir, hex.EncodeToString(sum[:16]))
		f, err := lockFile(name)
		if errors.Is(err, errBusy) {
			return locks, fmt.Errorf("processes of an earlier run, of this job or another, are still at %s%s", place, who(name))
		}
		if err != nil {
			return locks, err
		}
		locks = append(locks, f)
	}
	return locks, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// who names the processes that have a lock, if any are known.
func who(lock string) string {
	if all := holders(lock); len(all) > 0 {
		return ": " + strings.Join(all, ", ")
	}
	return ""
}
