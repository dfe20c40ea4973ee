package session

import (
	"cmp"
	"context"
	"errors"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// goneHome is the answer to a command whose connection to the user's own backend was lost.
const goneHome = "[UNAVAILABLE] The connection to the mail server was lost; the command may have been done"

// withoutHome says whether err is the loss of the session's own connection, and the session can go on with another one: the client has
// no part of a response, and sends no rest of a command.
func (o *visit) withoutHome(err error) bool {
	s := o.s
	lost, ok := errors.AsType[*lostLeg](err)
	return ok && lost.leg == o.home && !o.homeCut && !o.partly && !o.literal && s.out.atBoundary() && s.survives()
}

// reopenHome takes another connection for the session's own, which is lost and had nothing selected. Its attempts are those of a resume.
func (o *visit) reopenHome() error {
	s := o.s
	_ = o.home.conn.Abort()
	s.picked().Rest() // without a connection the session must not hold its user at the backend
	s.log().Info("the session's own connection is lost while a shared mailbox is used")
	end := time.Now().Add(cmp.Or(s.settings().Park.ResumeWithin, DefaultResumeWithin))
	heard := s.env.Now()
	for pause := recoverPause; ; pause = min(2*pause, maxRecoverPause) {
		turns := s.env.Queues.resumesAt(s.picked().Backend.ID)
		reached := *turns.reached.Load()
		ctx, cancel := s.within(time.Until(end))
		stop := s.reassures(&heard, true)
		c, err := o.anotherHome(ctx, turns)
		stop()
		cancel()
		if err != nil {
			s.picked().Rest()
		}
		switch {
		case err == nil:
			s.backend.Store(c)
			if s.Reason() != "" { // the end came before the connection was stored, and so didn't interrupt it
				return errSessionOver
			}
			o.home, o.homeUsed = newLeg(c), s.env.Now()
			if left := s.settlesFor(c.Caps); left != nil {
				return o.write(left, true)
			}
			return nil
		case s.Reason() != "":
			return errSessionOver
		case s.elsewhere(err):
			s.Terminate(ReasonMoved)
			return errSessionOver
		case final(err) || !time.Now().Before(end):
			s.log().Warn("the session's own connection can't be made again", "error", err)
			s.Terminate(endOf(err))
			return errSessionOver
		}
		ctx, cancel = s.within(time.Until(end))
		turns.pause(ctx, pause, since(err, reached))
		cancel()
	}
}

// anotherHome makes one attempt to get a connection on which is enabled what the client has enabled.
func (o *visit) anotherHome(ctx context.Context, turns *resumes) (*upstream.Conn, error) {
	s := o.s
	if err := turns.enter(ctx, s.user, true); err != nil {
		return nil, err
	}
	defer turns.leave(s.user)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.settings().Park.ResumeTry, DefaultResumeTry))
	defer cancel()
	c, enable, enabled, err := s.reconnect(ctx, &telemetry.Resume{})
	if err != nil {
		return nil, err
	}
	if len(enabled) == 0 && len(enable) > 0 {
		imap := imapclient.New(c.Conn, imapclient.Options{})
		if err = imap.Enable(ctx, enable...); err == nil {
			err = imap.Release()
		}
		if err != nil {
			_ = c.Abort()
			return nil, err
		}
	}
	turns.reaches()
	return c, nil
}
