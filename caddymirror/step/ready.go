package step

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Readier is a step that needs what operators have to provide once and for all, such as
// programs and keys: a server does not start without it.
type Readier interface {
	// Ready returns what is missing. It looks at local disks only.
	Ready() error
}

// Placer is a step that cannot work on just any tree.
type Placer interface {
	// Place returns why it cannot on that of a job, whose directory dir is; it is empty
	// if the job has none. It touches no disk.
	Place(dir string) error
}

// Program makes sure that there is a program. Of one whose name is relative to the
// directory in which it will run nothing is known yet.
func Program(name string) error {
	if strings.Contains(name, "/") && !filepath.IsAbs(name) {
		return nil
	}
	_, err := exec.LookPath(name)
	if e, ok := errors.AsType[*exec.Error](err); ok {
		return fmt.Errorf("%s: %w", e.Name, e.Err)
	}
	return err
}
