package admin

import "time"

// Drain is one proxy's progress with a backend that users leave: an operator drains it, or it is in maintenance in
// Consul.
type Drain struct {
	Backend  string     `json:"backend"`
	StableID string     `json:"stable_id"`
	Operator bool       `json:"operator"` // an operator drains it; else it is in maintenance in Consul
	By       string     `json:"by"`       // who has asked for it
	Since    *time.Time `json:"since"`    // null where no operator drains it
	Deadline *time.Time `json:"deadline"` // when sessions that are left are ended; null: never
	Rate     float64    `json:"rate"`     // users a second, over all proxies
	// Users have connections there by this proxy; Started, how many had when it began here, at Begun.
	Users   int        `json:"users"`
	Started int        `json:"started"`
	Begun   *time.Time `json:"begun"`
	// Ends is when all users have had their first turn; null: it isn't known yet. Those who can't leave then are asked again.
	Ends *time.Time `json:"ends"`
	// Sessions are this proxy's there, by attachment; Held what keeps those that aren't parked, by not_parked's values.
	Sessions map[string]int `json:"sessions"`
	Held     map[string]int `json:"held"`
	Ended    int            `json:"ended"` // users whose sessions were ended since the deadline
	// WaitsFor are the ids of the proxies that haven't acked a fleet in which the backend isn't up, such as one that is dead and hasn't been
	// taken for that. No user is asked to leave until they have, or are removed; the deadline isn't put off.
	WaitsFor []string `json:"waits_for"`
	// Words is all of it in words (Progress).
	Words string `json:"words"`
}

// Pause is a paused backend, and what one proxy still has there.
type Pause struct {
	Backend  string     `json:"backend"`
	StableID string     `json:"stable_id"`
	By       string     `json:"by"`    // who has asked for it
	Since    *time.Time `json:"since"` // null in a dry run
	Until    *time.Time `json:"until"` // when it ends by itself
	// Sessions are this proxy's there, by attachment; Held what keeps those that aren't parked, by not_parked's
	// values. "guest" are sessions of other backends' users who have a shared mailbox there open. Connections counts all logged-in connections there, those of watches and warm ones included.
	Sessions    map[string]int `json:"sessions"`
	Held        map[string]int `json:"held"`
	Connections int            `json:"connections"`
}
