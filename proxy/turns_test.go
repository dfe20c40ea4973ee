package proxy

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
)

// away is a session of a user's that is parked, behind IDLE.
func (p *scripted) away(user, mailbox string) *imaptest.Client {
	p.t.Helper()
	n := p.srv.Status().Attachments[session.Parked.String()]
	c := p.login(user)
	c.MustOK("SELECT %s", mailbox)
	c.Write("i IDLE")
	c.Expect("+{*}")
	eventually(p.t, "one more parked session", func() bool {
		p.srv.Sweep()
		return p.srv.Status().Attachments[session.Parked.String()] == n+1
	})
	return c
}

// The backend takes long to open one user's mailbox, and all of their clients want it: another
// user's is opened meanwhile.
func TestAUsersResumesLeaveRoomForOthers(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	var slow []*imaptest.Client
	for range resumesAtATime + 8 {
		slow = append(slow, p.away("alice", "slow"))
	}
	other := p.away("bob", "INBOX")
	closed, open := gate(t)
	var opening atomic.Int32
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if strings.Contains(cmd.Args, "slow") {
			opening.Add(1)
			<-closed
		}
		return p.answer(c, cmd)
	})
	for _, c := range slow {
		done(c)
		c.Write("u UID FETCH 1 (UID)")
	}
	eventually(t, "all to want it", func() bool {
		return p.srv.Status().Attachments[session.Resuming.String()] == int64(len(slow)) && opening.Load() >= resumesAtATime/userShare
	})
	done(other)
	other.MustOK("UID FETCH 1 (UID)")
	if n := opening.Load(); n != resumesAtATime/userShare {
		t.Errorf("%d of %d resumes at a time are one user's", n, resumesAtATime)
	}
	open()
	for _, c := range slow {
		c.Expect("* 1 FETCH{*}")
	}
}

// A backend that refuses many is said once a minute, with how many there were.
func TestThatResumesAreTriedAgainIsLoggedOnceAMinute(t *testing.T) {
	const n = 4
	p := newScripted(t, scriptedCaps, 3)
	var all []*imaptest.Client
	for range n + 1 {
		all = append(all, p.away("alice", "INBOX"))
	}
	refuse := make(chan struct{}, n)
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		select {
		case <-refuse:
			return c.Send(cmd.Tag() + " NO [INUSE] not now")
		default:
			return p.answer(c, cmd)
		}
	})
	for range n {
		refuse <- struct{}{}
	}
	resume := func(c *imaptest.Client) {
		done(c)
		c.MustOK("UID FETCH 1 (UID)")
	}
	for _, c := range all[:n] {
		resume(c)
	}
	if len(refuse) != 0 {
		t.Fatalf("%d weren't refused", len(refuse))
	}
	const words = "resume is tried again"
	if got := strings.Count(p.logs.String(), words); got != 1 {
		t.Errorf("%d lines for %d refusals", got, n)
	}
	p.clock.forward(time.Minute)
	refuse <- struct{}{}
	resume(all[n])
	if got := p.logs.wait(t, words+".* others=[1-9].*"); !strings.Contains(got, fmt.Sprint("others=", n-1)) {
		t.Error(got)
	}
}

// As many of a user's sessions as may hold a large difference do, and their clients don't read:
// one more waits, another user's doesn't.
func TestALargeDifferenceWaitsForTheUsersOthers(t *testing.T) {
	const messages = fewestHeld + 1
	p := newScripted(t, scriptedCaps, messages)
	c, other := p.away("alice", "INBOX"), p.away("bob", "INBOX")
	var release []func()
	for range heldPerUser {
		done, err := p.srv.env.Queues.Telling(t.Context(), "alice")
		must(t, err)
		release = append(release, done)
	}
	for uid := range uint32(messages) {
		p.flag(uid + 1)
	}
	p.hint()
	eventually(t, "it waits", func() bool { _, waiting := p.srv.env.Queues.Differences.Stats(); return waiting == 1 })
	p.hub.Hint(park.Hint{User: "bob", Source: park.HintPush})
	for n := range messages {
		other.Expect(fmt.Sprintf("* %d FETCH{*}", n+1))
	}
	if _, waiting := p.srv.env.Queues.Differences.Stats(); waiting != 1 {
		t.Error("it was told")
	}
	release[0]()
	for n := range messages {
		c.Expect(fmt.Sprintf("* %d FETCH{*}", n+1))
	}
	for _, done := range release {
		done()
	}
	eventually(t, "nothing held", func() bool { held, _ := p.srv.env.Queues.Differences.Stats(); return held == 0 })
}

// What a client isn't told since its command has message numbers of before is held for it, up to
// a bound.
func TestAClientThatIsOwedTooMuchIsSentAway(t *testing.T) {
	for _, c := range []struct {
		changes int
		away    bool
	}{{mostOwedChanges, false}, {mostOwedChanges + 1, true}} {
		t.Run(fmt.Sprint(c.changes), func(t *testing.T) {
			p := newScripted(t, scriptedCaps, uint32(c.changes)+1)
			client := p.away("alice", "INBOX")
			done(client)
			p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") })
			p.change(func() {
				for _, uid := range p.uids {
					p.changed[uid] = p.modSeq
				}
			})
			p.expunge(1)
			client.Write("f FETCH 2 (UID)")
			if !c.away {
				told := 0
				r := client.Read()
				for ; r.Tag() == "*"; r = client.Read() {
					told++
				}
				if told != c.changes || r.Status() != "OK" {
					t.Errorf("%d changes were told, then %s", told, r)
				}
				if a := client.MustOK("NOOP"); len(a.Untagged) != 1 || a.Untagged[0].Text != "* 1 EXPUNGE" {
					t.Error(a)
				}
				return
			}
			client.Expect(strings.TrimSuffix(session.ReasonMailboxGone.Bye(), "\r\n"))
			client.ExpectEOF()
			p.ended(session.ReasonMailboxGone)
		})
	}
}

// A session whose user's others are told much, and read none of it, isn't resumed in time: that
// isn't the backend's failure.
func TestAResumeThatWaitsForTheUsersOwnInVain(t *testing.T) {
	l := newParkLab(t, session.ParkOptions{ResumeWithin: 300 * time.Millisecond}, nil)
	w, _ := l.parkedAway()
	user := l.of(w).Info().User
	for range heldPerUser {
		done, err := l.srv.env.Queues.Telling(t.Context(), user)
		must(t, err)
		defer done()
	}
	w.Write("r1 UID FETCH 1:* (FLAGS)")
	w.ExpectEOF()
	_ = w.Conn.Close()
	l.ended(session.ReasonClientUnread)
}
