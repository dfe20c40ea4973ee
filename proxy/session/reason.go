package session

import (
	"errors"
	"fmt"

	"imapproxy/proxy/track"
)

// Reason is why a session ended. Every ended session has one. It is a label of imapproxy_sessions_closed, so a
// reason is never renamed.
type Reason string

// The reasons; docs/operations.md says what operators should do about each.
const (
	// The session ended normally.
	ReasonLogout       Reason = "logout"        // the client sent LOGOUT
	ReasonClientClosed Reason = "client_closed" // the client closed its connection without LOGOUT
	ReasonBackendBye   Reason = "backend_bye"   // the backend sent BYE on its own, and the client was told

	// The network, or a program on either side, failed.
	ReasonClientLost       Reason = "client_lost"        // the client's connection failed: reset, timed out
	ReasonBackendLost      Reason = "backend_lost"       // the backend's connection ended between two responses: BYE [UNAVAILABLE]
	ReasonBackendLostInner Reason = "backend_lost_cut"   // it ended inside a response: the client's connection is closed without another byte
	ReasonBackendStalled   Reason = "backend_stalled"    // the backend doesn't answer, and the session can't go on with another connection: BYE [UNAVAILABLE], where a response isn't incomplete
	ReasonBackendProtocol  Reason = "backend_protocol"   // the backend sent data that isn't IMAP
	ReasonClientProtocol   Reason = "client_protocol"    // the client sent data that can't be relayed or answered
	ReasonClientUnread     Reason = "client_not_reading" // too many answers of the proxy wait, since the client (or the clients of its user's other sessions) doesn't read
	ReasonTLS              Reason = "tls_failed"         // the handshake with the client failed
	ReasonProxyHeader      Reason = "proxy_protocol"     // no usable PROXY header from a trusted address

	// The proxy ended the session.
	ReasonLoginTimeout Reason = "prelogin_timeout" // not logged in within limits.prelogin_timeout
	ReasonAttempts     Reason = "login_attempts"   // too many failed logins or bad commands before login
	ReasonIdle         Reason = "idle_timeout"     // no byte from either side for limits.idle_timeout (RFC 9051 §5.4)
	ReasonLimit        Reason = "limit"            // limits.connections or limits.per_ip
	ReasonMoved        Reason = "moved"            // the user was sent to another backend (routing's Void)
	ReasonNotSame      Reason = "not_same"         // a parked session's mailbox was created anew, or is another one on this backend
	ReasonSharedLost   Reason = "shared_lost"      // the connection to the backend of a selected shared mailbox was lost, or the rights on it can't be found: BYE [UNAVAILABLE]
	ReasonViewLost     Reason = "view_lost"        // the backend connection was lost, and the messages that the client counts can't be found on another one
	ReasonMailboxGone  Reason = "mailbox_gone"     // the mailbox is gone, or the user has lost the right to read it
	ReasonCapabilities Reason = "capabilities"     // the user's backend lacks what the client was told and relies on, and no other backend can be had
	ReasonCredentials  Reason = "credentials"      // the backend doesn't accept the credentials any more
	ReasonKicked       Reason = "kicked"           // an operator ended it (Server.Kick)
	ReasonShutdown     Reason = "shutdown"         // the proxy shuts down
	ReasonHandover     Reason = "handover"         // the proxy was upgraded, and the old process ends
)

// Reasons returns all reasons, for the documentation and its test.
func Reasons() []Reason {
	return []Reason{ReasonLogout, ReasonClientClosed, ReasonBackendBye,
		ReasonClientLost, ReasonBackendLost, ReasonBackendLostInner, ReasonBackendStalled, ReasonBackendProtocol, ReasonClientProtocol,
		ReasonClientUnread, ReasonTLS, ReasonProxyHeader,
		ReasonLoginTimeout, ReasonAttempts, ReasonIdle, ReasonLimit, ReasonMoved, ReasonNotSame, ReasonSharedLost, ReasonViewLost, ReasonMailboxGone, ReasonCapabilities, ReasonCredentials, ReasonKicked, ReasonShutdown, ReasonHandover}
}

// Bye returns the line that tells the client, if IMAP has one (RFC 9051 §7.1.5, codes of RFC 5530). Empty: the
// client isn't told.
func (r Reason) Bye() string {
	switch r {
	case ReasonBackendStalled:
		return "* BYE [UNAVAILABLE] The mail server doesn't answer, please connect again\r\n"
	case ReasonBackendLost, ReasonSharedLost, ReasonViewLost:
		return "* BYE [UNAVAILABLE] The mail server has closed the connection, please connect again\r\n"
	case ReasonBackendProtocol:
		return "* BYE [UNAVAILABLE] The mail server sent invalid data, please connect again\r\n"
	case ReasonClientProtocol:
		return "* BYE [CLIENTBUG] Protocol error\r\n"
	case ReasonLoginTimeout:
		return "* BYE [LIMIT] Login timed out\r\n"
	case ReasonAttempts:
		return "* BYE [LIMIT] Too many failed attempts\r\n"
	case ReasonIdle:
		return "* BYE [LIMIT] Autologout, idle for too long\r\n"
	case ReasonLimit:
		return "* BYE [LIMIT] Too many connections\r\n"
	case ReasonMoved:
		return "* BYE [UNAVAILABLE] Your mailbox has moved to another server, please connect again\r\n"
	case ReasonNotSame, ReasonMailboxGone:
		return "* BYE [UNAVAILABLE] Your mailbox has changed, please connect again\r\n"
	case ReasonCapabilities:
		return "* BYE [UNAVAILABLE] The mail server can do less than before, please connect again\r\n"
	case ReasonCredentials:
		return "* BYE [AUTHENTICATIONFAILED] Your password has changed, please log in again\r\n"
	case ReasonKicked:
		return "* BYE [UNAVAILABLE] Your session was ended by the administrator\r\n"
	case ReasonHandover:
		return "* BYE [UNAVAILABLE] Server was updated, please connect again\r\n"
	case ReasonShutdown:
		return "* BYE [UNAVAILABLE] Server is shutting down, please connect again\r\n"
	}
	return ""
}

// cuts says whether the connection is closed without another byte.
func (r Reason) cuts() bool {
	return r == ReasonBackendLostInner || r == ReasonClientLost || r == ReasonClientUnread
}

// endError ends a session before login with a reason, a line for the client (empty: the reason's own) and a
// cause for the log.
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

// Errors after which a relay can't go on.
var (
	errLongTag     = fmt.Errorf("a tag of more than %d bytes", track.MaxTag)
	errSessionOver = errors.New("the session is over")
	errLoggedOut   = errors.New("the client has said LOGOUT, and was answered")
)
