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

	"github.com/unifiedmirrors/mirror/step"
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

// verify checks a detached signature. Its error is a fileError of the signature.
func (k *keyring) verify(signed, signature []byte) error {
	var r io.Reader = bytes.NewReader(signature)
	if armored(signature) {
		block, err := armor.Decode(r)
		if err != nil {
			return bad("is not a signature: %s", show(err.Error()))
		}
		r = block.Body
	}
	return k.check(signed, r)
}

func (k *keyring) check(signed []byte, signature io.Reader) error {
	b, err := io.ReadAll(signature)
	if err != nil {
		return bad("is not a signature: %s", show(err.Error()))
	}
	err = verify(usable{k.keys, time.Now()}, signed, b)
	if errors.Is(err, pgperrors.ErrUnknownIssuer) && verify(k.keys, signed, b) == nil {
		return bad("the key that has signed it has expired, or was revoked")
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return bad("no key of %s has signed it", k.file)
	}
	return bad("has no good signature: %s", show(err.Error()))
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

// openClearsigned returns what is in a clear-signed message (RFC 9580 section 7).
// The signature is checked if there is a keyring. Its error is a fileError.
func openClearsigned(b []byte, k *keyring) ([]byte, error) {
	block, rest := clearsign.Decode(b)
	if block == nil {
		return nil, bad("is not a signed message as a whole")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, bad("has more than the signed message in it")
	}
	if k != nil {
		if err := k.check(block.Bytes, block.ArmoredSignature.Body); err != nil {
			return nil, err
		}
	}
	return block.Plaintext, nil
}
