package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"imapproxy/internal/handover"
	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/proxy"
	"imapproxy/routing/pair"
)

// takeOver asks the process that serves now, if there is one, for its sockets.
func (a *App) takeOver(ctx context.Context) error {
	b := a.beside
	if b == nil {
		return nil
	}
	k, err := handover.Dial(ctx, b.path)
	if k == nil {
		return wiring.About("shutdown.handover_socket", err)
	}
	if err = a.takeSockets(k); err != nil {
		_ = k.Close()
		k.Drop()
		return fmt.Errorf("the process that serves now (pid %d) doesn't hand over: %w", k.PID(), err)
	}
	return nil
}

// takeSockets is the first part of the dialogue.
func (a *App) takeSockets(k *handover.Conn) error {
	b := a.beside
	if err := k.Send(handover.Message{Do: "take", Format: handover.Format, PID: os.Getpid(), Version: a.opts.Version, OK: a.agreement != nil}, nil); err != nil {
		return err
	}
	m, sockets, err := k.Receive(time.Now().Add(answerWithin))
	switch {
	case err != nil:
		return err
	case m.Do == "refused":
		sockets.Close()
		return errors.New(m.Text)
	case m.Do != "sockets" || m.Format != handover.Format:
		sockets.Close()
		return fmt.Errorf("the hand-over of its release has another format (%q, format %d)", m.Do, m.Format)
	}
	o := &older{
		pid: k.PID(), version: m.Version,
		begun: make(chan struct{}), left: make(chan struct{}), ended: make(chan struct{}),
	}
	for _, pid := range append(slices.Clone(m.PIDs), k.PID()) {
		p, err := b.find(pid)
		if err != nil {
			sockets.Close()
			o.forget()
			return err
		}
		o.processes = append(o.processes, p)
	}
	if sockets != nil {
		a.sockets.Merge(sockets)
	}
	o.link.Store(newLink(k))
	o.signs = task.Start(func(ctx context.Context) error { o.signOfLife(ctx); return nil })
	if b.table != nil {
		o.users = b.table.Join(func(user string, abort bool) { o.tell(handover.Message{Do: "letgo", User: user, Abort: abort}) })
	}
	b.older = append(b.older, o)
	a.tel.Log.Info("taking over from the process that serves now", "pid", k.PID(), "version", m.Version)
	return nil
}

// signOfLife tells the older process that this one is starting, until it serves for good.
func (o *older) signOfLife(ctx context.Context) {
	tick := time.NewTicker(reportsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			o.tell(handover.Message{Do: "starting"})
		}
	}
}

// succeed begins to serve in place of the older process. On error that one serves on. If it has ended, this process has the listening
// sockets, and serves.
func (a *App) succeed(ctx context.Context) error {
	b, log := a.beside, a.tel.Log
	o := b.older[0]
	k, gone := o.link.Load().k, make(chan struct{})
	b.talk(k, func() {
		defer close(gone)
		a.hear(o)
	})
	// It is asked to begin only when backends are known, so that a process without any doesn't take over.
	err := within(ctx, readyWithin, a.ready, gone, "no backend is known")
	if err == nil {
		_ = k.Send(handover.Message{Do: "begin"}, nil) // where it fails, begun doesn't come
		err = within(ctx, answerWithin, o.begun, gone, "the old process doesn't say which users it has")
	}
	ended := errors.Is(err, errOldEnded)
	switch {
	case ended:
		log.Warn("the old process has ended during the hand-over: this one serves", "pid", o.pid)
	case err != nil:
		return err
	}
	a.beginServing()
	trial := time.NewTimer(or(a.opts.Trial, trialFor))
	defer trial.Stop()
	select {
	case <-trial.C:
	case <-gone:
	case <-a.serving.Done():
		return errors.New("serving ended during the trial")
	case <-ctx.Done():
		return ctx.Err()
	}
	_ = o.signs.Stop()
	if ended {
		// there is no process to tell
	} else if err := k.Send(handover.Message{Do: "ready"}, nil); err != nil {
		log.Warn("the old process has ended, or will connect again", "pid", o.pid, "error", err)
	} else if err := within(ctx, answerWithin, o.left, o.link.Load().done.Done(), "the old process doesn't say that it leaves"); err != nil {
		log.Warn("this process serves in any case", "pid", o.pid, "error", err)
	}
	if b.listener, err = handover.Listen(b.path); err != nil {
		log.Error("this process can't hand over to a successor yet", "socket", b.path, "error", err)
		b.listener = nil
	}
	a.turnAway(o)
	log.Info("this process has taken over", "pid", o.pid, "version", o.version)
	return nil
}

