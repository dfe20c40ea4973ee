package proxy

import (
	"testing"

	"github.com/xdg-go/scram"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
)

// Sessions of users whom the proxy has let in without a password, by a token, SCRAM or a certificate, log in to their backend again as others do: after a
// loss, attached or parked.
func TestSessionsWithoutAPasswordLogInAgain(t *testing.T) {
	t.Parallel()
	for name, login := range map[string]func(t *testing.T) (*scripted, *imaptest.Client){
		"token": func(t *testing.T) (*scripted, *imaptest.Client) {
			p, _ := newTokens(t)
			c := p.dial(plain)
			c.MustOK("AUTHENTICATE XOAUTH2 %s", message(auth.MechanismXOAuth2, "alice", password))
			return p, c
		},
		"SCRAM": func(t *testing.T) (*scripted, *imaptest.Client) {
			p, _ := newScram(t)
			c := p.dial(plain)
			if _, r := byScram(t, c, auth.MechanismScramSHA256, "alice", password, scram.ChannelBinding{}, true); r.Status() != "OK" {
				t.Fatal(r)
			}
			return p, c
		},
		"certificate": func(t *testing.T) (*scripted, *imaptest.Client) {
			x := newExternal(t)
			cert := x.ca.Issue("alice@example.org")
			c := x.with(t, &cert)
			c.MustOK("AUTHENTICATE EXTERNAL =")
			return x.scripted, c
		},
	} {
		t.Run(name+", attached", func(t *testing.T) {
			t.Parallel()
			p, c := login(t)
			c.MustOK("SELECT INBOX")
			p.lose()
			p.recovered()
			c.MustOK("NOOP")
		})
		t.Run(name+", parked", func(t *testing.T) {
			t.Parallel()
			p, c := login(t)
			c.MustOK("SELECT INBOX")
			p.idles(c)
			p.lose() // warm connections, and that which watches
			done(c)
			c.MustOK("FETCH 1:* (FLAGS)")
		})
	}
}
