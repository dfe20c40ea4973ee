package upstream

import (
	"context"
	"fmt"
	"time"

	"imapproxy/proxy/conn"
)

// Claims says where connections of a user may be, over all proxies of a service (docs/cluster.md). It is asked before
// each connection for a user is dialled, and told when its end was seen.
type Claims interface {
	// Claim returns the right to a connection of the user at the backend, or an error: *Elsewhere where the user is at another one, or is being
	// moved; any other where the user can't be served now. The caller may have a place that others wait for, so it doesn't wait itself.
	Claim(ctx context.Context, user, backend string) (Claim, error)
}

// Claim is the right of one connection to be.
type Claim interface {
	// Release says that the connection's end was seen, or that it was never made.
	Release()
	// Ends says how to give up waiting for the connection's end: by closing its socket, where the backend is known to be lost.
	Ends(cut func())
}

// Elsewhere means that the user is at another backend: the login that was to be made isn't, and the router knows where it may be made.
type Elsewhere struct {
	User    string
	Backend string // where the user is; its ID. "": that isn't known yet, the user is being moved
}

func (e *Elsewhere) Error() string {
	if e.Backend == "" {
		return "the user is being moved to another backend"
	}
	return fmt.Sprintf("the user is at backend %s by now", e.Backend)
}

// unseen is how long a connection counts after it was closed where there was no descriptor to wait for its end with.
const unseen = 5 * time.Second

// awaitEnd has the claim released once the connection's end is seen. It is called before the connection is closed.
func awaitEnd(c *conn.Conn, claim Claim) {
	e, err := c.Ending()
	if err != nil { // no descriptor is left
		time.AfterFunc(unseen, claim.Release)
		return
	}
	claim.Ends(e.Cut)
	go func() {
		e.Wait()
		claim.Release()
	}()
}
