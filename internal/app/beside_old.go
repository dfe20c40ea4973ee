package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"imapproxy/internal/handover"
	"imapproxy/internal/peers"
	"imapproxy/internal/task"
	"imapproxy/proxy"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// talkedTo serves a connection of another process.
func (a *App) talkedTo(k *handover.Conn) {
	m, sockets, err := k.Receive(time.Now().Add(answerWithin))
	sockets.Close()
	if err != nil {
		return
	}
	switch {
	case m.Do != "rejoin" && a.lameDuck():
		err = errors.New("this process is ending")
	case m.Do != "rejoin" && a.beside.first:
		err = errFirst
	case m.Do == "take":
		err = a.handOver(k, m)
	case m.Do == "upgrade":
		err = a.restart(k)
	case m.Do == "rejoin":
		err = a.rejoined(k)
	default:
		err = fmt.Errorf("this process doesn't know what %q means", m.Do)
	}
	if err != nil {
		a.tel.Log.Warn("another process was refused", "asked", m.Do, "pid", k.PID(), "error", err)
		_ = k.Send(handover.Message{Do: "refused", Text: err.Error()}, nil)
	}
}

// errFirst says why the first process of a PID namespace has no successor: once it has ended, as the old process does, the kernel ends the others.
var errFirst = errors.New("the proxy is process 1, and a container ends with that process: start another container of the new release, and stop this one once that serves")

// handOver is the old process's part of the dialogue, until the connection ends. An error is one before anything has changed.
func (a *App) handOver(k *handover.Conn, hello handover.Message) error {
	b, log := a.beside, a.tel.Log
	switch {
	case hello.Format != handover.Format:
		return fmt.Errorf("its hand-over has another format (%d, this process's has %d): restart instead", hello.Format, handover.Format)
	case hello.OK != (a.agreement != nil):
		return errors.New("one of the two has a block cluster with discovery \"consul\", and the other one doesn't: restart instead")
	case !b.take():
		return errors.New("another process is taking over")
	}
	defer func() { <-b.taken }()
	process, err := b.find(k.PID()) // while it lives
	if err != nil {
		return err
	}
	defer process.Close()
	var sockets *handover.Sockets
	err = errors.New("this process is ending")
	b.step(func() { sockets, err = a.sharedSockets() })
	if err != nil {
		return err
	}
	defer sockets.Close()
	log.Info("another process is about to take over", "pid", k.PID(), "version", hello.Version)
	if err := k.Send(handover.Message{Do: "sockets", Format: handover.Format, Version: a.opts.Version, PIDs: b.pids()}, sockets); err != nil {
		return err
	}
	if !a.hears(k, &successor{process: process, sockets: sockets}) {
		log.Warn("the process that was about to take over has given up: this one continues to serve", "pid", k.PID())
	}
	return nil
}

// take makes a process the one that takes over. It waits a moment where another one does: that may have ended just now.
func (b *beside) take() bool {
	timer := time.NewTimer(takeWithin)
	defer timer.Stop()
	select {
	case b.taken <- struct{}{}:
		return true
	case <-timer.C:
	case <-b.ended:
	}
	return false
}

// hears reads what the new process says, until that has ended or given up, and then undoes what has to be undone. A connection that breaks
// while the new process lives is made again. It returns false if the new process wasn't ready.
func (a *App) hears(k *handover.Conn, s *successor) (ready bool) {
	b := a.beside
	for up := newLink(k); ; {
		if silent := a.hearsOn(s, k, up); silent && s.begun && !s.ready {
			a.endsSilent(s)
		}
		_ = k.Close()
		up.end()
		if !s.begun || a.over.Err() != nil {
			return s.ready
		}
		if b.table != nil {
			b.table.Lost()
		}
		again := a.rejoin(s)
		if again == nil {
			break
		}
		defer b.drop(again)
		k, up = again, newLink(again)
		a.rejoins(s, k, up)
	}
	a.bereaved(s)
	return s.ready
}

