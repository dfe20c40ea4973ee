package main

import "time"

// options are the flags.
type options struct {
	Proxy    string        // the program to measure
	Against  string        // another build, which peers compares it with; "": nginx and HAProxy
	Bare     bool          // peers compares it with bare relays
	N        int           // clients
	Idle     int           // clients in IDLE of each program that peers compares, beside those that are measured
	PerUser  int           // clients of each user, each in a mailbox of its own
	Watch    string        // park.watch
	Attached bool          // sessions keep their backend connections
	TLS      bool          // between clients and proxy
	Pace     int           // logins a second
	Settle   time.Duration // from the last login to the measurement
	Ramp     int           // clients that come back at once
	Rounds   int
	Each     time.Duration // how long a figure is measured in a round
	Clients  string        // numbers of clients, with commas
	Profile  string        // a folder for profiles; "": none
	Keep     string        // a folder for configurations and logs; "": they are removed
	Backends int           // processes
	live     bool          // what is in use before the first client is measured
}
