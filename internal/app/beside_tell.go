package app

import (
	"context"
	"encoding/json"
	"slices"

	"imapproxy/internal/admin"
	"imapproxy/internal/handover"
	"imapproxy/proxy"
	"imapproxy/telemetry"
)

// tellOlder sends a message to each older process.
func (b *beside) tellOlder(m handover.Message) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.older {
		o.tell(m)
	}
}

// tell sends a message to the older process, if it is connected.
func (o *older) tell(m handover.Message) { o.link.Load().add(m) }

// tellPassed tells an older process whether this one has a successor. Once it returns the older process will hear of it, though this one ends, unless the
// connection has broken. Several goroutines may tell it at once: the last message that is sent is true.
func (b *beside) tellPassed(o *older) {
	for {
		handing := b.handing.Load()
		_ = o.link.Load().k.Send(handover.Message{Do: "passed", OK: handing}, nil) // where it fails the older process connects again, or has ended
		if b.handing.Load() == handing {
			return
		}
	}
}

// setHanding says whether a successor serves, to the older processes as well.
func (b *beside) setHanding(handing bool) {
	b.handing.Store(handing)
	for _, o := range b.before() {
		b.tellPassed(o)
	}
}

// step has Run's goroutine make a step, and waits for it. false: this process is stopping, or has stopped.
func (b *beside) step(f func()) bool {
	done := make(chan struct{})
	select {
	case b.steps <- func() { f(); close(done) }:
		<-done
		return true
	case <-b.still:
	case <-b.ended:
	}
	return false
}

// talk runs f with a connection, which it closes at the end.
func (b *beside) talk(k *handover.Conn, f func()) {
	b.keep(k)
	b.talking.Go(func() { // ends with the connection, which close closes
		defer b.drop(k)
		f()
	})
}

// keep has close close a connection, unless drop has done so.
func (b *beside) keep(k *handover.Conn) {
	b.mu.Lock()
	b.conns[k] = true
	b.mu.Unlock()
}

// drop closes a connection. Its reader calls it.
func (b *beside) drop(k *handover.Conn) {
	_ = k.Close()
	k.Drop()
	b.mu.Lock()
	delete(b.conns, k)
	b.mu.Unlock()
}

// pids returns the processes before this one that haven't ended.
func (b *beside) pids() (all []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.older {
		for _, p := range o.processes {
			all = append(all, p.PID())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// leavingProcesses returns the older processes, the latest first.
func (b *beside) leavingProcesses() (all []admin.Leaving) {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.older {
		if r := o.report.Load(); r != nil {
			all = append(all, r.Processes...)
		} else {
			all = append(all, admin.Leaving{PID: o.pid, Version: o.version})
		}
	}
	return all
}

// leavingGauges returns the values for metrics.
func (b *beside) leavingGauges() (s telemetry.LeavingStats) {
	for _, l := range b.leavingProcesses() {
		s.Processes++
		s.Sessions += int64(l.Sessions)
	}
	return s
}

// before returns the older processes.
func (b *beside) before() []*older {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*older(nil), b.older...)
}

// forget closes what this process sees the ends of the older one, and of those before it, by.
func (o *older) forget() {
	for _, p := range o.processes {
		p.Close()
	}
}

// stopOlder ends the older processes, since this proxy stops. It waits until they were told; each tells those before it.
func (b *beside) stopOlder() {
	for _, o := range b.before() {
		_ = o.link.Load().k.Send(handover.Message{Do: "stop"}, nil) // where it fails the process has ended
	}
}

// succeeds says whether this process takes over from another one.
func (b *beside) succeeds() bool { return b != nil && len(b.older) > 0 }

// hint passes on to the older processes that a user's mailbox may have changed.
func (b *beside) hint(user, mailbox string) {
	b.tellOlder(handover.Message{Do: "hint", User: user, Text: mailbox})
}

// kick ends sessions, also those of the older processes, and of one that serves on trial; those aren't counted, and aren't waited for.
func (a *App) kick(ctx context.Context, k proxy.Kick) proxy.Kicked {
	if data, err := json.Marshal(k); a.beside != nil && err == nil && !k.DryRun {
		m := handover.Message{Do: "kick", Data: data}
		a.beside.tellOlder(m)
		if up := a.beside.up.Load(); up != nil && !a.beside.passed.Load() { // a process that serves on trial
			up.add(m)
		}
	}
	return a.server.Kick(ctx, k)
}

// giveUp ends this process's connections of a user, since the successor needs the user at another backend. It doesn't
// wait. abort: the backend is lost, and the ends of connections aren't waited for.
func (a *App) giveUp(user string, abort bool) {
	a.server.LetGo(user, abort)
	a.parking.hub.LetGo(user)
	a.parking.pool.LetGo(user)
	if abort {
		a.beside.ends.cut(user)
	}
}

// over delivers once when this process has left and serves no session any more.
func (b *beside) over() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.over_
}

// next delivers steps for Run's goroutine.
func (b *beside) next() <-chan func() {
	if b == nil {
		return nil
	}
	return b.steps
}
