package proxy

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/session"
)

// A network that begins many TLS handshakes and doesn't log in gets no more of them; a login takes its handshake back.
func TestTLSHandshakesOfANetworkAreBounded(t *testing.T) {
	start := func(t *testing.T, trusted ...netip.Prefix) *lab {
		return newLab(t, labOptions{change: func(o *Options) {
			o.Handshakes = guessing.HandshakeRules{PerMinute: 3, Trusted: trusted}
		}})
	}
	refused := func(l *lab) bool {
		c, err := tls.Dial("tcp", l.addr(implicit), l.cert.Client)
		if err == nil {
			l.t.Cleanup(func() { _ = c.Close() })
		}
		return err != nil
	}
	t.Run("without a login", func(t *testing.T) {
		l := start(t)
		for range 3 {
			l.dial(implicit)
		}
		if !refused(l) {
			t.Error("a fourth handshake within a moment is made")
		}
		c := l.dial(startTLS) // no handshake yet
		if err := c.Conn.StartTLS(l.cert.Client); err == nil {
			t.Error("a handshake by STARTTLS is made")
		}
		l.dial(plain).Login("alice", password) // no handshake at all
		l.ended(session.ReasonTLS)
		l.logs.wait(t, "TLS handshakes refused.*limits.tls_handshakes")
		if n := l.metric("imapproxy_connections_refused_total", "tls_handshakes"); n != 2 {
			t.Errorf("%v are counted", n)
		}
	})
	t.Run("with logins", func(t *testing.T) {
		l := start(t)
		for range 35 { // also more than a known network has
			imaptest.DialTLS(t, l.addr(implicit), l.cert.Client).Login("alice", password)
		}
	})
	t.Run("a trusted network", func(t *testing.T) {
		l := start(t, netip.MustParsePrefix("127.0.0.0/8"))
		for range 10 {
			l.dial(implicit)
		}
	})
	t.Run("nor for a connection that is turned away", func(t *testing.T) {
		l := newLab(t, labOptions{limits: session.Limits{PerIP: 2}, change: func(o *Options) {
			o.Handshakes = guessing.HandshakeRules{PerMinute: 3}
		}})
		l.dial(implicit)
		l.dial(implicit)
		if over := l.dial(implicit); over.Greeting.Code() != "LIMIT" {
			t.Fatal(over.Greeting)
		}
		if !refused(l) {
			t.Error("a handshake is made for a BYE")
		}
	})
}
