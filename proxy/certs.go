package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// certificates has a listener's certificates, chosen by SNI. They are read again when their files change;
// existing sessions aren't affected.
type certificates struct {
	from []Certificate
	log  *slog.Logger
	now  atomic.Pointer[loaded]

	looking sync.Mutex // held by refresh, guards said
	said    string     // the errors of the last check
}

// loaded has the certificates and a digest of their files.
type loaded struct {
	certs []tls.Certificate
	bytes []byte
}

func newCertificates(from []Certificate, log *slog.Logger) (*certificates, error) {
	c := &certificates{from: from, log: log}
	l, err := c.read()
	if err != nil {
		return nil, err
	}
	c.now.Store(l)
	return c, nil
}

// refresh reads the files again. If files can't be read or don't belong together (an incomplete renewal), the
// old certificates stay in use, and each such state is logged once.
func (c *certificates) refresh() {
	c.looking.Lock()
	defer c.looking.Unlock()
	l, err := c.read()
	switch {
	case err != nil:
		if text := err.Error(); text != c.said {
			c.said = text
			c.log.Error("certificate not reloaded, the old one stays in use", "error", text)
		}
		return
	case !bytes.Equal(l.bytes, c.now.Load().bytes):
		c.now.Store(l)
		c.log.Info("certificates reloaded", "first", l.certs[0].Leaf.Subject.String(), "not_after", l.certs[0].Leaf.NotAfter)
	}
	c.said = ""
}

func (c *certificates) read() (*loaded, error) {
	l := &loaded{}
	for _, f := range c.from {
		cert, key := f.CertPEM, f.KeyPEM
		if f.KeyPEM == nil {
			var err, err2 error
			cert, err = os.ReadFile(f.CertFile)
			key, err2 = os.ReadFile(f.KeyFile)
			if err := errors.Join(err, err2); err != nil {
				return nil, err
			}
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", f.CertFile, f.KeyFile, err)
		}
		l.certs = append(l.certs, pair)
		l.bytes = append(append(l.bytes, cert...), key...)
	}
	return l, nil
}

// CertificateStatus describes a certificate of a listener.
type CertificateStatus struct {
	Listener, Name      string // Name: the first one that it is for
	Several             bool   // the listener has others
	NotBefore, NotAfter time.Time
	Error               string // why the listener's files couldn't be read again; "": they could
}

// status describes the certificates. said is read only if no check is under way, which may wait for a file.
func (c *certificates) status(listener string) (all []CertificateStatus) {
	said := ""
	if c.looking.TryLock() {
		said = c.said
		c.looking.Unlock()
	}
	l := c.now.Load()
	for _, cert := range l.certs {
		one := CertificateStatus{Listener: listener, Name: cert.Leaf.Subject.CommonName, Several: len(l.certs) > 1, NotBefore: cert.Leaf.NotBefore, NotAfter: cert.Leaf.NotAfter, Error: said}
		if len(cert.Leaf.DNSNames) > 0 {
			one.Name = cert.Leaf.DNSNames[0]
		}
		all = append(all, one)
	}
	return all
}

// choose implements tls.Config.GetCertificate: it returns the first certificate that is valid for the
// client's server name and that the client supports (of an ECDSA and an RSA certificate, some programs can do only the
// latter); otherwise the first that the client supports, for any name; otherwise the first.
func (c *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	l := c.now.Load()
	if len(l.certs) > 1 {
		anyName := *hello
		anyName.ServerName = ""
		for _, h := range []*tls.ClientHelloInfo{hello, &anyName} {
			for i := range l.certs {
				if h.SupportsCertificate(&l.certs[i]) == nil {
					return &l.certs[i], nil
				}
			}
		}
	}
	return &l.certs[0], nil
}

// The suites of TLS 1.2 that are offered: forward secrecy and AEAD. Those of TLS 1.3 are all good, and can't be chosen.
var suites12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// cbc12 are further suites of TLS 1.2, for programs that know no other.
var cbc12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
}

// config returns the listener's TLS configuration.
func (c *certificates) config(minVersion uint16, cbc bool) *tls.Config {
	suites := suites12
	if cbc {
		suites = slices.Concat(suites12, cbc12)
	}
	if minVersion == 0 {
		minVersion = tls.VersionTLS12
	}
	return &tls.Config{
		MinVersion:       minVersion,
		CipherSuites:     suites,
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
		GetCertificate:   c.choose,
		// A client that asks for another protocol may have been redirected by an attacker who wants a mail
		// server to answer its request (ALPACA).
		NextProtos: []string{"imap"},
		// Mail is sent in large literals, for which small first records are of no use.
		DynamicRecordSizingDisabled: true,
	}
}
