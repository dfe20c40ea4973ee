package routing

import (
	"fmt"
	"time"
)

// choose says where a user goes. In order:
//
// Separate storage: the placement or nothing.
//
//	no placement                              ErrNoPlacement
//	it names no backend that is listed, or    ErrUnknownPlacement
//	several, and the user is pinned to none
//	of them
//	whose state isn't known yet (settle)      ErrNotReady
//	that is down, or was tried                ErrBackendDown
//	else (draining too: no other has the mail)  it
//
// Shared storage:
//
//  1. The home is the placement, unless the user's live sessions are on a
//     backend that this same placement led to (it had failed over then: they
//     stay there when it comes back); without a placement, the pin.
//  2. The home takes the user if it is up; or draining, if the user is pinned to it.
//     One that refuses dials takes the user only while live sessions hold them there.
//  3. A placement that can't be followed leaves the user where their pin is.
//  4. The pin's backend is down, gone, or was tried: the user's other sessions with a
//     connection there hold the user (ErrBackendDown) until it has been so for
//     failoverAfter. Parked sessions have none and don't hold the user.
//  5. The best of the rendezvous that takes new users, wasn't tried and isn't
//     refusing; or, where all are, the best that wasn't tried.
//  6. With settle, a placement or a best of the rendezvous whose state isn't
//     known yet is no choice (ErrNotReady): its first answer may make it the user's.
func choose(c choice) (*backendRow, Why, error) {
	if c.agreed != "" {
		return c.agreedOn()
	}
	if c.storage == Separate {
		return c.separate()
	}
	return c.shared()
}

func (c *choice) separate() (*backendRow, Why, error) {
	if c.placement == "" {
		return nil, "", ErrNoPlacement
	}
	b, err := c.place()
	switch {
	case err != nil:
		return nil, "", err
	case c.settle && b.Pending:
		return nil, "", notKnown(b)
	case !b.usable():
		return nil, "", down(b.Name, ": %s", b.Reason)
	case c.wasTried(b.ID):
		return nil, "", down(b.Name, " refused the connection")
	}
	return b, ByPlacement, nil
}

func (c *choice) shared() (*backendRow, Why, error) {
	if c.placement != "" {
		c.placed, _ = c.place() // one that can't be followed leaves the user where the pin is (3)
	}
	home, why := c.home()
	if home != "" && c.takes(home) {
		return c.tables.backend(home), why, nil
	}
	if b := c.tables.backend(home); b != nil && b.Pending && c.settle {
		return nil, "", notKnown(b)
	}
	if c.pin != nil && home != c.pin.backend && c.takes(c.pin.backend) {
		return c.tables.backend(c.pin.backend), ByPin, nil
	}
	if wait := c.held(); wait > 0 {
		return nil, "", down(c.tables.shown(c.pin.backend), "; live sessions hold the user there for another %s", wait.Round(time.Millisecond))
	}
	b, firstChoice := c.rendezvous()
	switch {
	case b == nil:
		return nil, "", ErrNoBackend
	case b.Pending:
		return nil, "", notKnown(b)
	case home == "" && firstChoice:
		return b, ByRendezvous, nil
	}
	return b, ByFailover, nil
}

// home returns where the user should be (rule 1); "" if neither placement nor pin says so.
func (c *choice) home() (string, Why) {
	stay := c.pin != nil && (c.placement == "" || c.pin.live > 0 && c.pin.placement == c.placement)
	switch {
	case stay:
		why := ByPin
		if c.placed != nil && c.pin.backend == c.placed.ID {
			why = ByPlacement
		}
		return c.pin.backend, why
	case c.placed != nil:
		return c.placed.ID, ByPlacement
	case c.placement != "": // it names an unknown backend, which takes no user
		return c.placement, ByPlacement
	}
	return "", ""
}

// takes says whether the backend takes this user now (rule 2).
func (c *choice) takes(id string) bool {
	b := c.tables.backend(id)
	pinned := c.pin != nil && c.pin.backend == id
	switch {
	case b == nil || !b.usable() || c.wasTried(id):
		return false
	case b.State == Draining && !pinned:
		return false
	case c.health[id].suspect(c.now):
		return pinned && c.held() > 0
	}
	return true
}

// held returns how much longer the user's sessions with a connection keep the user at a backend that is down
// or refuses (rule 4).
func (c *choice) held() time.Duration {
	if c.pin == nil || c.pin.holding == 0 {
		return 0
	}
	since := c.now // a failure that wasn't reported begins now
	if h := c.health[c.pin.backend]; h != nil {
		since = h.first
	}
	switch b := c.tables.backend(c.pin.backend); {
	case b == nil:
		return 0 // it isn't known since when; only a swept row is missing
	case !b.usable() && b.since.Before(since):
		since = b.since
	}
	return max(c.failoverAfter-c.now.Sub(since), 0)
}

// rendezvous is rule 5. firstChoice: the user would be there as well if all backends were usable.
func (c *choice) rendezvous() (best *backendRow, firstChoice bool) {
	var (
		bucket              = bucketHash(Bucket(c.user))
		top, spare          *backendRow // over all that take new users; over those without the tried
		topS, spareS, bestS = -1.0, -1.0, -1.0
	)
	c.tables.backends(func(b *backendRow) bool {
		if !b.takesNew() && !(c.settle && b.Pending && b.Weight > 0) {
			return true
		}
		s := score(bucket, b.hash, b.Weight)
		if s > topS {
			top, topS = b, s
		}
		if c.wasTried(b.ID) {
			return true
		}
		if s > spareS {
			spare, spareS = b, s
		}
		if s > bestS && !c.health[b.ID].suspect(c.now) {
			best, bestS = b, s
		}
		return true
	})
	if best == nil {
		best = spare
	}
	return best, best == top
}

// notKnown is ErrNotReady about one backend.
func notKnown(b *backendRow) error {
	return fmt.Errorf("%w: %s hasn't answered a probe", ErrNotReady, b.Name)
}
