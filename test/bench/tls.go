package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// tlsFiles are a server's certificate, its key, and both in one file.
type tlsFiles struct{ Cert, Key, Both string }

// tlsCipher is the one cipher of all servers, so that they are compared and not
// their choice. It is what Go's would choose.
const tlsCipher = "TLS_AES_128_GCM_SHA256"

// writeTLS makes a certificate for 127.0.0.1.
func writeTLS(dir string) (tlsFiles, error) {
	f := tlsFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "both.pem")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return f, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "127.0.0.1"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     []string{"localhost"}, // without a name, hitch 1.7 aborts
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return f, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return f, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return f, errors.Join(
		os.WriteFile(f.Cert, certPEM, 0o644),
		os.WriteFile(f.Key, keyPEM, 0o600),
		os.WriteFile(f.Both, append(keyPEM, certPEM...), 0o600),
	)
}

// startHitch puts hitch before a server that has no TLS of its own.
func (b *bench) startHitch(ctx context.Context, s *server) error {
	dir, addr, err := b.setup("hitch")
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	backHost, backPort, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	conf, err := configure(dir, "hitch.conf", map[string]any{
		"Host": host, "Port": port, "BackHost": backHost, "BackPort": backPort, "TLS": b.tls, "Cipher": tlsCipher,
	})
	if err != nil {
		return err
	}
	p, err := b.start(ctx, "hitch", dir, addr, "hitch", "--config="+conf)
	if err != nil {
		return fmt.Errorf("before %s: %w", s.what, err)
	}
	s.tlsAddr, s.before = addr, p
	return nil
}
