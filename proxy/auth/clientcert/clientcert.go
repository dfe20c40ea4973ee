// Package clientcert decides whether a client's TLS certificate is good, and what it names its user: authorities,
// revocation lists, names. It knows no files, sockets and clocks: proxy reads the files, and proxy/session asks at a login
// by AUTHENTICATE EXTERNAL and as long as the session lasts.
//
// Imports none of our packages. Imported by proxy.
package clientcert

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Where in a certificate the user's name is. A certificate has exactly one of the kind, or it names no user.
const (
	SANEmail     = "san_email"     // the subject alternative name's rfc822Name (RFC 5280 §4.2.1.6)
	SANUPN       = "san_upn"       // its otherName with a user principal name, as Active Directory's authority writes it
	SubjectEmail = "subject_email" // the subject's emailAddress
	CommonName   = "common_name"   // the subject's CN
)

// Why a certificate isn't good. The texts have nothing in them that the client has sent.
var (
	ErrNone      = errors.New("the client has sent no certificate")
	ErrTime      = errors.New("the certificate, or one that it depends on, has expired or isn't valid yet")
	ErrAuthority = errors.New("no authority of ca_file has issued the certificate, or one in between wasn't sent")
	ErrUse       = errors.New("the certificate isn't for clients (extended key usage)")
	ErrRevoked   = errors.New("the certificate is revoked")
	ErrNoList    = errors.New("crl_file has no revocation list of the certificate's issuer")
	ErrOldList   = errors.New("the issuer's revocation list is over, or isn't valid yet")
	ErrInvalid   = errors.New("the certificate isn't valid")
	ErrNoName    = errors.New("the certificate doesn't have exactly one name of the kind that the settings want")
)

// Authorities are whose certificates are good. They don't change.
type Authorities struct {
	pool, between *x509.CertPool
	all           []*x509.Certificate
	name          string
	lists         map[string]*list // by the issuer's certificate; nil: none are wanted
}

// list is a revocation list.
type list struct {
	from, until time.Time
	revoked     map[string]struct{} // by serial number
}

// New reads the authorities' certificates and, where crl isn't nil, their revocation lists, both PEM. name is one of the
// names above.
func New(ca, crl []byte, name string) (*Authorities, error) {
	switch name {
	case SANEmail, SANUPN, SubjectEmail, CommonName:
	default:
		return nil, fmt.Errorf("there is no name %q in a certificate", name)
	}
	a := &Authorities{pool: x509.NewCertPool(), between: x509.NewCertPool(), name: name}
	if err := a.authorities(ca); err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	if crl != nil {
		a.lists = map[string]*list{}
		if err := a.revocations(crl); err != nil {
			return nil, fmt.Errorf("crl_file: %w", err)
		}
	}
	return a, nil
}

// authorities reads ca_file. A certificate whose issuer is in the file as well is one in between; each other is trusted.
func (a *Authorities) authorities(text []byte) error {
	blocks, err := blocksOf(text, "CERTIFICATE")
	if err != nil {
		return err
	}
	for _, der := range blocks {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if !c.IsCA || !c.BasicConstraintsValid {
			return fmt.Errorf("%q isn't an authority's certificate (CA:TRUE)", c.Subject.String())
		}
		a.all = append(a.all, c)
	}
	for _, c := range a.all {
		issued := false
		for _, by := range a.all {
			issued = issued || !c.Equal(by) && !bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(by) == nil
		}
		if issued {
			a.between.AddCert(c)
		} else {
			a.pool.AddCert(c)
		}
	}
	return nil
}

// revocations reads crl_file. Of several lists of an issuer the newest counts.
func (a *Authorities) revocations(text []byte) error {
	blocks, err := blocksOf(text, "X509 CRL")
	if err != nil {
		return err
	}
	for _, der := range blocks {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		whose := l.Issuer.String()
		one := &list{from: l.ThisUpdate, until: l.NextUpdate, revoked: make(map[string]struct{}, len(l.RevokedCertificateEntries))}
		if l.NextUpdate.IsZero() {
			return fmt.Errorf("the list of %q doesn't say when the next one comes", whose)
		}
		// RFC 5280 §5.2: who doesn't know a critical extension can't say whom the list revokes.
		for _, e := range l.Extensions {
			if e.Critical {
				return fmt.Errorf("the list of %q is only a part of one, or another's (critical extension %v)", whose, e.Id)
			}
		}
		for _, entry := range l.RevokedCertificateEntries {
			for _, e := range entry.Extensions {
				if e.Critical {
					return fmt.Errorf("the list of %q has an entry of another's certificate (critical extension %v)", whose, e.Id)
				}
			}
			one.revoked[entry.SerialNumber.String()] = struct{}{}
		}
		known := false
		for _, by := range a.all {
			if !bytes.Equal(by.RawSubject, l.RawIssuer) || l.CheckSignatureFrom(by) != nil {
				continue
			}
			known = true
			if before := a.lists[string(by.Raw)]; before == nil || before.from.Before(one.from) {
				a.lists[string(by.Raw)] = one
			}
		}
		if !known {
			return fmt.Errorf("the list of %q isn't by a certificate of ca_file", whose)
		}
	}
	return nil
}

