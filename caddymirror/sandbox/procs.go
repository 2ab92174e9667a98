package sandbox

import (
	"bytes"
	"os"
	"strconv"
)

// proc is a process below this one.
type proc struct {
	pid    int
	zombie bool
}

// descendants are all processes below this one, those in namespaces of their own too.
func descendants() []proc {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil
	}
	children := map[int][]proc{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has just ended
		}
		// PID (NAME) STATE PPID ...; the name may be anything
		f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(f) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(string(f[1]))
		children[parent] = append(children[parent], proc{pid: pid, zombie: f[0][0] == 'Z' || f[0][0] == 'X'})
	}
	var all []proc
	for queue := []int{os.Getpid()}; len(queue) > 0; queue = queue[1:] {
		for _, p := range children[queue[0]] {
			all = append(all, p)
			queue = append(queue, p.pid)
		}
	}
	return all
}

var pageSize = int64(os.Getpagesize())

// resident is the memory that a process uses, in bytes, without that of files. What it has
// in common with its parent counts for both.
func (p proc) resident() int64 {
	// size resident shared ..., in pages
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(text)
	if len(f) < 3 {
		return 0
	}
	resident, _ := strconv.ParseInt(string(f[1]), 10, 64)
	shared, _ := strconv.ParseInt(string(f[2]), 10, 64)
	return max(0, resident-shared) * pageSize
}

// proportional is the same, with its share of what it has in common with others. It is
// the truth, and takes longer to be told. A kernel that does not know it says resident.
func (p proc) proportional() int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/smaps_rollup")
	if err != nil {
		return p.resident()
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("Pss_Anon:")); ok {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))), 10, 64)
			if err == nil {
				return n << 10
			}
		}
	}
	return p.resident()
}
