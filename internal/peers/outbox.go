package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/proxy/park"
)

// Defaults and bounds of OutboxOptions.
const (
	// DefaultWaiting bounds the hints that wait for all peers together; each peer has its part.
	DefaultWaiting = 1 << 16
	// leastWaiting is the least part of a peer.
	leastWaiting = 256
	DefaultGap   = 20 * time.Millisecond
	// DefaultFirstPause and DefaultLastPause are the pauses between failures in a row.
	DefaultFirstPause = time.Second
	DefaultLastPause  = 10 * time.Second
)

// OutboxOptions are the options of an Outbox. The zero value is usable.
type OutboxOptions struct {
	// Waiting bounds the hints that wait for all peers together. A peer's part of them is
	// Waiting by the number of peers, 256 at least. Zero: DefaultWaiting.
	Waiting int
	// Gap is the time between two batches to a peer: hints that come meanwhile go with the next batch. The
	// first hint after a silence doesn't wait. Zero: DefaultGap.
	Gap time.Duration
	// FirstPause follows a failure, LastPause is the longest after several in a row. Zero: the defaults.
	FirstPause, LastPause time.Duration
	Log                   *slog.Logger // nil: nothing is logged
}

// OutboxStats count hints since the Outbox was made, each once for each peer.
type OutboxStats struct {
	Sent    uint64 // a peer has taken it
	Lost    uint64 // there was no room for it, or its peer went away before it could be sent; sweeps find the changes
	Failed  uint64 // batches that weren't taken; they are sent again
	Waiting int    // now
}

// Outbox sends hints to all peers: each proxy that has sessions of a user can use what a backend has told
// one proxy. Each peer has a queue and a goroutine of its own, so a peer that is slow or down delays no
// other, and Add never waits. A hint that is in the queue already isn't added again. A hint that can't be
// sent is tried again after a pause, and lost only if the peer's queue is full.
//
// A peer passes the hints only to its own sessions, so no hint goes round.
type Outbox struct {
	fleet *Fleet
	o     OutboxOptions

	sent, lost, failed atomic.Uint64
	changed            chan struct{} // holds a token while Run has to look at the peers

	mu    sync.Mutex // guards what follows
	boxes map[string]*box
}

// box is what waits for one peer.
type box struct {
	peer  Peer
	queue *park.HintQueue
	stop  func() // ends its goroutine; nil: it has none yet
	self  bool   // it has turned out to be this process
}

// NewOutbox makes an outbox that has no peers yet.
func NewOutbox(f *Fleet, o OutboxOptions) *Outbox {
	if o.Waiting <= 0 {
		o.Waiting = DefaultWaiting
	}
	if o.Gap <= 0 {
		o.Gap = DefaultGap
	}
	if o.FirstPause <= 0 {
		o.FirstPause = DefaultFirstPause
	}
	if o.LastPause <= 0 {
		o.LastPause = max(DefaultLastPause, o.FirstPause)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Outbox{fleet: f, o: o, changed: make(chan struct{}, 1), boxes: map[string]*box{}}
}

// Found sets which peers there are now, as Fleet.Found does. Hints for a peer that stays go on waiting;
// hints for a peer that is gone are lost.
func (b *Outbox) Found(all []Peer) {
	all = all[:min(len(all), maxPeers)]
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.boxes
	b.boxes = make(map[string]*box, len(all))
	for _, p := range all {
		if p.Address == "" || b.boxes[p.Address] != nil {
			continue
		}
		kept := old[p.Address]
		if kept == nil || kept.self { // another process may have the address now
			kept = &box{peer: p, queue: park.NewHintQueue(park.HintQueueOptions{MaxHints: max(b.o.Waiting/len(all), leastWaiting)})}
		}
		b.boxes[p.Address] = kept
	}
	for address, was := range old {
		if b.boxes[address] == was {
			continue
		}
		if was.stop != nil {
			was.stop()
		}
		if !was.self {
			b.lost.Add(was.queue.Stats().Lost + empty(was.queue))
		}
	}
	select {
	case b.changed <- struct{}{}:
	default: // there is a token already
	}
}

// empty removes all hints that wait, and returns their number.
func empty(q *park.HintQueue) (n uint64) {
	for {
		if _, ok := q.TryNext(); !ok {
			return n
		}
		n++
	}
}

// Add sends a hint to each peer. It never blocks.
func (b *Outbox) Add(user, mailbox string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, one := range b.boxes {
		if !one.self {
			one.queue.Add(park.Hint{User: user, Mailbox: mailbox, Source: park.HintPush})
		}
	}
}

// Stats returns the counters as they are now.
func (b *Outbox) Stats() OutboxStats {
	s := OutboxStats{Sent: b.sent.Load(), Failed: b.failed.Load()}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Lost = b.lost.Load()
	for _, one := range b.boxes {
		if !one.self {
			q := one.queue.Stats()
			s.Lost, s.Waiting = s.Lost+q.Lost, s.Waiting+q.Waiting
		}
	}
	return s
}

// Run sends until ctx is done. Hints that wait then aren't sent.
func (b *Outbox) Run(ctx context.Context) {
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		b.mu.Lock()
		for _, one := range b.boxes {
			if one.stop == nil {
				peerCtx, stop := context.WithCancel(ctx)
				one.stop = stop
				sending.Go(func() { // ends with ctx, or when the peer is gone
					defer stop()
					b.serve(peerCtx, one)
				})
			}
		}
		b.mu.Unlock()
		select {
		case <-b.changed:
		case <-ctx.Done():
			return
		}
	}
}

