package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strconv"
	"strings"
)

// allocResult is one Go benchmark of a hit.
type allocResult struct {
	Package   string  `json:"package"`
	Name      string  `json:"name"`
	NsPerOp   float64 `json:"ns_per_op"`
	BytesPer  float64 `json:"bytes_per_op"`
	AllocsPer float64 `json:"allocs_per_op"`
}

// allocs runs the Go benchmarks named BenchmarkHit*.
func (b *bench) allocs(ctx context.Context, rep *report) error {
	progress("allocs: running the Go benchmarks of a hit")
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-vet", "off", "-bench", "^BenchmarkHit", "-benchmem",
		"./caddymirror/mirrorcache", "./caddymirror/diskcache")
	cmd.Dir = b.module
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test: %w\n%s", err, out)
	}
	rep.Allocs, err = parseBenchmarks(string(out))
	return err
}

// parseBenchmarks reads the output of go test -bench -benchmem.
func parseBenchmarks(out string) ([]allocResult, error) {
	var results []allocResult
	var pkg string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 2 && f[0] == "pkg:" {
			pkg = path.Base(f[1])
			continue
		}
		if len(f) < 4 || !strings.HasPrefix(f[0], "BenchmarkHit") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 { // GOMAXPROCS
			name = name[:i]
		}
		r := allocResult{Package: pkg, Name: name}
		for i := 2; i+1 < len(f); i += 2 { // after the name and the count: value, unit, ...
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("reading %q: %w", line, err)
			}
			switch f[i+1] {
			case "ns/op":
				r.NsPerOp = v
			case "B/op":
				r.BytesPer = v
			case "allocs/op":
				r.AllocsPer = v
			}
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return nil, errors.New("found no BenchmarkHit* in mirrorcache and diskcache")
	}
	return results, nil
}

func printAllocs(w io.Writer, results []allocResult) {
	fmt.Fprint(w, "\nA hit in Go's benchmarks.\n\n")
	t := table{{"", "ns/op", "B/op", "allocs/op"}}
	for _, r := range results {
		t.row(r.Package+" "+r.Name, figure(r.NsPerOp), figure(r.BytesPer), strconv.FormatFloat(r.AllocsPer, 'f', -1, 64))
	}
	t.print(w)
}
