package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// world is what a case runs in.
type world struct {
	l          *lab
	t          *transcript
	user       string // whose the mailbox is; the clients are l.as(user)
	box        string // its name to the user
	s          scenario
	clients    []*client
	w          *witness
	home       *witness // of a mailbox of the clients' own user, at another server; nil: there is none
	out        *client  // another device, which doesn't go by the proxy
	appends    int
	stats      *stats
	ghosts     map[uint32]bool
	askedFirst bool          // the client of the command has just said NOOP
	racing     bool          // several speak at once
	settle     time.Duration // how long convergence may take
	late       []lateAllow   // see undecided
}

func (l *lab) run(s scenario, user string, st *stats, fault func() fault) (tr *transcript, err error) {
	w := &world{l: l, t: &transcript{}, user: user, box: l.box(), s: s, stats: st, settle: l.settle, ghosts: map[uint32]bool{}}
	defer w.close()
	modSeqs := slices.ContainsFunc(s.dialects, func(d imaptest.ModelDialect) bool { return d != imaptest.ModelPlain })
	if w.w, err = newWitness(l.addrOf(user), user, servers.Password, w.box, modSeqs, l.patience); err != nil {
		return w.t, err
	}
	if l.across != nil {
		if w.home, err = newWitness(l.addrOf(l.as(user)), l.as(user), servers.Password, w.box+"-own", false, l.patience); err != nil {
			return w.t, err
		}
	}
	if l.shared || l.across != nil {
		if err := w.w.share(l.as(user)); err != nil {
			return w.t, err
		}
	}
	if w.out, err = dial(dialing{addr: l.addrOf(user), user: user, name: "out", box: w.box, t: w.t, patience: l.patience, staleFlags: l.staleFlags}); err != nil {
		return w.t, err
	}
	if err := w.out.selectBox(imaptest.ModelPlain); err != nil {
		return w.t, err
	}
	for range 4 {
		if _, err := w.out.run(w.appending(w.out)); err != nil {
			return w.t, err
		}
	}
	if l.server.Kind == "mox" { // it tells of no keyword that comes up while a mailbox is selected
		for _, sign := range []string{"+", "-"} {
			if _, _, err := w.out.do("STORE", "STORE 1 %sFLAGS.SILENT (kw0 kw1 kw2 kw3)", sign); err != nil {
				return w.t, err
			}
		}
		if err := w.out.selectBox(imaptest.ModelPlain); err != nil {
			return w.t, err
		}
		if _, _, err := w.out.do("APPEND", "APPEND %s-other (kw0 kw1 kw2 kw3) {9+}\r\nA: b\r\n\r\nc", w.box); err != nil { // messages with keywords are moved there
			return w.t, err
		}
	}
	for i, d := range s.dialects {
		c, err := dial(dialing{addr: l.addr, tls: l.tls, user: l.as(user), name: fmt.Sprintf("C%d", i+1), box: l.boxAs(user, w.box), t: w.t, patience: l.patience, fault: fault, staleFlags: l.staleFlags, packets: l.packets, breaks: l.breaks, compress: l.compress})
		if err != nil {
			return w.t, err
		}
		w.clients = append(w.clients, c)
		breaks := l.breaker.count()
		switch err := c.selectBox(d); {
		case err != nil && w.excused(err, breaks):
			return w.t, nil // a loss before the case has begun
		case err != nil:
			return w.t, err
		}
	}
	if _, err := w.w.look(); err != nil {
		return w.t, err
	}
	for _, o := range s.ops {
		if !s.until.IsZero() && time.Now().After(s.until) {
			break
		}
		st.ops++
		st.kinds[o.kind]++
		breaks := l.breaker.count()
		err := w.do(o)
		if err == nil {
			err = w.look()
		}
		if err != nil && w.excused(err, breaks) {
			w.t.add("    a connection was lost: %v", err)
			err = w.comeBack()
		}
		if err != nil {
			return w.t, fmt.Errorf("after %s: %w", o, err)
		}
	}
	w.t.add("--- the end")
	breaks := l.breaker.count()
	if err = w.converge(); err != nil && w.excused(err, breaks) {
		err = w.comeBack()
	}
	return w.t, err
}

