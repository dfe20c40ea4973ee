package imapclient

import (
	"errors"
	"fmt"

	"imapproxy/proxy/wire"
)

// Errors of which the connection is of no further use.
var (
	// ErrProtocol: what the backend said isn't what IMAP has at this place.
	ErrProtocol = errors.New("protocol error")
	// ErrInjection: bytes stood behind the OK of STARTTLS, before TLS
	// (CVE-2011-0411's mirror image, CVE-2021-33515 and others).
	ErrInjection = errors.New("unencrypted bytes behind the OK of STARTTLS")
)

// ErrNotEnabled means that the backend doesn't enable what it was asked to. The connection can
// still be used.
var ErrNotEnabled = errors.New("not enabled")

// Bye is a backend's BYE: it closes the connection.
type Bye struct{ wire.Response }

func (e *Bye) Error() string { return said("BYE", e.Code, e.Text) }

// StrayError is an answer to a command that wasn't sent. It is an ErrProtocol.
type StrayError struct {
	Tag  string // the answer's
	Last string // that of the last command that was sent
}

func (e *StrayError) Error() string {
	return fmt.Sprintf("%v: an answer to a command that wasn't sent (tag %.32q, the last is %s)", ErrProtocol, e.Tag, e.Last)
}

// Unwrap makes it an ErrProtocol.
func (e *StrayError) Unwrap() error { return ErrProtocol }

// Broken means that the connection is of no further use: it was closed, the context ended in
// the middle of a command, or the backend said what can't be understood.
type Broken struct{ Err error }

func (e *Broken) Error() string { return "backend connection broken: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Broken) Unwrap() error { return e.Err }

// Refusal is a backend's NO or BAD to a command. The connection can still be used.
type Refusal struct {
	Verb         string // the command's
	Status, Code string
	Text         string // as the backend sent it
}

func (e *Refusal) Error() string { return e.Verb + ": " + said(e.Status, e.Code, e.Text) }

// Passing says whether the same command may be answered otherwise in a moment, judged by the
// response code (RFC 5530).
func (e *Refusal) Passing() bool {
	switch e.Code {
	case "UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "CORRUPTION", "OVERQUOTA", "CONTACTADMIN":
		return e.Status == "NO"
	}
	return false
}

// said is a status response as it stands in an error.
func said(status, code, text string) string {
	return fmt.Sprintf("%s [%s] %.200q", status, code, text)
}
