package imapclient

import (
	"errors"
	"fmt"
	"strings"

	"imapproxy/proxy/wire"
)

// After these errors the connection can't be used any more.
var (
	// ErrProtocol: the backend sent something that IMAP doesn't allow at this point.
	ErrProtocol = errors.New("protocol error")
	// ErrInjection: the backend's answer to STARTTLS was followed by more bytes in the clear, which an
	// attacker may have inserted (CVE-2021-33515 and others; CVE-2011-0411 is the same attack on servers).
	ErrInjection = errors.New("unencrypted bytes behind the OK of STARTTLS")
)

// ErrNotEnabled means that the backend didn't enable a requested capability. The connection can still be
// used.
var ErrNotEnabled = errors.New("not enabled")

// Bye is a backend's BYE, after which the backend closes the connection.
type Bye struct{ wire.Response }

func (e *Bye) Error() string { return said("BYE", e.Code, e.Text) }

// Discreet returns Error's text without what the backend said, which can name users and mailboxes in the backend's own spelling.
func (e *Bye) Discreet() string { return unsaid("BYE", e.Code) }

// StrayError is an answer to a command that wasn't sent. It wraps ErrProtocol.
type StrayError struct {
	Tag  string // the tag of the answer
	Last string // the tag of the last command that was sent
}

func (e *StrayError) Error() string {
	return fmt.Sprintf("%v: an answer to a command that wasn't sent (tag %.32q, the last is %s)", ErrProtocol, e.Tag, e.Last)
}

// Discreet is as Bye.Discreet: the tag can be anything that the backend sent.
func (e *StrayError) Discreet() string {
	return fmt.Sprintf("%v: an answer to a command that wasn't sent (the last is %s)", ErrProtocol, e.Last)
}

// Unwrap returns ErrProtocol.
func (e *StrayError) Unwrap() error { return ErrProtocol }

// Broken means that the connection can't be used any more: it was closed, the context ended during a command,
// or the backend sent something that can't be understood.
type Broken struct{ Err error }

func (e *Broken) Error() string { return "backend connection broken: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Broken) Unwrap() error { return e.Err }

// Refusal is a backend's NO or BAD. The connection can still be used.
type Refusal struct {
	Verb         string // the command's verb
	Status, Code string
	Text         string // as the backend sent it
}

func (e *Refusal) Error() string { return e.Verb + ": " + said(e.Status, e.Code, e.Text) }

// Discreet is as Bye.Discreet.
func (e *Refusal) Discreet() string { return e.Verb + ": " + unsaid(e.Status, e.Code) }

// Passing says whether the refusal may be temporary, judged by its response code (RFC 5530), or by its text where it is Cyrus's, which
// sends none: a disk that isn't there, or is full, another process that holds the mailbox.
func (e *Refusal) Passing() bool {
	switch e.Code {
	case "":
		for _, text := range []string{"System I/O error", "Mailbox is locked", "Mailbox is currently reserved", "Server(s) unavailable"} {
			if strings.HasPrefix(e.Text, text) {
				return e.Status == "NO"
			}
		}
	case "UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "CORRUPTION", "OVERQUOTA", "CONTACTADMIN":
		return e.Status == "NO"
	}
	return false
}

// said formats a status response for an error text.
func said(status, code, text string) string {
	return fmt.Sprintf("%s [%s] %.200q", status, code, text)
}

// unsaid is said without the text.
func unsaid(status, code string) string { return status + " [" + code + "]" }
