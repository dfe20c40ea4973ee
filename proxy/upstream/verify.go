package upstream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Does a master login log in the intended user? Courier silently ignores the authorization identity and logs
// in the master: all users would read and write one mailbox. So no user is logged in by a master login before
// the backend was seen to honour the identity, once per backend and master credentials.
//
// U is the user who logs in, M the master, S a stranger who can't exist:
//
//	M alone is refused                          honoured: U's login wasn't M's
//	U's INBOX isn't M's                         honoured
//	they can't be told apart, or neither has one:
//	    S is refused                            honoured: the identity is looked at
//	    S's INBOX isn't M's                     honoured
//	    S's INBOX can't be told from M's        not honoured
//	    neither has one                         can't tell: no user gets in yet,
//	                                            the next user is asked again
//
// INBOXes are compared by STATUS (inbox.go), which creates and selects nothing. A server that creates an
// INBOX at any login (Cyrus with autocreate) does so for M and S too; S is tried only if there is doubt.
//
// "Honoured" is forgotten when the backend can't be reached, since it may come
// back as another; "not honoured" after recheckAfter.

// Login connects to the backend and logs the user in. Its errors are *Refused
// and *Unavailable, nothing else. The Conn is the caller's.
//
// When ctx ends, the socket is closed; after Login has returned, ctx has no effect on the Conn.
//
// In mode master the first login at a backend with these master credentials also finds out whether the
// backend logs in the requested user (verify.go), which takes up to LoginTimeout once more; other logins wait
// for it.
func (d *Dialer) Login(ctx context.Context, t Target, a Auth, c Client) (*Conn, error) {
	if a.Mode != ModeMaster {
		return d.login(ctx, t, a, c, kindSession)
	}
	if err := d.mayMaster(t); err != nil {
		return nil, err
	}
	// A backend that is known to mix users up isn't even dialled.
	if err := d.intended.refusal(d.opt.Now(), t, a); err != nil {
		return nil, err
	}
	out, err := d.login(ctx, t, a, c, kindSession)
	if err != nil {
		if away(err) {
			d.intended.forget(t) // it may return as another server
		}
		return nil, err
	}
	start := d.opt.Now()
	checked, err := d.ensureIntended(ctx, t, a, out)
	if checked && c.Observe != nil {
		c.Observe(PhaseVerify, start, d.opt.Now(), err)
	}
	if err != nil {
		_ = out.Abort() // its error isn't needed
		return nil, err
	}
	return out, nil
}

// VerifyIntendedUser finds out again whether the backend honours a master login. If a.User is empty, only M
// and S are used (see above). how describes the evidence, for logs. The error is *Unavailable, with
// ErrIntendedUser or ErrUnverified in it if it isn't another failure.
func (d *Dialer) VerifyIntendedUser(ctx context.Context, t Target, a Auth) (how string, err error) {
	a.Mode = ModeMaster
	if err := d.mayMaster(t); err != nil {
		return "", err
	}
	if err := usable(t, Auth{Mode: ModeMaster, User: "any", MasterUser: a.MasterUser, MasterPassword: a.MasterPassword}); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*d.opt.LoginTimeout,
		fmt.Errorf("%w after %v", ErrTimeout, 2*d.opt.LoginTimeout))
	defer cancel()
	var user *Conn
	if a.User != "" {
		if user, err = d.login(ctx, t, a, Client{}, kindProbe); err != nil {
			return "", err
		}
		defer user.leave(ctx)
	}
	key := d.intended.key(t, a)
	f, mine := d.intended.claim(d.opt.Now(), key, true)
	if !mine { // a login is finding it out at this moment
		select {
		case <-f.done:
			return "as a login has just shown", f.err
		case <-ctx.Done():
			return "", failure(ctx, t, atStage(StageVerify, ctx.Err()))
		}
	}
	return d.lookIntended(ctx, key, f, t, a, user)
}

// ensureIntended is the part of Login that uses the finding, waits for it or makes it. checked: it took time.
func (d *Dialer) ensureIntended(ctx context.Context, t Target, a Auth, user *Conn) (checked bool, err error) {
	key := d.intended.key(t, a)
	ctx, cancel := context.WithTimeoutCause(ctx, d.opt.LoginTimeout,
		fmt.Errorf("%w after %v", ErrTimeout, d.opt.LoginTimeout))
	defer cancel()
	for {
		f, mine := d.intended.claim(d.opt.Now(), key, false)
		if mine {
			_, err := d.lookIntended(ctx, key, f, t, a, user)
			return true, err
		}
		select {
		case <-f.done:
			return checked, f.err // the usual case: known
		default:
		}
		checked = true
		select {
		case <-f.done:
			if !f.void {
				return checked, f.err
			}
			// The client of the login that was finding out is gone, or its user has no INBOX: this login does
			// it.
		case <-ctx.Done():
			return checked, failure(ctx, t, atStage(StageVerify, ctx.Err()))
		}
	}
}

