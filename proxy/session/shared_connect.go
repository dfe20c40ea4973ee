package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// Why a mailbox of another user can't be reached.
var (
	errNotShared = errors.New("there is no such mailbox, or it isn't shared with the user")
	errSilent    = errors.New("the owner's backend didn't answer about another owner")
	errTooOld    = errors.New("the owner's backend lacks a capability that the client was told of")
)

// connect opens a connection to the mail of owner with the rights of the session's user.
func (o *visit) connect(owner string) (*leg, error) {
	s := o.s
	ctx, cancel := s.within(sharedWithin)
	defer cancel()
	set := s.settings()
	name, err := set.Names.Given(owner)
	if err != nil || name != owner || owner == s.user || !o.n.CanOwn(owner) || !o.n.CanOwn(s.user) {
		return nil, errNotShared
	}
	placement, err := set.placementOf(ctx, owner)
	if err != nil {
		return nil, err
	}
	if placement == "" {
		return nil, errNotShared
	}
	pick, err := set.Router.PickWithin(ctx, discoveryWait, owner, placement)
	if err != nil {
		return nil, err
	}
	if _, _, paused := set.Router.Paused(pick.Backend.ID); paused {
		pick.Release() // it holds the owner, whom an operator may want to move
		return nil, &pausedOwner{id: pick.Backend.ID, Paused: upstream.Paused{Backend: pick.Backend.Shown()}}
	}
	if o.silent[pick.Backend.ID] {
		pick.Release()
		return nil, errSilent
	}
	s.env.Registry.visits(s, owner) // before the login: a move of the owner then ends the session
	l, err := o.loginAt(ctx, set, owner, set.TargetOf(pick.Current()))
	if err != nil {
		o.keepsSilent(pick.Backend.ID, owner, err)
		pick.Release()
		s.env.Registry.leaves(s, owner)
		return nil, err
	}
	l.pick = pick
	s.visits(l.conn, pick)
	if !pick.Confirm() {
		o.close(l)
		return nil, errMoved
	}
	return l, nil
}

// keepsSilent records that a backend has failed to answer, if that is what err means: a LIST may be about hundreds of owners, and isn't to wait for the same backend for each
// of them. Once the backend knows about whose mail it is asked, that owner's mail alone may be the cause, so it takes the failures of two owners.
func (o *visit) keepsSilent(backend, owner string, err error) {
	if o.silent == nil || upstream.Answered(err) || upstream.IsShortage(err) || errors.Is(err, context.Canceled) {
		return
	}
	stage := ""
	if u, ok := errors.AsType[*upstream.Unavailable](err); ok {
		stage = u.Stage
	}
	switch {
	case stage == upstream.StageDial, stage == upstream.StageTLS, stage == upstream.StageGreeting:
		o.silent[backend] = true
	case stage == upstream.StageSettings: // nothing was sent
	case stage != "", errors.Is(err, context.DeadlineExceeded):
		if first, slow := o.slow[backend]; slow && first != owner {
			o.silent[backend] = true
		}
		o.slow[backend] = owner
	}
}

// pausedOwner says that an owner's backend, whose ID it has, is paused: no connection was made.
type pausedOwner struct {
	upstream.Paused
	id string
}

// connectLater is connect, but while the owner's backend is paused it waits, for at most sharedWithin. The client waits for an answer.
func (o *visit) connectLater(owner string) (*leg, error) {
	s := o.s
	heard, end := s.env.Now(), time.Now().Add(sharedWithin)
	for {
		l, err := o.connect(owner)
		p, paused := errors.AsType[*pausedOwner](err)
		if !paused || !time.Now().Before(end) {
			return l, err
		}
		ctx, cancel := s.within(time.Until(end))
		s.settings().Router.Resumed(ctx, p.id, stillEvery)
		cancel()
		if s.Reason() != "" {
			return nil, errSessionOver
		}
		if s.out.atBoundary() {
			s.stillHere(&heard)
		}
	}
}

// loginAt logs in and enables what the client has enabled.
func (o *visit) loginAt(ctx context.Context, set *Settings, owner string, target upstream.Target) (*leg, error) {
	s := o.s
	c, err := set.Dialer.LoginShared(ctx, target, upstream.Auth{Mode: upstream.ModeMaster, User: owner, MasterUser: s.user, MasterPassword: set.Shared.Password},
		upstream.Client{Addr: s.addr, LocalAddr: s.local, SessionID: s.id, ProxyTTL: int(s.proxyTTL)})
	if err != nil {
		return nil, err
	}
	if lacks := s.needs(missing(c.Caps, s.caps.Load().list)); len(lacks) > 0 {
		_ = c.Abort()
		return nil, fmt.Errorf("%w: %s", errTooOld, strings.Join(lacks, " "))
	}
	imap := imapclient.New(c.Conn, imapclient.Options{})
	if err = imap.Enable(ctx, o.enables(c.Caps)...); err == nil {
		err = imap.Release()
	}
	if err != nil {
		_ = c.Abort()
		return nil, err
	}
	l := newLeg(c)
	l.owner = owner
	return l, nil
}

