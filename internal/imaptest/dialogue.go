package imaptest

import (
	"crypto/tls"
	"encoding/base64"
	"strings"
)

// A CommandFunc answers one command.
type CommandFunc func(c *BackendConn, cmd Command) error

// A Dialogue is a small correct server, of which a test replaces single commands. The zero value accepts
// every login.
type Dialogue struct {
	Greeting string // "" = "* OK [CAPABILITY <Caps>] ready"
	// Caps are offered before login, LoginCaps after; "" = "IMAP4rev1 SASL-IR
	// ID LITERAL+ AUTH=PLAIN" and "IMAP4rev1 IDLE ID LITERAL+ UIDPLUS MOVE".
	Caps, LoginCaps string
	// NoCapInLogin leaves the capabilities out of the login's OK.
	NoCapInLogin bool
	// Check judges a login; nil accepts all. The text is the answer behind
	// the tag, e.g. "NO [AUTHENTICATIONFAILED] wrong"; "" = accepted.
	Check func(c *BackendConn, l Login) string
	// Commands replace the built-in answers: CAPABILITY, ID, NOOP, LOGIN,
	// AUTHENTICATE, STARTTLS, SELECT, EXAMINE, IDLE, LOGOUT. The key is
	// Command.Name; "*" answers whatever has no other answer.
	Commands map[string]CommandFunc
	// Challenge is what a refused token is challenged with (RFC 7628 §3.2.2), before the answer of Check; "": it isn't.
	Challenge string
	TLS       *tls.Config // of STARTTLS
	Implicit  bool        // TLS at once
}

// A Login is what a client sends to log in.
type Login struct {
	Mechanism string // LOGIN, PLAIN, or OAUTHBEARER or XOAUTH2, whose Password is the token
	Authzid   string
	User      string
	Password  string
}

// Serve is the dialogue's Handler.
func (d Dialogue) Serve(c *BackendConn) error {
	if d.Caps == "" {
		d.Caps = "IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN"
	}
	if d.LoginCaps == "" {
		d.LoginCaps = "IMAP4rev1 IDLE ID LITERAL+ UIDPLUS MOVE"
	}
	if d.Implicit {
		if err := c.StartTLS(d.TLS); err != nil {
			return err
		}
	}
	greeting := d.Greeting
	if greeting == "" {
		greeting = "* OK [CAPABILITY " + d.Caps + "] ready"
	}
	if err := c.Send(greeting); err != nil {
		return err
	}
	s := &dialogueState{d: d, caps: d.Caps}
	for {
		cmd, err := c.ReadCommand()
		if err != nil {
			return err
		}
		f := d.Commands[cmd.Name]
		if f == nil {
			f = s.builtIn(cmd.Name)
		}
		if f == nil {
			f = d.Commands["*"]
		}
		if f == nil {
			f = func(c *BackendConn, cmd Command) error { return c.Send(cmd.Tag() + " BAD unknown command") }
		}
		if err := f(c, cmd); err != nil {
			return err
		}
		if cmd.Name == "LOGOUT" {
			return nil
		}
	}
}

// dialogueState is one connection's.
type dialogueState struct {
	d    Dialogue
	caps string
}

func (s *dialogueState) builtIn(name string) CommandFunc {
	switch name {
	case "CAPABILITY":
		return func(c *BackendConn, cmd Command) error {
			return c.Send("* CAPABILITY "+s.caps, cmd.Tag()+" OK done")
		}
	case "ID":
		return func(c *BackendConn, cmd Command) error {
			return c.Send(`* ID ("name" "scripted")`, cmd.Tag()+" OK done")
		}
	case "NOOP":
		return func(c *BackendConn, cmd Command) error { return c.Send(cmd.Tag() + " OK done") }
	case "SELECT", "EXAMINE":
		return func(c *BackendConn, cmd Command) error {
			return c.Send(`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft)`, "* 3 EXISTS", "* 0 RECENT",
				"* OK [UIDVALIDITY 1] valid", "* OK [UIDNEXT 4] next", cmd.Tag()+" OK [READ-WRITE] selected")
		}
	case "IDLE":
		return s.idle
	case "LOGOUT":
		return func(c *BackendConn, cmd Command) error { return c.Send("* BYE bye", cmd.Tag()+" OK done") }
	case "STARTTLS":
		return func(c *BackendConn, cmd Command) error {
			if s.d.TLS == nil {
				return c.Send(cmd.Tag() + " BAD no TLS here")
			}
			if err := c.Send(cmd.Tag() + " OK go"); err != nil {
				return err
			}
			return c.StartTLS(s.d.TLS)
		}
	case "LOGIN":
		return func(c *BackendConn, cmd Command) error {
			args := append(cmd.Strings(), "", "")
			return s.login(c, cmd.Tag(), Login{Mechanism: "LOGIN", User: args[0], Password: args[1]})
		}
	case "AUTHENTICATE":
		return s.authenticate
	}
	return nil
}

