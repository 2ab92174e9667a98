package step

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Kerberos is how commands get tickets: k5start runs around each, has tickets renewed
// while it runs and, on hosts with an AFS client in the kernel, gets tokens with them.
type Kerberos struct {
	// Keytab is the file with the keys of Principal. Both are required.
	Keytab    string `json:"keytab,omitempty"`
	Principal string `json:"principal,omitempty"`

	// Command is k5start, by another name. Default: k5start.
	Command string `json:"command,omitempty"`
}

// Check checks the settings. Nil is none.
func (k *Kerberos) Check() error {
	if k != nil && (k.Keytab == "" || k.Principal == "") {
		return errors.New("kerberos needs a keytab and a principal")
	}
	return nil
}

func (k *Kerberos) command() string { return cmp.Or(k.Command, "k5start") }

// Ready implements [Readier].
func (k *Kerberos) Ready() error {
	if k == nil {
		return nil
	}
	if err := Program(k.command()); err != nil {
		return fmt.Errorf("kerberos: %w", err)
	}
	f, err := os.Open(k.Keytab)
	if err != nil {
		return fmt.Errorf("kerberos: keytab: %w", err)
	}
	return f.Close()
}

// Around is a command with tickets.
func (k *Kerberos) Around(name string, args []string) (string, []string) {
	if k == nil {
		return name, args
	}
	// -x: else it would ask for a ticket without end, and never begin.
	options := []string{"-q", "-x"}
	if hasAFS() {
		options = append(options, "-t")
	}
	return k.command(), slices.Concat(options, []string{"-f", k.Keytab, k.Principal, "--", name}, args)
}

// hasAFS reports whether there can be tokens. Where there cannot, k5start would run
// nothing when asked for them.
func hasAFS() bool {
	for _, name := range []string{"/proc/fs/openafs/afs_ioctl", "/proc/fs/nnpfs/afs_ioctl"} { // as libkopenafs looks
		if _, err := os.Stat(name); err == nil {
			return true
		}
	}
	return false
}
