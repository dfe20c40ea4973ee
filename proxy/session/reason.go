package session

import (
	"errors"
	"fmt"

	"imapproxy/proxy/track"
)

// Reason is why a session ended. Every end has one; it is a label of
// imapproxy_sessions_closed, so a reason is never renamed.
type Reason string

// The reasons there are; docs/operations.md tells operators what each calls for.
const (
	// The session ran its course.
	ReasonLogout       Reason = "logout"        // the client said LOGOUT
	ReasonClientClosed Reason = "client_closed" // the client closed its connection without LOGOUT
	ReasonBackendBye   Reason = "backend_bye"   // the backend said BYE of its own accord, and the client heard it

	// The network, or a program on either side, failed.
	ReasonClientLost       Reason = "client_lost"        // the client's connection broke: reset, timed out
	ReasonBackendLost      Reason = "backend_lost"       // the backend's connection ended between two responses: BYE [UNAVAILABLE]
	ReasonBackendLostInner Reason = "backend_lost_cut"   // it ended inside a response: closed without another byte
	ReasonBackendProtocol  Reason = "backend_protocol"   // the backend said what isn't IMAP
	ReasonClientProtocol   Reason = "client_protocol"    // the client said what can't be relayed or answered
	ReasonClientUnread     Reason = "client_not_reading" // answers of the proxy's own pile up, the client (or its user's others) reads none
	ReasonTLS              Reason = "tls_failed"         // the handshake with the client failed
	ReasonProxyHeader      Reason = "proxy_protocol"     // no usable PROXY header from a trusted address

	// The proxy ended it.
	ReasonLoginTimeout Reason = "prelogin_timeout" // not logged in within limits.prelogin_timeout
	ReasonAttempts     Reason = "login_attempts"   // too many failed logins or bad commands before login
	ReasonIdle         Reason = "idle_timeout"     // nothing said either way for limits.idle_timeout (RFC 9051 §5.4)
	ReasonLimit        Reason = "limit"            // limits.connections or limits.per_ip
	ReasonMoved        Reason = "moved"            // the user was given another backend (routing's Void)
	ReasonNotSame      Reason = "not_same"         // a parked session's mailbox was made anew, or is another on this backend
	ReasonViewLost     Reason = "view_lost"        // the backend connection was lost, and what the client counts can't be found on another one
	ReasonMailboxGone  Reason = "mailbox_gone"     // it is gone, or the user's rights to it are
	ReasonCredentials  Reason = "credentials"      // the backend doesn't take the credentials any more
	ReasonKicked       Reason = "kicked"           // an operator ended it (Server.Kick)
	ReasonShutdown     Reason = "shutdown"         // the proxy is going away
)

// Reasons lists them all, for the documentation and its test.
func Reasons() []Reason {
	return []Reason{ReasonLogout, ReasonClientClosed, ReasonBackendBye,
		ReasonClientLost, ReasonBackendLost, ReasonBackendLostInner, ReasonBackendProtocol, ReasonClientProtocol,
		ReasonClientUnread, ReasonTLS, ReasonProxyHeader,
		ReasonLoginTimeout, ReasonAttempts, ReasonIdle, ReasonLimit, ReasonMoved, ReasonNotSame, ReasonViewLost, ReasonMailboxGone, ReasonCredentials, ReasonKicked, ReasonShutdown}
}

// Bye is the line that tells the client, where IMAP has one (RFC 9051 §7.1.5,
// codes of RFC 5530). Empty: nothing is said.
func (r Reason) Bye() string {
	switch r {
	case ReasonBackendLost, ReasonViewLost:
		return "* BYE [UNAVAILABLE] The mail server has closed the connection, please connect again\r\n"
	case ReasonBackendProtocol:
		return "* BYE [UNAVAILABLE] The mail server sent invalid data, please connect again\r\n"
	case ReasonClientProtocol:
		return "* BYE [CLIENTBUG] Protocol error\r\n"
	case ReasonLoginTimeout:
		return "* BYE Login timed out\r\n"
	case ReasonAttempts:
		return "* BYE Too many failed attempts\r\n"
	case ReasonIdle:
		return "* BYE Autologout, idle for too long\r\n"
	case ReasonLimit:
		return "* BYE [LIMIT] Too many connections\r\n"
	case ReasonMoved:
		return "* BYE [UNAVAILABLE] Your mailbox has moved to another server, please connect again\r\n"
	case ReasonNotSame, ReasonMailboxGone:
		return "* BYE Your mailbox has changed, please connect again\r\n"
	case ReasonCredentials:
		return "* BYE Your password has changed, please log in again\r\n"
	case ReasonKicked:
		return "* BYE Your session was ended by the administrator\r\n"
	case ReasonShutdown:
		return "* BYE [UNAVAILABLE] Server is shutting down, please connect again\r\n"
	}
	return ""
}

// cuts says whether the connection is closed without another byte.
func (r Reason) cuts() bool {
	return r == ReasonBackendLostInner || r == ReasonClientLost || r == ReasonClientUnread
}

// endError ends a session before login with a reason, the line that tells the
// client (empty: the reason's own) and a cause for the log.
type endError struct {
	reason Reason
	say    string
	cause  error
}

func (e *endError) Error() string {
	if e.cause == nil {
		return string(e.reason)
	}
	return fmt.Sprintf("%s: %v", e.reason, e.cause)
}

func (e *endError) Unwrap() error { return e.cause }

// What a relay can't go on from.
var (
	errLongTag     = fmt.Errorf("a tag of more than %d bytes", track.MaxTag)
	errLongCaps    = fmt.Errorf("a capability list of more than %d bytes", maxCapLine)
	errSessionOver = errors.New("the session is over")
	errLoggedOut   = errors.New("the client has said LOGOUT, and was answered")
)
