package app

import (
	"context"
	"errors"
	"os"
	"time"

	"imapproxy/internal/handover"
)

// A connection between two processes may break while both live: one of them was stopped for a while, or had too much to do. Without
// it the old process can't ask where users are, so its parked sessions would wait until the new one has ended. The old process connects
// again:
//
//	old → new   rejoin     at the path where the new process waits for its own successor
//	new → old   rejoined   then, on both sides, the new connection takes the place of the one before
//	old → new   has…       where the old process has users now: that takes the place of what the new one knew
//	new → old   passed     whether it has a successor
//	            pause…     which backends are paused
//
// Hints and kicks that are sent meanwhile are lost; the next sweep finds the changes that a hint would have
// told.

// rejoin connects to the successor again. nil: it has ended, or this process ends. A successor that has one of its own doesn't listen once it has left; that
// it serves after all, since the other one has failed, is heard by the new connection.
func (a *App) rejoin(s *successor) *handover.Conn {
	b := a.beside
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		_ = s.process.Ended(ctx)
	}()
	defer func() { cancel(); <-ended }()
	defer context.AfterFunc(a.over, cancel)()
	tick := time.NewTicker(rejoinEvery)
	defer tick.Stop()
	for {
		if k := b.dialAgain(ctx, s.process.PID()); k != nil {
			return k
		}
		select {
		case <-ended:
			return nil
		case <-tick.C:
		}
		select {
		case <-ended:
			return nil
		default:
			s.broken = true
		}
	}
}

// dialAgain makes one attempt of rejoin. The caller drops the connection.
func (b *beside) dialAgain(ctx context.Context, pid int) *handover.Conn {
	k, err := handover.Dial(ctx, b.path)
	if k == nil || err != nil {
		return nil
	}
	b.keep(k)
	if k.PID() == pid && ctx.Err() == nil && k.Send(handover.Message{Do: "rejoin", Format: handover.Format}, nil) == nil {
		m, sockets, err := k.Receive(time.Now().Add(answerWithin))
		sockets.Close()
		if err == nil && m.Do == "rejoined" {
			return k
		}
	}
	b.drop(k)
	return nil
}

// rejoins is what the old process does once it is connected again.
func (a *App) rejoins(s *successor, k *handover.Conn, up *link) {
	b := a.beside
	b.up.Store(up)
	s.broken = false // the new process says once more whether it has a successor
	if b.table != nil {
		b.table.Follow(up)
	}
	a.tel.Log.Warn("the connection to the process that took over had broken, and is made again", "pid", s.process.PID())
	if !s.ready { // it listens where its own successor would connect, so it serves
		s.ready = true
		b.step(func() { a.leave(k, up) })
	}
}

// rejoined is the new process's part: it serves the connection until that ends.
func (a *App) rejoined(k *handover.Conn) error {
	var o *older
	for _, one := range a.beside.before() {
		if one.pid == k.PID() {
			o = one
		}
	}
	if o == nil {
		return errors.New("this process hasn't taken over from it")
	}
	_ = o.link.Load().k.Close() // its reader ends
	o.hearing.Lock()
	defer o.hearing.Unlock()
	switch {
	case o.over:
		return errors.New("it has ended")
	case k.Send(handover.Message{Do: "rejoined"}, nil) != nil:
		return nil // it has given up, and will connect again
	}
	l := newLink(k)
	o.link.Store(l)
	a.beside.tellPassed(o)
	a.tellPauses(l)
	a.tel.Log.Warn("the connection to an older process had broken, and is made again", "pid", o.pid)
	a.hearOn(o, l)
	return nil
}

// othersServe says whether another process than the successor, which has ended, serves: it listens where the successor has listened. If the connection had
// broken before, the successor may have been handing over without this process's knowledge; then the other one listens at the end of its trial. Else it's
// enough to look once, so that clients, who can connect all the time, needn't wait for a greeting.
func (a *App) othersServe(ctx context.Context, broken bool) bool {
	b := a.beside
	passed := b.passed.Load() // then this process doesn't listen there
	late := time.NewTimer(b.alone)
	defer late.Stop()
	tick := time.NewTicker(rejoinEvery)
	defer tick.Stop()
	for {
		if k, _ := handover.Dial(ctx, b.path); k != nil {
			_ = k.Close()
			if passed || k.PID() != os.Getpid() {
				return true
			}
		}
		if !passed || !broken { // the successor was on trial, so it handed nothing over; or it would have said that it did
			return false
		}
		select {
		case <-tick.C:
		case <-late.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// rejoinEvery is the pause between two attempts.
const rejoinEvery = 500 * time.Millisecond
