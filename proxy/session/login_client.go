package session

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"imapproxy/internal/fair"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/wire"
)

// Bounds before login, when the client is still unknown. RFC 2683 §3.2.1.5 has servers accept lines of 8,000
// octets; passwords and tokens may have 8 KiB, in PLAIN on one line in base64.
const (
	maxPreLine    = 12 << 10
	maxPreLiteral = 8 << 10
	// maxAttempts is how many failed logins end a connection, maxBad how many invalid commands; both are
	// Dovecot's numbers.
	maxAttempts = 10
	maxBad      = 3
	// largeFactor is how much longer an ID and a token may be than other lines: RFC 2971 §3.3 allows 30 fields with
	// values of 1,024 octets; a token of 16 KiB has 24 in base64.
	largeFactor = 4
	// farewellIn bounds the write of the last line.
	farewellIn = 2 * time.Second
)

// preLogin is the state of a session before login. One goroutine owns it.
type preLogin struct {
	*Session
	r          *wire.Reader
	commanded  time.Time           // when the current command was read
	loginTag   string              // the tag of the login that succeeded
	ttl        int                 // how many more proxies the session may pass (ID x-proxy-ttl); 0: unknown
	device     string              // what the client has said with ID, for the policy server
	attempts   int                 // failed logins
	bads       int                 // invalid commands
	large      *netip.Prefix       // the network whose slot for a large command the session holds; nil: it holds none
	direct     netip.AddrPort      // the address that the peer has connected to
	exchanging bool                // the next line is a response of an exchange that may have a token
	asked      time.Time           // when the last login began
	sources    uint64              // auth.Version when the last login began
	place      *fair.Place         // among the clients that haven't logged in
	evicted    atomic.Bool         // another client has taken the place
	verified   time.Time           // when the client's certificate was looked at last
	unverified error               // and why it isn't good
	shaken     *guessing.Handshake // the TLS handshake, which counts until the login
}

// say writes a line to the client.
func (p *preLogin) say(line string) error {
	if _, err := p.client.Write([]byte(line)); err != nil {
		return p.broken(err)
	}
	return nil
}

// bad answers an invalid command, and counts it.
func (p *preLogin) bad(tag, text string) error {
	p.bads++
	return p.say(tag + " BAD " + text + "\r\n")
}

// broken returns the end of the session that an error of the client's connection causes.
func (p *preLogin) broken(err error) error {
	var end *endError
	switch {
	case errors.As(err, &end):
		return err
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &endError{reason: ReasonClientClosed}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return contextEnd(p)
	}
	return &endError{reason: ReasonClientLost, cause: err}
}

// unreadable answers or ends the session for an error of the Reader.
func (p *preLogin) unreadable(unit []byte, err error) error {
	var lit *wire.LiteralError
	switch {
	case errors.As(err, &lit) && lit.Sync:
		// The proxy sent no "+", so no literal follows and the stream stays in step.
		p.bads++
		tag := "*"
		if h := wire.ParseCommandHead(wire.FirstLine(unit)); wire.ValidTag(h.Tag) {
			tag = string(h.Tag)
		}
		return p.say(fmt.Sprintf("%s BAD [TOOBIG] Literals before login have at most %d bytes\r\n", tag, maxPreLiteral))
	case errors.As(err, &lit):
		return &endError{reason: ReasonClientProtocol, say: "* BYE [TOOBIG] Literal too long before login\r\n", cause: err}
	case errors.Is(err, wire.ErrLineTooLong):
		return &endError{reason: ReasonClientProtocol, say: "* BYE [TOOBIG] Command line too long\r\n", cause: err}
	case errors.Is(err, wire.ErrNUL):
		return &endError{reason: ReasonClientProtocol, say: "* BYE [CLIENTBUG] NUL isn't allowed in a command\r\n", cause: err}
	}
	return p.broken(err)
}

// mayLogin says whether the client may send passwords over the connection as it is.
func (p *preLogin) mayLogin() bool {
	return p.secure.Load() || p.lis.mayLogin(p.peer.Addr())
}

// contextEnd returns the end of the session that the end of its context causes.
func contextEnd(p *preLogin) error {
	switch {
	case p.env.Draining():
		return &endError{reason: ReasonShutdown}
	case p.evicted.Load():
		return &endError{reason: ReasonLimit}
	}
	return &endError{reason: ReasonLoginTimeout}
}
