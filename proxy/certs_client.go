package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/proxy/auth/clientcert"
)

// ClientCertificates say by which certificates clients may log in (AUTHENTICATE EXTERNAL). The files are read again when
// they change.
type ClientCertificates struct {
	CAFile  string
	CRLFile string // "": no certificate is revoked
	Name    string // where in a certificate the user's name is, one of clientcert's
}

// Read reads the files.
func (o ClientCertificates) Read() (*clientcert.Authorities, error) {
	a, _, err := o.read()
	return a, err
}

// read also returns what is in the files.
func (o ClientCertificates) read() (a *clientcert.Authorities, contents []byte, err error) {
	ca, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, nil, err
	}
	var crl []byte
	if o.CRLFile != "" {
		if crl, err = os.ReadFile(o.CRLFile); err != nil {
			return nil, nil, err
		}
		if crl == nil {
			crl = []byte{}
		}
	}
	if a, err = clientcert.New(ca, crl, o.Name); err != nil {
		return nil, nil, err
	}
	return a, append(append(ca, 0), crl...), nil
}

// Bounds of what a client may send as its certificate: sessions keep it.
const (
	maxClientCerts     = 8
	maxClientCertBytes = 16 << 10
)

// errClientCerts ends a handshake.
var errClientCerts = errors.New("the client's certificates are too many, or too long")

// clientCerts has a listener's authorities for the certificates of clients.
type clientCerts struct {
	from ClientCertificates
	log  *slog.Logger
	base *tls.Config
	now  atomic.Pointer[trusted]

	looking sync.Mutex // held by refresh, guards said
	said    string     // the error of the last check
}

// trusted are the authorities, what their files had in them, and the handshakes' configuration with them.
type trusted struct {
	authorities *clientcert.Authorities
	contents    []byte
	tls         *tls.Config
}

// newClientCerts has base ask clients for a certificate. One that isn't good doesn't end the handshake, since the client may
// log in otherwise: it is verified when the client wants to log in by it.
func newClientCerts(from ClientCertificates, base *tls.Config, log *slog.Logger) (*clientCerts, error) {
	c := &clientCerts{from: from, log: log, base: base.Clone()}
	c.base.ClientAuth = tls.RequestClientCert
	c.base.VerifyConnection = func(state tls.ConnectionState) error {
		n := 0
		for _, cert := range state.PeerCertificates {
			n += len(cert.Raw)
		}
		if n > maxClientCertBytes || len(state.PeerCertificates) > maxClientCerts {
			return errClientCerts
		}
		return nil
	}
	a, contents, err := from.read()
	if err != nil {
		return nil, fmt.Errorf("client_certificates: %w", err)
	}
	c.use(a, contents)
	return c, nil
}

func (c *clientCerts) use(a *clientcert.Authorities, contents []byte) {
	config := c.base.Clone()
	config.ClientCAs = a.Pool()
	c.now.Store(&trusted{authorities: a, contents: contents, tls: config})
}

// config returns the listener's TLS configuration, by which each handshake names the authorities of its time.
func (c *clientCerts) config() *tls.Config {
	config := c.base.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load().tls, nil }
	return config
}

// user is what a client's certificate names its user.
func (c *clientCerts) user(sent []*x509.Certificate, at time.Time) (string, error) {
	return c.now.Load().authorities.User(sent, at)
}

// AuthorityStatus describes an authority's certificate, or its revocation list, by which a listener's clients may log in.
type AuthorityStatus struct {
	Listener string
	clientcert.End
	Error string // why the files couldn't be read again; "": they could. Of the first alone
}

// status is Server.Authorities of a listener. said is read only if no check is under way, which may wait for a file.
func (c *clientCerts) status(listener string) (all []AuthorityStatus) {
	said := ""
	if c.looking.TryLock() {
		said = c.said
		c.looking.Unlock()
	}
	for i, end := range c.now.Load().authorities.Ends() {
		all = append(all, AuthorityStatus{listener, end, map[bool]string{true: said}[i == 0]})
	}
	return all
}

// refresh reads the files again, and says whether something has changed. If they can't be read, the old ones stay in use,
// and each such state is logged once: a revocation list in use counts until it is over.
func (c *clientCerts) refresh() (changed bool) {
	c.looking.Lock()
	defer c.looking.Unlock()
	a, contents, err := c.from.read()
	switch {
	case err != nil:
		if text := err.Error(); text != c.said {
			c.said = text
			c.log.Error("authorities for clients' certificates not reloaded, the old ones stay in use", "error", text)
		}
		return false
	case !bytes.Equal(contents, c.now.Load().contents):
		c.use(a, contents)
		c.log.Info("authorities for clients' certificates reloaded", "authorities", a.Count())
		changed = true
	}
	c.said = ""
	return changed
}
