package pair_test

import (
	"context"
	"fmt"

	"imapproxy/routing/pair"
)

// The new process asks its table before a connection: the old one still has alice's sessions at imap1.
func ExampleTable() {
	table := pair.New(pair.Options{})
	old := table.Join(func(user string, abort bool) { fmt.Println("asks the old process to let go of", user) })
	old.Has(pair.Stay{User: "alice", Backend: "imap1"})

	elsewhere, err := table.Claim(context.Background(), "alice", "imap2")
	fmt.Printf("alice at imap2: %q %v\n", elsewhere, err)
	elsewhere, err = table.Claim(context.Background(), "alice", "imap1")
	fmt.Printf("alice at imap1: %q %v\n", elsewhere, err)
	table.Release("alice", "imap1")

	old.Release("alice", "imap1") // its last session has ended
	elsewhere, err = table.Claim(context.Background(), "alice", "imap2")
	fmt.Printf("alice at imap2: %q %v\n", elsewhere, err)
	// Output:
	// alice at imap2: "imap1" <nil>
	// alice at imap1: "" <nil>
	// alice at imap2: "" <nil>
}
