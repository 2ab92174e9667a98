package openpgp

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	pgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

func newKey(t testing.TB, made time.Time, lifetime time.Duration) *pgp.Entity {
	t.Helper()
	key, err := pgp.NewEntity("Test", "", "test@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(lifetime.Seconds()), Time: func() time.Time { return made },
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ring(t testing.TB, armored bool, keys ...*pgp.Entity) *Keyring {
	t.Helper()
	var b bytes.Buffer
	for _, key := range keys {
		if err := key.Serialize(&b); err != nil {
			t.Fatal(err)
		}
	}
	if armored {
		var a bytes.Buffer
		w, err := armor.Encode(&a, pgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b = a
	}
	k, err := ParseKeyring("ring.gpg", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func detached(t testing.TB, key *pgp.Entity, text string, at time.Time) string {
	t.Helper()
	var b bytes.Buffer
	err := pgp.ArmoredDetachSign(&b, []*pgp.Entity{key}, strings.NewReader(text), &pgp.SignParams{Config: &packet.Config{Time: func() time.Time { return at }}})
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}

// TestVerify checks detached signatures as apt and dnf have them.
func TestVerify(t *testing.T) {
	now := time.Now()
	key, other := newKey(t, now.Add(-time.Hour), 0), newKey(t, now.Add(-time.Hour), 0)
	old := newKey(t, now.AddDate(-2, 0, 0), 24*time.Hour)
	good := detached(t, key, "text", now)
	for _, test := range []struct {
		name      string
		ring      *Keyring
		text      string
		signature string
		apt, dnf  string // what is wrong; empty: nothing
	}{
		{"good", ring(t, false, key), "text", good, "", ""},
		{"an armored ring", ring(t, true, other, key), "text", good, "", ""},
		{"one of two is good", ring(t, false, key), "text", detached(t, other, "text", now) + good, "", ""},
		{"blank lines", ring(t, false, key), "text", "\n" + good + "\n", "does not begin with", ""},
		{"another text", ring(t, false, key), "Text", good, "no good signature", "no good signature"},
		{"another key", ring(t, false, other), "text", good, "no key of ring.gpg", "no key of ring.gpg"},
		{"an expired key", ring(t, false, old), "text", detached(t, old, "text", now.AddDate(-2, 0, 0)), "has expired", "has expired"},
		{"cut off", ring(t, false, key), "text", good[:len(good)-30], "is cut off", "is cut off"},
		{"garbage", ring(t, false, key), "text", "garbage", "does not begin with", "no good signature"},
		{"nothing", ring(t, false, key), "text", "", "no key of", "no key of"},
	} {
		for client, verify := range map[string]func(signed, signature []byte) error{"apt": test.ring.VerifyArmored, "dnf": test.ring.Verify} {
			want := test.dnf
			if client == "apt" {
				want = test.apt
			}
			err := verify([]byte(test.text), []byte(test.signature))
			if (err == nil) != (want == "") || err != nil && (!fault.Is(err) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s, %s: %v, want %q", test.name, client, err, want)
			}
		}
	}
	for name, text := range map[string]string{"nothing": "", "garbage": "garbage", "a signature": good} {
		if k, err := ParseKeyring("x", []byte(text)); err == nil {
			t.Errorf("%s is taken for a keyring: %v", name, k)
		}
	}
}

// TestClearsigned checks messages with a signature, and nothing else, in them.
func TestClearsigned(t *testing.T) {
	key, other := newKey(t, time.Now().Add(-time.Hour), 0), newKey(t, time.Now().Add(-time.Hour), 0)
	signer, ok := key.SigningKey(time.Now(), nil)
	if !ok {
		t.Fatal("no signing key")
	}
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, signer.PrivateKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("Origin: x\n- dash\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	good := b.String() + "\n"
	for _, test := range []struct {
		name, text string
		ring       *Keyring
		want       string // what is wrong; empty: nothing
	}{
		{"good", good, ring(t, false, key), ""},
		{"without a ring", good, nil, ""},
		{"another key", good, ring(t, false, other), "no key of"},
		{"another text", strings.Replace(good, "Origin", "origin", 1), ring(t, false, key), "no good signature"},
		{"another text, without a ring", strings.Replace(good, "Origin", "origin", 1), nil, ""},
		{"more after it", good + "more\n", nil, "has more in it"},
		{"cut off", good[:len(good)-40], nil, "not a signed message"},
		{"no signature", good[:60], nil, "not a signed message"},
		{"nothing", "", nil, "not a signed message"},
	} {
		text, err := OpenClearsigned([]byte(test.text), test.ring)
		switch {
		case test.want != "" && (!fault.Is(err) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		case test.want == "" && (err != nil || !strings.HasSuffix(string(text), "rigin: x\n- dash\n")):
			t.Errorf("%s: %q, %v", test.name, text, err)
		}
	}
	if !IsClearsigned([]byte(good)) || IsClearsigned([]byte("Origin: x\n")) {
		t.Error("what is a signed message is not known")
	}
}
