package fair

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// ErrFull means that too many callers of the key are already waiting.
var ErrFull = errors.New("too many of this user or network are waiting")

// Options bound a Queue. Zero means no bound, except for Slots, of which there is at least one.
type Options struct {
	Slots   int // held at a time, over all keys
	PerKey  int // held at a time by one key
	Waiting int // callers of one key that wait at a time
	// KnownFirst has known callers served before all others, instead of in turn with them: of knownTurns+1 slots the others get one.
	// A key is known as long as a known caller of it waits; that caller goes before the key's others.
	KnownFirst bool
}

// knownTurns is how many slots known keys get in a row while others wait, with KnownFirst.
const knownTurns = 3

// Queue hands out slots. It is safe for concurrent use. Its lock guards only
// bookkeeping.
//
// There are two classes of keys, known ones and others, which take turns if both wait: however many others
// there are, a known key waits for at most one of them, and for other known keys.
type Queue[K comparable] struct {
	mu   sync.Mutex // guards all below
	o    Options
	held int
	keys map[K]*share[K] // every key with a slot held or a caller waiting
	// turns has the keys that could be given a slot, in the order in which they will
	// be: those with a caller waiting and fewer than PerKey slots.
	turns   [2]list.List // of *share[K]; others, known
	last    int          // the class that had the last turn
	inARow  int          // how many slots known keys have got since another one has, with KnownFirst
	waiting int
}

// share has the held slots and the waiters of one key.
type share[K comparable] struct {
	key   K
	class int // in turns
	held  int
	queue list.List     // of *waiter, in order of arrival; with KnownFirst, the known ones first
	turn  *list.Element // in turns, or nil
}

// waiter is one caller that waits.
type waiter struct {
	granted chan struct{} // closed under the lock when the slot is theirs
	known   bool
}

// NewQueue returns a queue.
func NewQueue[K comparable](o Options) *Queue[K] {
	q := &Queue[K]{keys: map[K]*share[K]{}}
	q.SetOptions(o)
	return q
}

// SetOptions changes the bounds. Slots that are held stay held.
func (q *Queue[K]) SetOptions(o Options) {
	o.Slots = max(o.Slots, 1)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.o = o
	for _, s := range q.keys {
		q.enlistLocked(s)
	}
	q.grantLocked()
}

// Acquire waits for a slot for key. The caller must call Release(key) once if and only
// if the error is nil. Errors: ErrFull at once, or the cause of ctx's end.
func (q *Queue[K]) Acquire(ctx context.Context, key K) error {
	return q.AcquireAs(ctx, key, false)
}

// AcquireAs is Acquire for a key of a class. The last call decides the key's class; with KnownFirst, the callers that wait do.
func (q *Queue[K]) AcquireAs(ctx context.Context, key K, known bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	q.mu.Lock()
	s := q.keys[key]
	if s == nil {
		s = &share[K]{key: key}
		q.keys[key] = s
	}
	if !q.o.KnownFirst {
		q.classLocked(s, known)
	}
	// A key that waits is never overtaken by its own later callers of the same class. There is no free slot while others are in
	// turns: grantLocked has granted it.
	if q.held < q.o.Slots && s.queue.Len() == 0 && (q.o.PerKey == 0 || s.held < q.o.PerKey) {
		q.held++
		s.held++
		q.mu.Unlock()
		return nil
	}
	if q.o.Waiting > 0 && s.queue.Len() >= q.o.Waiting {
		q.mu.Unlock()
		return ErrFull
	}
	w := &waiter{granted: make(chan struct{}), known: known}
	place := s.insert(w, q.o.KnownFirst && known)
	q.waiting++
	q.reclassLocked(s)
	q.enlistLocked(s)
	q.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.granted: // at the same moment: the slot goes to the next in turn
		q.releaseLocked(s)
	default:
		s.queue.Remove(place)
		q.waiting--
		if s.queue.Len() == 0 {
			q.delistLocked(s)
		}
		q.reclassLocked(s)
		q.forgetLocked(s)
	}
	return context.Cause(ctx)
}

