package agree

import (
	"fmt"
	"slices"
	"time"

	"imapproxy/routing"
)

// fault is a fault, or something that operators do.
func (w *world) fault() {
	if w.quiet {
		return
	}
	w.after(w.between(100*time.Millisecond, 6*time.Second), w.fault)
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	switch w.rng.IntN(14) {
	case 0, 1, 2:
		w.changeBackend()
	case 3, 4:
		w.override(n)
	case 5:
		n.crash(w.between(100*time.Millisecond, 20*time.Second))
	case 6, 7:
		n.cut = w.now + w.between(100*time.Millisecond, 40*time.Second)
		w.trace("%s is cut off until %v", n.id(), n.cut)
	case 8:
		n.stop(w.between(time.Second, 40*time.Second))
	case 9:
		w.outage = w.now + w.between(100*time.Millisecond, 6*time.Second)
		w.trace("consul is away until %v", w.outage)
	case 10:
		if n.up && n.m.session != "" {
			w.trace("the session of %s is destroyed", n.id())
			w.consul.destroy(n.m.session)
		}
	case 11:
		if first := w.nodes[0]; first.life == 1 && w.chance(0.7) {
			w.report(first)
		} else {
			n.leave()
		}
	case 12, 13:
		w.drain(n)
	}
}

// drain makes an operator drain a backend, with or without a deadline for its sessions, or end the drain.
func (w *world) drain(n *node) {
	id := fmt.Sprintf("b%d", 1+w.rng.IntN(3))
	r := DrainRequest{Backend: id, By: "an operator", Rate: float64(w.rng.IntN(3))}
	if w.chance(0.5) {
		r.Within = w.between(100*time.Millisecond, 3*time.Second)
	}
	undrain := w.chance(0.4)
	n.later(0, func() {
		if undrain {
			n.undrain(id)
			return
		}
		_, err := n.m.Drain(r, n.clock())
		w.trace("%s: drain %+v: %v", n.id(), r, err)
	})
}

func (n *node) undrain(id string) {
	err := n.m.Undrain(id, n.clock())
	n.w.trace("%s: undrain %s: %v", n.id(), id, err)
	if err == nil {
		n.w.undrained[id] = true
	}
}

// undrainAll asks for the end of all drains until there are none: a drain that another proxy was asked for
// may come late.
func (w *world) undrainAll() {
	if w.now > simEnd-15*time.Second {
		return
	}
	w.after(time.Second, w.undrainAll)
	for _, n := range w.nodes {
		if n.up && !n.stopped && n.m.fleet != nil {
			for _, d := range n.m.fleet.Drains {
				n.later(0, func() { n.undrain(d.Backend) })
			}
		}
	}
}

// changeBackend changes discovery's answer; each proxy receives it at a time of its own.
func (w *world) changeBackend() {
	b := &w.backends[w.rng.IntN(len(w.backends))]
	switch w.rng.IntN(4) {
	case 0:
		b.State = routing.Draining
	case 1:
		b.State = routing.Down
	default:
		b.State = routing.Up
	}
	w.discovery++
	w.trace("discovery: %s is %v", b.ID, b.State)
	for _, n := range w.nodes {
		n.later(w.between(0, 2*time.Second), n.discover)
	}
}

func (n *node) discover() {
	n.m.Discover(Discovery{Index: n.w.discovery, Backends: slices.Clone(n.w.backends)}, n.clock())
}

// override makes an operator move a user, or take the override away.
func (w *world) override(n *node) {
	user, to := w.users[w.rng.IntN(3)], ""
	if w.chance(0.6) {
		to = fmt.Sprintf("b%d", 1+w.rng.IntN(3))
	}
	n.later(0, func() {
		w.trace("%s: move %s to %q: %v", n.id(), user, to, n.m.MoveUser(user, to, n.clock()))
	})
}

// report makes this proxy alone unable to reach a backend for a while. It is always the same process, since
// the record of one that has crashed may still have its report.
func (w *world) report(n *node) {
	b := w.backends[w.rng.IntN(len(w.backends))].ID
	n.later(0, func() { n.m.Unreachable([]string{b}, n.clock()) })
	n.later(w.between(0, 10*time.Second), func() { n.m.Unreachable(nil, n.clock()) })
}

// crash ends the process; its kernel closes its connections.
func (n *node) crash(restart time.Duration) {
	if !n.up {
		return
	}
	n.w.trace("%s crashes", n.id())
	n.up = false
	for _, user := range n.w.users {
		for _, c := range slices.Clone(n.conns[user]) {
			n.forget(user, c)
		}
	}
	n.w.after(restart, n.start)
}

// stop is SIGSTOP, and SIGCONT a while later. The process's timers fire then before it relays anything.
func (n *node) stop(d time.Duration) {
	if !n.up || n.stopped {
		return
	}
	w, life := n.w, n.life
	d = min(d, simFault+10*time.Second-w.now)
	w.trace("%s is stopped for %v", n.id(), d)
	n.stopped = true
	w.after(d, func() {
		if n.life != life || !n.up || !n.stopped {
			return
		}
		w.trace("%s is continued", n.id())
		n.stopped = false
		n.m.Tick(n.clock())
		if w.mode == Hold && n.m.isolated {
			for _, user := range w.users {
				for _, c := range n.conns[user] {
					c.dead = true
				}
			}
		}
		w.checkAll()
		n.flush()
		deferred := n.deferred
		n.deferred = nil
		for _, do := range deferred {
			do()
		}
	})
}

// leave is a clean stop, and a new start.
func (n *node) leave() {
	if !n.up || n.stopped {
		return
	}
	life := n.life
	n.later(0, func() {
		n.w.trace("%s leaves", n.id())
		n.m.Leave(n.clock())
		for _, user := range n.w.users {
			for _, c := range n.conns[user] {
				n.end(user, c, n.w.between(0, time.Second))
			}
		}
	})
	n.w.after(n.w.between(3*time.Second, 20*time.Second), func() {
		if n.life == life && n.up {
			n.crash(0)
		}
	})
}

// heal ends all faults.
func (w *world) heal() {
	w.quiet = true
	w.outage = 0
	for i := range w.backends {
		w.backends[i].State = routing.Up
	}
	w.discovery++
	for _, n := range w.nodes {
		n.cut = 0
		if n.up {
			n.later(w.between(0, 2*time.Second), func() {
				n.discover()
				n.m.Unreachable(nil, n.clock())
			})
		}
	}
	w.mendValues()
	w.undrainAll()
	w.trace("all faults have ended")
}