// lookIntended makes the finding and logs the result.
func (d *Dialer) lookIntended(ctx context.Context, key intendedKey, f *finding, t Target, a Auth, user *Conn) (how string, err error) {
	log := d.tel.Log.With("backend", t.shown(), "address", t.Address, "master", a.MasterUser)
	how, err = d.examine(ctx, t, a, user)
	if err != nil {
		down, ok := errors.AsType[*Unavailable](err)
		if !ok {
			down, ok = errors.AsType[*Unavailable](failure(ctx, t, atStage(StageVerify, err)))
		}
		if !ok { // the master was refused, which isn't a reason to refuse the client's password
			down = &Unavailable{Backend: t.shown(), Err: err}
		}
		down.Stage = StageVerify // for all logins of the search
		err = down
	}
	d.intended.settle(d.opt.Now(), key, f, err)
	switch {
	case err == nil:
		log.Info("the backend honours master logins", "seen", how)
	case errors.Is(err, ErrIntendedUser):
		log.Error("the backend ignores the user that a master login asks for and logs in the master instead: no user is let in there",
			"help", `use backend_login { mode = "user" }, or have the backend honour SASL PLAIN's authorization identity`)
	default:
		log.Warn("it isn't known yet whether the backend honours master logins", "error", err)
	}
	return how, err
}

// examine follows the table above. user is logged in as U, nil if there is none.
func (d *Dialer) examine(ctx context.Context, t Target, a Auth, user *Conn) (how string, err error) {
	own := Auth{Mode: ModeUser, User: a.MasterUser, Password: a.MasterPassword}
	master, err := d.login(ctx, t, own, Client{}, kindProbe)
	var refused *Refused
	switch {
	case errors.As(err, &refused) && user != nil:
		return "the master user has no login of its own", nil
	case errors.As(err, &refused):
		return d.examineUnseen(ctx, t, a)
	case err != nil:
		return "", err
	}
	defer master.leave(ctx)

	seen := theSame // without a user there is nothing to compare yet
	if user != nil && !strings.EqualFold(a.User, a.MasterUser) {
		if seen, err = sameInbox(ctx, master, user); err != nil {
			return "", err
		}
		if seen == different {
			return "the user's INBOX isn't the master's", nil
		}
	}

	a.User = strangerLike(a.User)
	stranger, err := d.login(ctx, t, a, Client{}, kindProbe)
	if err != nil {
		var no *Unavailable
		if errors.As(err, &no) && errors.Is(err, errNo) && blamesUser(ModeUser, no.Code, no.Text) {
			return "a user who doesn't exist is refused", nil
		}
		return "", err
	}
	defer stranger.leave(ctx)
	if seen != indistinct {
		if seen, err = sameInbox(ctx, master, stranger); err != nil {
			return "", err
		}
	}
	switch seen {
	case different:
		return "a stranger's INBOX isn't the master's", nil
	case bothMissing:
		return "", fmt.Errorf("%w: neither user nor master has an INBOX, and users who don't exist are let in", ErrUnverified)
	}
	return "", ErrIntendedUser
}

// examineUnseen is for a master who can't log in as themselves, if no login of theirs has been seen to
// succeed either: that may mean an honoured identity or a wrong password. Only an answer that distinguishes
// the two is accepted.
func (d *Dialer) examineUnseen(ctx context.Context, t Target, a Auth) (how string, err error) {
	a.User = strangerLike("")
	stranger, err := d.login(ctx, t, a, Client{}, kindProbe)
	var no *Unavailable
	switch {
	case err == nil:
		stranger.leave(ctx)
		return "the master user has no login of its own", nil
	case errors.As(err, &no) && errors.Is(err, errNo) && no.Code == "AUTHORIZATIONFAILED":
		return "a user who doesn't exist is refused", nil
	}
	return "", err
}

// strangerLike returns a user name that doesn't exist, in the user's domain.
func strangerLike(user string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	_, domain, found := strings.Cut(user, "@")
	name := "imapproxy-nobody-" + hex.EncodeToString(b[:])
	if found {
		name += "@" + domain
	}
	return name
}

// mayMaster refuses to send a master's password in the clear to another machine.
func (d *Dialer) mayMaster(t Target) error {
	if d.opt.CleartextMaster || t.TLS != TLSNone && t.TLS != "" || Local(t.Address) {
		return nil
	}
	return &Unavailable{Backend: t.shown(), Stage: StageSettings, Err: ErrCleartext}
}

// away says whether err means that a backend couldn't be reached at all.
func away(err error) bool {
	var down *Unavailable
	return errors.As(err, &down) && down.Stage == StageDial && down.BackendDown()
}
