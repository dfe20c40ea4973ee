package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"imapproxy/internal/handover"
	"imapproxy/internal/peers"
	"imapproxy/internal/task"
	"imapproxy/proxy"
	"imapproxy/routing/pair"
)

// Times of the process that hands over; beside_new.go has the dialogue.
const (
	beginWithin  = 2 * time.Minute // the new process knows its backends
	readyFor     = 3 * time.Minute // it says that it is ready
	takeWithin   = 5 * time.Second // less than answerWithin
	reportsEvery = time.Second
)

// talkedTo serves a connection of another process.
func (a *App) talkedTo(k *handover.Conn) {
	m, sockets, err := k.Receive(time.Now().Add(answerWithin))
	sockets.Close()
	if err != nil {
		return
	}
	switch m.Do {
	case "take":
		err = a.handOver(k, m)
	case "upgrade":
		err = a.restart(k)
	default:
		err = fmt.Errorf("this process doesn't know what %q means", m.Do)
	}
	if err != nil {
		a.tel.Log.Warn("a process that asked to take over was refused", "pid", k.PID(), "error", err)
		_ = k.Send(handover.Message{Do: "refused", Text: err.Error()}, nil)
	}
}

// handOver is the old process's part of the dialogue, until the connection ends. An error is one before anything has changed.
func (a *App) handOver(k *handover.Conn, hello handover.Message) error {
	b, log := a.beside, a.tel.Log
	switch {
	case hello.Format != handover.Format:
		return fmt.Errorf("it takes over in another way (format %d, and this process's is %d): restart instead", hello.Format, handover.Format)
	case hello.OK != (a.agreement != nil):
		return errors.New("one of the two has a block cluster with discovery \"consul\", and the other one hasn't: restart instead")
	case !b.take():
		return errors.New("another process is taking over")
	}
	defer func() { <-b.taken }()
	var sockets *handover.Sockets
	err := errors.New("this process is ending")
	b.step(func() { sockets, err = a.sharedSockets() })
	if err != nil {
		return err
	}
	defer sockets.Close()
	log.Info("another process is about to take over", "pid", k.PID(), "version", hello.Version)
	if err := k.Send(handover.Message{Do: "sockets", Format: handover.Format, Version: a.opts.Version, PIDs: b.pids()}, sockets); err != nil {
		return err
	}
	up := newLink(k)
	defer up.end()
	if !a.hears(k, up, sockets) {
		log.Warn("the process that was about to take over has given up: this one serves on", "pid", k.PID())
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

// hears reads what the new process says, until the connection ends, and then undoes what has to be undone. It returns false if the new
// process wasn't ready.
func (a *App) hears(k *handover.Conn, up *link, sockets *handover.Sockets) (ready bool) {
	b := a.beside
	begun, deadline := false, time.Now().Add(beginWithin)
	for {
		m, more, err := k.Receive(deadline)
		more.Close()
		if err != nil {
			break
		}
		switch m.Do {
		case "begin":
			begun, deadline = true, time.Now().Add(readyFor)
			if b.table != nil {
				b.table.Follow(up)
				b.tellOlder(handover.Message{Do: "passed", OK: true})
			}
			up.add(handover.Message{Do: "begun"})
		case "ready":
			ready, deadline = true, time.Time{}
			b.step(func() { a.leave(k, up, sockets) })
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
		case "kick":
			var k proxy.Kick
			if json.Unmarshal(m.Data, &k) == nil {
				b.talking.Go(func() { a.kick(a.over, k) })
			}
		case "reopen":
			b.tellOlder(m)
			b.step(a.reopenLog)
		case "stop":
			a.stop()
		case "passed":
			b.orphaned.Store(m.OK)
		}
	}
	_ = k.Close()
	if begun && a.over.Err() == nil {
		if b.table != nil {
			b.table.Lost()
		}
		a.bereaved(k.PID())
	}
	return ready
}

// bereaved is what happens when the connection to the successor has ended: once the successor has ended, this process decides
// again, and accepts again.
func (a *App) bereaved(pid int) {
	b := a.beside
	if b.orphaned.Load() {
		// The successor had a successor of its own, which this process can't ask.
		a.tel.Log.Error("the process that this one asked has ended, and another one serves: the sessions end", "pid", pid)
		a.stop()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(a.over, cancel)()
	if handover.Ended(ctx, pid) != nil {
		return // this process ends
	}
	if b.table != nil {
		b.table.Decide()
		b.tellOlder(handover.Message{Do: "passed", OK: false})
	}
	b.step(a.comeBack)
}

// sharedSockets returns all listening sockets of this process, with descriptors of their own.
func (a *App) sharedSockets() (*handover.Sockets, error) {
	all := &handover.Sockets{}
	var errs []error
	add := func(name, address string, l *net.TCPListener) {
		s, err := handover.Of(name, address, l)
		if err != nil {
			errs = append(errs, err)
			return
		}
		all.Add(s)
	}
	a.server.Sockets(add)
	if a.admin != nil {
		add(adminSocket, a.cfg.Admin.Address, a.admin.Socket())
	}
	if a.events != nil {
		add(eventsSocket, a.cfg.Park.Events.Address, a.events.Socket())
	}
	if err := errors.Join(errs...); err != nil {
		all.Close()
		return nil, err
	}
	return all, nil
}

// leave is the point of no return of a hand-over: the new process serves. It runs in Run's goroutine.
func (a *App) leave(k *handover.Conn, up *link, sockets *handover.Sockets) {
	b, log := a.beside, a.tel.Log
	a.server.Pause()
	var err error
	if b.kept, err = sockets.Copy(); err != nil {
		log.Warn("this process couldn't serve again if the new one ended early", "error", err)
	}
	_ = b.listener.Close() // its task ends; the new process will listen at the path
	a.endPublic()
	a.parking.pool.LetGo("")  // connections that no session uses
	if a.opts.Notify != nil { // before the new process says READY=1, which systemd takes from the main process alone
		if err := a.opts.Notify(fmt.Sprintf("MAINPID=%d", k.PID())); err != nil {
			log.Warn("systemd can't be told which process is the main one", "pid", k.PID(), "error", err)
		}
	}
	b.passed.Store(true)
	within := a.cfg.Shutdown.Handover
	until := time.Now().Add(within)
	log.Info("a new process has taken over; this one serves its sessions on", "pid", k.PID(), "sessions", a.server.Status().Sessions, "handover", within)
	up.add(handover.Message{Do: "leaving"})
	b.leaving = task.Start(func(ctx context.Context) error {
		reports := task.Start(func(ctx context.Context) error { a.reportLeft(ctx, up, until); return nil })
		defer func() { _ = reports.Stop() }()
		a.server.Leave(ctx, within)
		for _, o := range b.before() {
			select {
			case <-o.ended:
			case <-ctx.Done():
			}
		}
		if ctx.Err() == nil {
			b.over_ <- struct{}{}
		}
		return nil
	})
}

// before returns the older processes.
func (b *beside) before() []*older {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*older(nil), b.older...)
}

// reportLeft tells the successor how many sessions are left.
func (a *App) reportLeft(ctx context.Context, up *link, until time.Time) {
	tick := time.NewTicker(reportsEvery)
	defer tick.Stop()
	for {
		n := int(a.server.Status().Sessions)
		for _, o := range a.beside.before() {
			if s := o.state.Load(); s != nil {
				n += s.Sessions
			}
		}
		up.add(handover.Message{Do: "left", Count: n, Until: until.UnixMilli()})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// comeBack serves again, since the successor has ended without a word. It runs in Run's goroutine.
func (a *App) comeBack() {
	b, log := a.beside, a.tel.Log
	if !b.passed.Load() {
		return
	}
	_, _ = b.leaving.Stop(), b.waiting.Stop()
	b.leaving = nil
	select {
	case <-b.over_: // the last session ended just now
	default:
	}
	b.passed.Store(false)
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
	a.sockets.Close()
	if a.admin != nil {
		a.answering = task.Start(a.admin.Serve)
	}
	if a.events != nil {
		a.listening = task.Start(a.events.Serve)
	}
	a.server.Resume()
	if b.listener, err = handover.Listen(b.path); err != nil {
		log.Error("this process can't hand over to a successor", "socket", b.path, "error", err)
		b.listener = nil
	}
	a.beginBeside()
	log.Error("the process that had taken over has ended: this one serves again")
}

// endPublic ends what only one process of a proxy has. The registration stays until the successor replaces it.
func (a *App) endPublic() {
	if err := errors.Join(a.listening.Stop(), a.answering.Stop()); err != nil {
		a.tel.Log.Warn("the admin API has ended", "error", err)
	}
	a.listening, a.answering, a.admin, a.events = nil, nil, nil, nil
}

// endLeaving ends server.Leave.
func (a *App) endLeaving() error {
	if a.beside == nil {
		return nil
	}
	return a.beside.leaving.Stop()
}

// restart starts a new process of this proxy, which then takes over, and says how that went.
func (a *App) restart(k *handover.Conn) error {
	if a.opts.Restart == nil {
		return errors.New("this process can't start another one")
	}
	if len(a.beside.taken) > 0 {
		return errors.New("another process is taking over")
	}
	pid, wait, err := a.opts.Restart()
	if err != nil {
		return fmt.Errorf("the new process can't be started: %w", err)
	}
	a.tel.Log.Info("a new process was started, to take over", "pid", pid)
	if err := k.Send(handover.Message{Do: "started", PID: pid}, nil); err != nil {
		a.tel.Log.Debug("imapproxy upgrade has gone away", "error", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- wait() }() // ends with the new process, or with this one
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if a.beside.passed.Load() {
			_ = k.Send(handover.Message{Do: "done", PID: pid}, nil)
			return nil
		}
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("exit code 0")
			}
			return fmt.Errorf("the new process has ended, and this one serves on: %w", err)
		case <-a.over.Done():
			return errors.New("this process is ending")
		case <-tick.C:
		}
	}
}

// link carries messages to another process in their order; adding one never waits. It implements pair.Successor.
type link struct {
	k     *handover.Conn
	mu    sync.Mutex // guards what follows
	queue []handover.Message
	more  chan struct{} // of size 1
	done  *task.Task
}

func newLink(k *handover.Conn) *link {
	l := &link{k: k, more: make(chan struct{}, 1)}
	l.done = task.Start(l.run)
	return l
}

// add queues messages. After the connection has failed it does nothing.
func (l *link) add(all ...handover.Message) {
	select {
	case <-l.done.Done():
		return
	default:
	}
	l.mu.Lock()
	l.queue = append(l.queue, all...)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// run sends; it ends with ctx, or when the connection fails, which its reader notices as well.
func (l *link) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.more:
		}
		l.mu.Lock()
		all := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, m := range all {
			if err := l.k.Send(m, nil); err != nil {
				return err
			}
		}
	}
}

func (l *link) end() { _ = l.done.Stop() }

// Has implements pair.Successor.
func (l *link) Has(all []pair.Stay) {
	for len(all) > 0 {
		n := min(len(all), stayChunk)
		m := handover.Message{Do: "has"}
		for _, s := range all[:n] {
			m.Stays = append(m.Stays, handover.Stay(s))
		}
		l.add(m)
		all = all[n:]
	}
}

// Ask implements pair.Successor.
func (l *link) Ask(id uint64, s pair.Stay) {
	l.add(handover.Message{Do: "claim", ID: id, User: s.User, Backend: s.Backend})
}

// Release implements pair.Successor.
func (l *link) Release(user, backend string) {
	l.add(handover.Message{Do: "release", User: user, Backend: backend})
}
