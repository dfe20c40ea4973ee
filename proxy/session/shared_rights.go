package session

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/shared"
	"imapproxy/proxy/wire"
)

// A connection that has a mailbox selected keeps the rights that it was opened with (Dovecot reads them once). So the rights are
// looked at on a new connection from time to time, and a session whose user may not read the mailbox any more ends.

// rightsFor is how long the rights on a selected mailbox count.
func (s *Session) rightsFor() time.Duration {
	if every := s.settings().Recheck; every > 0 {
		return min(every, sharedRightsFor)
	}
	return OrDefault(0, sharedRightsFor)
}

// sharedRightsFor is the longest time for which the rights on a selected mailbox count.
const sharedRightsFor = time.Minute

// checkRights looks at the rights on the selected mailbox if that is due, and ends the session if they are gone.
func (o *visit) checkRights() error {
	s := o.s
	if o.at == nil || s.env.Now().Sub(o.rights) < s.rightsFor() {
		return nil
	}
	return o.lookAtRights()
}

// lookAtRights asks a new connection for the rights on the selected mailbox. It doesn't use the other connections, so it may run
// while a goroutine of the phase waits for them.
func (o *visit) lookAtRights() error {
	s := o.s
	o.rights = s.env.Now()
	l, err := o.connect(o.at.owner)
	if err != nil {
		if errors.Is(err, errNotShared) {
			s.Terminate(ReasonMailboxGone)
			return errSessionOver
		}
		return o.unknownRights(err)
	}
	defer o.close(l)
	rights, err := o.rightsOn(l, o.at.box)
	if err != nil {
		return o.unknownRights(err)
	}
	if o.proved = o.rights; strings.Contains(rights, "r") {
		return nil
	}
	s.log().Info("the user may not read a shared mailbox any more", "owner", o.at.owner)
	s.Terminate(ReasonMailboxGone)
	return errSessionOver
}

// unknownTimes is how many times in a row the rights may not be found before the session ends.
const unknownTimes = 5

// unknownRights is the outcome of a look that has failed. The backend that has the mailbox open still serves it, for a while.
func (o *visit) unknownRights(err error) error {
	s := o.s
	if s.Reason() != "" {
		return errSessionOver
	}
	s.log().Warn("the rights on a shared mailbox can't be looked at", "owner", o.at.owner, "error", err)
	if o.rights.Sub(o.proved) < unknownTimes*s.rightsFor() {
		return nil
	}
	s.Terminate(ReasonSharedLost)
	return errSessionOver
}

// rightsOn returns the rights of the user on an owner's mailbox (RFC 4314 §3.8), "" where the backend refuses to say.
func (o *visit) rightsOn(l *leg, box string) (rights string, err error) {
	_, err = o.do(l, "MYRIGHTS "+string(shared.AppendName(nil, box)), func(u imapclient.Untagged) bool {
		if words := bytes.Fields(u.Rest); u.Is("MYRIGHTS") && len(words) > 1 {
			rights = string(bytes.Trim(words[len(words)-1], `"`))
		}
		return u.Is("MYRIGHTS")
	})
	if _, refused := errors.AsType[*imapclient.Refusal](err); refused {
		return "", nil
	}
	return rights, err
}

// mayRead answers a command about a mailbox that the user may not read. Dovecot 2.3 answers STATUS from an index without a look
// at the rights.
func (o *visit) mayRead(l *leg, h wire.CommandHead, box string) (may bool, err error) {
	rights, err := o.rightsOn(l, box)
	switch {
	case err != nil || strings.Contains(rights, "r"):
		return err == nil, err
	case strings.Contains(rights, "l"):
		return false, o.answer(h, wire.NO, "[NOPERM] You may not read this mailbox")
	}
	return false, o.answer(h, wire.NO, "[NONEXISTENT] No such mailbox, or it isn't shared with you")
}

// idle carries IDLE: the owner's backend tells of changes while the client is waited for (RFC 9051 §6.3.13).
func (o *visit) idle(cmd []byte, h wire.CommandHead) error {
	s, l := o.s, o.at
	h.Tag = bytes.Clone(h.Tag)
	if err := o.send(l, cmd); err != nil {
		return err
	}
	for {
		kind, _, err := o.response(l, h, true)
		if err != nil || kind == wire.Tagged {
			return err
		}
		if kind == wire.Continue {
			break
		}
	}
	if err := o.write([]byte(idling), true); err != nil {
		return err
	}
	l.conn.LimitReads(time.Time{})
	l.idles.Store(true)
	var heard error
	done := s.beside(func() {
		for {
			kind, _, err := o.response(l, h, false)
			if err != nil || kind == wire.Tagged {
				if heard = err; err != nil {
					s.client.Interrupt(conn.Reads) // the phase waits for the client
				}
				return
			}
		}
	})
	err := o.waitDone()
	if err == nil {
		o.owes(l)
		err = o.sendBeside(l, []byte("DONE\r\n"))
	}
	if err != nil {
		l.conn.Interrupt(conn.Both)
	}
	<-done
	l.idles.Store(false)
	o.got(l)
	_, lost := errors.AsType[*lostLeg](heard)
	switch {
	case lost && s.Reason() == "" && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)): // otherwise it was interrupted above
		return heard
	case lost && err != nil:
		return err
	}
	return errors.Join(err, heard)
}

// waitDone reads the client's DONE. While it waits it looks at the rights on the selected mailbox, and gives up the session's own connection
// once the client has idled for park.linger.
func (o *visit) waitDone() error {
	s := o.s
	defer s.client.LimitReads(time.Time{})
	began, rested := s.env.Now(), false
	for {
		wait := s.rightsFor()
		if !rested {
			wait = min(wait, max(0, s.settings().Park.Linger-s.env.Now().Sub(began)))
		}
		until := time.Now().Add(wait)
		s.client.LimitReads(until)
		line, err := o.client.ReadLine(maxSharedLine)
		now := s.env.Now()
		due, rests := now.Sub(o.rights) >= s.rightsFor(), !rested && now.Sub(began) >= s.settings().Park.Linger
		timeUp := errors.Is(err, os.ErrDeadlineExceeded) && s.Reason() == "" // or the other connection is lost
		switch {
		case timeUp && (due || rests):
			rested = rested || rests
			if o.restHome(rested); !due {
				continue
			}
			if err := o.lookAtRights(); err != nil {
				return err
			}
			continue
		case timeUp && !time.Now().Before(until): // a reload has lengthened the times meanwhile
			continue
		case err != nil:
			return err
		}
		s.seen(s.env.Now())
		s.lastHeard.Store(clock.Of(s.env.Now()))
		if !wire.IsDone(line) {
			return wire.ErrSyntax // the backend would answer BAD, and the client has lost its place
		}
		return nil
	}
}
