package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// certFiles writes a certificate to files.
func certFiles(t testing.TB, cert imaptest.Cert, into string) Certificate {
	t.Helper()
	c := Certificate{CertFile: filepath.Join(into, "cert.pem"), KeyFile: filepath.Join(into, "key.pem")}
	must(t, os.WriteFile(c.CertFile, cert.CertPEM, 0o600))
	must(t, os.WriteFile(c.KeyFile, cert.KeyPEM, 0o600))
	return c
}

// leaf is the certificate that a server shows a client that asks for a name.
func leaf(t testing.TB, addr, serverName string) []byte {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: serverName, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	must(t, err)
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Raw
}

func TestTheCertificateIsChosenBySNI(t *testing.T) {
	a, b := imaptest.NewCert(t, "imap.example.org"), imaptest.NewCert(t, "mail.example.com", "imap.example.com")
	l := newLab(t, labOptions{change: func(o *Options) {
		for i := range o.Listeners {
			if o.Listeners[i].TLS != session.TLSNone {
				o.Listeners[i].Certificates = []Certificate{{CertPEM: a.CertPEM, KeyPEM: a.KeyPEM}, {CertPEM: b.CertPEM, KeyPEM: b.KeyPEM}}
			}
		}
	}})
	rawA, rawB := a.Server.Certificates[0].Certificate[0], b.Server.Certificates[0].Certificate[0]
	for name, want := range map[string][]byte{"imap.example.org": rawA, "mail.example.com": rawB, "IMAP.example.com": rawB, "": rawA, "other.example.net": rawA} {
		if !bytes.Equal(leaf(t, l.addr(implicit), name), want) {
			t.Errorf("%q is shown the other certificate", name)
		}
	}
	c := imaptest.DialStartTLS(t, l.addr(startTLS), b.Client)
	c.Login("alice", password)
}

func TestCertificatesAreReadAgainAndNoSessionNotices(t *testing.T) {
	dir := t.TempDir()
	first, second := imaptest.NewCert(t), imaptest.NewCert(t)
	files := certFiles(t, first, dir)
	l := newLab(t, labOptions{change: func(o *Options) {
		for i := range o.Listeners {
			if o.Listeners[i].TLS == session.TLSImplicit {
				o.Listeners[i].Certificates = []Certificate{files}
			}
		}
	}})
	c := imaptest.DialTLS(t, l.addr(implicit), first.Client)
	c.Login("alice", password)
	refresh := func() {
		for _, li := range l.srv.listeners {
			li.set.Load().refresh()
		}
	}
	shown := func(want imaptest.Cert) {
		t.Helper()
		if !bytes.Equal(leaf(t, l.addr(implicit), "localhost"), want.Server.Certificates[0].Certificate[0]) {
			t.Error("the other certificate is shown")
		}
	}
	// A renewal half done: the new certificate with the old key.
	must(t, os.WriteFile(files.CertFile, second.CertPEM, 0o600))
	for range 3 {
		refresh()
		shown(first)
	}
	l.logs.wait(t, "certificate not reloaded")
	if n := strings.Count(l.logs.String(), "certificate not reloaded"); n != 1 {
		t.Errorf("that is said %d times", n)
	}
	must(t, os.WriteFile(files.KeyFile, second.KeyPEM, 0o600))
	refresh()
	shown(second)
	must(t, os.Remove(files.KeyFile))
	refresh()
	shown(second)
	l.logs.wait(t, "certificate not reloaded.*no such file")
	c.MustOK("NOOP")
	imaptest.DialTLS(t, l.addr(implicit), second.Client).Login("bob", password)
}

