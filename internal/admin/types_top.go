package admin

// Top is GET /v1/top: who is busy, and what is slow now.
type Top struct {
	// Seconds is how long the time is of which it tells: as many as were asked for, or fewer where there were more than 16,384 commands.
	Seconds  float64      `json:"seconds"`
	Commands int          `json:"commands"` // that have ended, without IDLE
	Users    []TopUser    `json:"users"`    // those with the most commands first, 50 at most
	Slowest  []TopCommand `json:"slowest"`  // 50 at most
}

// TopUser is a user, and what all their sessions did.
type TopUser struct {
	User     string  `json:"user"` // "": sessions that have ended, and aren't remembered
	Backend  string  `json:"backend"`
	Sessions int     `json:"sessions"` // that have sent commands
	Commands int     `json:"commands"`
	Took     float64 `json:"took"`         // seconds, of all commands together
	Waited   float64 `json:"backend_wait"` // of these, for the backend
	Slowest  float64 `json:"slowest"`      // seconds
}

// TopCommand is a command.
type TopCommand = SlowCommand
