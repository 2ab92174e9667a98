package step

import (
	"errors"
	"os"
)

// WriteFile replaces a file in one step: after a crash there is either the old or the
// new. Nobody else writes it; what a crash leaves over beside it is the next one's to
// use.
func WriteFile(name string, text []byte) error {
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
