// Package openpgp checks the signatures of repositories as their clients do (RFC 9580).
package openpgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	pgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// A Keyring has the keys of which one must have signed.
type Keyring struct {
	name string
	keys pgp.EntityList
}

// ParseKeyring reads OpenPGP keys, armored or not. Errors of signatures name the keyring by
// its name.
func ParseKeyring(name string, b []byte) (*Keyring, error) {
	read := pgp.ReadKeyRing
	if armored(b) {
		read = pgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(b))
	if err == nil && len(keys) == 0 {
		err = errors.New("there is no key in it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Keyring{name, keys}, nil
}

func armored(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN PGP "))
}

// Verify checks a detached signature, armored or not. Its error is a [fault.Error] of the
// signature.
func (k *Keyring) Verify(signed, signature []byte) error {
	if armored(signature) {
		var err error
		if signature, err = dearmor(signature, false); err != nil {
			return err
		}
	}
	return k.check(signed, signature)
}

// VerifyArmored is [Keyring.Verify] as apt does it: nothing but armored signatures may be in
// the file, be it an empty line.
func (k *Keyring) VerifyArmored(signed, signature []byte) error {
	signature, err := dearmor(signature, true)
	if err != nil {
		return err
	}
	return k.check(signed, signature)
}

const (
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
	endSignature   = "-----END PGP SIGNATURE-----"
)

// dearmor returns the signatures of all armored blocks in a file: archives that sign with
// several keys may have a block of each. If alone is set there must be nothing else in the
// file: apt takes no other line, be it empty. Its error is a [fault.Error].
func dearmor(text []byte, alone bool) (signatures []byte, err error) {
	var block []byte // the one that is open
	for line := range bytes.Lines(text) {
		mark := string(bytes.TrimRight(line, " \t\r\n"))
		if block == nil && mark != beginSignature {
			switch {
			case !alone:
				continue
			case signatures == nil:
				return nil, fault.Errorf("does not begin with an armored signature; apt takes nothing else")
			}
			return nil, fault.Errorf("has more in it than signatures; apt takes nothing else, be it an empty line")
		}
		block = append(block, line...)
		if mark != endSignature {
			continue
		}
		var b []byte
		a, err := armor.Decode(bytes.NewReader(block))
		if err == nil {
			b, err = io.ReadAll(a.Body)
		}
		if err != nil {
			return nil, fault.Errorf("is not a signature: %s", fault.Show(err.Error()))
		}
		signatures, block = append(signatures, b...), nil
	}
	if block != nil {
		return nil, fault.Errorf("is cut off: a signature has no end")
	}
	return signatures, nil
}

// check checks signatures, of which one must be good.
func (k *Keyring) check(signed, b []byte) error {
	err := verify(usable{k.keys, time.Now()}, signed, b)
	if errors.Is(err, pgperrors.ErrUnknownIssuer) && verify(k.keys, signed, b) == nil {
		return fault.Errorf("the key that has signed it has expired, or was revoked")
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return fault.Errorf("no key of %s has signed it", k.name)
	}
	return fault.Errorf("has no good signature: %s", fault.Show(err.Error()))
}

func verify(keys pgp.KeyRing, signed, signature []byte) error {
	_, _, err := pgp.VerifyDetachedSignature(keys, bytes.NewReader(signed), bytes.NewReader(signature), nil)
	return err
}

// usable are the keys that could sign now. A signature of a key that has expired
// since is not accepted by clients.
type usable struct {
	pgp.EntityList
	now time.Time
}

// EntitiesById overrides that of the list.
func (u usable) EntitiesById(id uint64) []*pgp.Entity {
	return slices.DeleteFunc(u.EntityList.EntitiesById(id), func(e *pgp.Entity) bool {
		_, ok := e.SigningKeyById(u.now, id, nil)
		return !ok
	})
}

const clearsigned = "-----BEGIN PGP SIGNED MESSAGE-----"

// IsClearsigned reports whether a file says that it is a signed message.
func IsClearsigned(b []byte) bool { return bytes.HasPrefix(b, []byte(clearsigned)) }

// OpenClearsigned returns what is in a clear-signed message (RFC 9580 section 7) with one
// or more signatures, and nothing else besides. They are checked if there is a keyring. Its
// error is a [fault.Error].
func OpenClearsigned(b []byte, k *Keyring) ([]byte, error) {
	block, _ := clearsign.Decode(b)
	at := bytes.Index(b, []byte("\n"+beginSignature))
	if block == nil || at < 0 {
		return nil, fault.Errorf("is not a signed message as a whole")
	}
	signatures, err := dearmor(b[at+1:], true)
	if err == nil && k != nil {
		err = k.check(block.Bytes, signatures)
	}
	if err != nil {
		return nil, err
	}
	return block.Plaintext, nil
}
