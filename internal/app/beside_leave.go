package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/handover"
	"imapproxy/internal/task"
)

// leave is the point of no return of a hand-over: the new process serves. It runs in Run's goroutine.
func (a *App) leave(k *handover.Conn, up *link) {
	b, log := a.beside, a.tel.Log
	a.server.Pause()
	_ = b.waiting.Stop() // the listener is closed, if there is one; the new process will listen at the path
	a.endPublic()
	a.parking.pool.LetGo("")  // connections that no session uses
	if a.opts.Notify != nil { // before the new process says READY=1, which systemd takes from the main process alone
		if err := a.opts.Notify(fmt.Sprintf("MAINPID=%d", k.PID())); err != nil {
			log.Warn("systemd can't be told which process is the main one", "pid", k.PID(), "error", err)
		}
	}
	b.to.Store(int64(k.PID()))
	b.up.Store(up)
	b.passed.Store(true)
	within := a.cfg.Shutdown.Handover
	until := time.Now().Add(within)
	log.Info("a new process has taken over; this one continues to serve its sessions", "pid", k.PID(), "sessions", a.server.Status().Sessions, "handover", within)
	a.tellPauses(up)
	up.add(handover.Message{Do: "leaving"})
	b.leaving = task.Start(func(ctx context.Context) error {
		reports := task.Start(func(ctx context.Context) error { a.reportLeft(ctx, until); return nil })
		defer func() { _ = reports.Stop() }()
		a.server.Leave(ctx, within)
		for _, o := range b.before() {
			select {
			case <-o.ended:
			case <-ctx.Done():
			}
		}
		select {
		case b.starting <- struct{}{}: // the command that asked for the upgrade was told
			<-b.starting
		case <-ctx.Done():
		}
		if ctx.Err() == nil {
			b.over_ <- struct{}{}
		}
		return nil
	})
}

// restart starts a new process of this proxy, which then takes over, and says how that went.
func (a *App) restart(k *handover.Conn) error {
	if a.opts.Restart == nil {
		return errors.New("this process can't start another one")
	}
	b := a.beside
	select {
	case b.starting <- struct{}{}:
		defer func() { <-b.starting }()
	default:
		return errors.New("another upgrade is under way")
	}
	if len(b.taken) > 0 {
		return errors.New("another process is taking over, or has taken over")
	}
	started, err := a.opts.Restart()
	pid := started.PID
	if err != nil {
		return fmt.Errorf("the new process can't be started: %w", err)
	}
	a.tel.Log.Info("a new process was started, to take over", "pid", pid)
	if err := k.Send(handover.Message{Do: "started", PID: pid}, nil); err != nil {
		a.tel.Log.Debug("imapproxy upgrade has disconnected", "error", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- started.Wait() }() // ends with the new process, or with this one
	tick, late, asked := time.NewTicker(50*time.Millisecond), time.NewTimer(restartWithin), time.Now()
	defer tick.Stop()
	defer late.Stop()
	hangs := func(does string) error {
		if err := started.Kill(); err != nil {
			return fmt.Errorf("the new process (pid %d) %s, and can't be ended: %w", pid, does, err)
		}
		return fmt.Errorf("the new process (pid %d) %s, and was ended", pid, does)
	}
	for {
		if b.passed.Load() {
			if to := b.to.Load(); to != int64(pid) {
				return fmt.Errorf("another process has taken over, which this upgrade didn't start (pid %d)", to)
			}
			_ = k.Send(handover.Message{Do: "done", PID: pid}, nil)
			return nil
		}
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("exit code 0")
			}
			return fmt.Errorf("the new process has ended, and this one continues to serve: %w", err)
		case <-late.C:
			return hangs("neither serves nor ends")
		case <-a.over.Done():
			return errors.New("this process is ending")
		case now := <-tick.C:
			if len(b.taken) > 0 {
				asked = now
			} else if now.Sub(asked) >= b.asks {
				return hangs(fmt.Sprintf("hasn't taken over, nor said anything for %s", b.asks))
			}
		}
	}
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
	if a.lookups != nil {
		add(lookupsSocket, a.cfg.Route.Address, a.lookups.Socket())
	}
	if err := errors.Join(errs...); err != nil {
		all.Close()
		return nil, err
	}
	return all, nil
}

// endBeside is called when this process stops: it changes hands no more, and if it is the newest one, those before it stop as well.
func (a *App) endBeside() {
	b := a.beside
	if b == nil {
		return
	}
	close(b.still)
	if !b.passed.Load() {
		b.stopOlder()
	}
}

// endLeaving ends server.Leave.
func (a *App) endLeaving() error {
	if a.beside == nil {
		return nil
	}
	return a.beside.leaving.Stop()
}

// endPublic ends what only one process of a proxy has. The registration stays until the successor replaces it.
func (a *App) endPublic() {
	if err := errors.Join(a.listening.Stop(), a.answered.Stop(), a.answering.Stop()); err != nil {
		a.tel.Log.Warn("the admin API has ended", "error", err)
	}
	a.listening, a.answering, a.admin, a.events = nil, nil, nil, nil
	a.answered, a.lookups = nil, nil
}

// left returns this process's report. until is when its last sessions end.
func (a *App) left(until time.Time) json.RawMessage {
	own := admin.Leaving{ID: a.cluster.id, PID: os.Getpid(), Version: a.opts.Version, Sessions: int(a.server.Status().Sessions), Until: until}
	data, _ := json.Marshal(leftReport{append([]admin.Leaving{own}, a.beside.leavingProcesses()...), a.connections()}) // it has times and texts
	return data
}

// reportLeft tells the successor how many sessions are left.
func (a *App) reportLeft(ctx context.Context, until time.Time) {
	tick := time.NewTicker(reportsEvery)
	defer tick.Stop()
	for {
		if up := a.beside.up.Load(); up != nil {
			up.add(handover.Message{Do: "left", Data: a.left(until)})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Times of the process that hands over; beside_new.go has the dialogue.
const (
	beginWithin   = 2 * time.Minute  // the new process knows its backends
	signsWithin   = 20 * time.Second // its signs of life until then follow each other
	againFor      = 5 * time.Second  // where nothing has come in time, this long it is waited for once more
	askWithin     = time.Minute      // it asks to take over, once it was started
	restartWithin = 3 * time.Minute
	readyFor      = 3 * time.Minute // it says that it is ready
	takeWithin    = 5 * time.Second // less than answerWithin
	reportsEvery  = time.Second
	aloneFor      = 3 * trialFor // its successor has ended, unheard: no other process is seen to serve
)
