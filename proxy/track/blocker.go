package track

import "slices"

// Blocker is the reason why a session keeps its backend connection although it is idle.
type Blocker uint8

const (
	BlockerNone Blocker = iota // the session can be parked

	// Reasons that CanPark finds.
	BlockerEnding
	BlockerCommand
	BlockerIdleUnselected
	BlockerByNumber
	BlockerModSeq
	BlockerCompared
	BlockerNotify
	BlockerSaved
	BlockerEnabled
	BlockerUnknown
	BlockerDisputed
	BlockerLong
	BlockerName
	BlockerMailbox
	BlockerNoUIDs
	BlockerNoModSeq

	// Reasons in the settings.
	BlockerQuietOff
	BlockerOff
	BlockerBeforeOn

	// The backend is logged in to with a token of the client's, which ends soon or may end at any time.
	BlockerToken

	// A mailbox of another user is selected.
	BlockerShared

	// What the user's next backend can't do.
	BlockerCapabilities

	// Reasons that an attempt to park the session has found.
	BlockerTooBig
	BlockerNoQResync
	BlockerUnsettled
	BlockerRefused
	BlockerCredentials
	BlockerUnavailable
	BlockerSlow
	BlockerNoWatch
	BlockerFailed
	blockerCount // the number of blockers
)

// BlockerInfo describes a Blocker to operators.
type BlockerInfo struct {
	Reason string // a label of metrics and a value in the admin API; its text must not change
	Words  string // the human-readable description
}

// blockers describes each Blocker. docs/operations.md tells operators what to do about each.
var blockers = [blockerCount]BlockerInfo{
	BlockerNone:           {"", ""},
	BlockerEnding:         {"ending", "the session is about to end"},
	BlockerCommand:        {"command", "a command or a literal is in progress"},
	BlockerIdleUnselected: {"idle_unselected", "in IDLE with no mailbox selected"},
	BlockerByNumber:       {"message_numbers", "not in IDLE, and the client uses message numbers: its next command could be STORE 4"},
	BlockerModSeq:         {"condstore", "not in IDLE, and the client uses mod-sequences"},
	BlockerCompared:       {"comparison", "not in IDLE, and the backend has no QRESYNC"},
	BlockerNotify:         {"notify", "the client has set the backend's own NOTIFY"},
	BlockerSaved:          {"saved_search", "the client has a saved search result ($) or CONTEXT, which belongs to the backend connection"},
	BlockerEnabled:        {"enabled", "the client has enabled an extension that the proxy doesn't know"},
	BlockerUnknown:        {"unknown_command", "the client sent a command that the proxy doesn't know and that may have set state"},
	BlockerDisputed:       {"disputed_literal", "the client sent a literal where some servers read commands, or the backend sent an answer without a command"},
	BlockerLong:           {"long_command", "the client sent a mailbox name that is too long to be stored"},
	BlockerName:           {"mailbox_name", "the mailbox can't be selected again by its name"},
	BlockerMailbox:        {"mailbox", "the backend's answer to SELECT isn't enough to recognise the mailbox"},
	BlockerNoUIDs:         {"uid_not_sticky", "the mailbox has no persistent UIDs"},
	BlockerNoModSeq:       {"no_modseq", "the mailbox has no mod-sequences, though the backend has QRESYNC"},
	BlockerQuietOff:       {"quiet_after", "not in IDLE, and park.quiet_after is 0"},
	BlockerOff:            {"off", "parking is switched off"},
	BlockerBeforeOn:       {"before_on", "the session logged in while parking was off"},
	BlockerToken:          {"token", "the client logged in at the backend with a token that expires soon, or that doesn't say when it expires"},
	BlockerShared:         {"shared_mailbox", "a mailbox of another user is selected"},
	BlockerCapabilities:   {"capabilities", "the user is to move to a backend that lacks a capability that the client was told"},
	BlockerTooBig:         {"mailbox_too_big", "the mailbox has more messages than park.max_diff_messages"},
	BlockerNoQResync:      {"no_qresync", "the client uses mod-sequences, and the backend has no QRESYNC"},
	BlockerUnsettled:      {"unsettled", "the mailbox changed during each attempt to take a view of it"},
	BlockerRefused:        {"refused", "the backend refuses a command that parking needs"},
	BlockerCredentials:    {"credentials", "the backend doesn't accept the session's credentials for another connection"},
	BlockerUnavailable:    {"unavailable", "the proxy can't open another connection to the backend"},
	BlockerSlow:           {"slow", "the backend didn't answer in time"},
	BlockerNoWatch:        {"no_watch", "no source of hints is available for the mailbox"},
	BlockerFailed:         {"failed", "the attempt failed"},
}

func (k Blocker) String() string { return blockers[k].Reason }

// Blockers returns the descriptions of all blockers.
func Blockers() []BlockerInfo { return slices.Clone(blockers[1:]) }
