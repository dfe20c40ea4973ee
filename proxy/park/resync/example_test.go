package resync_test

import (
	"fmt"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/wire"
)

// A backend with QRESYNC reports what has changed in a mailbox. At other backends the messages' flags are compared.
func ExampleChoose() {
	for _, caps := range []wire.Caps{{"IMAP4REV1", "IDLE"}, {"IMAP4REV1", "ENABLE", "CONDSTORE", "QRESYNC"}} {
		fmt.Println(resync.Choose(caps, resync.DefaultMaxDiffMessages).Name())
	}
	// Output:
	// comparison
	// qresync
}
