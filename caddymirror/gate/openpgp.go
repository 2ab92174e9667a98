package gate

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
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// keyring has the keys of which one must have signed.
type keyring struct {
	file string
	keys openpgp.EntityList
}

// readKeyring reads a file of OpenPGP keys, armored or not.
func readKeyring(file string) (*keyring, error) {
	b, err := step.ReadFile(file, step.MaxConfig)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	read := openpgp.ReadKeyRing
	if armored(b) {
		read = openpgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(b))
	if err == nil && len(keys) == 0 {
		err = errors.New("there is no key in it")
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: %s: %w", file, err)
	}
	return &keyring{file, keys}, nil
}

func armored(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN PGP "))
}

// verify checks a detached signature, armored or not. Its error is a fault.Error of the
// signature.
func (k *keyring) verify(signed, signature []byte) error {
	if armored(signature) {
		var err error
		if signature, err = dearmor(signature, false); err != nil {
			return err
		}
	}
	return k.check(signed, signature)
}

// verifyArmored is verify as apt does it, see dearmor.
func (k *keyring) verifyArmored(signed, signature []byte) error {
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
// file: apt takes no other line, be it empty. Its error is a fault.Error.
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
func (k *keyring) check(signed, b []byte) error {
	err := verify(usable{k.keys, time.Now()}, signed, b)
	if errors.Is(err, pgperrors.ErrUnknownIssuer) && verify(k.keys, signed, b) == nil {
		return fault.Errorf("the key that has signed it has expired, or was revoked")
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return fault.Errorf("no key of %s has signed it", k.file)
	}
	return fault.Errorf("has no good signature: %s", fault.Show(err.Error()))
}

func verify(keys openpgp.KeyRing, signed, signature []byte) error {
	_, _, err := openpgp.VerifyDetachedSignature(keys, bytes.NewReader(signed), bytes.NewReader(signature), nil)
	return err
}

// usable are the keys that could sign now. A signature of a key that has expired
// since is not accepted by clients.
type usable struct {
	openpgp.EntityList
	now time.Time
}

// EntitiesById overrides that of the list.
func (u usable) EntitiesById(id uint64) []*openpgp.Entity {
	return slices.DeleteFunc(u.EntityList.EntitiesById(id), func(e *openpgp.Entity) bool {
		_, ok := e.SigningKeyById(u.now, id, nil)
		return !ok
	})
}

const clearsigned = "-----BEGIN PGP SIGNED MESSAGE-----"

// isClearsigned reports whether a file says that it is a signed message.
func isClearsigned(b []byte) bool { return bytes.HasPrefix(b, []byte(clearsigned)) }

// openClearsigned returns what is in a clear-signed message (RFC 9580 section 7) with one
// or more signatures, and nothing else besides. They are checked if there is a keyring. Its
// error is a fault.Error.
func openClearsigned(b []byte, k *keyring) ([]byte, error) {
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
