package park

import "imapproxy/proxy/wire"

// Watch is the kind of a mailbox's watch: where its hints come from. The sweep, relayed commands and events give
// hints in addition, whatever the watch is.
type Watch uint8

// The kinds of watches, those that cost the backend least first.
const (
	WatchPush   Watch = iota + 1 // events, without a connection
	WatchNotify                  // one NOTIFY connection for all mailboxes of the user
	WatchIdle                    // EXAMINE + IDLE on a connection of its own
	WatchPoll                    // a resync at each HubOptions.PollEvery
)

func (w Watch) String() string { return [...]string{"", "push", "notify", "idle", "poll"}[w] }

// WatchBy has the facts by which ChooseWatch chooses a mailbox's watch.
type WatchBy struct {
	Mode string    // HubOptions.Watch
	Push bool      // HubOptions.Push
	Caps wire.Caps // the backend's capabilities after login

	Inbox         bool // the mailbox is INBOX
	Personal      bool // the mailbox is the user's own and not virtual, so events and NOTIFY tell of it
	NotifyRefused bool // the backend has refused NOTIFY to this user
}

// ChooseWatch returns a mailbox's watch and, for operators, why it is chosen. The first that is possible:
//
//   - push events, if they are configured and the mailbox is the user's own;
//   - NOTIFY, if the backend has it and the mailbox is the user's own; under "auto" not for INBOX, since NOTIFY
//     may miss a change;
//   - EXAMINE + IDLE, if the backend has IDLE;
//   - polling.
func ChooseWatch(by WatchBy) (w Watch, why string) {
	auto := by.Mode == "" || by.Mode == "auto"
	notify := by.Caps.Has("NOTIFY") && !by.NotifyRefused
	switch {
	case by.Personal && by.Push && (auto || by.Mode == "push"):
		return WatchPush, "the backend posts events"
	case by.Personal && notify && (auto && !by.Inbox || by.Mode == "notify"):
		return WatchNotify, "the backend has NOTIFY"
	case by.Mode == "poll":
		return WatchPoll, "park.watch says so"
	case !by.Caps.Has("IDLE"):
		return WatchPoll, "the backend has no IDLE"
	case !by.Personal && (by.Push || notify):
		return WatchIdle, "neither events nor NOTIFY tell of others' mailboxes"
	case by.Mode == "idle":
		return WatchIdle, "park.watch says so"
	case auto && notify:
		return WatchIdle, "NOTIFY may miss something, and INBOX mustn't"
	case by.Mode == "push" && !by.Push:
		return WatchIdle, "no events are configured"
	case by.NotifyRefused:
		return WatchIdle, "the backend has refused NOTIFY"
	}
	return WatchIdle, "the backend has no NOTIFY"
}
