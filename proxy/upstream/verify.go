package upstream

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Does a master login yield the intended user? Courier ignores the
// authorization identity without a word and logs in the master himself: every
// user would read and write one mailbox. So nobody gets in by a master login
// before the backend was seen to honour it, once per backend and master
// credentials.
//
// U is the user who logs in, M the master, S a stranger who can't exist:
//
//	M alone is refused                          honoured: U's login wasn't M's
//	U's INBOX isn't M's                         honoured
//	they can't be told apart, or neither has one:
//	    S is refused                            honoured: the identity is looked at
//	    S's INBOX isn't M's                     honoured
//	    S's INBOX can't be told from M's        not honoured
//	    neither has one                         can't tell: nobody gets in yet,
//	                                            the next user is asked again
//
// INBOXes are compared by STATUS (inbox.go), which creates and selects nothing.
// A server that creates an INBOX at any login (Cyrus
// with autocreate) does so for M and S too; S is tried only where there is
// doubt.
//
// "Honoured" is forgotten when the backend can't be reached, since it may come
// back as another; "not honoured" after recheckAfter.

const (
	recheckAfter = time.Minute
	maxIntended  = 4096 // entries; more means that backends come and go, then all is asked anew
	maxCompare   = 3    // comparisons while mail arrives in M's INBOX
)

// MasterFindings is what is known about the backends' master logins. A Dialer that takes the place of
// another shares it, since finding it out anew is a login that fails, which a backend may
// punish the proxy's address for. It is safe for concurrent use.
type MasterFindings struct {
	secret [32]byte // keys the digests: no password can be guessed from them

	mu    sync.Mutex // guards known; never held over I/O
	known map[intendedKey]*finding
}

type intendedKey struct {
	target Target
	master string
	digest [sha256.Size]byte // of the master's password
}

// finding is one entry: being looked for until done is closed, then the rest
// doesn't change any more.
type finding struct {
	done chan struct{}
	err  error     // nil: honoured
	at   time.Time // when it was found
	void bool      // nothing was found out, for a reason of the looker's own: whoever waited looks himself
}

// NewMasterFindings knows nothing yet.
func NewMasterFindings() *MasterFindings {
	v := &MasterFindings{known: make(map[intendedKey]*finding)}
	_, _ = rand.Read(v.secret[:]) // never fails (crypto/rand)
	return v
}

func (v *MasterFindings) key(t Target, a Auth) intendedKey {
	mac := hmac.New(sha256.New, v.secret[:])
	mac.Write([]byte(a.MasterPassword.Reveal()))
	return intendedKey{target: t, master: a.MasterUser, digest: [sha256.Size]byte(mac.Sum(nil))}
}

// refusal gives the error of a backend that was found not to honour it.
func (v *MasterFindings) refusal(now time.Time, t Target, a Auth) error {
	key := v.key(t, a)
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.known[key]
	if f == nil {
		return nil
	}
	select {
	case <-f.done:
		if f.err != nil && now.Sub(f.at) < recheckAfter {
			return f.err
		}
	default: // being looked for
	}
	return nil
}

// claim gives the finding for key. mine says that the caller must look for it
// and settle it.
func (v *MasterFindings) claim(now time.Time, key intendedKey, afresh bool) (f *finding, mine bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.known[key]; f != nil {
		select {
		case <-f.done:
			if !afresh && (f.err == nil || now.Sub(f.at) < recheckAfter) {
				return f, false
			}
		default:
			return f, false
		}
	}
	if len(v.known) >= maxIntended {
		clear(v.known) // those being looked for are settled all the same
	}
	f = &finding{done: make(chan struct{})}
	v.known[key] = f
	return f, true
}

// settle ends the search. Only what was truly found out is kept.
func (v *MasterFindings) settle(now time.Time, key intendedKey, f *finding, err error) {
	f.err, f.at = err, now
	f.void = errors.Is(err, errGaveUp) || errors.Is(err, ErrUnverified)
	if err != nil && !errors.Is(err, ErrIntendedUser) {
		v.mu.Lock()
		if v.known[key] == f {
			delete(v.known, key)
		}
		v.mu.Unlock()
	}
	close(f.done)
}

