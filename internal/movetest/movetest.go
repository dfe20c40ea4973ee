// Package movetest is an agreement of proxies for tests: it says where users are, and moves them when a test
// asks for it. It counts connections as docs/cluster.md does, from before the dial until their ends were
// seen. A user is at another backend only when no connection is left at the backend before.
//
// Imports proxy/upstream and routing. Imported by the tests of all packages.
package movetest

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// Agreement says where users are. New makes it.
type Agreement struct {
	home  string
	moved func(user, from string) // nil: no function is called

	mu      sync.Mutex // guards what follows
	users   map[string]*user
	changed chan struct{} // closed, and replaced, at each change
}

// user is one user's place and connections.
type user struct {
	at, to string // to is where the user is being moved; "": nowhere
	conns  int    // the number of connections that count
	undone bool   // the proxies don't agree
}

// New makes an Agreement that has all users at home. moved is called, under the lock, when a user has moved
// from a backend to another.
func New(home string, moved func(user, from string)) *Agreement {
	return &Agreement{home: home, moved: moved, users: map[string]*user{}, changed: make(chan struct{})}
}

func (a *Agreement) userLocked(name string) *user {
	u := a.users[name]
	if u == nil {
		u = &user{at: a.home}
		a.users[name] = u
	}
	return u
}

func (a *Agreement) settleLocked(name string, u *user) {
	if u.to != "" && u.conns == 0 {
		from := u.at
		u.at, u.to = u.to, ""
		if a.moved != nil {
			a.moved(name, from)
		}
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// Move begins to move a user: claims wait until no connection is left, and then go to the new backend. The
// caller makes the proxy let go of the user.
func (a *Agreement) Move(name, to string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.userLocked(name)
	if u.at != to {
		u.to = to
	}
	a.settleLocked(name, u)
}

// GiveUp ends an attempt to move a user who couldn't leave: claims go to where the user is.
func (a *Agreement) GiveUp(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.userLocked(name)
	u.to = ""
	a.settleLocked(name, u)
}

// Disagree sets whether the proxies disagree on a user.
func (a *Agreement) Disagree(name string, undone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.userLocked(name)
	u.undone = undone
	a.settleLocked(name, u)
}

// At returns where a user is, whether they are being moved, and how many connections count.
func (a *Agreement) At(name string) (backend string, moving bool, conns int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.userLocked(name)
	return u.at, u.to != "", u.conns
}

func (a *Agreement) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	for name, u := range a.users {
		fmt.Fprintf(&b, "%s %+v;", name, *u)
	}
	return b.String()
}

// Arrived waits until a user is at a backend.
func (a *Agreement) Arrived(ctx context.Context, name, backend string) error {
	for {
		a.mu.Lock()
		u, changed := a.userLocked(name), a.changed
		there := u.at == backend && u.to == ""
		a.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// claim counts a connection at the user's backend. only is the backend that a connection is for; "": it is a
// login, which asks where the user is, and waits while the user is being moved.
func (a *Agreement) claim(ctx context.Context, name, only string) (*claim, error) {
	for {
		a.mu.Lock()
		u, changed := a.userLocked(name), a.changed
		moving, at := u.to != "" || u.undone, u.at
		if !moving && (only == "" || at == only) {
			u.conns++
			a.mu.Unlock()
			return &claim{a: a, user: name, at: at}, nil
		}
		a.mu.Unlock()
		switch {
		case moving && only != "":
			return nil, &upstream.Elsewhere{User: name}
		case !moving:
			return nil, &upstream.Elsewhere{User: name, Backend: at}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// claim is a connection's claim.
type claim struct {
	a        *Agreement
	user, at string
	once     sync.Once
}

// Release implements upstream.Claim.
func (c *claim) Release() {
	c.once.Do(func() {
		c.a.mu.Lock()
		defer c.a.mu.Unlock()
		u := c.a.userLocked(c.user)
		u.conns--
		c.a.settleLocked(c.user, u)
	})
}

// Ends implements upstream.Claim. It does nothing: the connection counts until Release.
func (c *claim) Ends(func()) {}

// Claims returns the agreement for an upstream.Dialer.
func (a *Agreement) Claims() upstream.Claims { return claims{a} }

type claims struct{ a *Agreement }

func (c claims) Claim(ctx context.Context, user, backend string, _ upstream.Use) (upstream.Claim, error) {
	k, err := c.a.claim(ctx, user, backend)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Routing returns the agreement for a routing.Router.
func (a *Agreement) Routing() routing.Agreement { return places{a} }

type places struct{ a *Agreement }

// Destination implements routing.Destined.
func (p places) Destination(name string) string {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	u := p.a.userLocked(name)
	if u.to != "" {
		return u.to
	}
	return u.at
}

func (p places) Claim(ctx context.Context, user, _ string) (string, func(), error) {
	k, err := p.a.claim(ctx, user, "")
	if err != nil {
		return "", nil, err
	}
	return k.at, k.Release, nil
}
