package wire_test

import (
	"fmt"

	"imapproxy/proxy/wire"
)

// A scanner finds the units of a stream, however the bytes are cut up.
func ExampleScanner() {
	scan := wire.Scanner{Direction: wire.Responses}
	for _, chunk := range []string{"* 3 EXISTS\r\n* 1 FETCH (BODY[] {5}\r\nhel", "lo)\r\na1 OK done\r\n"} {
		b := []byte(chunk)
		for len(b) > 0 {
			p := scan.Next(b)
			if p.N == 0 { // a head that isn't whole: keep b and put it in front of what comes
				break
			}
			fmt.Printf("%q first=%v last=%v literal=%v\n", b[:p.N], p.First, p.Last, p.InLiteral)
			b = b[p.N:]
		}
	}
	// Output:
	// "* 3 EXISTS\r\n" first=true last=true literal=false
	// "* 1 FETCH (BODY[] {5}\r\n" first=true last=false literal=false
	// "hel" first=false last=false literal=true
	// "lo" first=false last=false literal=true
	// ")\r\n" first=false last=true literal=false
	// "a1 OK done\r\n" first=true last=true literal=false
}

// What is known of a command's verb stands in one table.
func ExampleParseCommandHead() {
	h := wire.ParseCommandHead([]byte("a7 uid store 1:* +FLAGS (\\Seen)"))
	rule := h.Verb.Rule()
	fmt.Printf("tag %s, verb %s, arguments %q\n", h.Tag, h.Verb, h.Args)
	fmt.Println("names messages by number:", rule.ByNumber())
	fmt.Println("may change the mailbox:", rule.Changes)
	// Output:
	// tag a7, verb UID STORE, arguments "1:* +FLAGS (\\Seen)"
	// names messages by number: false
	// may change the mailbox: true
}