func (w *world) close() {
	for _, c := range append(w.clients, w.out) {
		if c != nil {
			c.close()
		}
	}
	for _, one := range []*witness{w.w, w.home} {
		if one != nil {
			_ = one.conn.Close()
		}
	}
}

// look takes into account what all clients have heard, and what they'd never learn.
func (w *world) look() error {
	for _, c := range append(w.clients[:len(w.clients):len(w.clients)], w.out) {
		if err := c.drain(); err != nil {
			return err
		}
		if w.l.staleFlags {
			c.model.Cached = 0
			continue
		}
		if err := c.model.Check(w.w.truth); err != nil {
			return fmt.Errorf("%w: %s: %w", errTold, c.name, err)
		}
	}
	return nil
}

// A lateAllow is what a command may still do whose connection to the server was lost: the server had it already.
type lateAllow struct {
	allow
	until time.Time
}

// lateFor is how long a server may take for a command that it has.
const lateFor = 5 * time.Second

// refused takes the answer into account that a command has got, if it isn't OK.
func (w *world) refused(a *allow, r imaptest.Response) {
	if r.Status() == "OK" {
		return
	}
	a.all = false
	if strings.Contains(r.Text, "may have been done") {
		w.undecided(*a)
	}
}

// undecided says that a command may be done later, since a connection to the server was lost.
func (w *world) undecided(a allow) {
	if w.l.breaks {
		a.appended, a.maybe, a.all = 0, a.maybe+a.appended, false
		w.late = append(w.late, lateAllow{a, time.Now().Add(lateFor)})
	}
}

// after checks that commands have done what they may do.
func (w *world) after(allowed ...allow) error {
	w.late = slices.DeleteFunc(w.late, func(l lateAllow) bool { return time.Now().After(l.until) })
	for _, l := range w.late {
		allowed = append(allowed, l.allow)
	}
	before, err := w.w.look()
	if err != nil {
		return err
	}
	err = check(before, w.w.truth, allowed...)
	if err == nil || !w.l.maildir {
		return err
	}
	// A message whose file is being renamed is missing until its folder is read the next time.
	for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		if _, lerr := w.w.look(); lerr != nil {
			return lerr
		}
		if err = check(before, w.w.truth, allowed...); err != nil && reborn(before, w.w.truth, w.ghosts, allowed...) {
			w.stats.reborn++
			w.t.add("    maildir: %v", err)
			return nil
		}
	}
	return err
}

func (w *world) do(o op) error {
	if o.client >= len(w.clients) {
		o.client = 0
	}
	c := w.clients[o.client]
	switch o.kind {
	case "pause":
		time.Sleep(time.Duration(o.a%15) * time.Millisecond)
		return nil
	case "move to the other":
		if w.l.moving != nil {
			w.l.moving.move(w.l.as(w.user))
		}
		return nil
	case "park":
		return w.park(c, o)
	case "outside":
		return w.outside(o)
	case "settle":
		return w.converge()
	case "idle":
		if c.idleTag != "" {
			return nil
		}
		return c.idle()
	case "cut":
		if c.idleTag != "" && o.a%2 == 0 {
			if err := c.done(); err != nil {
				return err
			}
		}
		w.stats.cuts++
		n, err := c.resync()
		if n != nil {
			w.clients[o.client] = n
		}
		if err != nil {
			return err
		}
		return n.model.Converged(w.w.truth)
	case "both":
		return w.both(c, o)
	case "pipeline":
		return w.pipeline(c, o)
	case "poll":
		return w.poll(c, o)
	case "silent":
		return w.silent(c, o)
	case "marks":
		return w.marks(c, o)
	case "leave":
		return w.leave(c, o)
	case "packet":
		return w.packet(c, o)
	}
	if err := c.done(); err != nil {
		return err
	}
	return w.command(c, o)
}

