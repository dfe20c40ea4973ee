package agree_test

import (
	"fmt"
	"time"

	"imapproxy/routing"
	"imapproxy/routing/agree"
)

// A proxy alone: it makes a session, the first fleet and its key, and then answers claims without requests.
func ExampleMember() {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	m, err := agree.New(agree.Options{ID: "proxy1-1234", Storage: routing.Shared, Users: "lower"}, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Discover(agree.Discovery{Index: 17, Backends: []routing.Backend{{ID: "imap1", Address: "10.0.0.1:143", Weight: 1}}}, now)
	fmt.Println("before it has joined:", m.Claim("ann", "", now).Why)

	var (
		consul  []agree.Pair // what a real caller sends to Consul, and reads from it
		index   = uint64(100)
		decoder agree.Decoder
	)
	for range 5 {
		ops, effects := m.Take()
		for _, e := range effects {
			fmt.Println("effect:", e.Text)
		}
		for _, op := range ops {
			switch op.Kind {
			case agree.CreateSession:
				m.Done(op.ID, agree.Result{Session: "a-session", Sent: now}, now)
			case agree.Read:
				m.Done(op.ID, agree.Result{Reading: decoder.Reading(index, true, consul)}, now)
			case agree.Write:
				index++
				for _, w := range op.Txn {
					if w.Value != nil {
						consul = append(consul, agree.Pair{Key: w.Key, Value: w.Value, ModifyIndex: index, Session: w.Session})
						fmt.Println("written:", w.Key)
					}
				}
				m.Done(op.ID, agree.Result{Index: index}, now)
			}
		}
	}
	answer := m.Claim("ann", "", now)
	fmt.Println("joined:", answer.Verdict == agree.Go, answer.Backend)
	m.Release("ann", now) // when the connection's end was seen
	// Output:
	// before it has joined: this proxy hasn't joined the others
	// written: fleet
	// written: proxies/proxy1-1234
	// effect: epoch 1
	// effect: epoch 1
	// joined: true imap1
}
