package park

import "imapproxy/proxy/wire"

// Watch is where a mailbox's hints come from, besides those that always count: the
// sweep, commands, and events for it.
type Watch uint8

// The watches there are, cheapest for the backend first.
const (
	WatchPush   Watch = iota + 1 // events; no connection
	WatchNotify                  // one NOTIFY connection for all of the user's
	WatchIdle                    // EXAMINE + IDLE on a connection of its own
	WatchPoll                    // a resync now and then
)

func (w Watch) String() string { return [...]string{"", "push", "notify", "idle", "poll"}[w] }

// WatchBy is what a mailbox's watch is chosen by.
type WatchBy struct {
	Mode string    // HubOptions.Watch
	Push bool      // HubOptions.Push
	Caps wire.Caps // the backend's after login

	Inbox         bool // the mailbox is INBOX
	Personal      bool // it is the user's own, and not virtual: events and NOTIFY count for it
	NotifyRefused bool // the backend has refused NOTIFY to this user
}

// ChooseWatch returns a mailbox's watch, and why it is chosen, for people:
//
//   - push events, if they are configured, for the user's own mailboxes;
//   - NOTIFY where the backend has it, likewise; under "auto" not for INBOX, which
//     deserves a watch that never misses anything;
//   - EXAMINE + IDLE, where the backend has IDLE;
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
