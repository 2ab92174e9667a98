package job

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holders are the processes, other than this one, that have a file open, as their
// numbers and names. On systems without /proc, and of processes of other users, nothing
// is known.
func holders(name string) (all []string) {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil
	}
	want, err := os.Stat(name)
	if err != nil {
		return nil
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", p.Name())
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			link := filepath.Join(dir, "fd", fd.Name())
			// Stat would ask the file systems of all that they have open.
			if target, err := os.Readlink(link); err != nil || target != name {
				continue
			}
			if fi, err := os.Stat(link); err == nil && os.SameFile(fi, want) {
				comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
				all = append(all, fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(string(comm))))
				break
			}
		}
	}
	return all
}
