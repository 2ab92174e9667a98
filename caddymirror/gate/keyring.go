package gate

import (
	"fmt"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/openpgp"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// readKeyring reads a file of OpenPGP keys, armored or not.
func readKeyring(file string) (*openpgp.Keyring, error) {
	b, err := step.ReadFile(file, step.MaxConfig)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	keys, err := openpgp.ParseKeyring(file, b)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return keys, nil
}
