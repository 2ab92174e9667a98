package gate

import (
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Ready implements [step.Readier].
func (e *Exec) Ready() error { return step.Program(e.Command[0]) }

// Ready implements [step.Readier].
func (a *Apt) Ready() error { return canRead(a.Keyring) }

// Ready implements [step.Readier].
func (g *Rpm) Ready() error { return canRead(g.Keyring) }

func canRead(file string) error {
	if file == "" {
		return nil
	}
	_, err := readKeyring(file)
	return err
}

// Place implements [step.Placer].
func (a *Apt) Place(dir string) error { return step.NeedDirectory(dir) }

// Place implements [step.Placer].
func (g *Rpm) Place(dir string) error { return step.NeedDirectory(dir) }

// Place implements [step.Placer].
func (g *Pypi) Place(dir string) error { return step.NeedDirectory(dir) }

// Place implements [step.Placer].
func (g *Wheel) Place(dir string) error { return step.NeedDirectory(dir) }

// Place implements [step.Placer].
func (e *Exists) Place(dir string) error { return step.NeedDirectory(dir) }

// Place implements [step.Placer].
func (s *Same) Place(dir string) error { return step.NeedDirectory(dir) }

// Place implements [step.Placer].
func (s *Shrink) Place(dir string) error { return step.NeedDirectory(dir) }

// Interface guards
var (
	_ step.Readier = (*Exec)(nil)
	_ step.Readier = (*Apt)(nil)
	_ step.Readier = (*Rpm)(nil)
	_ step.Placer  = (*Apt)(nil)
	_ step.Placer  = (*Rpm)(nil)
	_ step.Placer  = (*Pypi)(nil)
	_ step.Placer  = (*Wheel)(nil)
	_ step.Placer  = (*Exists)(nil)
	_ step.Placer  = (*Same)(nil)
	_ step.Placer  = (*Shrink)(nil)
)
