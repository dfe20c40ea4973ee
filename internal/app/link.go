package app

import (
	"context"
	"time"

	"imapproxy/internal/handover"
	"imapproxy/internal/task"
	"imapproxy/routing/pair"
)

// Ask implements pair.Successor.
func (l *link) Ask(id uint64, s pair.Stay) {
	l.add(handover.Message{Do: "claim", ID: id, User: s.User, Backend: s.Backend})
}

// Has implements pair.Successor.
func (l *link) Has(all []pair.Stay) {
	for {
		n := min(len(all), stayChunk)
		m := handover.Message{Do: "has", OK: n == len(all)} // the last one
		for _, s := range all[:n] {
			m.Stays = append(m.Stays, handover.Stay(s))
		}
		l.add(m)
		if all = all[n:]; m.OK {
			return
		}
	}
}

// Release implements pair.Successor.
func (l *link) Release(user, backend string) {
	l.add(handover.Message{Do: "release", User: user, Backend: backend})
}

// add queues messages. After the connection has failed it does nothing; where too many wait, it is given up.
func (l *link) add(all ...handover.Message) {
	select {
	case <-l.done.Done():
		return
	default:
	}
	l.mu.Lock()
	full := len(l.queue) >= maxQueued
	if !full {
		l.queue = append(l.queue, all...)
	}
	l.mu.Unlock()
	if full {
		_ = l.k.Close() // its reader makes another one, which begins with the state as it is then
		return
	}
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *link) end() { _ = l.done.Stop() }

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

func newLink(k *handover.Conn) *link {
	l := &link{k: k, more: make(chan struct{}, 1)}
	l.done = task.Start(l.run)
	return l
}

// How a new process takes over:
//
//	new → old   take       who it is
//	old → new   sockets    the listening sockets
//	new → old   starting   every second, while it opens all parts, and waits until backends are known
//	new → old   begin      from now on the new process decides where users are
//	old → new   has…       where the old process has users
//	            pause…     which backends are paused
//	            begun
//	                       … both accept for the time of a trial
//	            pause, kick
//	new → old   ready      the old process stops to accept
//	old → new   leaving    it serves its sessions on
//	                       … the new process registers, opens the admin API, and waits for its own successor
//	old → new   claim, release, left
//	new → old   answer, letgo, pause, stop, reopen
//
// If the new process ends before ready, nothing has changed for the old one.
const (
	answerWithin = 10 * time.Second // an answer of the other process
	readyWithin  = time.Minute      // until backends are known
	trialFor     = time.Second
	stayChunk    = 500     // users in a message
	maxQueued    = 1 << 16 // messages for a process that doesn't read
)
