package wheels

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/constraints"
)

const (
	// maxBuildLog is how much of what a build prints is kept on disk, and maxTail how much
	// of its end is looked at.
	maxBuildLog = 4 << 20
	maxTail     = 64 << 10
)

// logsName is the directory of the logs of builds that have failed, in the job's state.
const logsName = "wheels.logs"

// buildLog is what one build prints. Its file is removed if the build goes well.
type buildLog struct {
	f    *os.File
	left int
	end  []byte
	kept bool
}

func newBuildLog(state string, w want) (*buildLog, error) {
	dir := filepath.Join(state, logsName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, logName(w)))
	if err != nil {
		return nil, err
	}
	return &buildLog{f: f, left: maxBuildLog}, nil
}

// logName is a file name: it has nothing of a URL's slashes.
func logName(w want) string {
	name := strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r == '=' || '0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z' {
			return r
		}
		return '_'
	}, constraints.Redacted(w.req.Key())+"-"+w.python.Label)
	return name[:min(len(name), 200)] + ".log"
}

func (l *buildLog) Write(p []byte) (int, error) {
	l.end = append(l.end, p...)
	if extra := len(l.end) - maxTail; extra > maxTail {
		l.end = append(l.end[:0], l.end[extra:]...)
	}
	switch {
	case l.left > 0:
		// A log that cannot be written does not fail the build.
		n, _ := l.f.Write(p[:min(len(p), l.left)])
		if l.left -= max(n, 1); l.left <= 0 {
			fmt.Fprintf(l.f, "\n... the rest is left out\n")
		}
	}
	return len(p), nil
}

func (l *buildLog) tail() string { return string(l.end[max(0, len(l.end)-maxTail):]) }

// keep keeps the log, and returns the name of its file.
func (l *buildLog) keep() string {
	l.kept = true
	return l.f.Name()
}

func (l *buildLog) close() {
	l.f.Close()
	if !l.kept {
		os.Remove(l.f.Name())
	}
}