func (s *dialogueState) idle(c *BackendConn, cmd Command) error {
	if err := c.Send("+ idling"); err != nil {
		return err
	}
	line, err := c.ReadCommand()
	if err != nil {
		return err
	}
	if !strings.EqualFold(line.Text, "DONE") {
		return c.Send(cmd.Tag() + " BAD want DONE")
	}
	return c.Send(cmd.Tag() + " OK done")
}

// authenticate is SASL PLAIN, OAUTHBEARER and XOAUTH2 with and without an initial response
// (RFC 9051 §6.2.2, RFC 4616, RFC 7628).
func (s *dialogueState) authenticate(c *BackendConn, cmd Command) error {
	args := cmd.Strings()
	if len(args) == 0 || !strings.Contains(s.d.Caps, "AUTH="+args[0]) {
		return c.Send(cmd.Tag() + " NO mechanism unknown")
	}
	var message string
	if len(args) > 1 {
		message = args[1]
	} else {
		if err := c.Send("+ "); err != nil {
			return err
		}
		line, err := c.ReadCommand()
		if err != nil {
			return err
		}
		message = line.Text
	}
	raw, err := base64.StdEncoding.DecodeString(message)
	if args[0] != "PLAIN" {
		return s.token(c, cmd.Tag(), args[0], string(raw))
	}
	parts := strings.Split(string(raw), "\x00")
	if err != nil || len(parts) != 3 {
		return c.Send(cmd.Tag() + " BAD cancelled or not PLAIN")
	}
	return s.login(c, cmd.Tag(), Login{Mechanism: "PLAIN", Authzid: parts[0], User: parts[1], Password: parts[2]})
}

// token is what follows the message of a mechanism with a token.
func (s *dialogueState) token(c *BackendConn, tag, mechanism, message string) error {
	l := Login{Mechanism: mechanism}
	head, rest, _ := strings.Cut(message, "\x01auth=Bearer ")
	l.Password, _ = strings.CutSuffix(rest, "\x01\x01")
	if l.User, _ = strings.CutPrefix(head, "user="); mechanism == "OAUTHBEARER" {
		l.User = strings.TrimSuffix(strings.TrimPrefix(head, "n,a="), ",")
	}
	if s.d.Check == nil || s.d.Challenge == "" {
		return s.login(c, tag, l)
	}
	if no := s.d.Check(c, l); no != "" {
		if err := c.Send("+ " + base64.StdEncoding.EncodeToString([]byte(s.d.Challenge))); err != nil {
			return err
		}
		if line, err := c.ReadCommand(); err != nil {
			return err
		} else if want := map[string]string{"OAUTHBEARER": "AQ=="}[mechanism]; line.Text != want {
			no = "BAD after a challenge"
		}
		return c.Send(tag + " " + no)
	}
	s.d.Check = nil
	return s.login(c, tag, l)
}

func (s *dialogueState) login(c *BackendConn, tag string, l Login) error {
	if s.d.Check != nil {
		if no := s.d.Check(c, l); no != "" {
			return c.Send(tag + " " + no)
		}
	}
	s.caps = s.d.LoginCaps
	if s.d.NoCapInLogin {
		return c.Send(tag + " OK logged in")
	}
	return c.Send(tag + " OK [CAPABILITY " + s.caps + "] logged in")
}
