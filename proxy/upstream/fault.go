package upstream

import (
	"errors"
	"strings"
	"syscall"
)

// Fault says what a failed login is evidence of. It decides where the failure counts, and whether another
// backend should be tried.
type Fault uint8

// The faults.
const (
	// FaultUser: the failure concerns this user, this client or the proxy's settings. It counts against no
	// backend.
	FaultUser Fault = iota
	// FaultBackend: the backend can't be used, and no data of a user has caused that.
	FaultBackend
	// FaultFull: the backend works and accepts no further connection. It doesn't count against its health.
	FaultFull
	// FaultOwn: the proxy has run out of a resource (descriptors, local ports, memory). It counts against no
	// backend.
	FaultOwn
	// FaultUnsure: the backend closed the connection after bytes of the user had been sent. Those bytes may
	// be the cause, so it counts against the backend only once a probe, which sends no data of a user, has
	// failed as well.
	FaultUnsure
)

func (f Fault) String() string {
	return [...]string{"user", "backend", "full", "own", "unsure"}[f]
}

// Fault classifies the failure. The cases, of which the first that applies decides:
//
//   - the caller's context ended, by cancel or by its deadline: user. A client that is slow before login
//     must not count against backends.
//   - a shortage of the proxy itself, at any stage: own.
//   - settings, and the check for the intended user: user.
//   - an answer that says that the backend is full (see full): full.
//   - dial, TLS, greeting, and the capabilities before login: backend.
//   - the login's bytes were sent and no answer came in time: user. Servers delay refusals on purpose
//     (Dovecot up to 17 s for an address that keeps guessing), and guesses must not be able to take a
//     backend down for all users. A backend that hangs doesn't greet the next connection either, and that
//     counts.
//   - a tagged NO or BAD, with any code: user. The backend is alive and judged this user or this proxy; a
//     limit per user must not be bypassed at another backend.
//   - BYE with [LIMIT] or [INUSE] instead of an answer: user.
//   - the connection failed, BYE came, or the response wasn't IMAP, after the login's bytes were sent:
//     unsure; also after the OK, since the process that serves the user may fail for this user only.
func (e *Unavailable) Fault() Fault {
	switch {
	case errors.Is(e.Err, errGaveUp):
		return FaultUser
	case IsShortage(e.Err):
		return FaultOwn
	case e.Stage == StageSettings, e.Stage == StageVerify:
		return FaultUser
	case e.full():
		return FaultFull
	case !e.sent:
		if e.Stage == StageLogin { // the backend offers no usable mechanism
			return FaultUser
		}
		return FaultBackend
	case e.Code == "LIMIT", e.Code == "INUSE", e.Err == nil, errors.Is(e.Err, ErrTimeout):
		return FaultUser
	case e.Stage == StageLogin && (errors.Is(e.Err, errNo) || errors.Is(e.Err, errBad)):
		return FaultUser
	}
	return FaultUnsure
}

// FaultOf returns what an error of a login or a probe is evidence of.
func FaultOf(err error) Fault {
	var down *Unavailable
	if errors.As(err, &down) {
		return down.Fault()
	}
	return FaultUser
}

// BackendDown says whether the failure alone is evidence against the backend as a whole, so that it counts
// for its health and another backend may be tried.
func (e *Unavailable) BackendDown() bool { return e.Fault() == FaultBackend }

// full says whether the backend refused because it has no capacity:
//
//   - BYE [LIMIT] instead of a greeting: no user was named yet.
//   - BYE whose text mentions too many connections or processes, at any stage: Dovecot's "Connection queue
//     full" (its login processes are busy with connections that haven't logged in; the newest or oldest of
//     them receives it), Courier's and mox's limits.
//
// A backend that is full and silent (Cyrus at maxchild, Dovecot at process_limit) can't be distinguished from
// one that hangs; Room can, by the connections that the proxy holds there.
func (e *Unavailable) full() bool {
	if !errors.Is(e.Err, errBye) {
		return false
	}
	if e.Code == "LIMIT" {
		return !e.sent
	}
	return saysFull(e.Text)
}

// saysFull says whether a BYE's text mentions too many connections or processes.
func saysFull(text string) bool {
	text = strings.ToLower(text)
	for _, words := range []string{"connection queue full", "too many connections", "maximum connection", "maximum number of connections", "too many open connections", "server is busy", "server busy"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// MayBeFull says whether the backend's answer may mean that it accepts no further connection, of any user:
// FaultFull, any other BYE, and NO [UNAVAILABLE] to a login (Dovecot's when all its processes for sessions
// are taken).
func (e *Unavailable) MayBeFull() bool {
	return e.full() || errors.Is(e.Err, errBye) || errors.Is(e.Err, errNo) && e.Code == "UNAVAILABLE" && !e.AtLimit()
}

// IsShortage says whether an error means that this process or its machine has run out of a resource that a
// connection needs. No backend is at fault:
//
//	EMFILE, ENFILE   descriptors, of the process and of the machine
//	EADDRNOTAVAIL    local ports towards an address
//	ENOMEM, ENOBUFS  memory, and the kernel's buffers
//	EAGAIN           local ports of a bound address; routes' tables
func IsShortage(err error) bool { return ShortageOf(err) != "" }

// ShortageOf names the resource, as metrics do; "" for all other errors.
func ShortageOf(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "descriptors"
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE):
		return "ports"
	case errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.EAGAIN):
		return "memory"
	}
	return ""
}
