package routing_test

import (
	"fmt"

	"imapproxy/routing"
)

// All sessions of a user are on one backend, also when it is drained.
func ExampleRouter() {
	router, err := routing.New(routing.Options{Storage: routing.Shared})
	if err != nil {
		fmt.Println(err)
		return
	}
	fleet := []routing.Backend{{ID: "imap1", Address: "10.0.0.1:143", Weight: 1}, {ID: "imap2", Address: "10.0.0.2:143", Weight: 1}}
	router.Apply(routing.Snapshot{Source: "static", Backends: fleet})

	phone, err := router.Pick("alice", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("confirmed:", phone.Confirm())

	drained := []routing.Backend{fleet[0], fleet[1]}
	for i := range drained {
		if drained[i].ID == phone.Backend.ID {
			drained[i].State = routing.Draining
		}
	}
	router.Apply(routing.Snapshot{Source: "static", Backends: drained})
	laptop, err := router.Pick("alice", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the same backend:", laptop.Backend.ID == phone.Backend.ID, "by", laptop.Why)
	laptop.Release()
	phone.Release()
	// Output:
	// confirmed: true
	// the same backend: true by pin
}
