package session

import (
	"context"
	"errors"

	"imapproxy/proxy/upstream"
)

// A login whose password a backend has to prove counts as a connection of its user, and Dovecot takes up to 15 s
// to refuse a wrong one. If the user belongs at another backend, such a login is broken off and asks again there
// (docs/cluster.md): otherwise a person who keeps guessing a user's password would keep the user from moving.

// enter adds a login of the user. ctx is cancelled, with an *upstream.Elsewhere as its cause, if the user is to
// be at another backend. leave removes the login.
func (u *unprovedLogins) enter(ctx context.Context, user string) (_ context.Context, leave func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	l := &unprovedLogin{cancel}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ofUser == nil {
		u.ofUser = map[string]map[*unprovedLogin]struct{}{}
	}
	if u.ofUser[user] == nil {
		u.ofUser[user] = map[*unprovedLogin]struct{}{}
	}
	u.ofUser[user][l] = struct{}{}
	return ctx, func() {
		cancel(nil)
		u.mu.Lock()
		defer u.mu.Unlock()
		if delete(u.ofUser[user], l); len(u.ofUser[user]) == 0 {
			delete(u.ofUser, user)
		}
	}
}

// letGo breaks off the logins of a user ("": of all users).
func (u *unprovedLogins) letGo(user string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if user != "" {
		breakOff(user, u.ofUser[user])
		return
	}
	for user, all := range u.ofUser {
		breakOff(user, all)
	}
}

func breakOff(user string, all map[*unprovedLogin]struct{}) {
	for l := range all {
		l.cancel(&upstream.Elsewhere{User: user})
	}
}

// brokenOff returns why an attempt was broken off that has failed, nil if it wasn't.
func brokenOff(attempt context.Context, failed error) error {
	elsewhere := new(upstream.Elsewhere)
	if failed != nil && errors.As(context.Cause(attempt), &elsewhere) {
		return elsewhere
	}
	return nil
}

// LetGo breaks off the logins of a user ("": of all users) whose password a backend has been asked to prove.
// They ask again where the user is by then.
func (r *Registry) LetGo(user string) { r.unproved.letGo(user) }

// asks begins an attempt of a login, which ends with end. While the password isn't proved, the attempt may be broken off: ctx is
// cancelled then.
func (p *preLogin) asks(ctx context.Context, a *attempt, user string) (_ context.Context, end func()) {
	if a.proof == upstream.Verified {
		return ctx, func() {}
	}
	return p.env.Registry.unproved.enter(ctx, user)
}
