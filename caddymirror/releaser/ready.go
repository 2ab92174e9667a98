package releaser

import (
	"errors"
	"path/filepath"
	"slices"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Ready implements [step.Readier]. Behind a prefix such as ssh, vos is on another host.
func (a *AFS) Ready() error {
	if err := step.Program(slices.Concat(a.Prefix, []string{a.Vos})[0]); err != nil {
		return err
	}
	return a.Kerberos.Ready()
}

// Place implements [step.Placer].
func (s *Snapshot) Place(dir string) error {
	switch {
	case s.Tree != "":
		return nil
	case dir == "":
		return errors.New("no tree: neither the job nor the snapshot has a directory")
	}
	return s.apart(filepath.Clean(dir))
}

// Interface guards
var (
	_ step.Readier = (*AFS)(nil)
	_ step.Readier = (*Exec)(nil)
	_ step.Placer  = (*Snapshot)(nil)
)