// errOldEnded says that the process that was to hand over has ended, or the connection to it.
var errOldEnded = errors.New("the old process has ended, or the connection to it has broken")

// within waits for an event, and returns an error if another one comes first.
func within(ctx context.Context, limit time.Duration, event, gone <-chan struct{}, late string) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-event:
		return nil
	case <-gone:
		return errOldEnded
	case <-timer.C:
		return fmt.Errorf("%s after %s", late, limit)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func or(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// hear reads what an older process says, and waits for the process's end. Until then the process counts as having its users.
func (a *App) hear(o *older) {
	o.hearing.Lock()
	a.hearOn(o, o.link.Load())
	o.hearing.Unlock()
	b := a.beside
	until, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { // ends with hear
		select {
		case <-b.ended:
			stop()
		case <-until.Done():
		}
	}()
	for _, p := range o.processes {
		if p.Ended(until) != nil {
			return
		}
	}
	o.forget()
	_ = o.link.Load().k.Close()
	o.hearing.Lock()
	o.over = true
	o.hearing.Unlock()
	if o.users != nil {
		o.users.End()
	}
	b.mu.Lock()
	b.older = slices.DeleteFunc(b.older, func(other *older) bool { return other == o })
	b.mu.Unlock()
	close(o.ended)
	a.tel.Log.Info("the old process has ended", "pid", o.pid, "version", o.version)
}

// hearOn reads what an older process says, until the connection ends. The caller holds hearing.
func (a *App) hearOn(o *older, l *link) {
	ctx, cancel := context.WithCancel(context.Background())
	var claims sync.WaitGroup
	defer func() {
		cancel()
		_ = l.k.Close()
		l.end()
		claims.Wait() // what is claimed later isn't the old process's
	}()
	var has []pair.Stay
	for {
		m, sockets, err := l.k.Receive(time.Time{})
		sockets.Close()
		if err != nil {
			return
		}
		switch m.Do {
		case "has":
			if has = append(has, asStays(m.Stays)...); o.users != nil && m.OK {
				o.users.Has(has...)
				has = nil
			}
		case "begun":
			closeOnce(o.begun)
		case "leaving":
			closeOnce(o.left)
		case "claim":
			claims.Go(func() { answerClaim(ctx, o, l, m) })
		case "release":
			if o.users != nil {
				o.users.Release(m.User, m.Backend)
			}
		case "pause":
			a.toldPause(m)
		case "kick": // while this process serves on trial
			if k := new(proxy.Kick); json.Unmarshal(m.Data, k) == nil {
				a.beside.talking.Go(func() { a.server.Kick(a.over, *k) })
			}
		case "left":
			if r := new(leftReport); json.Unmarshal(m.Data, r) == nil {
				o.report.Store(r)
			}
		}
	}
}

// answerClaim answers a question of an older process.
func answerClaim(ctx context.Context, o *older, l *link, m handover.Message) {
	answer := handover.Message{Do: "answer", ID: m.ID, OK: true}
	if o.users != nil {
		elsewhere, err := o.users.Claim(ctx, m.User, m.Backend)
		answer.OK, answer.Backend = err == nil && elsewhere == "", elsewhere
	}
	_ = l.k.Send(answer, nil)
}

// closeOnce closes a channel that one goroutine closes.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

func asStays(all []handover.Stay) []pair.Stay {
	stays := make([]pair.Stay, len(all))
	for i, s := range all {
		stays[i] = pair.Stay(s)
	}
	return stays
}
