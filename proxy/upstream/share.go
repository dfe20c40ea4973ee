package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"imapproxy/proxy/wire"
)

// A login for a shared mailbox is a master login: the user is the mailbox's owner, and the master is the user who shares it. The backend has to apply the rights of the latter, as Dovecot does (acl_user is the master user by default). One
// that applies the owner's would open each mailbox of the owner to each user of the proxy.
//
// So nothing is done on such a connection before the backend was seen to apply the master's rights, once per backend and
// password. S is a user who can't exist, logged in to the mail of the same owner:
//
//	S is refused                                not known: S says nothing about users who exist
//	the backend has no ACL (RFC 4314)           not applied
//	S may open the owner's INBOX, or
//	has rights on it                            not applied
//	S may not                                   applied
//
// An owner who gives rights to everyone on their INBOX makes the third case; another owner of that backend can show the fourth.

// sharing marks the findings about shared mailboxes: no master user has this name, since no login has.
const sharing = "\x00shared"

// reproveAfter is how long a proof counts: a backend's configuration may change while it runs.
const reproveAfter = 10 * time.Minute

// LoginShared connects to the backend and logs in to the mail of a.User with the rights of a.MasterUser. Its errors are
// *Unavailable. Otherwise it is as Login.
func (d *Dialer) LoginShared(ctx context.Context, t Target, a Auth, c Client) (*Conn, error) {
	a.Mode = ModeMaster
	if err := d.ProveSharing(ctx, t, a); err != nil {
		return nil, err
	}
	out, err := d.login(ctx, t, a, c, kindSession)
	if err != nil && away(err) {
		d.intended.forget(t) // it may return as another server
	}
	return out, err
}

// ProveSharing finds out, unless that is known, whether the backend applies the rights of the users who open the mail of a.User, and logs what
// it found. Its errors are *Unavailable.
func (d *Dialer) ProveSharing(ctx context.Context, t Target, a Auth) error {
	a.Mode = ModeMaster
	if err := d.mayMaster(t); err != nil {
		return err
	}
	if strings.EqualFold(a.User, a.MasterUser) { // its own rights would prove nothing
		return &Unavailable{Backend: t.shown(), Stage: StageSettings, Err: ErrUnproved}
	}
	key := d.intended.key(t, Auth{MasterUser: sharing, MasterPassword: a.MasterPassword})
	for {
		f, mine := d.intended.claim(d.opt.Now(), key, d.intended.older(d.opt.Now(), key, reproveAfter))
		if mine {
			how, err := d.lookRights(ctx, t, a)
			d.intended.settle(d.opt.Now(), key, f, err)
			log := d.tel.Log.With("backend", t.shown(), "address", t.Address)
			switch {
			case err == nil:
				log.Info("the backend applies the rights of the users of shared mailboxes", "seen", how)
			case errors.Is(err, ErrRights):
				log.Error("the backend doesn't apply the rights of the users of shared mailboxes: it shares none",
					"error", err, "help", "docs/shared.md, Identity")
			default:
				log.Warn("can't tell yet whether the backend applies the rights of the users of shared mailboxes: until then it shares none", "error", err, "help", "docs/shared.md, Identity")
			}
			return err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return failure(ctx, t, atStage(StageVerify, ctx.Err()))
		}
		if f.err == nil {
			return nil
		}
		if errors.Is(f.err, ErrRights) {
			return f.err
		}
		// Otherwise it is found out again: the search has failed for a reason that may not concern this owner.
	}
}

// VerifySharing finds out again whether the backend applies the rights of the user who opens the mail of owner. how
// describes the evidence.
func (d *Dialer) VerifySharing(ctx context.Context, t Target, a Auth) (how string, err error) {
	a.Mode = ModeMaster
	if err := d.mayMaster(t); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.opt.LoginTimeout, fmt.Errorf("%w after %v", ErrTimeout, d.opt.LoginTimeout))
	defer cancel()
	return d.lookRights(ctx, t, a)
}

// lookRights follows the table above. The error is *Unavailable.
func (d *Dialer) lookRights(ctx context.Context, t Target, a Auth) (how string, err error) {
	a.MasterUser = strangerLike(a.User)
	c, err := d.login(ctx, t, a, Client{}, kindProbe)
	if err != nil {
		var down *Unavailable
		if errors.As(err, &down) {
			down.Stage = StageVerify
			if down.Err != nil {
				down.Err = fmt.Errorf("%w: %w", ErrUnproved, down.Err)
			} else {
				down.Err = ErrUnproved
			}
			return "", down
		}
		return "", &Unavailable{Backend: t.shown(), Stage: StageVerify, Err: fmt.Errorf("%w: %w", ErrUnproved, err)}
	}
	defer c.leave(ctx)
	how, err = c.withoutRights(ctx)
	if err != nil {
		return "", &Unavailable{Backend: t.shown(), Stage: StageVerify, Err: err}
	}
	return how, nil
}

// withoutRights finds out whether the connection has no rights on the INBOX, on which its user has none. It opens the INBOX
// read-only.
func (c *Conn) withoutRights(ctx context.Context) (how string, err error) {
	if !c.Caps.Has("ACL") {
		return "", fmt.Errorf("%w: it has no ACL", ErrRights)
	}
	stop := c.Until(ctx)
	defer func() {
		if stop() && err == nil {
			err = context.Cause(ctx)
		}
	}()
	l := newLoginClient(c.Conn, loginOptions{})
	l.keep, l.want = true, "MYRIGHTS"
	for _, ask := range []func() (wire.Response, error){
		func() (wire.Response, error) { return l.command("MYRIGHTS INBOX\r\n") },
		func() (wire.Response, error) { return l.command("EXAMINE INBOX\r\n") },
	} {
		resp, err := ask()
		switch {
		case err != nil:
			return "", fmt.Errorf("%w: %w", ErrUnproved, err)
		case resp.Status == "OK":
			return "", fmt.Errorf("%w: a user who doesn't exist has rights on the INBOX", ErrRights)
		case resp.Status != "NO":
			return "", &answerError{answer{code: cleanText(resp.Code), text: cleanText(resp.Text)}, ErrUnproved}
		}
	}
	return "a user who doesn't exist may not open an INBOX", l.Release()
}
