package agree

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// fakeConsul is Consul as the protocol uses it: one index, keys with sessions and locks, Txns that are done
// as a whole or not at all, sessions that end between one and two TTLs after their last renewal and release
// their keys.
type fakeConsul struct {
	w        *world
	index    uint64
	pairs    map[string]Pair
	sessions map[string]*fakeSession
	made     int
	history  []snapshot // the last few states, oldest first
	decoder  Decoder
}

type fakeSession struct {
	ttl     time.Duration
	expires time.Duration // in the world's time
}

type snapshot struct {
	index   uint64
	at      time.Duration
	reading *Reading // decoded when it is first read
	pairs   []Pair
}

func newFakeConsul(w *world) *fakeConsul {
	c := &fakeConsul{w: w, index: 100, pairs: make(map[string]Pair), sessions: make(map[string]*fakeSession)}
	c.changed()
	return c
}

// changed keeps the state for readers, stale ones included.
func (c *fakeConsul) changed() {
	keys := slices.Sorted(maps.Keys(c.pairs))
	s := snapshot{index: c.index, at: c.w.now}
	for _, key := range keys {
		s.pairs = append(s.pairs, c.pairs[key])
	}
	if len(c.history) == 16 {
		c.history = append(c.history[:0], c.history[1:]...)
	}
	c.history = append(c.history, s)
	live := 0
	for _, p := range c.pairs {
		if p.Session != "" {
			live++
		}
	}
	if live < 3 {
		c.w.lowLive = c.w.now
	}
	for _, n := range c.w.nodes {
		n.wake()
	}
}

// read returns the state as a server has it that is up to lag behind.
func (c *fakeConsul) read(consistent bool, lag time.Duration) *Reading {
	return c.readBy(&c.decoder, consistent, lag)
}

// readBy decodes with the reader's own decoder if values may be wrecked: each reader has seen other values
// before.
func (c *fakeConsul) readBy(d *Decoder, consistent bool, lag time.Duration) *Reading {
	i := len(c.history) - 1
	for i > 0 && c.history[i].at > c.w.now-lag {
		i--
	}
	s := &c.history[i]
	if c.w.wrecks {
		return d.Reading(s.index, consistent, s.pairs)
	}
	if s.reading == nil {
		s.reading = c.decoder.Reading(s.index, false, s.pairs)
		for _, p := range s.reading.Problems {
			c.w.fail("a value can't be read: %v", p)
		}
	}
	r := *s.reading
	r.Consistent = consistent
	return &r
}

func (c *fakeConsul) create(ttl time.Duration) string {
	c.made++
	id := fmt.Sprintf("session-%d", c.made)
	c.sessions[id] = &fakeSession{ttl: ttl}
	c.renew(id)
	return id
}

func (c *fakeConsul) renew(id string) bool {
	s := c.sessions[id]
	if s == nil {
		return false
	}
	s.expires = c.w.now + s.ttl + time.Duration(c.w.rng.Int64N(int64(s.ttl)))
	until := s.expires
	c.w.after(s.ttl*2, func() {
		if s := c.sessions[id]; s != nil && s.expires <= c.w.now {
			c.destroy(id)
		}
	})
	c.w.after(until-c.w.now, func() {
		if s := c.sessions[id]; s != nil && s.expires <= c.w.now {
			c.destroy(id)
		}
	})
	return true
}

// destroy ends a session and releases its keys.
func (c *fakeConsul) destroy(id string) {
	if c.sessions[id] == nil {
		return
	}
	delete(c.sessions, id)
	c.index++
	for key, p := range c.pairs {
		if p.Session == id {
			p.Session, p.ModifyIndex = "", c.index
			c.pairs[key] = p
		}
	}
	c.changed()
}

// txn makes all operations or none.
func (c *fakeConsul) txn(ops []TxnOp) bool {
	for _, op := range ops {
		p, there := c.pairs[op.Key]
		ok := true
		switch op.Verb {
		case CheckIndex:
			ok = there && p.ModifyIndex == op.Index
		case CheckNotExists:
			ok = !there
		case CheckSession:
			ok = there && p.Session == op.Session
		case Lock:
			ok = c.sessions[op.Session] != nil && (!there || p.Session == "" || p.Session == op.Session)
		case CAS:
			ok = there && p.ModifyIndex == op.Index || !there && op.Index == 0
		case DeleteCAS:
			ok = !there || p.ModifyIndex == op.Index
		default:
			c.w.fail("verb %d", op.Verb)
		}
		if !ok {
			return false
		}
	}
	size := 0
	for _, op := range ops {
		size += len(op.Value)*4/3 + 150
	}
	if len(ops) > 64 || size > 512<<10 {
		c.w.fail("a Txn of %d operations and %d bytes", len(ops), size)
	}
	c.index++
	for _, op := range ops {
		switch op.Verb {
		case Lock:
			c.pairs[op.Key] = Pair{Key: op.Key, Value: op.Value, ModifyIndex: c.index, Session: op.Session}
		case CAS:
			p := c.pairs[op.Key]
			if op.Key == fleetKey {
				c.w.fleetWritten(p.Value, op.Value)
			}
			c.pairs[op.Key] = Pair{Key: op.Key, Value: op.Value, ModifyIndex: c.index, Session: p.Session}
		case DeleteCAS:
			delete(c.pairs, op.Key)
		}
	}
	c.changed()
	return true
}
