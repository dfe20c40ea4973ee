package proxy

import (
	"slices"
	"testing"

	"imapproxy/internal/imaptest"
)

func TestReloadKeepsAListenersTLSMode(t *testing.T) {
	for _, mode := range []string{TLSNone, TLSStartTLS, TLSImplicit} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, labOptions{})
			o := l.opts
			o.Hostname = "new.test"
			o.Listeners = slices.Clone(o.Listeners)
			for i := range o.Listeners {
				o.Listeners[i].TLS = mode
				o.Listeners[i].Certificates = nil
				if mode != TLSNone {
					o.Listeners[i].Certificates = []Certificate{{CertPEM: l.cert.CertPEM, KeyPEM: l.cert.KeyPEM}}
				}
			}
			must(t, l.srv.Reload(o))
			l.login("alice").MustOK("NOOP")
			c := l.dialTLS()
			c.Login("bob", password)
			if ok, err := imaptest.Match("* OK {*} new.test ready", c.Greeting); !ok || err != nil {
				t.Errorf("%s %v", c.Greeting, err) // all else is taken
			}
			imaptest.DialStartTLS(t, l.addr(startTLS), l.cert.Client).Login("carol", password)
		})
	}
}
