package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A certificate that isn't the backend's ends the login before anything secret
// was sent, whichever way TLS begins.
func TestCertificateIsVerified(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	for _, tc := range []struct {
		name       string
		cert       *tls.Config
		serverName string
		ok         bool
		as         func(error) bool
	}{
		{name: "the address's host", cert: ca.server(t, "127.0.0.1", hour), ok: true},
		{name: "the name given", cert: ca.server(t, "b1.example.org", hour), serverName: "b1.example.org", ok: true},
		{name: "another name", cert: ca.server(t, "b2.example.org", hour), serverName: "b1.example.org",
			as: func(err error) bool { var e x509.HostnameError; return errors.As(err, &e) }},
		{name: "a name, but not the address's", cert: ca.server(t, "b1.example.org", hour),
			as: func(err error) bool { var e x509.HostnameError; return errors.As(err, &e) }},
		{name: "another authority", cert: other.server(t, "127.0.0.1", hour),
			as: func(err error) bool { var e x509.UnknownAuthorityError; return errors.As(err, &e) }},
		{name: "expired", cert: ca.server(t, "127.0.0.1", time.Now().Add(-time.Minute)),
			as: func(err error) bool {
				var e x509.CertificateInvalidError
				return errors.As(err, &e) && e.Reason == x509.Expired
			}},
	} {
		for mode, before := range map[string]string{
			TLSImplicit: "TLS\n",
			TLSStartTLS: "S: * OK [CAPABILITY IMAP4rev1 STARTTLS] hi\nC: p1 STARTTLS\nS: p1 OK\nTLS\nC: p2 CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: p2 OK\nC: p3 LOGIN \"alice\" \"secret\"\nS: p3 OK [CAPABILITY A] in\n",
		} {
			t.Run(tc.name+", "+mode, func(t *testing.T) {
				script := before
				if mode == TLSImplicit {
					script += aliceLogsIn + "S: p1 OK [CAPABILITY A] in"
				}
				d := newDialer(t, Options{CAFile: ca.caFile})
				_, err := login(t, d, script, tc.cert, Target{TLS: mode, ServerName: tc.serverName}, alice, Client{})
				if tc.ok {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				var down *Unavailable
				if !errors.As(err, &down) || down.Stage != StageTLS || !down.BackendDown() || !tc.as(err) {
					t.Fatalf("got %v", err)
				}
			})
		}
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.server(t, "127.0.0.1", time.Now().Add(time.Hour))
	cert.MinVersion, cert.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	d := newDialer(t, Options{CAFile: ca.caFile})
	_, err := login(t, d, "TLS", cert, Target{TLS: TLSImplicit}, alice, Client{})
	var down *Unavailable
	if !errors.As(err, &down) || down.Stage != StageTLS {
		t.Fatalf("got %v", err)
	}
}

// The second login to a backend spares it the signature.
func TestTLSSessionsAreResumed(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.server(t, "127.0.0.1", time.Now().Add(time.Hour))
	b := serve(t, func(c net.Conn) error {
		return playScript(c, "TLS\n"+aliceLogsIn+"S: p1 OK [CAPABILITY A] in", cert)
	})
	d := newDialer(t, Options{CAFile: ca.caFile})
	for i, resumed := range []bool{false, true} {
		c, err := d.Login(t.Context(), Target{ID: "b1", Address: b.addr, TLS: TLSImplicit}, alice, Client{})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.TLS().DidResume; got != resumed {
			t.Errorf("login %d: resumed %v", i, got)
		}
		_ = c.Close()
	}
}

func TestBadCAFileIsAnErrorAtOnce(t *testing.T) {
	if _, err := New(Options{CAFile: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a missing file is accepted")
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{CAFile: empty}); err == nil {
		t.Error("a file without certificates is accepted")
	}
}
