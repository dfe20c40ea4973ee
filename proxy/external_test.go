package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/clientcert"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// registrar is a source that knows without a password who may log in; a test changes its verdict.
type registrar struct {
	mu      sync.Mutex
	verdict auth.Verdict // about alice; nil: accepted
	asked   []auth.Credentials
}

func (s *registrar) Name() string { return "sql" }
func (s *registrar) Close() error { return nil }
func (s *registrar) Authenticate(context.Context, auth.Credentials) auth.Verdict {
	return auth.Rejected{Reason: auth.ReasonBadPassword}
}

func (s *registrar) Certified(_ context.Context, c auth.Credentials) auth.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, c)
	switch {
	case c.User != "alice@example.org":
		return auth.Unknown{}
	case s.verdict != nil:
		return s.verdict
	}
	return auth.Accepted{}
}

func (s *registrar) says(v auth.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verdict = v
}

// external is a proxy that takes the certificates of an authority.
type external struct {
	*scripted
	source  *registrar
	ca      *imaptest.CA
	crlFile string
	told    []string // whom the backend was told of, guarded by scripted.mu
}

func newExternal(t *testing.T, change ...func(*Options)) *external {
	t.Helper()
	x := &external{source: &registrar{}, ca: imaptest.NewCA(t, "users")}
	dir := t.TempDir()
	caFile := filepath.Join(dir, "ca.pem")
	x.crlFile = filepath.Join(dir, "crl.pem")
	must(t, os.WriteFile(caFile, x.ca.CertPEM, 0o600))
	x.revoke(t)
	x.scripted = newScripted(t, scriptedCaps, 3, append([]func(*Options){func(o *Options) {
		o.Sources = []auth.Source{x.source}
		o.Login = upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "master", MasterPassword: "of-the-master"}
		o.Limits.AuthFailureDelay = -1
		for i := range o.Listeners {
			if o.Listeners[i].Name != plain && o.Listeners[i].Name != behind {
				o.Listeners[i].ClientCertificates = &ClientCertificates{CAFile: caFile, CRLFile: x.crlFile, Name: clientcert.SANEmail}
			}
		}
	}}, change...)...)
	x.judge = func(l imaptest.Login) string { // called with x.mu held
		if l.Authzid != "" { // the other logins prove that a wrong password isn't taken
			x.told = append(x.told, l.Authzid)
		}
		if l.Authzid == "" || l.Password != "of-the-master" {
			return "NO [AUTHORIZATIONFAILED] not for itself"
		}
		return ""
	}
	return x
}

// revoke writes the revocation list.
func (x *external) revoke(t *testing.T, certs ...tls.Certificate) {
	t.Helper()
	var leaves []*x509.Certificate
	for _, c := range certs {
		leaves = append(leaves, c.Leaf)
	}
	must(t, os.WriteFile(x.crlFile, x.ca.Revocations(leaves), 0o600))
}

// refresh has the proxy look at its files, as it does from time to time.
func (x *external) refresh() {
	for _, li := range x.srv.listeners {
		if li.set.Load().refresh() {
			x.srv.recheckSoon()
		}
	}
}

// with connects with a certificate; nil: without.
func (x *external) with(t *testing.T, cert *tls.Certificate) *imaptest.Client {
	t.Helper()
	return imaptest.DialTLS(t, x.addr(implicit), x.tls(cert))
}