func TestOldTLSIsRefused(t *testing.T) {
	l := newLab(t, labOptions{change: func(o *Options) {
		for i := range o.Listeners {
			if o.Listeners[i].Name == startTLS {
				o.Listeners[i].MinVersion = tls.VersionTLS13
			}
		}
	}})
	old := l.cert.Client.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if c, err := tls.Dial("tcp", l.addr(implicit), old); err == nil {
		c.Close()
		t.Error("TLS 1.1 is taken")
	}
	old.MaxVersion = tls.VersionTLS12
	imaptest.DialTLS(t, l.addr(implicit), old).Login("alice", password)
	c := imaptest.Dial(t, l.addr(startTLS))
	if err := c.Conn.StartTLS(old); err == nil {
		t.Error("TLS 1.2 is taken where 1.3 is asked for")
	}
	l.ended(session.ReasonTLS)
	// A browser that was led here speaks of HTTP (ALPACA).
	http := l.cert.Client.Clone()
	http.NextProtos = []string{"h2", "http/1.1"}
	if c, err := tls.Dial("tcp", l.addr(implicit), http); err == nil {
		c.Close()
		t.Error("HTTP's ALPN is taken")
	}
}

func TestNothingBehindSTARTTLSIsExecuted(t *testing.T) {
	for name, injected := range map[string]string{
		"a command":   "a2 CAPABILITY\r\n",
		"a login":     "a2 LOGIN mallory " + password + "\r\n",
		"half of one": "a2 NO",
		"a line end":  "\r\n",
		"much":        strings.Repeat("a2 NOOP\r\n", 1000),
		"one byte":    "x",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, labOptions{})
			c := l.dial(startTLS)
			must(t, c.SendRaw("a1 STARTTLS\r\n"+injected))
			text, _ := readAll(t, c)
			if strings.Contains(text, "a2") || strings.Contains(text, "a1 OK") {
				t.Fatalf("%q", text)
			}
			if !strings.HasPrefix(text, "a1 BAD ") || !strings.Contains(text, "\r\n* BYE ") {
				t.Fatalf("%q", text)
			}
			if l.backends[0].Accepted() > 0 {
				t.Fatal("a backend was asked")
			}
			_ = c.Conn.Close()
			l.ended(session.ReasonClientProtocol)
		})
	}
}

func TestWhatComesInTheClearBehindSTARTTLSsAnswerIsNotExecutedEither(t *testing.T) {
	l := newLab(t, labOptions{})
	c := l.dial(startTLS)
	if a := c.CmdTag("a1", "STARTTLS"); !a.OK() {
		t.Fatal(a)
	}
	must(t, c.SendRaw("a2 LOGIN mallory "+password+"\r\n"))
	if text, _ := readAll(t, c); strings.Contains(text, "a2") {
		t.Fatalf("%q", text)
	}
	l.ended(session.ReasonTLS)
	if l.backends[0].Accepted() > 0 {
		t.Fatal("a backend was asked")
	}
}

func TestSTARTTLSForgetsWhatWasSaidInTheClear(t *testing.T) {
	d := polite()
	l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}})
	c := l.dial(startTLS)
	c.MustOK(`ID ("x-proxy-ttl" "1")`) // would refuse the login
	must(t, c.Conn.StartTLS(l.cert.Client))
	c.Login("alice", password)
}

// proxied connects to the listener behind a balancer and sends it a header.
func proxied(t *testing.T, l *lab, header string) (*imaptest.Conn, error) {
	t.Helper()
	c, err := imaptest.DialConn(t.Context(), l.addr(behind), imaptest.DialOptions{})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SendRaw(header))
	r, err := c.Next()
	if err == nil && r.Status() != "OK" {
		err = fmt.Errorf("%s", r)
	}
	return c, err
}