// enables returns what is to be enabled on a connection to a backend with these capabilities.
func (o *visit) enables(caps wire.Caps) []string {
	t := &o.s.inFlight.Client
	if caps.Has("ENABLE") && caps.Has("CONDSTORE") {
		return t.Extends()
	}
	return t.Enabled
}

// placementOf is the placement of a user who isn't the one that logs in; "": none is known.
func (set *Settings) placementOf(ctx context.Context, user string) (string, error) {
	for _, source := range set.Sources {
		p, ok := source.(auth.Placer)
		if !ok {
			continue
		}
		if placement, known := p.Placed(user); known && placement != "" {
			return placement, nil
		}
	}
	if set.Placement == nil {
		return "", nil
	}
	placement, _, err := set.Placement(ctx, user)
	return placement, err
}

// asking returns a connection to the mail of owner on which nothing is selected, a new one by connect. It is closed when the client has no further
// commands waiting: a backend may look at rights only once per connection.
func (o *visit) asking(owner string, connect func(owner string) (*leg, error)) (*leg, error) {
	if o.ask != nil && o.ask.owner == owner {
		return o.ask, nil
	}
	o.close(o.ask)
	l, err := connect(owner)
	o.ask = l
	return l, err
}

// unreachable is the answer to a command about a mailbox whose backend connect has failed to reach.
func (o *visit) unreachable(h wire.CommandHead, owner string, err error) error {
	s := o.s
	switch {
	case s.Reason() != "":
		return errSessionOver
	case errors.Is(err, errNotShared):
		return o.answer(h, wire.NO, "[NONEXISTENT] No such mailbox, or it isn't shared with you")
	case errors.Is(err, errTooOld):
		s.log().Warn("a shared mailbox can't be opened", "owner", owner, "error", err)
		return o.answer(h, wire.NO, "[CANNOT] The server of that mailbox lacks a capability that this session was told of")
	}
	s.log().Warn("a shared mailbox can't be reached", "owner", owner, "error", err)
	return o.lost(h, "[UNAVAILABLE] The server of that mailbox can't be reached now")
}

// touchHome keeps the session's own backend from closing a connection that isn't used.
func (o *visit) touchHome() error {
	now := o.s.env.Now()
	if o.homeUsed.IsZero() || now.Sub(o.homeUsed) < homeTouch {
		return nil
	}
	_, err := o.own("NOOP", nil)
	if o.withoutHome(err) {
		return o.reopenHome()
	}
	return err
}

// homeTouch is the time after which touchHome sends NOOP.
const homeTouch = 5 * time.Minute

// followed notes what a command that was answered by status has left on the connection l.
func (o *visit) followed(l *leg, c *track.Carried, status wire.Status) {
	if (status == wire.OK || status == wire.NO) && o.s.inFlight.Carried(c) && l != o.home {
		o.homeLacks = !o.away
	}
}

// enableHome enables CONDSTORE on the session's own connection after a command about a shared mailbox has: it holds for all mailboxes (RFC 7162 §3.1).
func (o *visit) enableHome() error {
	o.homeLacks = false
	caps := o.s.caps.Load().list
	if !caps.Has("ENABLE") || !caps.Has("CONDSTORE") {
		return nil
	}
	_, err := o.own("ENABLE CONDSTORE", func(u imapclient.Untagged) bool { return u.Is("ENABLED") })
	if o.withoutHome(err) {
		return o.reopenHome()
	}
	if _, refused := errors.AsType[*imapclient.Refusal](err); refused {
		return nil
	}
	return err
}

// own sends a command of the proxy's own on the session's own connection.
func (o *visit) own(command string, onUntagged func(imapclient.Untagged) bool) (wire.Response, error) {
	o.homeUsed = o.s.env.Now()
	return o.do(o.home, command, onUntagged)
}

// do sends a command of the proxy's own. Responses that onUntagged doesn't claim go to the client. An answer of NO or BAD is
// an *imapclient.Refusal.
func (o *visit) do(l *leg, command string, onUntagged func(imapclient.Untagged) bool) (wire.Response, error) {
	ctx, cancel := o.s.within(sharedWithin)
	defer cancel()
	l.conn.Unread(l.r.Buffered())
	l.conn.LimitReads(time.Time{}) // an answer that line has read leaves a deadline
	forward := func(b []byte) {
		l.heard = true
		o.s.passOn(b)
	}
	if l != o.home {
		forward = func(b []byte) {
			if b = o.n.Response(b, l.owner); b != nil && l == o.at {
				_ = o.write(b, true) // an error shows with the next write
			}
		}
	}
	imap := imapclient.New(l.conn.Conn, imapclient.Options{Forward: forward, MaxLine: maxSharedAnswer})
	resp, err := imap.Do(ctx, command, onUntagged)
	if broken := imap.Release(); broken != nil {
		return resp, &lostLeg{l, broken}
	}
	l.conn.Progress.Hears(o.s.env.Now())
	return resp, err
}