// endsSilent ends a process that serves on trial and says nothing. Users log in only where it agrees, so this process can't do without it
// while it lives.
func (a *App) endsSilent(s *successor) {
	log := a.tel.Log.With("pid", s.process.PID())
	if err := a.beside.kill(s.process); err != nil {
		log.Error("the process that is taking over says nothing, and can't be ended: logins fail until it has ended", "error", err)
		return
	}
	log.Error("the process that was taking over said nothing, and was ended", "silent", a.beside.silence)
}

// hearsOn reads what the new process says, until the connection ends, or, before that process is ready, for as long as it may be silent.
func (a *App) hearsOn(s *successor, k *handover.Conn, up *link) (silent bool) {
	b, latest := a.beside, time.Now().Add(beginWithin)
	deadline := time.Time{}
	if !s.begun {
		deadline = time.Now().Add(b.silence)
	}
	for again := false; ; {
		m, more, err := k.Receive(deadline)
		more.Close()
		late := errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case late && !again: // this process may have been stopped: what was sent meanwhile is read
			again, deadline = true, time.Now().Add(min(b.silence, againFor))
			continue
		case err != nil:
			return late
		}
		again = false
		switch m.Do {
		case "starting": // a process that hangs must not keep others from taking over
			if deadline = time.Now().Add(b.silence); deadline.After(latest) {
				deadline = latest
			}
		case "begin":
			s.begun = true
			if b.table != nil {
				b.table.Follow(up)
			}
			b.setHanding(true)
			b.up.Store(up) // what an operator asks for from now on holds there as well
			a.tellPauses(up)
			up.add(handover.Message{Do: "begun"})
			if !b.step(func() { a.keepSockets(s.sockets) }) {
				s.sockets.Close()
			}
			deadline, latest = time.Now().Add(b.silence), time.Now().Add(readyFor)
		case "ready":
			s.ready, deadline = true, time.Time{}
			b.step(func() { a.leave(k, up) })
		case "answer":
			if b.table != nil {
				b.table.Answered(m.ID, m.OK, m.Backend)
			}
		case "letgo":
			a.giveUp(m.User, m.Abort)
			if b.table != nil {
				b.table.LetGo(m.User, m.Abort)
			}
		case "hint":
			a.parking.hints([]peers.Hint{{User: m.User, Mailbox: m.Text}})
			b.tellOlder(m)
		case "pause":
			a.toldPause(m)
			b.tellOlder(m)
		case "kick":
			var k proxy.Kick
			if json.Unmarshal(m.Data, &k) == nil {
				b.talking.Go(func() { a.kick(a.over, k) })
			}
		case "reopen":
			b.tellOlder(m)
			b.step(a.reopenLog)
		case "stop":
			b.stopOlder()
			a.stop()
		case "passed":
			b.orphaned.Store(m.OK)
		}
	}
}

// bereaved is called when the connection to the successor has ended for good: once the successor has ended, this process decides
// again, and accepts again.
func (a *App) bereaved(s *successor) {
	b := a.beside
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(a.over, cancel)()
	if s.process.Ended(ctx) != nil || b.passed.Load() && !b.step(a.stay) {
		return // this process ends
	}
	// The successor had a successor of its own, which this process can't ask. It may have had no time to say so, or no connection.
	if b.orphaned.Load() || a.othersServe(ctx, s.broken) {
		a.tel.Log.Error("the process that this one asked has ended, and another one serves: the sessions end", "pid", s.process.PID())
		a.stop()
		return
	}
	if ctx.Err() != nil {
		return
	}
	if b.table != nil {
		b.table.Decide()
	}
	b.setHanding(false)
	b.step(a.comeBack)
}

// keepSockets keeps the listening sockets that a successor was sent, now that it serves on trial. It runs in Run's goroutine, which closes them when
// this process stops, though the successor may hear of that much later.
func (a *App) keepSockets(sockets *handover.Sockets) {
	b := a.beside
	if b.kept == nil {
		b.kept = &handover.Sockets{}
	}
	b.kept.Merge(sockets)
}