func TestThePROXYHeaderNamesTheClient(t *testing.T) {
	src, dst := &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 143}
	src6, dst6 := &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 143}
	header := func(version byte, src, dst net.Addr) string {
		b, err := proxyproto.HeaderProxyFromAddrs(version, src, dst).Format()
		must(t, err)
		return string(b)
	}
	local, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
	must(t, err)
	l := newLab(t, labOptions{})
	for name, c := range map[string]struct{ header, client string }{
		"v1":                          {header(1, src, dst), "192.0.2.7:4711"},
		"v1, IPv6":                    {header(1, src6, dst6), "[2001:db8::7]:4711"},
		"v2":                          {header(2, src, dst), "192.0.2.7:4711"},
		"v2, IPv6":                    {header(2, src6, dst6), "[2001:db8::7]:4711"},
		"v1 UNKNOWN":                  {"PROXY UNKNOWN\r\n", ""},
		"v2 LOCAL":                    {string(local), ""},
		"with a command in one write": {header(2, src, dst) + "a1 NOOP\r\n", "192.0.2.7:4711"},
	} {
		conn, err := proxied(t, l, c.header)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.HasSuffix(c.header, "NOOP\r\n") {
			if r, err := conn.Next(); err != nil || r.Text != "a1 OK Noop completed" {
				t.Errorf("%s: %v %v", name, r, err)
			}
		}
		want := c.client
		if want == "" {
			want = conn.LocalAddr().String()
		}
		found := false
		page, _ := l.srv.Sessions(session.Filter{})
		for _, s := range page {
			found = found || s.Client.String() == want
		}
		if !found {
			t.Errorf("%s: no session of %s: %+v", name, want, page)
		}
		_ = conn.Close()
		eventually(t, "the session's end", func() bool { return l.srv.reg.Total() == 0 })
	}
	// The address counts for everything: this network may log in in the clear.
	c, err := proxied(t, l, header(1, src, dst))
	must(t, err)
	if _, r, err := c.Command("a1", "LOGIN alice wrong"); err != nil || r.Code() != "AUTHENTICATIONFAILED" {
		t.Fatal(r, err)
	}
	l.logs.wait(t, "login failed.*client=192.0.2.7 port=4711")
	if c, err = proxied(t, l, header(1, src6, dst6)); err != nil {
		t.Fatal(err)
	}
	if _, r, err := c.Command("a1", "LOGIN alice wrong"); err != nil || r.Code() != "PRIVACYREQUIRED" {
		t.Fatal(r, err)
	}
}

// A client whose TLS a trusted load balancer has ended is one with TLS, and only if the listener says so.
func TestTheTLSOfATrustedLoadBalancerCounts(t *testing.T) {
	header := func(client uint8, more ...proxyproto.TLV) string {
		h := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP("203.0.113.7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("203.0.113.1"), Port: 993})
		tlv, err := tlvparse.PP2SSL{Client: client, Verify: 1, TLV: []proxyproto.TLV{{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte("TLSv1.3")}}}.Marshal()
		must(t, err)
		must(t, h.SetTLVs(append(more, tlv)))
		b, err := h.Format()
		must(t, err)
		return string(b)
	}
	name := proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("imap.example.org")}
	broken := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP("203.0.113.7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("203.0.113.1"), Port: 993})
	must(t, broken.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_SSL, Value: []byte{1, 0, 0, 0, 0, 0x21, 9, 9}}}))
	cut, err := broken.Format()
	must(t, err)
	for what, c := range map[string]struct {
		header string
		off    bool // tls_from_proxy isn't set
		tls    string
		want   string // of a login with a wrong password
	}{
		"TLS":                {header(1, name), false, session.TLSNone, "AUTHENTICATIONFAILED"},
		"TLS, STARTTLS here": {header(1), false, session.TLSStartTLS, "AUTHENTICATIONFAILED"},
		"no TLS":             {header(0), false, session.TLSNone, "PRIVACYREQUIRED"},
		"not asked for":      {header(1), true, session.TLSNone, "PRIVACYREQUIRED"},
		"not to be read":     {string(cut), false, session.TLSNone, ""},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, labOptions{change: func(o *Options) {
				b := &o.Listeners[3]
				b.TLSFromProxy = !c.off
				if c.tls == session.TLSStartTLS {
					b.TLS, b.Certificates = c.tls, o.Listeners[1].Certificates
				}
			}})
			conn, err := proxied(t, l, c.header)
			if c.want == "" {
				if err == nil {
					t.Error("it is let in")
				}
				return
			}
			must(t, err)
			page, _ := l.srv.Sessions(session.Filter{})
			secure := c.want == "AUTHENTICATIONFAILED"
			if len(page) != 1 || page[0].TLS != secure {
				t.Errorf("the page shows %+v", page)
			}
			lines, r, err := conn.Command("a1", "CAPABILITY")
			must(t, err)
			shown := fmt.Sprint(lines)
			if r.Status() != "OK" || strings.Contains(shown, "LOGINDISABLED") == secure || strings.Contains(shown, "STARTTLS") || strings.Contains(shown, "-PLUS") {
				t.Errorf("it is offered %s", shown)
			}
			if c.tls == session.TLSStartTLS {
				if _, r, err := conn.Command("a2", "STARTTLS"); err != nil || r.Status() != "BAD" {
					t.Errorf("TLS in TLS: %v %v", r, err)
				}
			}
			if _, r, err := conn.Command("a3", "LOGIN alice wrong"); err != nil || r.Code() != c.want {
				t.Errorf("%v %v", r, err)
			}
		})
	}
}

func TestATrustedAddressWithoutAPROXYHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	l := newLab(t, labOptions{})
	for name, header := range map[string]string{
		"IMAP":       "a1 NOOP\r\n",
		"bad v1":     "PROXY TCP4 nowhere nobody 1 2\r\n",
		"long v1":    "PROXY TCP4 " + strings.Repeat("1", 500) + "\r\n",
		"bad v2":     "\r\n\r\n\x00\r\nQUIT\n\xff\xff\xff\xff",
		"TLS":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"line break": "\r\n",
	} {
		if c, err := proxied(t, l, header); err == nil {
			t.Errorf("%s: it is let in", name)
		} else if strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: %v", name, err)
		} else {
			_ = c.Close()
		}
	}
	if n := l.metric("imapproxy_connections_refused_total", string(session.ReasonProxyHeader)); n != 6 {
		t.Errorf("%v are counted: %s", n, grep(l.metrics(), "refused"))
	}
}

func TestASlowPROXYHeaderIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	l := newLab(t, labOptions{})
	c, err := net.Dial("tcp", l.addr(behind))
	must(t, err)
	defer c.Close()
	must(t, c.SetReadDeadline(time.Now().Add(imaptest.DefaultTimeout)))
	_, err = io.WriteString(c, "PROXY TCP4 192")
	must(t, err)
	begun := time.Now()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || time.Since(begun) > 2*proxyHeaderTimeout {
		t.Fatal(n, err, time.Since(begun))
	}
}

func TestNobodyElsesPROXYHeaderIsBelieved(t *testing.T) {
	l := newLab(t, labOptions{change: func(o *Options) {
		o.Listeners[3].ProxyTrusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	}})
	c, err := proxied(t, l, "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n")
	must(t, err)
	if r, err := c.Next(); err != nil || r.Status() != "BAD" {
		t.Fatal(r, err)
	}
	if page, _ := l.srv.Sessions(session.Filter{}); len(page) != 1 || page[0].Client.Addr().String() != "127.0.0.1" {
		t.Fatalf("%+v", page)
	}
}

func TestLimits(t *testing.T) {
	t.Run("connections", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, labOptions{limits: session.Limits{Connections: 3}})
		all := []*imaptest.Client{l.login("alice"), l.login("alice"), l.login("carol")}
		over := l.dial(plain)
		if over.Greeting.Code() != "LIMIT" || over.Greeting.Status() != "BYE" {
			t.Fatal(over.Greeting)
		}
		over.ExpectEOF()
		if over := l.dial(implicit); over.Greeting.Code() != "LIMIT" {
			t.Fatal("one more is let in:", over.Greeting)
		}
		all[1].MustOK("LOGOUT")
		must(t, all[1].Conn.Close())
		eventually(t, "room", func() bool { return l.srv.reg.Proved() == 2 })
		l.login("bob")
		if n := l.metric("imapproxy_connections_refused_total", `reason="connections"`); n != 2 {
			t.Errorf("%v are counted: %s", n, grep(l.metrics(), "refused"))
		}
	})
	t.Run("per_ip", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, labOptions{limits: session.Limits{PerIP: 2}})
		from := func(ip string, ok bool) {
			t.Helper()
			_, err := proxied(t, l, "PROXY TCP6 "+ip+" 2001:db8::1 1 2\r\n")
			if (err == nil) != ok {
				t.Fatalf("%s: %v", ip, err)
			}
		}
		l.dial(plain)
		l.dial(plain)
		if c := l.dial(plain); c.Greeting.Code() != "LIMIT" {
			t.Fatal(c.Greeting)
		}
		from("2001:db8:1::1", true)
		from("2001:db8:1::2", true)
		from("2001:db8:1:0:ffff::3", false) // the same /64
		from("2001:db8:1:1::1", true)
		from("::ffff:127.0.0.1", false) // the same as over IPv4
	})
	t.Run("per_user", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, labOptions{limits: session.Limits{PerUser: 2}})
		a := l.login("alice")
		l.login("alice")
		c := l.dial(plain)
		if a := c.TryLogin("alice", password); a.Tagged.Status() != "NO" || a.Tagged.Code() != "LIMIT" {
			t.Fatal(a)
		}
		l.logs.wait(t, "login failed.*reason=limit user=alice")
		l.login("bob")
		must(t, a.Conn.Close())
		l.backends[0].WaitOpen(2)
		eventually(t, "room", func() bool { return c.TryLogin("alice", password).OK() })
	})
}

