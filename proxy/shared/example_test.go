package shared_test

import (
	"fmt"

	"imapproxy/proxy/shared"
)

// A name in a command is replaced by the owner's, and the name in the response by the client's.
func Example() {
	space := shared.Space{Prefix: "shared/"}
	cmd := []byte("a1 STATUS shared/alice/team (MESSAGES)\r\n")
	fmt.Println(space.Concerns(cmd))
	names, err := shared.Names(cmd)
	if err != nil {
		fmt.Println(err)
		return
	}
	owner, box, _ := space.Split(names[0].Value)
	fmt.Printf("%s: %q\n", owner, shared.Replace(cmd, names[0], box))
	fmt.Printf("%q\n", space.Response([]byte("* STATUS team (MESSAGES 3)\r\n"), owner))
	// Output:
	// true
	// alice: "a1 STATUS \"team\" (MESSAGES)\r\n"
	// "* STATUS \"shared/alice/team\" (MESSAGES 3)\r\n"
}
