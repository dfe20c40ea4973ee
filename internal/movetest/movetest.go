// Package movetest is an agreement of proxies for tests: it says where users are, and moves them when a test says so. It counts connections as
// docs/cluster.md does, from before the dial until their end was seen, and a user is at another backend only when none is left at
// the one before.
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

// Agreement says where users are. It is made by New.
type Agreement struct {
	home  string
	moved func(user, from string) // nil: nobody wants to know

	mu      sync.Mutex // guards what follows
	users   map[string]*user
	changed chan struct{} // closed, and replaced, at each change
}

// user is where one user is.
type user struct {
	at, to string // to: being moved there; "" not
	conns  int    // that count
	undone bool   // the proxies don't agree
}

// New makes one that has all users at home. moved is called, under the lock, when a user has left a backend for another.
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

// Move begins to move a user: claims wait until no connection is left, and then go to the backend. The caller has the proxy let go of
// the user.
func (a *Agreement) Move(name, to string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.userLocked(name)
	if u.at != to {
		u.to = to
	}
	a.settleLocked(name, u)
}

// GiveUp ends an attempt to move a user who couldn't leave: claims go where the user is.
func (a *Agreement) GiveUp(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.userLocked(name)
	u.to = ""
	a.settleLocked(name, u)
}

// Disagree has the proxies not agree on a user, or agree again.
func (a *Agreement) Disagree(name string, undone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.userLocked(name)
	u.undone = undone
	a.settleLocked(name, u)
}

// At is where a user is, whether they are being moved, and how many connections count.
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

// claim counts a connection where the user is. only is the backend that a connection is for; "": a login asks where the user is, and waits while the user is being moved.
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

// claim is one connection's.
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

// Ends implements upstream.Claim. Ends are waited for.
func (c *claim) Ends(func()) {}

// Claims is the agreement as an upstream.Dialer asks it.
func (a *Agreement) Claims() upstream.Claims { return claims{a} }

type claims struct{ a *Agreement }

func (c claims) Claim(ctx context.Context, user, backend string) (upstream.Claim, error) {
	k, err := c.a.claim(ctx, user, backend)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Routing is the agreement as a routing.Router asks it.
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
