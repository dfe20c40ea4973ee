package servers

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	"imapproxy/internal/imaptest"
)

// A Certificate is a self-signed one for localhost and 127.0.0.1, in files.
// CertFile is its own CA file.
type Certificate struct {
	CertFile, KeyFile string
	Client            *tls.Config // trusts this certificate alone
}

// NewCertificate writes a fresh one into a folder of its own.
func NewCertificate(t testing.TB) Certificate {
	t.Helper()
	return newCertificate(t, Folder(t))
}

func newCertificate(t testing.TB, dir string) Certificate {
	t.Helper()
	made := imaptest.NewCert(t)
	c := Certificate{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), Client: made.Client}
	for path, pem := range map[string][]byte{c.CertFile: made.CertPEM, c.KeyFile: made.KeyPEM} {
		// A server that has dropped its privileges reads the key too.
		if err := os.WriteFile(path, pem, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return c
}