func TestReload(t *testing.T) {
	l := newLab(t, labOptions{})
	old, idle := l.login("alice"), l.dial(plain)
	o := l.opts
	o.Hostname, o.Limits.PerUser = "new.test", 1
	o.Listeners = append([]ListenerOptions(nil), l.opts.Listeners...)
	o.Listeners[0].CleartextFrom = nil
	must(t, l.srv.Reload(o))
	c := l.dial(startTLS)
	if !strings.Contains(c.Greeting.Text, "new.test") {
		t.Fatal(c.Greeting)
	}
	if c = l.dial(plain); !strings.Contains(c.Greeting.Text, "LOGINDISABLED") {
		t.Fatal(c.Greeting)
	}
	must(t, imaptest.DialStartTLS(t, l.addr(startTLS), l.cert.Client).Conn.Close())
	if a := l.dialTLS().TryLogin("alice", password); a.Tagged.Code() != "LIMIT" {
		t.Fatal(a)
	}
	old.MustOK("NOOP")
	if a := idle.TryLogin("bob", password); a.Tagged.Code() != "PRIVACYREQUIRED" {
		t.Fatalf("a password in the clear, after it was forbidden: %s", a)
	}

	bad := o
	bad.Listeners = append([]ListenerOptions(nil), o.Listeners...)
	bad.Hostname = "worse.test"
	bad.Listeners[2].Certificates = []Certificate{{CertFile: "missing", KeyFile: "missing"}}
	if err := l.srv.Reload(bad); err == nil || !strings.Contains(err.Error(), implicit) {
		t.Fatal(err)
	}
	bad.Listeners[2].Certificates = nil
	if err := l.srv.Reload(bad); err == nil {
		t.Fatal("a listener without certificate")
	}
	if c = l.dial(startTLS); !strings.Contains(c.Greeting.Text, "new.test") {
		t.Fatal(c.Greeting)
	}
}

// dialTLS is a client under implicit TLS.
func (l *lab) dialTLS() *imaptest.Client { return l.dial(implicit) }

func TestNewSaysWhatIsMissing(t *testing.T) {
	l := newLab(t, labOptions{})
	for name, spoil := range map[string]func(*Options){
		"no router":      func(o *Options) { o.Router = nil },
		"no dialer":      func(o *Options) { o.Dialer = nil },
		"no source":      func(o *Options) { o.Sources = nil },
		"no certificate": func(o *Options) { o.Listeners = []ListenerOptions{{Name: "x", TLS: session.TLSImplicit}} },
		"TLS mode":       func(o *Options) { o.Listeners = []ListenerOptions{{Name: "x", TLS: "perhaps"}} },
	} {
		o := l.opts
		spoil(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	o := l.opts
	o.Listeners = []ListenerOptions{{Name: "free", Address: "127.0.0.1:0", TLS: session.TLSNone}, {Name: "taken", Address: l.addr(plain), TLS: session.TLSNone}}
	s, err := New(o)
	must(t, err)
	if err := s.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context()); err == nil {
		t.Fatal("it serves without listening")
	}
}
