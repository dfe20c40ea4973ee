package routing

import (
	"errors"
	"fmt"
)

// Errors of Pick. For each of them the client gets NO [UNAVAILABLE], never [AUTHENTICATIONFAILED], since the
// credentials may be right. Pick wraps them with a text for the log.
var (
	// ErrNotReady: no source of backends has answered yet, or the state of the backend that would be chosen
	// isn't known. PickWithin waits for that.
	ErrNotReady = errors.New("the backends aren't known yet")
	// ErrNoBackend: no backend that takes this user is up and untried.
	ErrNoBackend = errors.New("no backend is available")
	// ErrNoPlacement: storage is separate, and no placement says where the user's mail is.
	ErrNoPlacement = errors.New("user has no placement")
	// ErrUnknownPlacement: storage is separate, and the placement names a backend that discovery doesn't
	// list.
	ErrUnknownPlacement = errors.New("placement names an unknown backend")
	// ErrBackendDown: the one backend that may serve this user is down or
	// refused; for shared storage, only while the user's other sessions hold
	// the pin (until FailoverAfter).
	ErrBackendDown = errors.New("the user's backend is down")
)

// downError is an ErrBackendDown about one backend.
type downError struct{ backend, why string }

func down(b, format string, args ...any) error { return &downError{b, fmt.Sprintf(format, args...)} }

func (e *downError) Error() string { return ErrBackendDown.Error() + ": " + e.backend + e.why }

func (e *downError) Unwrap() error { return ErrBackendDown }

// DownBackend returns the name of the backend that an ErrBackendDown is about; "": err is another one.
func DownBackend(err error) string {
	if down, ok := errors.AsType[*downError](err); ok {
		return down.backend
	}
	return ""
}
