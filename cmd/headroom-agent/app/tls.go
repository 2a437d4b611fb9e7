package app

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificate serves a certificate from files that somebody else renews.
type certificate struct {
	certFile, keyFile string

	mu     sync.Mutex
	loaded *tls.Certificate
	of     [2]time.Time // when the files that loaded is of were written
}

// get reads the files again when one of them changed. While they do not fit each other, as between two writes, the last
// pair is served.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var of [2]time.Time
	for i, file := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(file); err == nil {
			of[i] = info.ModTime()
		}
	}
	if c.loaded != nil && of == c.of {
		return c.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err == nil {
		c.loaded, c.of = &pair, of
	}
	if c.loaded == nil {
		return nil, fmt.Errorf("cannot load the certificate of --tls-cert-file: %w", err)
	}
	return c.loaded, nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}