// command is one command of a client's that isn't in IDLE.
func (w *world) command(c *client, o op) error {
	// Courier's sessions write a message's flags as they knew them. mox answers a STORE, and
	// tells with the next command what another had changed before it: older flags after newer.
	// A parked session is told first, by the proxy.
	silentAtCyrus := w.l.server.Kind == "cyrus" && o.c%5 == 0 && slices.Contains([]string{"store", "uidstore", "delete"}, o.kind)
	if (w.l.calm || silentAtCyrus) && (w.l.server.Kind == "courier" || w.l.attachment(c).Attachment != "parked") {
		if _, _, err := c.do("NOOP", "NOOP"); err != nil {
			return err
		}
		w.askedFirst = true
		defer func() { w.askedFirst = false }()
	}
	cmd, a := w.build(c, o)
	if cmd == nil {
		return nil
	}
	knew := c.model.Belief()
	r, err := c.run(cmd)
	if err != nil {
		w.undecided(a)
		return err
	}
	w.refused(&a, r)
	if err := w.after(a); err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	if o.kind == "noop" || o.kind == "check" {
		return w.polled(c)
	}
	return cmd.hasKeyword(w.w.truth, knew)
}

// outside changes the mailbox from a device that doesn't go by the proxy.
func (w *world) outside(o op) error {
	if err := w.out.catchUp(); err != nil {
		return err
	}
	o, _ = outsideOp(o)
	return w.command(w.out, o)
}

// outsideOp is what the other device does.
func outsideOp(o op) (op, bool) {
	o.kind = []string{"append", "uidstore", "delete", "uidexpunge", "expunge", "move", "append"}[o.a%7]
	o.a /= 7
	return o, true
}

// park makes the proxy park idle sessions, and mostly waits for it.
func (w *world) park(c *client, o op) error {
	if w.l.proxy == nil {
		return nil
	}
	if c.idleTag == "" && o.a%4 != 0 {
		if err := c.idle(); err != nil {
			return err
		}
	}
	w.stats.asked++
	for try := range 60 {
		time.Sleep(time.Millisecond)
		w.l.proxy.Sweep()
		s := w.l.attachment(c)
		if s.Attachment == "parked" {
			w.stats.parked++
			w.t.add("    %s is parked", c.name)
			return nil
		}
		if o.b%3 == 0 && try >= o.c%8 || s.NotParked != "" && try > 10 {
			w.t.add("    %s is %s %s", c.name, s.Attachment, s.NotParked)
			return nil
		}
	}
	return nil
}

// converge waits until each client knows all there is: those in IDLE by being told,
// the others by NOOP.
func (w *world) converge() error {
	if err := w.after(); err != nil { // no client has sent a command
		return err
	}
	w.stats.settled++
	deadline := time.Now().Add(w.settle)
	for _, c := range w.clients {
		if w.l.slowIdle && w.l.attachment(c).Attachment != "parked" {
			if err := c.done(); err != nil {
				return err
			}
		}
		for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
			if err := c.drain(); err != nil {
				return err
			}
			wrong := c.model.Converged(w.w.truth)
			if wrong == nil {
				break
			}
			if w.l.staleFlags && time.Until(deadline) < w.settle*9/10 {
				if err := c.done(); err != nil {
					return err
				}
				if err := c.learn(); err != nil {
					return err
				}
			}
			if time.Now().After(deadline) && w.unheard(c) {
				if err := c.done(); err != nil {
					return err
				}
				if err := c.selectBox(c.dialect); err != nil {
					return err
				}
				deadline = time.Now().Add(w.settle)
				continue
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s (in IDLE: %v, %s) in %v: %w", c.name, c.idleTag != "", w.l.attachment(c).Attachment, w.settle, wrong)
			}
			if c.idleTag != "" {
				if _, err := c.next(100 * time.Millisecond); err != nil && !errors.Is(err, errQuiet) {
					return err
				}
				continue
			}
			if _, _, err := c.do("NOOP", "NOOP"); err != nil {
				return err
			}
			if c.model.Converged(w.w.truth) != nil {
				time.Sleep(pause)
			}
		}
	}
	return nil
}
