package syncer

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Ready implements [step.Readier].
func (s *Rsync) Ready() error { return step.Program(s.Command) }

// Ready implements [step.Readier]. Of a configuration that is relative to the directory
// of the job nothing is known yet.
func (p *Reprepro) Ready() error {
	if err := step.Program(p.Command); err != nil || !filepath.IsAbs(p.ConfDir) {
		return err
	}
	info, err := os.Stat(p.ConfDir)
	if err == nil && !info.IsDir() {
		err = &os.PathError{Op: "stat", Path: p.ConfDir, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}

// Ready implements [step.Readier]. Of a configuration that is relative to the directory
// of the job nothing is known yet.
func (b *Bandersnatch) Ready() error {
	if err := step.Program(b.Command); err != nil || !filepath.IsAbs(b.Config) {
		return err
	}
	if _, err := b.directory(""); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}

// Place implements [step.Placer].
func (s *Rsync) Place(dir string) error { return step.NeedDirectory(dir) }

// Interface guards
var (
	_ step.Readier = (*Exec)(nil)
	_ step.Readier = (*Rsync)(nil)
	_ step.Readier = (*Reprepro)(nil)
	_ step.Readier = (*Bandersnatch)(nil)
	_ step.Placer  = (*Rsync)(nil)
)
