package scrape

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// tokenAge is how long a token that was read from a file is used; Kubernetes replaces one an hour before it ends.
const tokenAge = 10 * time.Second

// authorizer says what the Authorization header is.
type authorizer struct {
	scheme string
	fixed  string
	file   string
	read   time.Time // when fixed was read from the file; zero: it must be now
}

func newAuthorizer(a Auth) (*authorizer, error) {
	ways := 0
	for _, used := range []bool{a.Username != "" || a.Password != "", a.Credentials != "", a.CredentialsFile != ""} {
		if used {
			ways++
		}
	}
	switch {
	case ways > 1:
		return nil, errors.New("the target has more than one kind of credentials")
	case strings.Contains(a.Username, ":"):
		return nil, errors.New("a user name with a colon cannot be sent")
	case a.Username != "" || a.Password != "":
		return &authorizer{fixed: "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password))}, nil
	}
	scheme := a.Scheme
	if scheme == "" {
		scheme = "Bearer"
	}
	z := &authorizer{scheme: scheme, file: a.CredentialsFile}
	if a.Credentials == "" {
		return z, nil
	}
	err := z.take(a.Credentials)
	return z, err
}

// header returns the header's value, "" for none.
func (z *authorizer) header(now time.Time) (string, error) {
	if z.file == "" || now.Sub(z.read) < tokenAge && !z.read.IsZero() {
		return z.fixed, nil
	}
	token, err := os.ReadFile(z.file)
	if err != nil {
		return "", fmt.Errorf("cannot read the credentials: %w", err)
	}
	if err := z.take(string(token)); err != nil {
		return "", fmt.Errorf("%w (%s)", err, z.file)
	}
	z.read = now
	return z.fixed, nil
}

// refused makes the next header read the file again.
func (z *authorizer) refused() { z.read = time.Time{} }

func (z *authorizer) take(token string) error {
	token = strings.TrimSpace(token)
	if token == "" {
		return errors.New("the credentials are empty")
	}
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if strings.ContainsFunc(z.scheme+token, control) {
		return errors.New("the credentials have a character that no header can hold")
	}
	z.fixed = z.scheme + " " + token
	return nil
}

func tlsConfig(t TLS, host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // asked for
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	if t.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(t.CA)) {
			return nil, errors.New("the CA has no certificate in PEM")
		}
	}
	if t.Cert != "" || t.Key != "" {
		pair, err := tls.X509KeyPair([]byte(t.Cert), []byte(t.Key))
		if err != nil {
			return nil, fmt.Errorf("cannot use the client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
