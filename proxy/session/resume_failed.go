package session

import (
	"errors"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
)

// final says whether another attempt is useless.
func final(err error) bool {
	var refused *upstream.Refused
	var gone *imapclient.Refusal
	var other *view.NotSame
	var out *lockedOut
	var less *lacks
	return errors.As(err, &refused) || errors.As(err, &less) || errors.As(err, &out) || errors.As(err, &gone) && !gone.Passing() || errors.As(err, &other) || hopeless(err)
}

// hopeless says whether each further attempt would fail with the same error, because the mailbox or the
// backend has changed.
func hopeless(err error) bool {
	for _, e := range []error{errReadOnly, resync.ErrTooMany, resync.ErrNoModSeq, resync.ErrNotEnabled, resync.ErrName, view.ErrGap, view.ErrNoFlags} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// errReadOnly says that the mailbox has become read-only.
var errReadOnly = errors.New("the mailbox has become read-only")

// errUnread says that the session didn't get one of its user's places for large differences in time.
var errUnread = errors.New("the user's other sessions are told many changes, and their clients don't read them")

// endOf returns the reason with which a failed resume ends the session.
func endOf(err error) Reason {
	var refused *upstream.Refused
	var out *lockedOut
	var gone *imapclient.Refusal
	var other *view.NotSame
	var less *lacks
	switch {
	case errors.As(err, &less): // before ErrNotEnabled, with which the hub is told of it
		return ReasonCapabilities
	case errors.Is(err, errUnread):
		return ReasonClientUnread
	case errors.As(err, &refused), errors.As(err, &out):
		return ReasonCredentials
	case errors.As(err, &gone) && !gone.Passing() || hopeless(err):
		return ReasonMailboxGone
	case errors.As(err, &other):
		return ReasonNotSame
	}
	return ReasonBackendLost
}
