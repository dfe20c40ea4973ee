package routing

import (
	"slices"
	"time"
)

// Why says which rule chose the backend of a pick.
type Why string

const (
	// ByPlacement: the user's source of credentials or Consul KV named it.
	ByPlacement Why = "placement"
	// ByPin: the user has sessions there, or had them within PinGrace.
	ByPin Why = "pin"
	// ByRendezvous: the winner of the rendezvous over the whole fleet.
	ByRendezvous Why = "rendezvous"
	// ByFailover: a backend that ranked before it was down, draining or refusing.
	ByFailover Why = "failover"
)

// choice is the input of the rules.
type choice struct {
	user, placement string
	tried           []string
	pin             *pinRow // nil: there is none, or it has ended
	now             time.Time
	storage         Storage
	failoverAfter   time.Duration
	tables          readTxn
	// placed is the backend that the placement names, nil if it names none or isn't unambiguous; choose sets
	// it.
	placed *backendRow
	health map[string]*healthRow
	// settle: if the state of a backend that may be the user's isn't known yet, there is no choice
	// (ErrNotReady). Otherwise such a backend counts as down.
	settle bool
	// agreed is the backend on which several proxies agree; "": this proxy decides alone.
	agreed string
}

func (c *choice) wasTried(id string) bool { return slices.Contains(c.tried, id) }
