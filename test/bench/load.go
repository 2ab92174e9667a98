package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed load.lua
var loadScript []byte

// load is what wrk saw of one server with one file in one round.
type load struct {
	Requests   float64 `json:"requests_per_second"`
	Megabytes  float64 `json:"megabytes_per_second"` // 10^6 bytes, heads included
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	ServerBusy float64 `json:"server_core_busy"` // of 1
	LoadBusy   float64 `json:"load_core_busy"`   // of 1
	CPU        float64 `json:"cpu_us"`           // time of the server per request, user and system
	LoadCPU    float64 `json:"load_cpu_us"`      // the same of wrk

	answers float64
}

// wrk loads one server with requests for one file, for whole seconds.
func (b *bench) wrk(ctx context.Context, s *server, f file, duration time.Duration) (load, error) {
	script := filepath.Join(b.dir, "load.lua")
	if err := os.WriteFile(script, loadScript, 0o644); err != nil {
		return load{}, err
	}
	serverBefore, serverTotal, err := busyTime(b.serverCPU)
	if err != nil {
		return load{}, err
	}
	loadBefore, loadTotal, err := busyTime(b.loadCPU)
	if err != nil {
		return load{}, err
	}
	cpuBefore, err := s.cpuTime()
	if err != nil {
		return load{}, err
	}
	args := []string{
		"-c", strconv.Itoa(b.loadCPU), "wrk",
		"-t", "1",
		"-c", strconv.Itoa(b.connections),
		"-d", strconv.Itoa(int(duration/time.Second)) + "s",
		"--timeout", "60s",
		"-s", script,
	}
	if f.accept != "" {
		args = append(args, "-H", "Accept: "+f.accept)
	}
	cmd := exec.CommandContext(ctx, "taskset", append(args, s.url(f))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	serverAfter, serverNow, err := busyTime(b.serverCPU)
	if err != nil {
		return load{}, err
	}
	loadAfter, loadNow, err := busyTime(b.loadCPU)
	if err != nil {
		return load{}, err
	}
	l, err := parseLoad(string(out), f.size)
	if err != nil {
		return load{}, err
	}
	cpuAfter, err := s.cpuTime()
	if err != nil {
		return load{}, err
	}
	l.CPU = (cpuAfter - cpuBefore).Seconds() * 1e6 / l.answers
	l.LoadCPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() * 1e6 / l.answers
	l.ServerBusy = ratio(serverAfter-serverBefore, serverNow-serverTotal)
	l.LoadBusy = ratio(loadAfter-loadBefore, loadNow-loadTotal)
	return l, s.alive()
}

// parseLoad reads the line that load.lua adds to the output of wrk.
func parseLoad(out string, size int64) (load, error) {
	_, line, ok := strings.Cut(out, "bench: ")
	var requests, bytes, micros, p50, p99 float64
	errs := make([]int, 5)
	if ok {
		_, err := fmt.Sscan(line, &requests, &bytes, &micros, &p50, &p99,
			&errs[0], &errs[1], &errs[2], &errs[3], &errs[4])
		ok = err == nil && micros > 0
	}
	if !ok {
		return load{}, fmt.Errorf("wrk said something else than expected:\n%s", out)
	}
	if slices.Max(errs) > 0 {
		return load{}, fmt.Errorf("wrk saw errors (connect, read, write, status, timeout): %v", errs)
	}
	seconds := micros / 1e6
	l := load{
		answers:   requests,
		Requests:  requests / seconds,
		Megabytes: bytes / 1e6 / seconds,
		P50:       p50 / 1e3,
		P99:       p99 / 1e3,
	}
	if size >= mib {
		// Count unfinished answers too: here they are no small part of the whole,
		// while the heads are none.
		l.answers = bytes / float64(size)
		l.Requests = l.answers / seconds
	}
	if l.Requests == 0 {
		return load{}, fmt.Errorf("wrk had no answer:\n%s", out)
	}
	return l, nil
}

// cpuTime is what the server's processes have used so far.
func (s *server) cpuTime() (time.Duration, error) {
	used, err := s.process.cpuTime()
	if err != nil || s.before == nil {
		return used, err
	}
	more, err := s.before.cpuTime()
	return used + more, err
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
