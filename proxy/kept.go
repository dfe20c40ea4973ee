package proxy

import (
	"context"
	"errors"
	"slices"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
)

// kept is why a session keeps its backend connection, however long it is quiet.
type kept uint8

const (
	keptNot kept = iota // nothing does

	// What canPark sees.
	keptEnding
	keptCommand
	keptIdleUnselected
	keptByNumber
	keptModSeq
	keptCompared
	keptNotify
	keptSaved
	keptEnabled
	keptUnknown
	keptDisputed
	keptLong
	keptName
	keptMailbox
	keptNoUIDs
	keptNoModSeq

	// What the settings say.
	keptQuietOff
	keptOff
	keptBeforeOn

	// What became of an attempt to park it.
	keptTooBig
	keptNoQResync
	keptUnsettled
	keptRefused
	keptCredentials
	keptUnavailable
	keptSlow
	keptNoWatch
	keptFailed
	keptReasons // how many there are
)

// Kept is a reason as others see it.
type Kept struct {
	Reason string // a label of metrics and a word of the admin API: never renamed
	Words  string // for people
}

// keptTable has the reasons. docs/operations.md tells operators what each calls for.
var keptTable = [keptReasons]Kept{
	keptNot:            {"", ""},
	keptEnding:         {"ending", "the session is about to end"},
	keptCommand:        {"command", "a command or a literal is in progress"},
	keptIdleUnselected: {"idle_unselected", "in IDLE with no mailbox selected"},
	keptByNumber:       {"message_numbers", "not in IDLE, and the client uses message numbers: its next command could be STORE 4"},
	keptModSeq:         {"condstore", "not in IDLE, and the client uses mod-sequences"},
	keptCompared:       {"comparison", "not in IDLE, and the backend has no QRESYNC"},
	keptNotify:         {"notify", "the client has set the backend's own NOTIFY"},
	keptSaved:          {"saved_search", "the client has a saved search result ($) or CONTEXT, which belongs to the backend connection"},
	keptEnabled:        {"enabled", "the client has enabled an extension that the proxy doesn't know"},
	keptUnknown:        {"unknown_command", "the client sent a command that the proxy doesn't know and that may have set state"},
	keptDisputed:       {"disputed_literal", "the client sent a literal where some servers read commands, or the backend sent an answer without a command"},
	keptLong:           {"long_command", "the client sent a mailbox name that is too long to be stored"},
	keptName:           {"mailbox_name", "the mailbox can't be selected again by its name"},
	keptMailbox:        {"mailbox", "the backend's answer to SELECT isn't enough to recognise the mailbox"},
	keptNoUIDs:         {"uid_not_sticky", "the mailbox has no persistent UIDs"},
	keptNoModSeq:       {"no_modseq", "the mailbox has no mod-sequences, though the backend has QRESYNC"},
	keptQuietOff:       {"quiet_after", "not in IDLE, and park.quiet_after is 0"},
	keptOff:            {"off", "parking is switched off"},
	keptBeforeOn:       {"before_on", "the session logged in while parking was off"},
	keptTooBig:         {"mailbox_too_big", "the mailbox has more messages than park.max_diff_messages"},
	keptNoQResync:      {"no_qresync", "the client uses mod-sequences, and the backend has no QRESYNC"},
	keptUnsettled:      {"unsettled", "the mailbox changed during each attempt to take a view of it"},
	keptRefused:        {"refused", "the backend refuses a command that parking needs"},
	keptCredentials:    {"credentials", "the backend doesn't accept the session's credentials for another connection"},
	keptUnavailable:    {"unavailable", "the proxy can't open another connection to the backend"},
	keptSlow:           {"slow", "the backend didn't answer in time"},
	keptNoWatch:        {"no_watch", "no source of hints is available for the mailbox"},
	keptFailed:         {"failed", "the attempt failed"},
}

func (k kept) String() string { return keptTable[k].Reason }

// KeptReasons lists why sessions keep their backend connections.
func KeptReasons() []Kept { return slices.Clone(keptTable[1:]) }

// errNoModSeqs: the client counts mod-sequences, which a comparison can't give.
var errNoModSeqs = errors.New("a client of CONDSTORE on a backend without QRESYNC")

// keptBy is why an attempt to park came to nothing. failure is false where that
// is in the nature of the mailbox or the client, and nobody's fault.
func keptBy(err error) (k kept, failure bool) {
	var refused *upstream.Refused
	var down *upstream.Unavailable
	var refusal *imapclient.Refusal
	switch {
	case errors.Is(err, errNoModSeqs):
		return keptNoQResync, false
	case errors.Is(err, resync.ErrTooMany):
		return keptTooBig, false
	case errors.Is(err, resync.ErrNoModSeq):
		return keptNoModSeq, false
	case errors.Is(err, resync.ErrUnsettled):
		return keptUnsettled, false
	case errors.Is(err, resync.ErrName):
		return keptName, false
	case errors.As(err, &refused):
		return keptCredentials, true
	case errors.As(err, &refusal), errors.Is(err, resync.ErrNotEnabled):
		return keptRefused, true
	case errors.As(err, &down):
		return keptUnavailable, true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, park.ErrTooSlow):
		return keptSlow, true
	case errors.Is(err, park.ErrLost), errors.Is(err, park.ErrHubClosed):
		return keptNoWatch, true
	}
	return keptFailed, true
}

// A park that came to nothing is tried again after parkAgain, twice as late each
// time up to parkAgainAtMost: what was in its way may be gone in a moment (a backend
// that restarts), or never (a mailbox that is too big).
const (
	parkAgain       = 10 * time.Second
	parkAgainAtMost = 5 * time.Minute
)

// parkPause is how long a session is left alone after so many failures in a row.
func parkPause(failures uint8) time.Duration {
	return min(parkAgain<<min(failures-1, 10), parkAgainAtMost)
}
