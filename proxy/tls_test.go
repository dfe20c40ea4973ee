package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// rsaCert is a certificate with an RSA key.
func rsaCert(t testing.TB, host string) Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return Certificate{
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

// Programs that know no other suites of TLS 1.2 than those with CBC come in where that is wanted, others everywhere.
func TestSuitesWithCBCAreOffByDefault(t *testing.T) {
	for _, cbc := range []bool{false, true} {
		l := newLab(t, labOptions{change: func(o *Options) {
			for i := range o.Listeners {
				o.Listeners[i].CBC = cbc
			}
		}})
		dial := func(suites ...uint16) error {
			c, err := tls.Dial("tcp", l.addr(implicit), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: suites})
			if err == nil {
				must(t, c.Close())
			}
			return err
		}
		if err := dial(tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA); (err == nil) != cbc {
			t.Errorf("tls12_cbc %v: %v", cbc, err)
		}
		for _, suite := range suites12 {
			if suite == tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 || suite == tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 || suite == tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 {
				continue // the certificate is ECDSA
			}
			if err := dial(suite); err != nil {
				t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
			}
		}
	}
}

// Of an ECDSA and an RSA certificate for one name each client gets the one that it can do, for each name that it asks for.
func TestECDSAAndRSAStandSideBySide(t *testing.T) {
	ecdsa, rsa := imaptest.NewCert(t, "imap.example.org"), rsaCert(t, "imap.example.org")
	l := newLab(t, labOptions{change: func(o *Options) {
		for i := range o.Listeners {
			if o.Listeners[i].Certificates != nil {
				o.Listeners[i].Certificates = []Certificate{{CertPEM: ecdsa.CertPEM, KeyPEM: ecdsa.KeyPEM}, rsa}
			}
		}
	}})
	block, _ := pem.Decode(rsa.CertPEM)
	of := map[string][]byte{"ECDSA": ecdsa.Server.Certificates[0].Certificate[0], "RSA": block.Bytes}
	for _, name := range []string{"imap.example.org", "", "other.example.net", "127.0.0.1"} {
		for kind, suite := range map[string]uint16{"ECDSA": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "RSA": tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} {
			c, err := tls.Dial("tcp", l.addr(implicit), &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
			if err != nil {
				t.Errorf("%s, %q: %v", kind, name, err)
				continue
			}
			if !bytes.Equal(c.ConnectionState().PeerCertificates[0].Raw, of[kind]) {
				t.Errorf("%s, %q: the other certificate", kind, name)
			}
			must(t, c.Close())
		}
		if got := leaf(t, l.addr(implicit), name); !bytes.Equal(got, of["ECDSA"]) {
			t.Errorf("%q: a client that can do both isn't shown the first", name)
		}
	}
}
