package proxy

import (
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
)

// passwordsOnly is a source that knows nothing but passwords.
type passwordsOnly struct{ auth.Source }

// A reload after which no source has the mechanism ends the sessions that logged in by it, attached and parked ones: otherwise no source
// could ever say that their users are locked.
func TestSessionsEndWhoseMechanismIsGoneFromTheSettings(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (*scripted, func(*imaptest.Client) imaptest.Response){
		"token": func(t *testing.T) (*scripted, func(*imaptest.Client) imaptest.Response) {
			p, _ := newTokens(t, func(o *Options) { o.Recheck = time.Hour })
			return p, func(c *imaptest.Client) imaptest.Response {
				c.Write("a1 AUTHENTICATE OAUTHBEARER " + message("OAUTHBEARER", "alice", password))
				return c.Read()
			}
		},
		"SCRAM": func(t *testing.T) (*scripted, func(*imaptest.Client) imaptest.Response) {
			p, _ := newScram(t, func(o *Options) { o.Recheck = time.Hour })
			return p, func(c *imaptest.Client) imaptest.Response {
				_, r := byScram(t, c, "SCRAM-SHA-256", "alice", password, scram.ChannelBinding{}, true)
				return r
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, login := start(t)
			attached, parked := p.dial(plain), p.dial(plain)
			for _, c := range []*imaptest.Client{attached, parked} {
				if r := login(c); r.Status() != "OK" {
					t.Fatal(r)
				}
			}
			parked.MustOK("SELECT INBOX")
			p.idles(parked)
			p.srv.Sweep()
			o := p.opts
			o.Sources = []auth.Source{passwordsOnly{auth.NewBackend()}}
			must(t, p.srv.Reload(o))
			eventually(t, "both sessions' end", func() bool { return p.closed(session.ReasonCredentials) == 2 })
			for _, c := range []*imaptest.Client{attached, parked} {
				if r := c.Read(); r.Status() != "BYE" {
					t.Errorf("the client hears %s", r)
				}
				c.ExpectEOF()
			}
		})
	}
}