// insert adds a waiter behind all others, or, if it goes first, before those that aren't known.
func (s *share[K]) insert(w *waiter, first bool) *list.Element {
	if first {
		for e := s.queue.Front(); e != nil; e = e.Next() {
			if !e.Value.(*waiter).known {
				return s.queue.InsertBefore(w, e)
			}
		}
	}
	return s.queue.PushBack(w)
}

// Promote makes a key known while its callers wait or hold slots.
func (q *Queue[K]) Promote(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.keys[key]; s != nil {
		q.classLocked(s, true)
	}
}

// TryAcquire takes a slot for key if one is free at once and no caller of the key waits.
func (q *Queue[K]) TryAcquire(key K) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.keys[key]
	if q.held >= q.o.Slots || s != nil && (s.queue.Len() > 0 || q.o.PerKey > 0 && s.held >= q.o.PerKey) {
		return false
	}
	if s == nil {
		s = &share[K]{key: key}
		q.keys[key] = s
	}
	q.held++
	s.held++
	return true
}

// Release returns a slot of key.
func (q *Queue[K]) Release(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.keys[key]
	if s == nil || s.held == 0 {
		panic("fair: Release without Acquire")
	}
	q.releaseLocked(s)
}

// Stats returns how many slots are held and how many callers wait.
func (q *Queue[K]) Stats() (held, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held, q.waiting
}

func (q *Queue[K]) releaseLocked(s *share[K]) {
	q.held--
	s.held--
	q.enlistLocked(s)
	q.grantLocked()
	q.forgetLocked(s)
}

// grantLocked gives free slots to waiting keys in turn.
func (q *Queue[K]) grantLocked() {
	for q.held < q.o.Slots && q.turns[0].Len()+q.turns[1].Len() > 0 {
		others, known := q.turns[0].Len() > 0, q.turns[1].Len() > 0
		switch {
		case q.o.KnownFirst && known && (!others || q.inARow < knownTurns):
			q.last = 1
			q.inARow++
		case q.o.KnownFirst:
			q.last, q.inARow = 0, 0
		case q.turns[1-q.last].Len() > 0:
			q.last = 1 - q.last
		}
		s := q.turns[q.last].Front().Value.(*share[K])
		q.delistLocked(s)
		w := s.queue.Remove(s.queue.Front()).(*waiter)
		q.waiting--
		q.held++
		s.held++
		close(w.granted)
		q.reclassLocked(s)
		q.enlistLocked(s) // behind all others
	}
}

// enlistLocked gives a key its turn, if it can use one.
func (q *Queue[K]) enlistLocked(s *share[K]) {
	if s.turn == nil && s.queue.Len() > 0 && (q.o.PerKey == 0 || s.held < q.o.PerKey) {
		s.turn = q.turns[s.class].PushBack(s)
	}
}

func (q *Queue[K]) delistLocked(s *share[K]) {
	if s.turn != nil {
		q.turns[s.class].Remove(s.turn)
		s.turn = nil
	}
}

// classLocked sets a key's class. The key loses its turn if its class changes.
func (q *Queue[K]) classLocked(s *share[K], known bool) {
	class := 0
	if known {
		class = 1
	}
	if s.class != class {
		q.delistLocked(s)
		s.class = class
		q.enlistLocked(s)
	}
}

// reclassLocked sets a key's class after its waiters have changed, with KnownFirst.
func (q *Queue[K]) reclassLocked(s *share[K]) {
	if first := s.queue.Front(); q.o.KnownFirst && first != nil {
		q.classLocked(s, first.Value.(*waiter).known)
	}
}

// forgetLocked removes a key without slots and waiters.
func (q *Queue[K]) forgetLocked(s *share[K]) {
	if s.held == 0 && s.queue.Len() == 0 {
		delete(q.keys, s.key)
	}
}
