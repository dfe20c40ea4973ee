package park_test

import (
	"fmt"

	"imapproxy/proxy/park"
	"imapproxy/proxy/wire"
)

// A burst of changes in one mailbox is one hint, and a user with many changed mailboxes gets one hint about all of
// them.
func ExampleHintQueue() {
	q := park.NewHintQueue(park.HintQueueOptions{MaxMailboxesPerUser: 2})
	for range 3 {
		q.Add(park.Hint{User: "alice", Mailbox: "INBOX", Source: park.HintPush})
	}
	for _, mailbox := range []string{"Drafts", "Sent", "Trash"} {
		q.Add(park.Hint{User: "bob", Mailbox: mailbox, Source: park.HintCommand})
	}
	for h, ok := q.TryNext(); ok; h, ok = q.TryNext() {
		fmt.Printf("%s %q\n", h.User, h.Mailbox)
	}
	// Output:
	// alice "INBOX"
	// bob ""
}

// Which watch a mailbox gets depends on what its backend can do and on whose mailbox it is.
func ExampleChooseWatch() {
	caps := wire.Caps{"IMAP4rev1", "IDLE", "NOTIFY"}
	for _, by := range []park.WatchBy{
		{Mode: "auto", Push: true, Caps: caps, Inbox: true, Personal: true},
		{Mode: "auto", Caps: caps, Personal: true},
		{Mode: "auto", Caps: caps, Inbox: true, Personal: true},
		{Mode: "auto", Caps: wire.Caps{"IMAP4rev1"}, Personal: true},
	} {
		fmt.Println(park.ChooseWatch(by))
	}
	// Output:
	// push the backend posts events
	// notify the backend has NOTIFY
	// idle NOTIFY may miss something, and INBOX mustn't
	// poll the backend has no IDLE
}
