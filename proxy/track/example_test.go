package track_test

import (
	"fmt"
	"time"

	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// Answers are matched to commands by their tags, since backends may answer pipelined commands in another order.
func ExampleInFlight() {
	var f track.InFlight
	f.Init(true, false)
	said := func(line string) {
		f.Begin(wire.ParseCommandHead([]byte(line)), true, time.Now())
		fmt.Printf("%d waiting after %q\n", f.Waiting(), line)
	}
	said("a1 NOOP")
	said("a2 CAPABILITY")
	for _, line := range []string{"a2 OK done", "a1 OK done"} {
		c, ok := f.Answered(wire.ParseResponseHead([]byte(line)))
		fmt.Println(c.Verb, ok)
	}
	_, idle := f.State()
	fmt.Println("waiting:", f.Waiting(), "in IDLE:", idle)
	// Output:
	// 1 waiting after "a1 NOOP"
	// 2 waiting after "a2 CAPABILITY"
	// CAPABILITY true
	// NOOP true
	// waiting: 0 in IDLE: false
}

// "*" in a command that a client wrote before it was told of new mail means the last message that it knew.
func ExampleExpandStar() {
	fmt.Printf("%s", track.ExpandStar([]byte("a3 STORE 1,* +FLAGS (\\Deleted)\r\n"), 7))
	// Output:
	// a3 STORE 1,7 +FLAGS (\Deleted)
}
