package syncer

import "github.com/unifiedmirrors/mirror/step"

// Ready implements [step.Readier].
func (e *Exec) Ready() error {
	if e.Shell {
		return nil
	}
	return step.Program(e.Command[0])
}

// Ready implements [step.Readier].
func (s *Rsync) Ready() error { return step.Program(s.Command) }

// Ready implements [step.Readier].
func (p *Reprepro) Ready() error { return step.Program(p.Command) }

// Ready implements [step.Readier].
func (b *Bandersnatch) Ready() error { return step.Program(b.Command) }

// Place implements [step.Placer].
func (s *Rsync) Place(dir string) error {
	if dir == "" {
		return errNoDirectory
	}
	return nil
}

// Interface guards
var (
	_ step.Readier = (*Exec)(nil)
	_ step.Readier = (*Rsync)(nil)
	_ step.Readier = (*Reprepro)(nil)
	_ step.Readier = (*Bandersnatch)(nil)
	_ step.Placer  = (*Rsync)(nil)
)
