// Package certs gives the adapter a serving certificate that the API server trusts, without anything else installed.
//
// A fresh CA signs one serving certificate and its key is thrown away, so what is stored can sign nothing more. The pair
// and the bundle of CAs stay in a Secret, which all replicas share and a restart finds again. The bundle goes into the
// caBundle of the APIServices. When less than RenewBefore remains, whichever replica sees it first makes the next pair
// and puts the new CA in front of the still valid former ones, so replicas that still serve the old pair stay trusted
// until they look at the Secret again.
//
// Guarantees: two replicas that start at once end with one pair; a certificate is served only after every APIService that
// exists trusts it; other fields of Secret and APIServices are left alone.
package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	// Lifetime of a CA and the certificate it signs.
	Lifetime = 365 * 24 * time.Hour
	// RenewBefore is how much of it remains when the next pair is made.
	RenewBefore = 30 * 24 * time.Hour
	// skew is how far the clock of another machine may lag behind.
	skew = time.Hour
)

// Pair is a serving certificate with all that is needed to use and to trust it, in PEM.
type Pair struct {
	Cert []byte
	Key  []byte
	CAs  []byte // the newest first
}

// newPair makes a CA, and with it a certificate for the names; former CAs that are still valid stay in the bundle.
func newPair(names []string, former []byte, now time.Time) (Pair, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("cannot make the CA's key: %w", err)
	}
	ca := &x509.Certificate{
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s CA of %s", names[0], now.UTC().Format(time.RFC3339))},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(Lifetime),
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
	}
	caPEM, err := sign(ca, ca, caKey, caKey)
	if err != nil {
		return Pair{}, fmt.Errorf("cannot make the CA: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("cannot make the key: %w", err)
	}
	cert, err := sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		DNSNames:    names,
		NotBefore:   ca.NotBefore,
		NotAfter:    ca.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, key, caKey)
	if err != nil {
		return Pair{}, fmt.Errorf("cannot make the certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("cannot encode the key: %w", err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return Pair{Cert: cert, Key: keyPEM, CAs: append(caPEM, stillValid(former, now)...)}, nil
}

func sign(cert, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	cert.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), parentKey)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// stillValid returns the certificates of the bundle that have not expired; what does not parse is dropped.
func stillValid(bundle []byte, now time.Time) []byte {
	var out bytes.Buffer
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil && now.Before(ca.NotAfter) {
			out.Write(pem.EncodeToMemory(block))
		}
	}
	return out.Bytes()
}

// check says why the pair must be replaced, or nil.
func (p Pair) check(names []string, now time.Time) error {
	if len(p.Cert) == 0 && len(p.Key) == 0 {
		return errors.New("there is none yet")
	}
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return err
	}
	if left := pair.Leaf.NotAfter.Sub(now); left < RenewBefore {
		return fmt.Errorf("it expires at %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CAs)
	for _, name := range names {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now}); err != nil {
			return err
		}
	}
	return nil
}

// Names returns the names under which a Service is called, the one that the API server uses first.
func Names(service, namespace string) []string {
	full := service + "." + namespace
	return []string{full + ".svc", full + ".svc.cluster.local", full, "localhost"}
}
