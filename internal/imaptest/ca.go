package imaptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"sync/atomic"
	"testing"
	"time"
)

// CA is an authority that issues certificates of clients in a test.
type CA struct {
	t       testing.TB
	Cert    *x509.Certificate
	CertPEM []byte
	key     *ecdsa.PrivateKey
}

var serial atomic.Int64

// NewCA makes an authority with this name.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	return newCA(t, name, nil)
}

// Below makes an authority that this one has certified.
func (ca *CA) Below(name string) *CA {
	ca.t.Helper()
	return newCA(ca.t, name, ca)
}

func newCA(t testing.TB, name string, by *CA) *CA {
	t.Helper()
	ca := &CA{t: t}
	var err error
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
	}
	parent, key := tpl, ca.key
	if by != nil {
		parent, key = by.Cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, ca.key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.Cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.CertPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return ca
}

// Issue makes a certificate of a client. change may change what is in it; its default is an email address of the subject
// alternative name.
func (ca *CA) Issue(email string, change ...func(*x509.Certificate)) tls.Certificate {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: "a user"}, EmailAddresses: []string{email},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if email == "" {
		tpl.EmailAddresses = nil
	}
	for _, f := range change {
		f(tpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, ca.Cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// PEM returns a certificate with those in between, and its key.
func PEM(t testing.TB, c tls.Certificate) (cert, key []byte) {
	t.Helper()
	for _, der := range c.Certificate {
		cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Revocations makes a revocation list, PEM, of these certificates. change may change what is in it.
func (ca *CA) Revocations(revoked []*x509.Certificate, change ...func(*x509.RevocationList)) []byte {
	ca.t.Helper()
	tpl := &x509.RevocationList{Number: big.NewInt(serial.Add(1)), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, c := range revoked {
		tpl.RevokedCertificateEntries = append(tpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Hour)})
	}
	for _, f := range change {
		f(tpl)
	}
	der, err := x509.CreateRevocationList(rand.Reader, tpl, ca.Cert, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// IssuedBy makes a certificate that a user has signed, as if they were an authority.
func IssuedBy(t testing.TB, user tls.Certificate, email string) tls.Certificate {
	t.Helper()
	as := &CA{t: t, Cert: user.Leaf, key: user.PrivateKey.(*ecdsa.PrivateKey)}
	return as.Issue(email)
}
