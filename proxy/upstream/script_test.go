package upstream

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"imapproxy/internal/imaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeBackend serves every connection with handle, on loopback, until the test
// ends. An error of handle's fails the test.
type fakeBackend struct {
	addr string
	b    *imaptest.Backend
}

func serve(tb testing.TB, handle func(net.Conn) error) *fakeBackend {
	tb.Helper()
	b := imaptest.NewBackend(tb, func(c *imaptest.BackendConn) error { return handle(c.Conn) })
	tb.Cleanup(func() { b.WaitOpen(0) }) // a script that isn't done is played to its end
	return &fakeBackend{addr: b.Addr, b: b}
}

// connections is how many there have been.
func (b *fakeBackend) connections() int { return b.b.Accepted() }

// playScript plays a backend's side of a transcript:
//
//	S: text   sends text and CRLF      S- text   sends text as it stands
//	C: text   expects text and CRLF    C- text   expects text as it stands
//	TLS       becomes a TLS server     WAIT      reads until the proxy closes
//	CLOSE     closes at once           SLOW: t   sends t a byte at a time, until the proxy closes
//	ANYLOGIN  reads a line, says OK    ECHO      says what it is told
//
// \r, \n and \x escapes of Go are read in texts. Consecutive C lines are what
// was pipelined: no answer comes before the last of them.
func playScript(c net.Conn, script string, tlsConfig *tls.Config) error {
	r := bufio.NewReader(c)
	for line := range strings.Lines(script) {
		line = strings.TrimLeft(strings.TrimRight(line, "\n"), "\t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		verb, text, _ := strings.Cut(line, " ")
		text = unescape(text)
		switch verb {
		case "S:", "S-":
			if verb == "S:" {
				text += "\r\n"
			}
			if _, err := io.WriteString(c, text); err != nil {
				return nil // the proxy has hung up, which its result will show
			}
		case "C:", "C-":
			if verb == "C:" {
				text += "\r\n"
			}
			got := make([]byte, len(text))
			n, err := io.ReadFull(r, got)
			if string(got[:n]) != text {
				return fmt.Errorf("got %q (%v), want %q", got[:n], err, text)
			}
		case "TLS":
			if r.Buffered() > 0 {
				b, _ := r.Peek(r.Buffered())
				if b[0] != 22 {
					return fmt.Errorf("sent in the clear behind STARTTLS: %q", b)
				}
			}
			t := tls.Server(&readFirst{c, r}, tlsConfig)
			if err := t.Handshake(); err != nil {
				return nil // likewise
			}
			c, r = t, bufio.NewReader(t)
		case "SLOW:":
			if slowly(c, text) != nil {
				return nil
			}
		case "WAIT":
			_, _ = io.Copy(io.Discard, r)
		case "ANYLOGIN":
			if line, err := r.ReadString('\n'); err == nil {
				tag, _, _ := strings.Cut(line, " ")
				_, _ = io.WriteString(c, tag+" OK [CAPABILITY IMAP4rev1] in\r\n")
			}
		case "ECHO":
			_, _ = io.Copy(c, r)
		case "CLOSE":
			return nil
		default:
			return fmt.Errorf("script: what is %q?", line)
		}
	}
	_, _ = io.Copy(io.Discard, r)
	return nil
}

// slowly sends text a byte at a time, over and over, until the peer has gone.
func slowly(c net.Conn, text string) error {
	gone := make(chan struct{})
	go func() { defer close(gone); _, _ = io.Copy(io.Discard, c) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-gone:
			return io.EOF
		case <-tick.C:
			if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
				<-gone
				return err
			}
		}
	}
}

type readFirst struct {
	net.Conn
	r io.Reader
}

func (c *readFirst) Read(p []byte) (int, error) { return c.r.Read(p) }

var unescaper = strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\x00`, "\x00", `\xe9`, "\xe9")

func unescape(s string) string { return unescaper.Replace(s) }

// steps counts the lines of a script that do something.
func steps(script string) (n int) {
	for line := range strings.Lines(script) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			n++
		}
	}
	return n
}

// cut keeps the first n steps of a script and closes after them.
func cut(script string, n int) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		if s := strings.TrimSpace(line); s == "" || s[0] == '#' {
			continue
		}
		if n--; n < 0 {
			break
		}
		out.WriteString(line)
	}
	return out.String() + "\nCLOSE\n"
}

// authority makes certificates for the tests.
type authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	caFile string
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{key: newKey(tb)}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	a.caFile = filepath.Join(tb.TempDir(), "ca.pem")
	if err := os.WriteFile(a.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
	return a
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// server gives a server's configuration with a certificate for name (an IP
// address or a DNS name) that ends at notAfter.
func (a *authority) server(tb testing.TB, name string, notAfter time.Time) *tls.Config {
	tb.Helper()
	key := newKey(tb)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func newDialer(tb testing.TB, opt Options) *Dialer {
	tb.Helper()
	if opt.LoginTimeout == 0 {
		opt.LoginTimeout = 10 * time.Second
	}
	d, err := New(opt)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// login plays one script against one login.
func login(tb testing.TB, d *Dialer, script string, tlsConfig *tls.Config, t Target, a Auth, c Client) (*Conn, error) {
	tb.Helper()
	b := serve(tb, func(nc net.Conn) error { return playScript(nc, script, tlsConfig) })
	t.ID, t.Address = "b1", b.addr
	out, err := d.Login(context.Background(), t, a, c)
	if out != nil {
		tb.Cleanup(func() { _ = out.Close() })
	}
	return out, err
}
