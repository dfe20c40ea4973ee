package auth

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// answering is a server that answers each connection's first lines with some bytes, whatever they are.
func answering(t *testing.T, with string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for line := ""; line != "\r\n"; {
				if line, err = r.ReadString('\n'); err != nil {
					break
				}
			}
			_, _ = io.WriteString(c, with)
			_ = c.Close()
		}
	}()
	return "http://" + l.Addr().String() + "/"
}

// What a service sends by mistake may be the password that it gives for the backend: it is in no error, and so in no log.
func TestErrorsOfRequestsDontRepeatAnAnswer(t *testing.T) {
	const secret = "of-the-backend"
	for name, answer := range map[string]string{
		"a header without a colon": "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nAuth-Pass = " + secret + "\r\n\r\n",
		"a status that isn't one":  "HTTP/1.1 " + secret + "\r\n\r\n",
		"another protocol":         secret + "\r\n\r\n",
		"an odd encoding":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n",
		"an odd length":            "HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n",
	} {
		source, err := NewHTTP(HTTPOptions{URL: answering(t, answer)})
		if err != nil {
			t.Fatal(err)
		}
		v := source.Authenticate(t.Context(), Credentials{User: "alice", Password: "x"})
		u, ok := v.(Unavailable)
		if !ok || strings.Contains(u.Err.Error(), secret) || !errors.Is(u.Err, ErrNotHTTP) {
			t.Errorf("%s: %#v", name, v)
		}
		_, err = source.Try(t.Context())
		if f, ok := errors.AsType[*Fault](err); !ok || strings.Contains(f.Error(), secret) || !strings.Contains(f.Mend, "isn't an HTTP service") {
			t.Errorf("%s: %v", name, err)
		}
		_ = source.Close()
	}
}

// Each mistake about a service's connection, and what mends it.
func TestMendsOfAConnection(t *testing.T) {
	cert := imaptest.NewCert(t)
	ca := imaptest.NewCA(t, "services")
	late := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-3*time.Hour), time.Now().Add(-time.Hour)
	}
	serves := func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses, c.ExtKeyUsage = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	start := func(c *tls.Config) string {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = nil
		if c != nil {
			s.TLS = c
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return s.URL
	}
	with := func(change ...func(*x509.Certificate)) string {
		return start(&tls.Config{Certificates: []tls.Certificate{ca.Issue("", change...)}})
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CertPEM)
	nothing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nothing.Close()
	plain := start(nil)
	for name, c := range map[string]struct{ url, mend string }{
		"expired":           {with(serves, late), "renew the service's certificate"},
		"of another name":   {with(func(c *x509.Certificate) { c.DNSNames = []string{"mail.example.org"}; c.ExtKeyUsage = nil }), "write a name in url that the service's certificate is for"},
		"not for a server":  {with(serves, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), "correct the service's certificate"},
		"another authority": {start(&tls.Config{Certificates: cert.Server.Certificates}), "name the authority's certificate in ca_file"},
		"no TLS there":      {strings.Replace(plain, "http:", "https:", 1), "that port doesn't speak TLS"},
		"TLS there":         {strings.Replace(with(serves), "https:", "http:", 1), "correct url"},
		"nothing there":     {"http://" + nothing.Addr().String() + "/", "start the service, or correct url"},
		"another path":      {plain, "its path is the service's"},
	} {
		source, err := NewHTTP(HTTPOptions{URL: c.url, RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		_, err = source.Try(t.Context())
		if f, ok := errors.AsType[*Fault](err); !ok || !strings.Contains(f.Mend, c.mend) {
			t.Errorf("%s: %v, want %q", name, err, c.mend)
			if ok {
				t.Log(f.Mend)
			}
		}
		_ = source.Close()
	}
	if m := MendConnection(&net.DNSError{Err: "no such host", Name: "x"}, "the directory", "url"); m != "correct the host's name in url, or have this machine find it" {
		t.Errorf("%q", m)
	}
	if m := MendConnection(context.DeadlineExceeded, "the directory", "url"); m != "see that the directory answers, or write a longer timeout" {
		t.Errorf("%q", m)
	}
}

// A service that looks at the password alone lets everyone in who sends none: check finds it.
func TestAServiceIsTriedAsLoginsByCertificatesAskIt(t *testing.T) {
	for name, c := range map[string]struct {
		status func(r *http.Request) string
		says   string
	}{
		"it knows external": {func(*http.Request) string { return "no such user" }, ""},
		"it takes anyone":   {func(*http.Request) string { return "OK" }, "accepts a certificate of a user that doesn't exist"},
		"it can't tell":     {func(*http.Request) string { return "try again later" }, "with Auth-Method: external"},
	} {
		var method, verified string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			method, verified = r.Header.Get("Auth-Method"), r.Header.Get("Auth-SSL-Verify")
			w.Header().Set("Auth-Status", c.status(r))
		}))
		source, err := NewHTTP(HTTPOptions{URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		said, err := source.TryCertified(t.Context())
		if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) || method != "external" || verified != "SUCCESS" {
			t.Errorf("%s: %q, %v (%s, %s)", name, said, err, method, verified)
		}
		_ = source.Close()
		s.Close()
	}
}
