package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Mark tells a process from others that had, or will have, the same number: by when it
// was started, since which boot. It is empty if there is no such process.
func Mark(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// PID (NAME) STATE ...; the name may be anything, the start is the 22nd.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 20 {
		return ""
	}
	return boot() + " " + f[19]
}

func boot() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// Lives reports whether anything lives of the group that a process with a mark has led.
func Lives(pgid int, mark string) bool {
	if was, _, _ := strings.Cut(mark, " "); was != boot() {
		return false
	}
	if now := Mark(pgid); now != "" && now != mark {
		return false // another process has its number, as it cannot while the group lives
	}
	return alive(pgid)
}