func (x *external) tls(cert *tls.Certificate) *tls.Config {
	c := x.cert.Client.Clone()
	if cert != nil {
		// Also one that isn't of the authorities that the proxy names.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return c
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// What a client with a certificate is offered and told, and what the log and the metrics say.
func TestLoginsByCertificateAreAnswered(t *testing.T) {
	x := newExternal(t, func(o *Options) { o.Names.RefuseSeparators = "*"; o.Names.Lowercase = true })
	for name, c := range map[string]struct {
		cert         func() tls.Certificate
		message      string // the authorization identity
		verdict      auth.Verdict
		offered      bool
		code, reason string
		metric       string
	}{
		"its own":             {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org") }, offered: true},
		"in other letters":    {cert: func() tls.Certificate { return x.ca.Issue("Alice@Example.ORG") }, offered: true},
		"it names itself":     {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org") }, message: "ALICE@example.org", offered: true},
		"it names another":    {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org") }, message: "bob@example.org", offered: true, code: "AUTHORIZATIONFAILED", reason: "bad_authzid"},
		"injection":           {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org") }, message: "alice@example.org\r\na2 LOGOUT", offered: true, code: "AUTHORIZATIONFAILED", reason: "bad_authzid"},
		"NUL":                 {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org") }, message: "alice@example.org\x00", offered: true, code: "AUTHENTICATIONFAILED", reason: "malformed"},
		"8-bit":               {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org") }, message: "\xff\xfe", offered: true, code: "AUTHENTICATIONFAILED", reason: "malformed"},
		"long":                {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org") }, message: strings.Repeat("a", 5000), offered: true, code: "AUTHORIZATIONFAILED", reason: "bad_authzid"},
		"unknown":             {cert: func() tls.Certificate { return x.ca.Issue("bob@example.org") }, offered: true, code: "AUTHENTICATIONFAILED", reason: "unknown_user"},
		"locked":              {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org") }, verdict: auth.Rejected{Reason: auth.ReasonAccountDisabled}, offered: true, code: "AUTHENTICATIONFAILED", reason: "account_disabled"},
		"unavailable":         {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org") }, verdict: auth.Unavailable{Err: errAway}, offered: true, code: "UNAVAILABLE", reason: "unavailable"},
		"a master's name":     {cert: func() tls.Certificate { return x.ca.Issue("alice*master@example.org") }, offered: true, code: "AUTHENTICATIONFAILED", reason: "bad_name"},
		"NUL in its name":     {cert: func() tls.Certificate { return x.ca.Issue("alice@example.org\x00.example.net") }, offered: true, code: "AUTHENTICATIONFAILED", reason: "bad_name"},
		"no name":             {cert: func() tls.Certificate { return x.ca.Issue("") }, code: "AUTHENTICATIONFAILED", reason: "bad_certificate"},
		"another's authority": {cert: func() tls.Certificate { return imaptest.NewCA(t, "users").Issue("alice@example.org") }, code: "AUTHENTICATIONFAILED", reason: "bad_certificate"},
		"expired": {cert: func() tls.Certificate {
			return x.ca.Issue("alice@example.org", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		}, code: "AUTHENTICATIONFAILED", reason: "bad_certificate"},
		"a server's": {cert: func() tls.Certificate {
			return x.ca.Issue("alice@example.org", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		}, code: "AUTHENTICATIONFAILED", reason: "bad_certificate"},
	} {
		for _, initial := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				x.source.says(c.verdict)
				cert := c.cert()
				before := x.metric("imapproxy_login_failures_total", `reason="`+c.reason+`"`)
				client := x.with(t, &cert)
				caps, _ := client.MustOK("CAPABILITY").Find("CAPABILITY")
				if strings.Contains(client.Greeting.Text, "AUTH=EXTERNAL") != c.offered || strings.Contains(caps.Text, " AUTH=EXTERNAL") != c.offered {
					t.Errorf("it is offered: %t, want %t: %s", !c.offered, c.offered, caps)
				}
				line := "="
				if c.message != "" {
					line = b64(c.message)
				}
				r := func() imaptest.Response {
					if initial {
						client.Write("a1 AUTHENTICATE external " + line)
						return client.Read()
					}
					client.Write("a1 AUTHENTICATE EXTERNAL")
					if r := client.Read(); r.Tag() != "+" {
						return r
					}
					client.Write(strings.TrimPrefix(line, "="))
					return client.Read()
				}()
				if r.Tag() != "a1" || (r.Status() == "OK") != (c.reason == "") || r.Status() != "OK" && r.Code() != c.code {
					t.Fatalf("answered %s", r)
				}
				client.MustOK("NOOP") // both sides are in step
				if c.reason == "" {
					x.logs.wait(t, `login.*mechanism=EXTERNAL source=sql`)
					x.mu.Lock()
					defer x.mu.Unlock()
					if last := x.told[len(x.told)-1]; last != "alice@example.org" {
						t.Errorf("the backend is told of %q", last)
					}
					return
				}
				x.logs.wait(t, `login failed.*mechanism=EXTERNAL reason=`+c.reason)
				if n := x.metric("imapproxy_login_failures_total", `reason="`+c.reason+`"`); n != before+1 {
					t.Errorf("it is counted %v times", n-before)
				}
			})
		}
	}
	x.source.mu.Lock()
	defer x.source.mu.Unlock()
	for _, c := range x.source.asked {
		if c.Password != "" || !c.TLS || c.Mechanism != auth.MechanismExternal {
			t.Errorf("the source is asked about %+v", c)
		}
	}
	if x.metric("imapproxy_login_duration_seconds_count", `mechanism="EXTERNAL"`, `outcome="ok"`) == 0 {
		t.Error("the metrics have no such login")
	}
}

// Without a certificate, without TLS and without a master there is no EXTERNAL.
func TestWithoutACertificateNothingIsOffered(t *testing.T) {
	x := newExternal(t)
	refused := func(c *imaptest.Client) {
		t.Helper()
		caps, _ := c.MustOK("CAPABILITY").Find("CAPABILITY")
		if a := c.Cmd("AUTHENTICATE EXTERNAL ="); strings.Contains(caps.Text, "EXTERNAL") || a.Tagged.Status() != "NO" || a.Tagged.Code() != "CANNOT" {
			t.Errorf("%s, %s", caps, a.Tagged)
		}
		if !strings.Contains(caps.Text, "AUTH=PLAIN") {
			t.Errorf("passwords aren't taken any more: %s", caps)
		}
	}
	refused(x.with(t, nil))
	refused(x.dial(plain))
	cert := x.ca.Issue("alice@example.org")
	under := imaptest.DialStartTLS(t, x.addr(startTLS), x.tls(&cert))
	if caps, _ := under.MustOK("CAPABILITY").Find("CAPABILITY"); !strings.Contains(caps.Text, " AUTH=EXTERNAL") {
		t.Errorf("not after STARTTLS: %s", caps)
	}
	under.MustOK("AUTHENTICATE EXTERNAL =")

	x = newExternal(t, func(o *Options) { o.Login = upstream.Auth{Mode: upstream.ModeUser} })
	cert = x.ca.Issue("alice@example.org")
	refused(x.with(t, &cert))
	x = newExternal(t, func(o *Options) { o.Sources = []auth.Source{auth.NewBackend()} })
	cert = x.ca.Issue("alice@example.org")
	refused(x.with(t, &cert))
}

// A TLS session that is resumed has the certificate of the first; it is looked at again.
func TestACertificateCountsInAResumedTLSSession(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		x := newExternal(t)
		cert := x.ca.Issue("alice@example.org")
		config := x.tls(&cert)
		config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(4)
		first := imaptest.DialTLS(t, x.addr(implicit), config)
		first.MustOK("NOOP") // TLS 1.3 sends its tickets after the handshake
		second := imaptest.DialTLS(t, x.addr(implicit), config)
		if !tlsOf(t, second).DidResume {
			t.Fatal("the TLS session isn't resumed")
		}
		second.MustOK("AUTHENTICATE EXTERNAL =")
		x.revoke(t, cert)
		x.refresh()
		third := imaptest.DialTLS(t, x.addr(implicit), config)
		if a := third.Cmd("AUTHENTICATE EXTERNAL ="); !tlsOf(t, third).DidResume || a.Tagged.Code() != "AUTHENTICATIONFAILED" {
			t.Errorf("a revoked certificate in a resumed TLS session: %s", a.Tagged)
		}
	}
}

// What a client sends as its certificate is bounded; sessions keep it.
func TestCertificatesThatAreTooLongEndTheHandshake(t *testing.T) {
	x := newExternal(t)
	many := x.ca.Issue("alice@example.org")
	for len(many.Certificate) <= maxClientCerts {
		many.Certificate = append(many.Certificate, x.ca.Cert.Raw)
	}
	long := x.ca.Issue("alice@example.org", func(c *x509.Certificate) {
		c.DNSNames = []string{strings.Repeat(strings.Repeat("a", 60)+".", 300)}
	})
	for _, cert := range []tls.Certificate{many, long} {
		before := x.closed(session.ReasonTLS)
		c, err := tls.Dial("tcp", x.addr(implicit), x.tls(&cert))
		if err == nil {
			_, err = c.Read(make([]byte, 100))
			_ = c.Close()
		}
		if err == nil {
			t.Error("it has been greeted")
		}
		eventually(t, "the session's end", func() bool { return x.closed(session.ReasonTLS) == before+1 })
	}
}

// A revoked certificate ends its sessions, attached and parked, and no others; so does a user who is locked.
func TestSessionsEndWithTheirCertificates(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *external, tls.Certificate){
		"revoked": func(t *testing.T, x *external, cert tls.Certificate) {
			x.revoke(t, cert)
			x.refresh()
		},
		"locked": func(t *testing.T, x *external, _ tls.Certificate) {
			x.source.says(auth.Rejected{Reason: auth.ReasonAccountDisabled})
			x.srv.recheckSoon()
		},
		"gone from the settings": func(t *testing.T, x *external, _ tls.Certificate) {
			o := x.opts
			o.Listeners = slices.Clone(o.Listeners)
			for i := range o.Listeners {
				o.Listeners[i].ClientCertificates = nil
			}
			must(t, x.srv.Reload(o))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newExternal(t, func(o *Options) { o.Recheck = time.Hour })
			first, second := x.ca.Issue("alice@example.org"), x.ca.Issue("alice@example.org")
			attached, other := x.with(t, &first), x.with(t, &second)
			attached.MustOK("AUTHENTICATE EXTERNAL =")
			other.MustOK("AUTHENTICATE EXTERNAL =")
			parked := x.with(t, &first)
			parked.MustOK("AUTHENTICATE EXTERNAL =")
			parked.MustOK("SELECT INBOX")
			x.idles(parked)
			x.srv.Sweep()
			end(t, x, first)
			ends := map[bool]int{true: 2, false: 3}[name == "revoked"]
			eventually(t, "the sessions' end", func() bool { return x.closed(session.ReasonCredentials) == ends })
			for _, c := range []*imaptest.Client{attached, parked} {
				if r := c.Read(); r.Status() != "BYE" {
					t.Errorf("the client hears %s", r)
				}
				c.ExpectEOF()
			}
			if name == "revoked" {
				other.MustOK("NOOP")
			}
		})
	}
}

// Files that can't be used leave the old ones in use, and it is said once.
func TestRevocationsAreReadAgain(t *testing.T) {
	x := newExternal(t)
	cert := x.ca.Issue("alice@example.org")
	x.revoke(t, cert)
	x.refresh()
	must(t, os.WriteFile(x.crlFile, imaptest.NewCA(t, "other").Revocations(nil), 0o600))
	for range 3 {
		x.refresh()
	}
	if a := x.with(t, &cert).Cmd("AUTHENTICATE EXTERNAL ="); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
		t.Errorf("a revoked certificate with a list that can't be used: %s", a.Tagged)
	}
	if n := strings.Count(x.logs.String(), "not reloaded, the old ones stay in use"); n != 2 {
		t.Errorf("two listeners say it %d times", n)
	}
	x.revoke(t)
	x.refresh()
	x.with(t, &cert).MustOK("AUTHENTICATE EXTERNAL =")
}

// What ends is told of each listener: the authority's certificate and its list, and why new files can't be used.
func TestTheEndsOfAuthoritiesAreTold(t *testing.T) {
	x := newExternal(t)
	x.revoke(t)
	x.refresh()
	all := x.srv.Authorities()
	lists := 0
	for _, a := range all {
		if a.Listener == "" || a.Whose == "" || a.Error != "" || !a.From.Before(a.Until) {
			t.Errorf("%+v", a)
		}
		if a.List {
			lists++
		}
	}
	if len(all) != 4 || lists != 2 {
		t.Errorf("two listeners with an authority and its list: %+v", all)
	}
	must(t, os.WriteFile(x.crlFile, imaptest.NewCA(t, "other").Revocations(nil), 0o600))
	x.refresh()
	said := 0
	for _, a := range x.srv.Authorities() {
		if a.Error != "" {
			said++
		}
	}
	if said != 2 {
		t.Errorf("of two listeners %d say that their new files can't be used", said)
	}
}
