package servers

import (
	"os/exec"
	"strings"
)

// DovecotOptions are the settings in which the Dovecots of the tests differ.
type DovecotOptions struct {
	Name  string // "" = dovecot-STORE
	Store string // sdbox or maildir; "" = sdbox
	// Mail is the folder of the mail, shared by several Dovecots that stand
	// for a cluster; "" = the server's own.
	Mail string
	// Certificate to serve; made when empty.
	Certificate Certificate
	// Stock leaves the limits, delays and penalties as Debian ships them: no
	// address is trusted, ten connections a user and address, 100 login processes
	// of one connection each, 1,024 sessions, and wrong passwords cost their address time.
	Stock bool
	// Push has it tell of changes; nil: it doesn't.
	Push *DovecotPush
	// LMTPPort has it take deliveries on that port of 127.0.0.1; "": none.
	LMTPPort string
	// POP3Port has it speak POP3 on that port, besides IMAP; "": it doesn't.
	POP3Port string
	// Compress has it offer COMPRESS, which 2.4 does in any case.
	Compress bool
	// Extra is configuration put behind ours, in a syntax that 2.3 and 2.4 share.
	// "%DIR%" in it stands for the server's folder.
	Extra string
	// Host is the address that it listens on, ports 143 and 993, where Command runs it in a network
	// namespace of its own; "" = 127.0.0.1, on free ports.
	Host string
	// Command makes the command that runs it; nil = exec.Command.
	Command func(name string, args ...string) *exec.Cmd
}

// A DovecotPush has Dovecot tell of changes, as docs/push-events.md tells its
// operators to configure it.
type DovecotPush struct {
	Script    string   // contrib/dovecot/push.lua, where Dovecot's mail processes can read it
	TokenFile string   // the token, likewise
	URLs      []string // of the proxies' events addresses
	One       bool     // the first of them that takes an event is told, not all
	// OX is the URL of Dovecot's own driver in place of the script: it tells of
	// deliveries only.
	OX string
	// OXUserFromMetadata tells the OX driver to name the user as the METADATA entry does.
	OXUserFromMetadata bool
}

// URL returns the value of imapproxy_url: all URLs.
func (p DovecotPush) URL() string { return strings.Join(p.URLs, " ") }
