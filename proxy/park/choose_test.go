package park

import (
	"testing"

	"imapproxy/proxy/wire"
)

func TestAWatchIsChosenByModeBackendAndMailbox(t *testing.T) {
	dovecot, plain := wire.Caps{"IMAP4rev1", "IDLE", "NOTIFY", "ENABLE", "QRESYNC"}, wire.Caps{"IMAP4rev1", "IDLE"}
	for _, c := range []struct {
		caps                  wire.Caps
		mode                  string
		push                  bool
		inbox, others, shared Watch
	}{
		{dovecot, "auto", false, WatchIdle, WatchNotify, WatchIdle},
		{dovecot, "", false, WatchIdle, WatchNotify, WatchIdle},
		{dovecot, "auto", true, WatchPush, WatchPush, WatchIdle},
		{dovecot, "push", true, WatchPush, WatchPush, WatchIdle},
		{dovecot, "push", false, WatchIdle, WatchIdle, WatchIdle},
		{dovecot, "notify", true, WatchNotify, WatchNotify, WatchIdle},
		{dovecot, "idle", true, WatchIdle, WatchIdle, WatchIdle},
		{dovecot, "poll", true, WatchPoll, WatchPoll, WatchPoll},
		{plain, "notify", false, WatchIdle, WatchIdle, WatchIdle},
		{wire.Caps{"IMAP4rev1"}, "auto", true, WatchPush, WatchPush, WatchPoll},
		{nil, "auto", false, WatchPoll, WatchPoll, WatchPoll},
	} {
		by := WatchBy{Mode: c.mode, Push: c.push, Caps: c.caps}
		shared, why := ChooseWatch(by)
		by.Personal = true
		others, why2 := ChooseWatch(by)
		by.Inbox = true
		inbox, why3 := ChooseWatch(by)
		if inbox != c.inbox || others != c.others || shared != c.shared {
			t.Errorf("%v %q push=%v: INBOX %v, others %v, shared %v", c.caps, c.mode, c.push, inbox, others, shared)
		}
		if why == "" || why2 == "" || why3 == "" {
			t.Errorf("%v %q push=%v: a choice without a reason", c.caps, c.mode, c.push)
		}
	}
	by := WatchBy{Caps: dovecot, Personal: true, NotifyRefused: true}
	if w, _ := ChooseWatch(by); w != WatchIdle {
		t.Errorf("NOTIFY refused: %v", w)
	}
}
