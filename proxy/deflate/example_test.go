package deflate_test

import (
	"fmt"

	"imapproxy/proxy/deflate"
)

// Each line can be read as soon as it has arrived, and a connection that is silent holds its history only.
func Example() {
	sender := deflate.NewDeflater(deflate.MaxHistory)
	var receiver deflate.Inflater
	var output deflate.Output
	var scratch deflate.Scratch
	for range 2 {
		line := []byte("* 17 FETCH (UID 4711 FLAGS (\\Seen $Forwarded))\r\n")
		sent := sender.Deflate(&output, line)
		read := make([]byte, 100)
		n, _, err := receiver.Inflate(&scratch, read, sent)
		fmt.Printf("%q %v, shorter: %v\n", read[:n], err, len(sent) < len(line))
	}
	fmt.Println("octets held:", sender.History(), receiver.History())

	sender.Rest()
	fmt.Println("octets held at rest:", sender.History())
	// Output:
	// "* 17 FETCH (UID 4711 FLAGS (\\Seen $Forwarded))\r\n" <nil>, shorter: false
	// "* 17 FETCH (UID 4711 FLAGS (\\Seen $Forwarded))\r\n" <nil>, shorter: true
	// octets held: 96 96
	// octets held at rest: 0
}