// serve sends to one peer.
func (b *Outbox) serve(ctx context.Context, one *box) {
	pause := time.Duration(0)
	for {
		batch, err := next(ctx, one.queue)
		if err != nil {
			return
		}
		err = b.send(ctx, one, batch)
		switch {
		case errors.Is(err, ErrSelf):
			return
		case err == nil:
			if pause > 0 {
				b.o.Log.Info("push events are sent on to the proxy again", "proxy", one.peer.Name, "address", one.peer.Address)
			}
			pause = 0
		case pause == 0:
			b.o.Log.Warn("push events can't be sent on to a proxy: its sessions learn of changes later", "proxy", one.peer.Name, "address", one.peer.Address, "error", err)
			pause = b.o.FirstPause
		default:
			pause = min(2*pause, b.o.LastPause)
		}
		if !wait(ctx, max(pause, b.o.Gap)) {
			return
		}
	}
}

// send sends a batch to a peer. If the peer doesn't take it, it waits again.
func (b *Outbox) send(ctx context.Context, one *box, batch []park.Hint) error {
	a := b.fleet.Ask(ctx, one.peer, Request{Method: http.MethodPost, Path: HintsPath, Body: encode(batch)})
	if errors.Is(a.Err, ErrSelf) {
		b.mu.Lock()
		one.self = true
		empty(one.queue)
		b.mu.Unlock()
		return ErrSelf
	}
	if a.Err == nil && a.Status == http.StatusOK {
		b.sent.Add(uint64(len(batch)))
		return nil
	}
	b.failed.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.boxes[one.peer.Address] != one {
		b.lost.Add(uint64(len(batch)))
		return a.Err
	}
	for _, h := range batch {
		one.queue.Add(h)
	}
	if a.Err != nil {
		return a.Err
	}
	return fmt.Errorf("HTTP status %d", a.Status)
}

// next returns a batch of the hints that wait; it waits for a first one.
func next(ctx context.Context, q *park.HintQueue) ([]park.Hint, error) {
	h, err := q.Next(ctx)
	if err != nil {
		return nil, err
	}
	batch, bytes := []park.Hint{h}, len(h.User)+len(h.Mailbox)
	for len(batch) < maxBatch && bytes < fillBytes {
		if h, ok := q.TryNext(); ok {
			batch, bytes = append(batch, h), bytes+len(h.User)+len(h.Mailbox)
			continue
		}
		break
	}
	return batch, nil
}

// wait returns false when ctx is done first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
