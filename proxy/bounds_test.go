package proxy

import "time"

// Bounds of the sessions' that tests here reach. They are set in the packages session and track.
const (
	triedBackends     = 3  // at one login
	mostAttempts      = 10 // of one connection to log in
	networkShare      = 4  // the part of a backend's unproved logins that one network has
	mostPlacements    = 32 // asked for at a time
	mostInFlight      = 256
	longestTag        = 128
	splicedFrom       = 64 << 10 // octets of a literal
	lingering         = 2 * time.Second
	orphaned          = time.Minute
	resumesAtATime    = 32
	userShare         = 4    // the part of them that one user has
	fewestHeld        = 1024 // changes that are no large difference
	heldPerUser       = 8    // large differences
	mostOwedChanges   = 1 << 15
	longestOwedLine   = 1 << 20
	longestOwedAnswer = 4 << 20
)
