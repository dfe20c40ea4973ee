package auth

import (
	"context"

	"imapproxy/internal/fair"
)

// Scram implements Keeper.
func (p *PasswdFile) Scram() *Scram { return p.scram }

// Keys implements Keeper.
func (p *PasswdFile) Keys(_ context.Context, c Credentials) (Keys, Verdict) {
	e := p.users.Load().users[c.User]
	switch {
	case e == nil:
		return Keys{}, Unknown{}
	case e.password == nil:
		return Keys{}, Rejected{Reason: ReasonAccountDisabled}
	}
	k, ok := e.password.keysFor(c.Mechanism)
	switch {
	case !ok:
		return Keys{}, Rejected{Reason: ReasonNoScramKeys}
	case e.nets != nil && !fair.In(e.nets, c.Client):
		return k, Rejected{Reason: ReasonAccountDisabled}
	}
	return k, e.accepted()
}

// WithoutKeys returns how many users that aren't locked can't log in by SCRAM, although it is offered.
func (p *PasswdFile) WithoutKeys() (n int) {
	for _, e := range p.users.Load().users {
		if p.scram != nil && e.password != nil && (e.password.keys == nil || !p.scram.does(e.password.keys.mechanism)) {
			n++
		}
	}
	return n
}

// Certified implements Certifier.
func (p *PasswdFile) Certified(_ context.Context, c Credentials) Verdict {
	switch e := p.users.Load().users[c.User]; {
	case e == nil:
		return Unknown{}
	case e.password == nil, e.nets != nil && !fair.In(e.nets, c.Client):
		return Rejected{Reason: ReasonAccountDisabled}
	default:
		return e.accepted()
	}
}
