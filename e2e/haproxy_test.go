package e2e

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Behind a real HAProxy: where it ends TLS its clients count as clients with TLS, and those whose connection to it has no TLS don't; where it passes TLS
// on, the proxy ends it. In each case the proxy and the backend know the client's address.
func TestClientsComeThroughHAProxy(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	balanced, _ := servers.FreeAddr(t)
	passed, _ := servers.FreeAddr(t)
	cert := servers.NewCertificate(t)
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Further: fmt.Sprintf(`
listener "balanced" {
  address = %q
  tls     = "none"
  proxy_protocol {
    trusted        = ["127.0.0.1"]
    tls_from_proxy = true
  }
}
listener "passed" {
  address = %q
  tls     = "implicit"
  certificate {
    cert_file = %q
    key_file  = %q
  }
  proxy_protocol {
    trusted = ["127.0.0.1"]
  }
}
`, balanced, passed, cert.CertFile, cert.KeyFile)})
	ends, _ := servers.FreeAddr(t)
	without, _ := servers.FreeAddr(t)
	silent, _ := servers.FreeAddr(t)
	passes, _ := servers.FreeAddr(t)
	servers.StartHAProxy(t, cert,
		servers.HAProxyListener{Addr: ends, Bind: "ssl", To: balanced + " send-proxy-v2-ssl"},
		servers.HAProxyListener{Addr: without, To: balanced + " send-proxy-v2-ssl"},
		servers.HAProxyListener{Addr: silent, Bind: "ssl", To: balanced + " send-proxy-v2"}, // doesn't say that it ends TLS
		servers.HAProxyListener{Addr: passes, To: passed + " send-proxy-v2"},
	)
	for name, c := range map[string]struct {
		addr   string
		tls    *tls.Config
		source string
		in     bool
	}{
		"TLS ended":               {ends, cert.Client, "127.82.0.1", true},
		"no TLS":                  {without, nil, "127.82.0.2", false},
		"TLS ended, but not told": {silent, cert.Client, "127.82.0.3", false},
		"TLS passed on":           {passes, cert.Client, "127.82.0.4", true},
	} {
		client := imaptest.DialWith(t, c.addr, imaptest.DialOptions{TLS: c.tls, Source: c.source})
		offered := client.MustOK("CAPABILITY").String()
		if strings.Contains(offered, "LOGINDISABLED") == c.in || strings.Contains(offered, "STARTTLS") {
			t.Errorf("%s: %s", name, offered)
		}
		a := client.TryLogin(servers.User(1), servers.Password)
		if a.OK() != c.in || !c.in && a.Tagged.Code() != "PRIVACYREQUIRED" {
			t.Errorf("%s: %s", name, a.Tagged)
		}
		if c.in {
			client.MustOK("SELECT INBOX")
			p.eventually(t, name+" in Dovecot's log", func() error {
				if log := readFile(t, dovecot.Log); !strings.Contains(log, "rip="+c.source+",") {
					return fmt.Errorf("Dovecot doesn't know %s:\n%s", c.source, log)
				}
				return nil
			})
		} else if !strings.Contains(p.Output(), "client="+c.source) {
			t.Errorf("%s: the log has no line of %s", name, c.source)
		}
	}
	// Without the header, and from an address that isn't HAProxy's.
	if c, r, err := from(balanced, "127.82.0.5"); err == nil {
		if line, _ := r.ReadString('\n'); strings.Contains(line, "* OK") {
			fmt.Fprint(c, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\na CAPABILITY\r\n")
			if line, _ := r.ReadString('\n'); strings.HasPrefix(line, "* CAPABILITY") {
				t.Errorf("a header of a client is taken: %s", line)
			}
		}
		_ = c.Close()
	}
}