// blocksOf returns the PEM blocks of one kind.
func blocksOf(text []byte, kind string) (all [][]byte, err error) {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if b.Type == kind {
			all = append(all, b.Bytes)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no PEM block %q", kind)
	}
	return all, nil
}

// Pool are the authorities that clients are told of.
func (a *Authorities) Pool() *x509.CertPool { return a.pool }

// Count is how many certificates of authorities there are.
func (a *Authorities) Count() int { return len(a.all) }

// End is when an authority's certificate or its revocation list ends.
type End struct {
	What        string // in words
	Whose       string // the authority's name
	List        bool   // it is the revocation list
	From, Until time.Time
}

// Ends returns the end of each.
func (a *Authorities) Ends() (all []End) {
	for _, c := range a.all {
		whose := c.Subject.String()
		all = append(all, End{fmt.Sprintf("certificate of %q", whose), whose, false, c.NotBefore, c.NotAfter})
		if l := a.lists[string(c.Raw)]; l != nil {
			all = append(all, End{fmt.Sprintf("revocation list of %q", whose), whose, true, l.from, l.until})
		}
	}
	return all
}

// WithoutList returns the names of the authorities that have no revocation list, although one is wanted.
func (a *Authorities) WithoutList() (names []string) {
	for _, c := range a.all {
		if a.lists != nil && a.lists[string(c.Raw)] == nil {
			names = append(names, c.Subject.String())
		}
	}
	return names
}

// User says what the certificate that a client has sent names its user. sent is the client's own certificate, followed by
// those in between. The error is one of those above.
func (a *Authorities) User(sent []*x509.Certificate, now time.Time) (string, error) {
	if len(sent) == 0 {
		return "", ErrNone
	}
	between := a.between.Clone()
	for _, c := range sent[1:] {
		between.AddCert(c)
	}
	own := sent[0]
	if a.name == SANUPN {
		if _, err := principalNames(own); err != nil {
			return "", ErrNoName
		}
		own = withReadSAN(own)
	}
	chains, err := own.Verify(x509.VerifyOptions{
		Roots: a.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", reasonOf(err)
	}
	for _, chain := range chains {
		if err = a.revoked(chain, now); err == nil {
			return a.nameIn(own)
		}
	}
	return "", err
}

// reasonOf tells errors of Verify apart.
func reasonOf(err error) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return ErrAuthority
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ErrTime
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return ErrUse
	}
	return ErrInvalid
}

// revoked looks for each certificate of a chain, the trusted one apart, in its issuer's list.
func (a *Authorities) revoked(chain []*x509.Certificate, now time.Time) error {
	if a.lists == nil {
		return nil
	}
	for i, c := range chain[:len(chain)-1] {
		switch l := a.lists[string(chain[i+1].Raw)]; {
		case l == nil:
			return ErrNoList
		case now.Before(l.from) || now.After(l.until):
			return ErrOldList
		default:
			if _, found := l.revoked[c.SerialNumber.String()]; found {
				return ErrRevoked
			}
		}
	}
	return nil
}

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

// nameIn returns the one name of the wanted kind.
func (a *Authorities) nameIn(c *x509.Certificate) (string, error) {
	var names []string
	switch a.name {
	case SANEmail:
		names = c.EmailAddresses
	case SANUPN:
		var err error
		if names, err = principalNames(c); err != nil {
			return "", ErrNoName
		}
	default:
		wanted := oidCommonName
		if a.name == SubjectEmail {
			wanted = oidEmailAddress
		}
		for _, n := range c.Subject.Names {
			if !n.Type.Equal(wanted) {
				continue
			}
			text, ok := n.Value.(string)
			if !ok {
				return "", ErrNoName
			}
			names = append(names, text)
		}
	}
	if len(names) != 1 || names[0] == "" {
		return "", ErrNoName
	}
	return names[0], nil
}