// forget drops what was found out about a backend.
func (v *MasterFindings) forget(t Target) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.known {
		if key.target == t {
			delete(v.known, key)
		}
	}
}

// VerifyIntendedUser finds out afresh whether the backend honours a master
// login. a.User may be empty: then only M and S are asked (see above). how says
// what it was seen by, for people. The error is *Unavailable, with
// ErrIntendedUser or ErrUnverified in it where it isn't a plain failure.
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
	if !mine { // a login is at it this very moment
		select {
		case <-f.done:
			return "as a login found out just now", f.err
		case <-ctx.Done():
			return "", failure(ctx, t, atStage(StageVerify, ctx.Err()))
		}
	}
	return d.lookIntended(ctx, key, f, t, a, user)
}

// ensureIntended is Login's side of it: the finding is looked up, waited for or
// made. checked says that it took time.
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
			// The client of who looked has gone, or its user has no INBOX: our turn.
		case <-ctx.Done():
			return checked, failure(ctx, t, atStage(StageVerify, ctx.Err()))
		}
	}
}

// lookIntended makes the finding and says in the log what came of it.
func (d *Dialer) lookIntended(ctx context.Context, key intendedKey, f *finding, t Target, a Auth, user *Conn) (how string, err error) {
	log := d.tel.Log.With("backend", t.shown(), "address", t.Address, "master", a.MasterUser)
	how, err = d.examine(ctx, t, a, user)
	if err != nil {
		down, ok := errors.AsType[*Unavailable](err)
		if !ok {
			down, ok = errors.AsType[*Unavailable](failure(ctx, t, atStage(StageVerify, err)))
		}
		if !ok { // the master was refused: no reason to refuse the client's password
			down = &Unavailable{Backend: t.shown(), Err: err}
		}
		down.Stage = StageVerify // whatever login of the search it was
		err = down
	}
	d.intended.settle(d.opt.Now(), key, f, err)
	switch {
	case err == nil:
		log.Info("the backend honours master logins", "seen", how)
	case errors.Is(err, ErrIntendedUser):
		log.Error("the backend ignores the user that a master login asks for and logs in the master himself: nobody is let in there",
			"help", `use backend_login { mode = "user" }, or have the backend honour SASL PLAIN's authorization identity`)
	default:
		log.Warn("can't tell yet whether the backend honours master logins", "error", err)
	}
	return how, err
}

// examine asks the backend, as the table above has it. user is logged in as U,
// nil where there is none.
func (d *Dialer) examine(ctx context.Context, t Target, a Auth, user *Conn) (how string, err error) {
	own := Auth{Mode: ModeUser, User: a.MasterUser, Password: a.MasterPassword}
	master, err := d.login(ctx, t, own, Client{}, kindProbe)
	var refused *Refused
	switch {
	case errors.As(err, &refused) && user != nil:
		return "the master can't log in for himself", nil
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
		if errors.As(err, &no) && errors.Is(err, errNo) && classify(ModeUser, no.Code) == wrongCredentials {
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

// examineUnseen is for a master who can't log in for himself, when no login of
// his has been seen to succeed either: that may be an honoured identity or a
// wrong password. Only an answer that tells the two apart will do.
func (d *Dialer) examineUnseen(ctx context.Context, t Target, a Auth) (how string, err error) {
	a.User = strangerLike("")
	stranger, err := d.login(ctx, t, a, Client{}, kindProbe)
	var no *Unavailable
	switch {
	case err == nil:
		stranger.leave(ctx)
		return "the master can't log in for himself", nil
	case errors.As(err, &no) && errors.Is(err, errNo) && no.Code == "AUTHORIZATIONFAILED":
		return "a user who doesn't exist is refused", nil
	}
	return "", err
}

// strangerLike is a user name that nobody has, in the user's domain.
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
