package proxy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// scripted is a lab with a backend of one mailbox, whose words a test can replace. Push
// events come through by hint alone, so that a parked session holds no connection.
type scripted struct {
	*lab
	hub  *park.Hub
	caps string

	mu        sync.Mutex // guards what follows
	uids      []uint32
	next      uint32
	modSeq    uint64
	changed   map[uint32]uint64           // the mod-sequences of flags that have changed
	keyword   string                      // one more in FLAGS; "": none
	turnsAway bool                        // new connections are closed instead of greeted
	refuses   string                      // what every login is answered with; "": they are let in
	judge     func(imaptest.Login) string // instead, where it is set
	commands  map[string]imaptest.CommandFunc
}

const scriptedCaps = "IMAP4rev1 IDLE UNSELECT ENABLE CONDSTORE QRESYNC ESEARCH LITERAL+ UIDPLUS MOVE"

func newScripted(t *testing.T, caps string, n uint32, change ...func(*Options)) *scripted {
	t.Helper()
	return newScriptedBefore(t, imaptest.Dialogue{}, caps, n, change...)
}

// newScriptedBefore is newScripted, with what the backend does before a login.
func newScriptedBefore(t *testing.T, backend imaptest.Dialogue, caps string, n uint32, change ...func(*Options)) *scripted {
	t.Helper()
	p := &scripted{caps: caps, next: n + 1, modSeq: 10, changed: map[uint32]uint64{}, commands: map[string]imaptest.CommandFunc{}}
	for uid := range n {
		p.uids = append(p.uids, uid+1)
	}
	words := map[string]imaptest.CommandFunc{"*": p.other}
	for _, name := range []string{"NOOP", "SELECT", "EXAMINE", "IDLE"} {
		words[name] = p.other
	}
	backend.LoginCaps, backend.Commands, backend.Check = caps, words, func(_ *imaptest.BackendConn, l imaptest.Login) string {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.judge != nil {
			return p.judge(l)
		}
		return p.refuses
	}
	hub := park.HubOptions{Push: true}
	p.lab = newLab(t, labOptions{handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error {
		p.mu.Lock()
		away := p.turnsAway
		p.mu.Unlock()
		if away {
			return nil
		}
		return backend.Serve(c)
	}}, change: func(o *Options) {
		hub.Telemetry = o.Telemetry
		p.hub = park.NewHub(hub)
		pool := upstream.NewPool(upstream.PoolOptions{WarmFor: time.Minute})
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { p.hub.Run(ctx) })
		running.Go(func() { pool.Run(ctx) })
		t.Cleanup(func() { stop(); running.Wait() })
		o.Park = session.ParkOptions{Hub: p.hub, Pool: pool, Linger: time.Nanosecond, QuietAfter: time.Minute}
		for _, f := range change {
			f(o)
		}
	}})
	return p
}

// on replaces the answer to a command.
func (p *scripted) on(name string, f imaptest.CommandFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands[name] = f
}

// change changes what is true, and tells no client.
func (p *scripted) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.modSeq++
	f()
}

// set changes how the backend behaves, while its mailbox stays as it is.
func (p *scripted) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *scripted) expunge(uid uint32) {
	p.change(func() { p.uids = slices.DeleteFunc(p.uids, func(u uint32) bool { return u == uid }) })
}

func (p *scripted) deliver() {
	p.change(func() { p.uids = append(p.uids, p.next); p.next++ })
}

func (p *scripted) flag(uid uint32) { p.change(func() { p.changed[uid] = p.modSeq }) }

func (p *scripted) hint() { p.hub.Hint(park.Hint{User: "alice", Source: park.HintPush}) }

func (p *scripted) other(c *imaptest.BackendConn, cmd imaptest.Command) error {
	p.mu.Lock()
	f := p.commands[cmd.Name]
	p.mu.Unlock()
	if f == nil {
		f = p.answer
	}
	return f(c, cmd)
}

