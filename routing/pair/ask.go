package pair

import (
	"context"
	"time"
)

// Follow makes the successor decide from now on.
func (t *Table) Follow(s Successor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.up, t.lost = s, false
	var all []Stay
	for user, stays := range t.users {
		for i, one := range stays {
			if !t.before(stays[:i], one.backend) {
				all = append(all, Stay{user, one.backend})
			}
		}
	}
	s.Has(all)
}

func (t *Table) before(stays []stay, backend string) bool {
	for _, s := range stays {
		if s.backend == backend {
			return true
		}
	}
	return false
}

// Lost says that the successor can't be asked, and may still live. Claims that it would have to be asked for wait.
func (t *Table) Lost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost = true
	t.failLocked()
}

// Decide makes this process decide again: the successor has ended.
func (t *Table) Decide() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.up, t.lost = nil, false
	clear(t.away)
	t.failLocked()
	t.wakeLocked()
}

func (t *Table) failLocked() {
	for s, q := range t.asking {
		if !q.answered {
			q.failed = true
			close(q.done)
		}
		delete(t.asking, s)
	}
}

// Decides reports whether this process decides.
func (t *Table) Decides() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.up == nil
}

// Claim asks for a claim of this process. If another process has the user elsewhere, elsewhere says where, and there is no claim. If
// this process doesn't decide, Claim waits for the successor's answer.
func (t *Table) Claim(ctx context.Context, user, backend string) (elsewhere string, err error) {
	return t.claim(ctx, nil, user, backend)
}

// Claim asks for a claim of the predecessor, as Table.Claim does.
func (p *Predecessor) Claim(ctx context.Context, user, backend string) (elsewhere string, err error) {
	return p.t.claim(ctx, p, user, backend)
}

// claim, in order:
//
//	another process of the table has the user elsewhere    elsewhere
//	this process decides, or some process of the table     a claim
//	has one there, which the successor knows of
//	the successor is lost                                  ErrWait
//	else                                                   as the successor says
func (t *Table) claim(ctx context.Context, of *Predecessor, user, backend string) (elsewhere string, err error) {
	for {
		elsewhere, q, err := t.ask(of, Stay{user, backend})
		if q == nil {
			return elsewhere, err
		}
		if err := t.answer(ctx, q); err != nil {
			t.giveUp(q, Stay{user, backend})
			return "", err
		}
		if elsewhere, again, err := t.settle(of, q, Stay{user, backend}); !again {
			return elsewhere, err
		}
	}
}

// ask decides on a claim as far as the successor needn't be asked. Else it asks, once for all that want to know the same, and returns the question.
func (t *Table) ask(of *Predecessor, s Stay) (elsewhere string, q *question, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := t.conflictLocked(of, s.User, s.Backend); at != "" {
		return at, nil, nil
	}
	if t.up == nil || t.hasLocked(s.User, s.Backend) {
		t.addLocked(of, s.User, s.Backend)
		return "", nil, nil
	}
	if t.lost {
		return "", nil, ErrWait
	}
	if q = t.asking[s]; q == nil {
		t.lastID++
		q = &question{id: t.lastID, done: make(chan struct{})}
		t.asking[s] = q
		t.up.Ask(q.id, s)
	}
	q.waiting++
	return "", q, nil
}

// answer waits for the answer to a question.
func (t *Table) answer(ctx context.Context, q *question) error {
	timer := time.NewTimer(t.o.AskWithin)
	defer timer.Stop()
	select {
	case <-q.done:
		return nil
	case <-timer.C:
		return ErrWait
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveUp ends the wait for an answer without a claim, also where the answer has come just now.
func (t *Table) giveUp(q *question, s Stay) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaveLocked(q, s)
}

// settle decides on a claim by the answer. again: the successor was lost, or has ended.
func (t *Table) settle(of *Predecessor, q *question, s Stay) (elsewhere string, again bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.leaveLocked(q, s)
	switch {
	case q.failed:
		return "", true, nil
	case !q.ok && q.elsewhere == "":
		return "", false, ErrWait
	case !q.ok:
		t.rememberLocked(s.User, q.elsewhere)
		return q.elsewhere, false, nil
	}
	// Another process of the table may have come before.
	if elsewhere = t.conflictLocked(of, s.User, s.Backend); elsewhere == "" {
		t.addLocked(of, s.User, s.Backend)
	}
	return elsewhere, false, nil
}

// leaveLocked says that a claim doesn't wait for the answer any more. What the successor has allowed is given back if no process needs it. (Until the last
// one has left, a claim that ends doesn't end it for the others.)
func (t *Table) leaveLocked(q *question, s Stay) {
	if q.waiting--; q.waiting > 0 || t.asking[s] != q || !q.answered {
		return
	}
	delete(t.asking, s)
	if q.ok && t.up != nil && !t.hasLocked(s.User, s.Backend) {
		t.up.Release(s.User, s.Backend)
	}
}

// Answered takes the successor's answer to a question. Each question has to be answered, since later claims wait for the same answer:
// where the successor can't say it now, as it waits for its own successor, ok is false and elsewhere is "".
func (t *Table) Answered(id uint64, ok bool, elsewhere string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s, q := range t.asking {
		if q.id != id {
			continue
		}
		if q.answered {
			return
		}
		q.ok, q.elsewhere, q.answered = ok, elsewhere, true
		close(q.done)
		q.waiting++
		t.leaveLocked(q, s) // all may have given up
		return
	}
}

// rememberLocked keeps where the successor has a user, so that the router can send the user there.
func (t *Table) rememberLocked(user, backend string) {
	if backend == "" {
		return
	}
	if len(t.away) >= maxAway {
		clear(t.away)
	}
	t.away[user] = sighting{backend, t.o.Now().Add(awayFor)}
}
