// Package pki makes the lab's certificates and kubeconfigs: a certificate authority for servers and clients, one for the
// front proxy (a client certificate of the first must not pass for the API server's own proxying), and the
// service-account signing key. Everything is made anew at each start and valid for a week.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

const validity = 7 * 24 * time.Hour

// Pair is a certificate with its key, as files and as PEM.
type Pair struct {
	CertFile, KeyFile string
	CertPEM, KeyPEM   []byte
}

// Authority signs certificates into a folder.
type Authority struct {
	Pair
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes a self-signed authority, files dir/name.crt and dir/name.key.
func NewAuthority(dir, name string) (*Authority, error) {
	template := newTemplate(name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	a := &Authority{dir: dir}
	var err error
	a.Pair, a.cert, a.key, err = write(dir, name, template, nil, nil)
	return a, err
}

// Server signs a serving certificate for the given addresses and names.
func (a *Authority) Server(name string, ips []net.IP, names ...string) (Pair, error) {
	template := newTemplate(name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.IPAddresses, template.DNSNames = ips, names
	return a.sign(name, template)
}

// Client signs a client certificate for a user and its groups.
func (a *Authority) Client(name, user string, groups ...string) (Pair, error) {
	template := newTemplate(user)
	template.Subject.Organization = groups
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(name, template)
}

// Peer signs a certificate for an end that both serves and dials, as etcd's gateway does towards itself.
func (a *Authority) Peer(name string, ips []net.IP) (Pair, error) {
	template := newTemplate(name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses = ips
	return a.sign(name, template)
}

func (a *Authority) sign(name string, template *x509.Certificate) (Pair, error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature
	p, _, _, err := write(a.dir, name, template, a.cert, a.key)
	return p, err
}

func newTemplate(cn string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: cn},
		NotBefore: now.Add(-time.Minute), // clocks of one machine agree; a minute is for certificates made at a second's edge
		NotAfter:  now.Add(validity),
	}
}

// write makes a key, signs template (by itself where parent is nil) and writes both files.
func write(dir, name string, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (Pair, *x509.Certificate, *ecdsa.PrivateKey, error) {
	fail := func(err error) (Pair, *x509.Certificate, *ecdsa.PrivateKey, error) {
		return Pair{}, nil, nil, fmt.Errorf("cannot make certificate %s: %w", name, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return fail(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return fail(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fail(err)
	}
	p := Pair{
		CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key"),
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	if err := os.WriteFile(p.CertFile, p.CertPEM, 0o644); err != nil { //nolint:gosec // a certificate is public
		return fail(err)
	}
	if err := os.WriteFile(p.KeyFile, p.KeyPEM, 0o600); err != nil {
		return fail(err)
	}
	return p, cert, key, nil
}

// Kubeconfig writes a kubeconfig for the client pair against server, which the authority's certificate vouches for.
func (a *Authority) Kubeconfig(path, server string, client Pair) error {
	config := api.NewConfig()
	config.Clusters["headroom-lab"] = &api.Cluster{Server: server, CertificateAuthorityData: a.CertPEM}
	config.AuthInfos["user"] = &api.AuthInfo{ClientCertificateData: client.CertPEM, ClientKeyData: client.KeyPEM}
	config.Contexts["headroom-lab"] = &api.Context{Cluster: "headroom-lab", AuthInfo: "user"}
	config.CurrentContext = "headroom-lab"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("cannot write kubeconfig %s: %w", path, err)
	}
	return nil
}
