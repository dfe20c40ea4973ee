package upstream

import (
	"context"
	"fmt"
	"time"

	"imapproxy/proxy/conn"
)

// Claims decides over all proxies of a service where connections of a user may be (docs/cluster.md). A claim
// is requested before each connection for a user is dialled, and released when the connection's end was seen.
type Claims interface {
	// Claim returns the right to a connection of the user at the backend, or an error: *Elsewhere if the user
	// is at another one, or is being moved; other errors if the user can't be served now. The caller may hold
	// a place for which others wait, so Claim doesn't wait. use is what the connection is for: a session that is
	// to leave a backend may need a watch there first.
	Claim(ctx context.Context, user, backend string, use Use) (Claim, error)
}

// Claim is the right of one connection to exist.
type Claim interface {
	// Release records that the connection's end was seen, or that the connection was never made.
	Release()
	// Ends sets how to stop waiting for the connection's end: by closing its socket, if the backend is known
	// to be lost.
	Ends(cut func())
}

// Elsewhere means that the user is at another backend. No connection was made; the router knows where it may
// be made.
type Elsewhere struct {
	User    string
	Backend string // the ID of the user's backend; "": not known yet, the user is being moved
}

func (e *Elsewhere) Error() string {
	if e.Backend == "" {
		return "the user is being moved to another backend"
	}
	return fmt.Sprintf("the user is at backend %s by now", e.Backend)
}

// unseen is how long a connection counts after its close if there was no descriptor for waiting for its end.
const unseen = 5 * time.Second

// awaitEnd releases the claim once the connection's end is seen. It is called before the connection is
// closed.
func awaitEnd(c *conn.Conn, claim Claim) {
	e, err := c.Ending()
	if err != nil { // there is no free descriptor
		time.AfterFunc(unseen, claim.Release)
		return
	}
	claim.Ends(e.Cut)
	go func() {
		e.Wait()
		claim.Release()
	}()
}

// Paused means that an operator has paused the backend, so no connection was made.
type Paused struct{ Backend string }

func (p *Paused) Error() string { return "backend " + p.Backend + " is paused by an operator" }
