package view_test

import (
	"fmt"
	"strings"

	"imapproxy/proxy/park/view"
)

// A parked client has been told of four messages. Meanwhile one was expunged, one came, and one
// was read.
func ExampleCompare() {
	told := &view.View{Mailbox: "INBOX", UIDValidity: 1, UIDNext: 14, UIDs: view.UIDsOf(10, 11, 12, 13), Flags: `\Seen \Deleted`, ModSeq: 100}
	state := &view.State{
		UIDValidity: 1, UIDNext: 15, UIDs: view.UIDsOf(10, 12, 13, 14), ModSeq: 130,
		FlagList: `\Seen \Deleted`, Changed: []view.FlagChange{{UID: 12, Flags: `\Seen`, ModSeq: 120}}, Since: 100,
	}
	d, err := view.Compare(told, state)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(strings.ReplaceAll(string(d.AppendTo(nil, view.Plain, told)), "\r", ""))
	fmt.Println("then it counts", told.After(d).UIDs.Count(), "messages")
	// Output:
	// * 2 EXPUNGE
	// * 4 EXISTS
	// * 2 FETCH (FLAGS (\Seen))
	// then it counts 4 messages
}

// The client still counts message 11, which is gone at the backend, since its command forbids
// EXPUNGE: its numbers are translated, and so are those of the answers.
func ExampleSequenceMap() {
	n, err := view.NewSequenceMap(view.UIDsOf(10, 11, 12), view.UIDsOf(10, 12))
	if err != nil {
		fmt.Println(err)
		return
	}
	command, disposition := n.Command(nil, []byte("a1 FETCH 3 FLAGS\r\n"))
	fmt.Printf("%q, goes to the backend: %v\n", command, disposition.Goes())
	answer, err := n.Response(nil, []byte("* 2 FETCH (FLAGS ())\r\n"), false)
	fmt.Printf("%q, error: %v\n", answer, err)
	fmt.Println("deferred EXPUNGEs:", n.Deferred().Count())
	// Output:
	// "a1 FETCH 2 FLAGS\r\n", goes to the backend: true
	// "* 3 FETCH (FLAGS ())\r\n", error: <nil>
	// deferred EXPUNGEs: 1
}
