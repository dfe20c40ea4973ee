package upstream

import (
	"errors"
	"strings"
	"syscall"
)

// Fault says what a failed login is evidence of. It decides what the failure counts
// against, and whether another backend is worth a try.
type Fault uint8

// The faults there are.
const (
	// FaultUser: the failure is about this user, this client or the proxy's settings. It
	// counts against no backend.
	FaultUser Fault = iota
	// FaultBackend: the backend can't be used, and nothing that a user sent has caused it.
	FaultBackend
	// FaultFull: the backend works and has no room for another connection. It doesn't
	// count against its health.
	FaultFull
	// FaultOwn: the proxy has run out of something of its own (descriptors, local ports,
	// memory). It counts against no backend.
	FaultOwn
	// FaultUnsure: the backend closed the connection after bytes of the user's had been
	// sent. Those bytes may be the cause, so it counts against the backend only once a
	// probe, which sends nothing of a user's, has failed as well.
	FaultUnsure
)

func (f Fault) String() string {
	return [...]string{"user", "backend", "full", "own", "unsure"}[f]
}

// Fault classifies the failure. The cases, the first that fits:
//
//   - the caller's context ended, by cancel or by its deadline: user. A client that
//     dawdles before login mustn't have backends blamed.
//   - a shortage of the proxy's own, at any stage: own.
//   - settings, and the check for the intended user: user.
//   - an answer that says that the backend is full (see full): full.
//   - dial, TLS, greeting, and the capabilities before login: backend.
//   - the login's bytes were sent and no answer came in time: user. Servers delay
//     refusals on purpose (Dovecot up to 17 s for an address that keeps guessing), and
//     guesses mustn't be able to take a backend down for all. A backend that hangs
//     doesn't greet the next connection either, and that counts.
//   - a tagged NO or BAD, with any code: user. The backend is alive and judged this
//     user or this proxy; a limit per user isn't to be got around at another backend.
//   - BYE with [LIMIT] or [INUSE] instead of an answer: user.
//   - the connection broke, BYE came, or what came wasn't IMAP, after the login's bytes
//     were sent: unsure. So it is after the OK, too: what serves the user may break for
//     this user alone.
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
		if e.Stage == StageLogin { // nothing that the backend offers serves
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

// FaultOf is what an error of a login or a probe is evidence of.
func FaultOf(err error) Fault {
	var down *Unavailable
	if errors.As(err, &down) {
		return down.Fault()
	}
	return FaultUser
}

// BackendDown says whether the failure speaks against the backend as a whole by itself,
// so that it counts for its health and another backend may be tried.
func (e *Unavailable) BackendDown() bool { return e.Fault() == FaultBackend }

// full says whether the backend refused for want of room:
//
//   - BYE [LIMIT] in place of a greeting: no user was named yet.
//   - BYE whose text speaks of too many connections or processes, at any stage: Dovecot's
//     "Connection queue full" (its login processes are busy with connections that haven't
//     logged in; the newest or oldest of them is told so), Courier's and mox's limits.
//
// A backend that is full and says nothing (Cyrus at maxchild, Dovecot at process_limit)
// can't be told from one that hangs by its silence; Room can, by what it holds there.
func (e *Unavailable) full() bool {
	if !errors.Is(e.Err, errBye) {
		return false
	}
	if e.Code == "LIMIT" {
		return !e.sent
	}
	return saysFull(e.Text)
}

// saysFull says whether a BYE's text speaks of too many connections or processes.
func saysFull(text string) bool {
	text = strings.ToLower(text)
	for _, words := range []string{"connection queue full", "too many connections", "maximum connection", "maximum number of connections", "too many open connections", "server is busy", "server busy"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// MayBeFull says whether the backend's answer may mean that it has no room for another
// connection, of whichever user: FaultFull, any other BYE, and NO [UNAVAILABLE] to a
// login (Dovecot's when its processes for sessions are all taken).
func (e *Unavailable) MayBeFull() bool {
	return e.full() || errors.Is(e.Err, errBye) || errors.Is(e.Err, errNo) && e.Code == "UNAVAILABLE" && !e.AtLimit()
}

// IsShortage says whether an error means that this process, or the machine it runs on,
// has no more of something that a connection needs. No backend can be blamed for it:
//
//	EMFILE, ENFILE   descriptors, of the process and of the machine
//	EADDRNOTAVAIL    local ports towards an address
//	ENOMEM, ENOBUFS  memory, and the kernel's buffers
//	EAGAIN           local ports of a bound address; routes' tables
func IsShortage(err error) bool { return ShortageOf(err) != "" }

// ShortageOf names what there is too little of, as metrics do; "" for all other errors.
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
