package admin

import (
	"context"
	"errors"
)

// Route is the answer of GET /v1/route: where a user's mail is served.
type Route struct {
	User    string `json:"user"`    // the canonical name
	Backend string `json:"backend"` // its name
	Why     string `json:"why"`
	Host    string `json:"host"` // as discovery has it
	// Ports are the backend's, by protocol: imap, lmtp, pop3, sieve.
	Ports map[string]int `json:"ports"`
	// TTLSeconds is how long the user stays there at least. No answer may be used for longer.
	TTLSeconds float64 `json:"ttl_seconds"`
}

// ErrNoSuchName is matched by errors of a Router for names that no user can have.
var ErrNoSuchName = errors.New("no user can have this name")

// Routes returns where a user's mail is served. Its errors are temporary, except ErrNoSuchName.
type Routes func(ctx context.Context, user string) (Route, error)