// answer is what is right.
func (p *scripted) answer(c *imaptest.BackendConn, cmd imaptest.Command) error {
	p.mu.Lock()
	out := p.answerLocked(cmd)
	p.mu.Unlock()
	if cmd.Name == "IDLE" {
		if err := c.Send("+ idling"); err != nil {
			return err
		}
		if _, err := c.ReadCommand(); err != nil {
			return err
		}
	}
	return c.Send(append(out, cmd.Tag()+" OK done")...)
}

func (p *scripted) answerLocked(cmd imaptest.Command) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	set := view.UIDsOf(p.uids...)
	switch cmd.Name {
	case "ENABLE":
		say("* ENABLED %s", cmd.Args)
	case "SELECT", "EXAMINE":
		say("* FLAGS (%s)", strings.TrimSpace(`\Seen \Flagged \Deleted `+p.keyword))
		say("* %d EXISTS", len(p.uids))
		say("* OK [UIDVALIDITY 7] v")
		say("* OK [UIDNEXT %d] n", p.next)
		if strings.Contains(p.caps, "CONDSTORE") {
			say("* OK [HIGHESTMODSEQ %d] m", p.modSeq)
		}
		_, since, qresync := strings.Cut(cmd.Args, "(QRESYNC (7 ")
		if !qresync {
			break
		}
		since, _, _ = strings.Cut(since, " ")
		bound, _ := strconv.ParseUint(since, 10, 64)
		if gone := view.UIDRange(1, p.next-1).Without(set); !gone.Empty() {
			say("* VANISHED (EARLIER) %s", gone)
		}
		for i, uid := range p.uids {
			if modSeq := p.changed[uid]; modSeq > bound {
				say(`* %d FETCH (UID %d FLAGS (\Flagged) MODSEQ (%d))`, i+1, uid, modSeq)
			}
		}
	case "UID SEARCH":
		all := ""
		if !set.Empty() {
			all = fmt.Sprintf(" ALL %s", set)
		}
		say("* ESEARCH (TAG %q) UID%s COUNT %d", cmd.Tag(), all, set.Count())
	case "UID FETCH":
		_, since, changes := strings.Cut(cmd.Args, "(CHANGEDSINCE ")
		bound, _ := strconv.ParseUint(strings.TrimSuffix(since, ")"), 10, 64)
		for i, uid := range p.uids {
			flags := ""
			if strings.Contains(cmd.Args, "FLAGS") {
				flags = " FLAGS ()"
				if p.changed[uid] > 0 {
					flags = ` FLAGS (\Flagged)`
				}
			}
			if changes && p.changed[uid] <= bound {
				continue
			}
			if changes {
				flags += fmt.Sprintf(" MODSEQ (%d)", p.changed[uid])
			}
			say("* %d FETCH (UID %d%s)", i+1, uid, flags)
		}
	}
	return out
}

// parked waits until a session is parked.
func (p *scripted) parked() {
	p.t.Helper()
	eventually(p.t, "a parked session", func() bool {
		p.srv.Sweep()
		return p.srv.Status().Attachments[session.Parked.String()] == 1
	})
}

// idle is a session of alice's that says all of these, then IDLE, and is parked.
func (p *scripted) idle(commands ...string) *imaptest.Client {
	p.t.Helper()
	c := p.login("alice")
	for _, command := range commands {
		c.MustOK("%s", command)
	}
	p.idles(c)
	return c
}

func (p *scripted) idles(c *imaptest.Client) {
	p.t.Helper()
	c.Write("i IDLE")
	c.Expect("+{*}")
	p.parked()
}

// done ends IDLE while the session stays parked.
func done(c *imaptest.Client) {
	c.Write("DONE")
	c.Expect("i OK {*}")
}

// said are the backend's commands of a name so far.
func (p *scripted) said(name string) (all []string) {
	for _, cmd := range p.backends[0].Commands() {
		if cmd.Name == name {
			all = append(all, cmd.Text)
		}
	}
	return all
}
