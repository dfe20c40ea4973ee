package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
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
// client's server name and that the client supports, otherwise the first.
func (c *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	l := c.now.Load()
	if len(l.certs) > 1 {
		for i := range l.certs {
			if hello.SupportsCertificate(&l.certs[i]) == nil {
				return &l.certs[i], nil
			}
		}
	}
	return &l.certs[0], nil
}

// config returns the listener's TLS configuration.
func (c *certificates) config(minVersion uint16) *tls.Config {
	if minVersion == 0 {
		minVersion = tls.VersionTLS12
	}
	return &tls.Config{
		MinVersion:     minVersion,
		GetCertificate: c.choose,
		// A client that asks for another protocol may have been redirected by an attacker who wants a mail
		// server to answer its request (ALPACA).
		NextProtos: []string{"imap"},
		// Mail is sent in large literals, for which small first records are of no use.
		DynamicRecordSizingDisabled: true,
	}
}