// stay keeps this process from ending with its last session: the successor has ended, and it may be that no other process serves. It runs in Run's
// goroutine.
func (a *App) stay() {
	b := a.beside
	_ = b.leaving.Stop()
	b.leaving = nil
	select {
	case <-b.over_: // the last session ended just now
	default:
	}
}

// comeBack serves again, since the successor has ended without a message. It runs in Run's goroutine, after stay.
func (a *App) comeBack() {
	b, log := a.beside, a.tel.Log
	if !b.passed.Load() {
		b.letGoOfSockets() // its listeners are open
		return
	}
	_ = b.waiting.Stop()
	b.passed.Store(false)
	b.up.Store(nil)
	if b.kept != nil {
		a.sockets.Merge(b.kept)
		b.kept = nil
	}
	var err error
	if a.admin, err = a.openAdmin(); err != nil {
		log.Error("the admin API can't be opened again", "error", err)
	}
	if a.events, err = a.openEvents(); err != nil {
		log.Error("push events can't be opened again", "error", err)
	}
	if a.lookups, err = a.openLookups(); err != nil {
		log.Error("lookups of routes can't be answered again", "error", err)
	}
	a.sockets.Close()
	if a.admin != nil {
		a.answering = task.Start(a.admin.Serve)
	}
	if a.events != nil {
		a.listening = task.Start(a.events.Serve)
	}
	if a.lookups != nil {
		a.answered = task.Start(a.lookups.Serve)
	}
	a.server.Resume()
	if b.listener, err = handover.Listen(b.path); err != nil {
		log.Error("this process can't hand over to a successor yet", "socket", b.path, "error", err)
		b.listener = nil
	}
	a.beginBeside()
	log.Error("the process that had taken over has ended: this one serves again")
}

// beginBeside waits for other processes.
func (a *App) beginBeside() {
	b := a.beside
	if b == nil {
		return
	}
	b.waiting = task.Start(func(ctx context.Context) error {
		if b.listener == nil && !a.listensLater(ctx) {
			return nil
		}
		a.waits(ctx, b.listener)
		return nil
	})
}

// listenAgain makes the socket's file again where it was deleted: until then no process finds this one. It runs in Run's goroutine.
func (a *App) listenAgain() {
	b := a.beside
	if b == nil || b.passed.Load() {
		return
	}
	if _, err := os.Lstat(b.path); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	_ = b.waiting.Stop() // closes the listener, not the connections
	var err error
	if b.listener, err = b.listen(); err != nil {
		b.listener = nil
	}
	a.tel.Log.Warn("the hand-over socket's file was gone", "socket", b.path, "error", err)
	a.beginBeside()
}

// listensLater listens at the socket once that can be done: its folder was full, or not there. It returns false if ctx has ended.
func (a *App) listensLater(ctx context.Context) bool {
	b := a.beside
	tick := time.NewTicker(listenEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if l, err := handover.Listen(b.path); err == nil {
			a.tel.Log.Info("this process can hand over to a successor now", "socket", b.path)
			b.listener = l
			return true
		}
	}
}

// waits accepts other processes until ctx ends, or the listener is closed.
func (a *App) waits(ctx context.Context, l *handover.Listener) {
	b := a.beside
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for pause := time.Duration(0); ; {
		k, refused, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // a shortage ends when sessions end
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if of := upstream.ShortageOf(err); of != "" {
				a.tel.Shortage(of, telemetry.ShortageAtHandover, err)
			} else {
				a.tel.Log.Error("another process can't be accepted, trying again", "socket", b.path, "error", err, "in", pause)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		case refused != nil:
			a.tel.Log.Warn("a process that may not take over was refused", "socket", b.path, "error", refused)
			continue
		}
		pause = 0
		b.talk(k, func() { a.talkedTo(k) })
	}
}

// listenEvery is the pause between two attempts to listen at the socket.
const listenEvery = time.Second
