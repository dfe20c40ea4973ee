package proxy

import (
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
)

// refuses is a backend that answers a login with these lines; TAG stands for its tag.
func refuses(lines ...string) imaptest.Handler {
	return func(c *imaptest.BackendConn) error {
		if err := c.Send("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN] ready"); err != nil {
			return err
		}
		cmd, err := c.ReadCommand()
		if err != nil {
			return err
		}
		for _, line := range lines {
			if err := c.Send(strings.ReplaceAll(line, "TAG", cmd.Tag())); err != nil {
				return err
			}
		}
		if strings.HasPrefix(lines[len(lines)-1], "* BYE") {
			return nil
		}
		_, err = c.ReadCommand()
		return err
	}
}

// What a backend says of a user who isn't let in is the user's to hear, one line each, and nothing
// else of it is.
func TestARefusalAboutTheUserReachesTheClient(t *testing.T) {
	const wrong, away = "NO [AUTHENTICATIONFAILED] Authentication failed", "NO [UNAVAILABLE] {*}"
	for _, c := range []struct {
		name  string
		lines []string
		user  string // what the client is answered under mode user, less the tag
		under string // mode master
		alert string
	}{
		{"no code", []string{"TAG NO go away"}, wrong, away, ""},
		{"wrong password", []string{"TAG NO [AUTHENTICATIONFAILED] x"}, wrong, away, ""},
		{"alert", []string{"TAG NO [ALERT] Read your letters"}, "NO [ALERT] Read your letters", "NO [ALERT] Read your letters", ""},
		{"expired", []string{"TAG NO [EXPIRED] Choose another password"}, "NO [EXPIRED] Choose another password", away, ""},
		{"administrator", []string{"TAG NO [CONTACTADMIN] Call 5555"}, "NO [CONTACTADMIN] Call 5555", "NO [CONTACTADMIN] Call 5555", ""},
		{"limit", []string{"TAG NO [LIMIT] Ten are enough"}, "NO [LIMIT] Ten are enough", "NO [LIMIT] Ten are enough", ""},
		{"in use", []string{"TAG NO [INUSE] Locked"}, "NO [INUSE] Locked", "NO [INUSE] Locked", ""},
		{"not permitted", []string{"TAG NO [NOPERM] No IMAP for you"}, "NO [NOPERM] No IMAP for you", away, ""},
		{"in the browser", []string{"TAG NO [WEBALERT https://accounts.example.org/x?y=z] Log in there"}, "NO [WEBALERT https://accounts.example.org/x?y=z] Log in there", away, ""},
		{"TLS", []string{"TAG NO [PRIVACYREQUIRED] TLS"}, "NO [PRIVACYREQUIRED] TLS", away, ""},
		{"its own trouble", []string{"TAG NO [SERVERBUG] core dumped"}, away, away, ""},
		{"unknown code", []string{"TAG NO [XSECRET] whatever"}, wrong, away, ""},
		{"alert before the answer", []string{"* OK [ALERT] Closed until Monday", "TAG NO [AUTHENTICATIONFAILED] x"}, wrong, away, "Closed until Monday"},
		{"alert before it is away", []string{"* OK [ALERT] Closed until Monday", "TAG NO [UNAVAILABLE] x"}, away, away, "Closed until Monday"},
		{"a notice isn't an alert", []string{"* OK Closed until Monday", "TAG NO [AUTHENTICATIONFAILED] x"}, wrong, away, ""},
		{"BYE", []string{"* BYE [LIMIT] Ten are enough"}, "NO [LIMIT] Ten are enough", "NO [LIMIT] Ten are enough", ""},
		{"BYE with an alert before it", []string{"* OK [ALERT] Closed until Monday", "* BYE [CONTACTADMIN] Call 5555"}, "NO [CONTACTADMIN] Call 5555", "NO [CONTACTADMIN] Call 5555", "Closed until Monday"},
		{"unprintable", []string{"TAG NO [ALERT] a\x1b[2Jb\x7f\u202ec\u0085d\xffe é"}, "NO [ALERT] a [2Jb ?c?d?e é", "NO [ALERT] a [2Jb ?c?d?e é", ""},
		{"too long", []string{"TAG NO [ALERT] " + strings.Repeat("x", 5000)}, "NO [ALERT] " + strings.Repeat("x", 500) + "…", "NO [ALERT] " + strings.Repeat("x", 500) + "…", ""},
		{"it says the password", []string{"TAG NO [ALERT] not " + password}, "NO [ALERT] (text withheld{*}", "NO [ALERT] {*}", ""},
	} {
		for mode, want := range map[string]string{upstream.ModeUser: c.user, upstream.ModeMaster: c.under} {
			t.Run(c.name+", mode "+mode, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, labOptions{handlers: []imaptest.Handler{refuses(c.lines...)}, change: func(o *Options) {
					if mode == upstream.ModeMaster {
						o.Sources = []auth.Source{knows{}}
						o.Login = upstream.Auth{Mode: mode, MasterUser: "master", MasterPassword: "of-the-master"}
					}
				}})
				if c.name == "it says the password" && mode == upstream.ModeMaster {
					return // there it isn't the password that was sent
				}
				client := l.dial(plain)
				client.Write("a LOGIN alice " + password)
				if c.alert != "" {
					client.Expect("* OK [ALERT] " + c.alert)
				}
				client.Expect("a " + want)
				client.MustOK("NOOP")
			})
		}
	}
}

// Under TLS the client can do nothing about a backend that wants it.
func TestPrivacyRequiredIsToldToWhomItHelps(t *testing.T) {
	l := newLab(t, labOptions{handlers: []imaptest.Handler{refuses("TAG NO [PRIVACYREQUIRED] TLS")}})
	client := l.dial(implicit)
	client.Write("a LOGIN alice " + password)
	client.Expect("a NO [UNAVAILABLE] {*}")
}

// LITERAL+ before login says what the backends take after it, as far as that is known.
func TestLiteralPlusIsOfferedWhereTheBackendsHaveIt(t *testing.T) {
	caps := "IMAP4rev1 LITERAL+"
	l := newLab(t, labOptions{handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error {
		return imaptest.Dialogue{LoginCaps: caps}.Serve(c)
	}}})
	greeting := func(want string) {
		t.Helper()
		c := l.dial(plain)
		if got, err := imaptest.Match("* OK [CAPABILITY IMAP4rev1"+want+" SASL-IR {*}", c.Greeting); !got || err != nil {
			t.Errorf("%s, want%q", c.Greeting, want)
		}
	}
	greeting("")
	l.login("alice")
	greeting(" LITERAL+")
}
